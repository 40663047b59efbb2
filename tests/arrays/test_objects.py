from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scenes import touching

from autoseg.arrays import objects
from autoseg.arrays.cores import object_cores
from autoseg.arrays.objects import find_objects, labels_of_objects, object_table
from autoseg.evaluation.instances import score_instances
from autoseg.records import Geometry

SQUARE = (1.0, 1.0, 1.0)


def quality(ids: NDArray[np.uint32], spacing: tuple[float, float, float], margin: float) -> tuple[float, float]:
    """Panoptic and recognition quality of objects that were cores and borders in between."""
    score = score_instances(ids, find_objects(ids > 0, object_cores(ids, spacing, margin), spacing))
    assert score.panoptic_quality is not None
    assert score.recognition_quality is not None
    return score.panoptic_quality, score.recognition_quality


@pytest.mark.parametrize(("margin", "least", "mean"), [(1.0, 0.985, 0.998), (2.0, 0.98, 0.995), (3.0, 0.95, 0.985)])
def test_crowded_discs_come_back_every_one(margin: float, least: float, mean: float) -> None:
    found = [quality(touching(seed, (1, 200, 220), 30, (10, 20), smallest=80), SQUARE, margin) for seed in range(60)]
    assert {recognition for _, recognition in found} == {1.0}
    assert min(panoptic for panoptic, _ in found) >= least
    assert np.mean([panoptic for panoptic, _ in found]) >= mean


# Objects that cut one another to any shape may be lost: of 6,597 scenes of discs 2, 6 and 32 (margins of 1, 2 and 3
# pixels) lost one of thirty, or had less than 0.95; the least had 0.906, with two lost. Of 200 of ellipsoids the least
# had 0.95. So of scenes drawn at random only a floor can be asked.


@given(seed=st.integers(0, 10_000), margin=st.sampled_from([1.0, 2.0, 3.0]))
@settings(max_examples=25, deadline=None)
def test_discs_that_touch_come_back(seed: int, margin: float) -> None:
    panoptic, recognition = quality(touching(seed, (1, 200, 220), 30, (10, 20), smallest=80), SQUARE, margin)
    assert panoptic >= 0.9
    assert recognition >= 0.93


@given(seed=st.integers(0, 10_000), spacing=st.sampled_from([SQUARE, (2.5, 1.0, 1.0)]))
@settings(max_examples=10, deadline=None)
def test_ellipsoids_that_touch_come_back(seed: int, spacing: tuple[float, float, float]) -> None:
    panoptic, recognition = quality(touching(seed, (24, 60, 60), 14, (8, 14), smallest=300), spacing, 2.0)
    assert panoptic >= 0.93
    assert recognition == 1


@given(size=st.integers(6, 14), objects=st.integers(2, 5), spacing=st.sampled_from([SQUARE, (3.0, 1.0, 0.8)]))
@settings(max_examples=25, deadline=None)
def test_objects_of_one_size_come_back_as_they_are(
    size: int, objects: int, spacing: tuple[float, float, float]
) -> None:
    ids = np.zeros((size + 2, size * objects + 2, size * objects + 2), np.uint32)
    for number in range(objects * objects):
        row, column = (size * place + 1 for place in divmod(number, objects))
        ids[1:-1, row : row + size, column : column + size] = number + 1
    panoptic, _ = quality(ids, spacing, 2.0)
    assert panoptic == 1


def test_objects_that_touch_meet_in_the_middle() -> None:
    foreground = np.zeros((1, 5, 12), np.bool_)
    foreground[0, 1:4, 1:11] = True
    core = np.zeros_like(foreground)
    core[0, 2, 2:4], core[0, 2, 8:10] = True, True
    found = find_objects(foreground, core, SQUARE)
    assert sorted(np.unique(found)) == [0, 1, 2]
    assert (found[0, 1:4, 1:6] == found[0, 2, 2]).all()
    assert (found[0, 1:4, 6:11] == found[0, 2, 9]).all()


def test_nearness_is_in_millimetres() -> None:
    foreground = np.ones((1, 5, 5), np.bool_)
    core = np.zeros_like(foreground)
    core[0, 0, 4], core[0, 4, 0] = True, True
    found = find_objects(foreground, core, (1.0, 3.0, 1.0))
    assert found[0, 1, 0] == found[0, 0, 4]  # 4 steps of 1 mm and one of 3, or 3 steps of 3 mm
    assert find_objects(foreground, core, (1.0, 1.0, 3.0))[0, 1, 0] == found[0, 4, 0]


def test_an_object_does_not_reach_over_a_gap() -> None:
    """The upper arm of a bent object lies nearer to the core of the other one, over the background."""
    foreground = np.zeros((1, 9, 20), np.bool_)
    foreground[0, 1, 1:16], foreground[0, 1:8, 1:4], foreground[0, 3:8, 6:18], foreground[0, 6:8, 1:8] = (True,) * 4
    core = np.zeros_like(foreground)
    core[0, 3:6, 2], core[0, 4:7, 9:17] = True, True
    found = find_objects(foreground, core, SQUARE)
    assert sorted(np.unique(found[foreground])) == [1, 2]
    assert (found[0, 1, 1:16] == found[0, 4, 2]).all()


def test_foreground_without_a_core_is_an_object() -> None:
    foreground = np.zeros((1, 3, 9), np.bool_)
    foreground[0, 1, 1:3], foreground[0, 1, 5:8] = True, True
    core = np.zeros_like(foreground)
    core[0, 1, 6] = True
    found = find_objects(foreground, core, SQUARE)
    assert found[0, 1].tolist() == [0, 1, 1, 0, 0, 2, 2, 2, 0]
    assert find_objects(foreground, np.zeros_like(core), SQUARE).max() == 2
    assert not find_objects(np.zeros_like(core), np.zeros_like(core), SQUARE).any()


def test_a_core_outside_the_foreground_counts_as_foreground() -> None:
    core = np.zeros((1, 3, 5), np.bool_)
    core[0, 1, 2] = True
    assert find_objects(np.zeros_like(core), core, SQUARE).sum() == 1


def test_specks_of_core_make_no_objects_beside_a_larger_core() -> None:
    foreground = np.ones((1, 5, 20), np.bool_)
    core = np.zeros_like(foreground)
    core[0, 1:4, 1:6], core[0, 2, 15] = True, True
    assert find_objects(foreground, core, SQUARE).max() == 2
    assert find_objects(foreground, core, SQUARE, smallest_core=2).max() == 1
    only = np.zeros_like(core)
    only[0, 2, 15] = True
    assert find_objects(foreground, only, SQUARE, smallest_core=2).max() == 1


def test_every_other_voxel_is_an_object_of_its_own() -> None:
    """More than 65535 of them, some of which touch another."""
    foreground = np.zeros((1, 400, 1200), np.bool_)
    foreground[0, ::2, ::2] = True
    foreground[0, 0, :7] = True
    core = np.zeros_like(foreground)
    core[0, ::2, ::2] = True
    found = find_objects(foreground, core, SQUARE)
    assert len(np.unique(found[found > 0])) == found.max() == 200 * 600
    assert len(np.unique(found[0, 0, :7])) == 4


def test_an_object_is_what_most_of_its_voxels_are() -> None:
    ids = np.array([[[7, 7, 7, 0, 3, 3, 5, 5]]], dtype=np.uint32)
    values = np.array([[[1, 2, 2, 1, 4, 1, 9, 9]]], dtype=np.uint8)
    assert labels_of_objects(ids, values, (1, 2, 4)) == {3: 1, 7: 2}  # of equally many the smallest
    assert labels_of_objects(np.zeros_like(ids), values, (1, 2)) == {}
    assert labels_of_objects(ids, values, ()) == {}
    assert labels_of_objects(ids.astype(np.uint64) * 2**40, values, (1, 2, 4)) == {3 * 2**40: 1, 7 * 2**40: 2}


def test_counts_are_those_of_whole_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are no boundaries."""
    generator = np.random.default_rng(5)
    ids = generator.integers(0, 40, (3, 20, 30)).astype(np.uint32)
    values = generator.integers(0, 4, ids.shape).astype(np.uint8)
    sure = {1: generator.integers(0, 256, ids.shape).astype(np.uint8)}
    monkeypatch.setattr(objects, "BLOCK_VOXELS", 77)
    for number, value in labels_of_objects(ids, values, (1, 2, 3)).items():
        assert value == np.bincount(values[(ids == number) & (values > 0)]).argmax()
    affine = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    geometry = Geometry(shape=(3, 20, 30), affine=affine)
    for row in object_table(ids, dict.fromkeys(range(1, 40), 1), {1: "cell"}, geometry, sure):
        assert row.score == pytest.approx(sure[1][ids == row.id].mean() / 255)


def test_the_table_of_objects() -> None:
    ids = np.zeros((4, 5, 6), dtype=np.uint32)
    ids[1:3, 2, 3:5] = 70_000
    ids[0, 0, 0] = 2
    affine = ((0.5, 0.0, 0.0, 10.0), (0.0, 0.5, 0.0, 20.0), (0.0, 0.0, 2.0, -30.0), (0.0, 0.0, 0.0, 1.0))
    geometry = Geometry(shape=(4, 5, 6), affine=affine)
    cells, specks = np.full(ids.shape, 204, dtype=np.uint8), np.full(ids.shape, 51, dtype=np.uint8)
    specks[1, 2, 3] = 255
    sure = {1: cells, 3: specks}
    first, second = object_table(ids, {2: 1, 70_000: 3}, {1: "cell", 3: "speck"}, geometry, sure)
    assert (first.id, first.label, first.voxels, first.box) == (2, "cell", 1, ((0, 1), (0, 1), (0, 1)))
    assert (second.id, second.label, second.voxels) == (70_000, "speck", 4)
    assert second.centre == (1.5, 2.0, 3.5)
    assert second.centre_mm == pytest.approx((10 + 3.5 * 0.5, 20 + 2 * 0.5, -30 + 1.5 * 2))
    assert second.box == ((1, 3), (2, 3), (3, 5))
    assert second.ml == pytest.approx(4 * 0.5 / 1000)
    assert (first.score, second.score) == (pytest.approx(0.8), pytest.approx((1 + 3 * 0.2) / 4))
    assert object_table(ids, {2: 1, 70_000: 3}, {1: "cell", 3: "speck"}, geometry)[0].score is None
    assert object_table(np.zeros_like(ids), {}, {}, geometry) == ()
