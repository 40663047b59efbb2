from __future__ import annotations

import pytest

from autoseg.planning.memory import feature_map_elements
from autoseg.planning.presets import PRESETS
from autoseg.planning.topology import derive_topology

PLAIN = PRESETS["nnunet"].accelerator.architecture
RESIDUAL = PRESETS["resenc-m"].accelerator.architecture


def test_recorded_element_counts() -> None:
    """Counted in nnU-Net's own networks, three labels."""
    cube = derive_topology((1.0, 1.0, 1.0), (128, 128, 128))
    assert feature_map_elements(PLAIN, cube, 320, 3) == 452_796_416
    assert feature_map_elements(RESIDUAL, cube, 320, 3) == 557_420_544
    assert feature_map_elements(PLAIN, derive_topology((1.0, 1.0), (512, 512)), 512, 3) == 82_886_656


def test_each_label_costs_one_full_resolution_output() -> None:
    topology = derive_topology((3.0, 1.0, 1.0), (20, 96, 80))
    one, two = (feature_map_elements(PLAIN, topology, 320, outputs) for outputs in (1, 2))
    assert two - one == 20 * 96 * 80


@pytest.mark.parametrize("stages", [1, 4, 9])
def test_blocks_repeat_the_last(stages: int) -> None:
    assert RESIDUAL.blocks_per_stage(stages) == (1, 3, 4, 6, 6, 6, 6, 6, 6)[:stages]
