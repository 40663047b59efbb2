"""The online Dice against one that counts voxel by voxel."""

from __future__ import annotations

import pytest
import torch

from autoseg.records import OUTSIDE, Labels
from autoseg.training.online import PatchDice

PLAIN = Labels(names={"background": 0, "liver": 7, "tumour": 2, "vessel": 40})
IGNORING = Labels(names={"background": 0, "liver": 1, "tumour": 2}, ignore=3)
REGIONS = Labels(names={"background": 0, "whole": (1, 2), "core": 2})
REGIONS_IGNORING = Labels(names={"background": 0, "whole": (1, 2), "core": 2}, ignore=9)
SHAPE = (3, 4, 5)


def counted(
    labels: Labels, scores: torch.Tensor, reference: torch.Tensor, drawn: torch.Tensor
) -> dict[str, tuple[int, int]]:
    """Per label twice the voxels that agree, and all of prediction and reference."""
    figures = {}
    for number, (name, members) in enumerate(labels.foreground.items()):
        output = number if labels.has_regions else members[0]
        both = either = 0
        for sample in range(len(scores)):
            for place in torch.cartesian_prod(*(torch.arange(size) for size in SHAPE)).tolist():
                value = int(reference[(sample, *place)])
                if value == labels.ignore_index or not drawn[sample, output]:
                    continue
                voxel = scores[(sample, slice(None), *place)]
                found = bool(voxel[output] > 0) if labels.has_regions else int(voxel.argmax()) == output
                both += 2 * (found and value in members)
                either += found + (value in members)
        figures[name] = (both, either)
    return figures


@pytest.mark.parametrize("labels", [PLAIN, IGNORING, REGIONS, REGIONS_IGNORING])
@pytest.mark.parametrize("partly", [False, True])
def test_voxels_are_counted_over_batches(labels: Labels, partly: bool) -> None:
    chance = torch.Generator().manual_seed(5)
    online, wanted = PatchDice(labels), dict.fromkeys(labels.foreground, (0, 0))
    for _ in range(2):
        scores = torch.randn(3, labels.heads, *SHAPE, generator=chance)
        highest = len(labels.values) + (labels.ignore_index is not None)
        reference = torch.randint(OUTSIDE, highest, (3, *SHAPE), generator=chance, dtype=torch.int16)
        before = reference.clone()
        drawn = torch.rand(3, labels.heads, generator=chance) < (0.6 if partly else 2.0)
        online.add(scores, reference, drawn if partly else None)
        assert torch.equal(reference, before)
        for name, (both, either) in counted(labels, scores, reference, drawn).items():
            wanted[name] = (wanted[name][0] + both, wanted[name][1] + either)
    assert online.per_label() == {name: both / either if either else None for name, (both, either) in wanted.items()}


def test_a_label_that_is_nowhere_has_no_dice() -> None:
    online = PatchDice(PLAIN)
    assert online.per_label() == {"liver": None, "tumour": None, "vessel": None}
    scores = torch.zeros(1, 4, *SHAPE)
    scores[:, PLAIN.foreground["liver"][0]] = 1
    online.add(scores, torch.full((1, *SHAPE), OUTSIDE, dtype=torch.int64))
    assert online.per_label() == {"liver": 0.0, "tumour": None, "vessel": None}
