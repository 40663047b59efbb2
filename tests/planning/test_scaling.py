"""Smaller and larger networks: the planned one with other widths, which every network of the catalog can take."""

from __future__ import annotations

import pytest
from step_builders import make_configuration, make_plan_of

from autoseg.networks.catalog import NETWORKS, find_network
from autoseg.networks.counting import network_size
from autoseg.planning.families import family_of
from autoseg.planning.presets import Architecture
from autoseg.planning.scaling import WIDTHS, scaled
from autoseg.planning.step import weights_of
from autoseg.planning.validity import require_possible


def test_only_the_widths_change() -> None:
    planned = make_configuration(features_per_stage=(32, 64))
    for name, expected in {"smaller": (16, 32), "larger": (48, 96)}.items():
        found = scaled(planned, WIDTHS[name])
        assert found.features_per_stage == expected
        assert found.model_copy(update={"features_per_stage": (32, 64)}) == planned
        require_possible(make_plan_of(found), "a test")


def test_a_narrow_network_keeps_two_features() -> None:
    assert scaled(make_configuration(features_per_stage=(2, 4)), 0.5).features_per_stage == (2, 2)


def test_weights_go_about_with_the_square() -> None:
    planned = make_configuration(features_per_stage=(32, 64))
    counts = {
        factor: weights_of(scaled(planned, factor), 1, planned.preparation.labels) for factor in (*WIDTHS.values(), 1.0)
    }
    assert counts[0.5] / counts[1.0] == pytest.approx(0.25, rel=0.1)
    assert counts[1.5] / counts[1.0] == pytest.approx(2.25, rel=0.1)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", WIDTHS)
def test_every_network_can_be_scaled(name: str, size: str) -> None:
    """Built without memory: that a width is impossible is told when the network is made."""
    dimensions = find_network(name).dimensions[0]
    family = family_of(Architecture("unet", blocks=(1, 2), decoder_blocks=1, base_features=32), name)
    topology = family.topology((1.0,) * dimensions, (64,) * dimensions)
    planned = family.spec(topology, 320, 1, 3)
    entry = make_configuration("2d" if dimensions == 2 else "3d_fullres", features_per_stage=planned.features_per_stage)
    other = planned.model_copy(update={"features_per_stage": scaled(entry, WIDTHS[size]).features_per_stage})
    before, after = (network_size(spec, topology.patch_size).weights for spec in (planned, other))
    assert (after > before) == (size == "larger")
    assert after != before
