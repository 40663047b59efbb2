from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from autoseg.records import Labels, Shape
from autoseg.training.focus import VOXELS_PER_COMPONENT, balanced, component_voxels, lesions, make_focus
from autoseg.training.patches import Sampling, draw_patch, make_batch, sample_generator

LABELS = Labels(names={"background": 0, "organ": 1, "lesion": 2})


class Case:
    """A case of labels alone, with a limited number of locations as prepared cases have."""

    def __init__(self, name: str, labels: NDArray[np.int16], most: int = 200) -> None:
        self.case, self._labels = name, labels
        self.locations = {
            label: np.argwhere(labels == value).astype(np.int32)[:: max(1, int((labels == value).sum()) // most)]
            for label, value in (("organ", 1), ("lesion", 2))
        }

    @property
    def shape(self) -> Shape:
        z, y, x = self._labels.shape
        return (z, y, x)

    def read_patch(self, box: tuple[slice, slice, slice]) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
        return self._labels[box].astype(np.float32)[None], self._labels[box]

    def read_labels(self) -> NDArray[np.int16]:
        return self._labels


def lesioned(name: str, small: int, large: bool) -> Case:
    """Small lesions of 2^3 voxels along one edge, and a large one of 12^3."""
    labels = np.zeros((32, 32, 32), np.int16)
    for number in range(small):
        labels[1 + 6 * number : 3 + 6 * number, 1:3, 1:3] = 2
    if large:
        labels[16:28, 16:28, 16:28] = 2
    return Case(name, labels)


def sampling(share: float = 1.0) -> Sampling:
    return Sampling((8, 8, 8), (8, 8, 8), batch_size=4, foreground_share=share, has_ignore=False, seed=7)


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 1, 3), (3, 3, 3), (1, 9, 9), (7, 5, 3)])
def test_every_other_voxel_is_a_component(shape: tuple[int, int, int]) -> None:
    """cc3d 4.1.1 itself gives up here."""
    mask = np.zeros(shape, np.bool_)
    mask[::2, ::2, ::2] = True
    found = component_voxels(mask)
    assert len(found) == mask.sum()
    np.testing.assert_array_equal(np.concatenate(found), np.argwhere(mask))


def share_of_small(cases: list[Case], rule: str) -> float:
    """Share of forced patches whose centre is in a small lesion."""
    entry = sampling()
    focus = make_focus(rule, cases, entry, LABELS)
    entry = Sampling(**{**vars(entry), "focus": focus})
    draws = [draw_patch(sample_generator(7, step, 3), cases, entry, 3) for step in range(400)]
    return float(np.mean([draw.start[1] < 8 for draw in draws]))


def test_small_lesions_are_drawn_as_often_as_large_ones() -> None:
    cases = [lesioned("a", small=3, large=True), lesioned("b", small=0, large=True)]
    plain, focused = share_of_small(cases, "foreground"), share_of_small(cases, "small")
    assert plain < 0.05  # by voxels: 24 of 1752 in one of two cases
    assert 0.5 < focused < 0.7  # by lesions: 3 of 5


def test_every_component_is_found_and_thinned() -> None:
    mask = np.zeros((20, 20, 20), np.bool_)
    mask[0, 0, 0] = mask[1, 1, 1] = True  # they touch by a corner: one component
    mask[5:15, 5:15, 5:15] = True
    mask[19, 19, 19] = True
    found = component_voxels(mask)
    assert sorted(len(voxels) for voxels in found)[:2] == [1, 2]
    assert max(len(voxels) for voxels in found) <= VOXELS_PER_COMPONENT
    assert all(mask[tuple(voxels.T)].all() for voxels in found)


def test_balanced_favours_the_label_that_patches_seldom_show() -> None:
    labels = np.zeros((40, 40, 40), np.int16)
    labels[4:36, 4:36, 4:36] = 1
    rare = labels.copy()
    rare[20, 20, 20] = 2
    cases = [Case("a", labels), Case("b", labels), Case("c", labels), Case("d", rare)]
    focus = balanced(cases, sampling(share=0.5))
    assert focus is not None
    generator = np.random.default_rng(0)
    drawn = [focus.draw(generator) for _ in range(400)]
    chosen = Counter(int(cases[case].read_labels()[tuple(voxel)]) for case, voxel in drawn)
    assert chosen[2] > 2 * chosen[1]


@pytest.mark.parametrize("rule", ["balanced", "small"])
def test_samples_depend_on_seed_step_and_place_alone(rule: str) -> None:
    cases = [lesioned("a", 2, True), lesioned("b", 1, False)]
    entry = sampling(share=0.5)
    batches = []
    for _ in range(2):
        focused = Sampling(**{**vars(entry), "focus": make_focus(rule, cases, entry, LABELS)})
        batches.append(make_batch(cases, focused, 12))
    assert np.array_equal(batches[0].images, batches[1].images)
    assert batches[0].cases == batches[1].cases
    plain = make_batch(cases, entry, 12)
    assert np.array_equal(np.asarray(plain.images)[:2], np.asarray(batches[0].images)[:2])  # unforced ones are as ever


def test_without_foreground_nothing_changes() -> None:
    empty = [Case("a", np.zeros((9, 9, 9), np.int16))]
    assert lesions(empty, LABELS) is None
    assert balanced(empty, sampling()) is None
    assert make_focus("foreground", empty, sampling(), LABELS) is None
