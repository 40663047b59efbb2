from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from autoseg.preprocessing.locations import ANNOTATED
from autoseg.records import OUTSIDE, Shape
from autoseg.training.patches import Sampling, crop, draw_patch, make_batch, padded, sample_generator


@dataclass(frozen=True, eq=False)
class Made:
    case: str
    image: NDArray[np.float32]
    labels: NDArray[np.int16]
    locations: Mapping[str, NDArray[np.int32]]

    @property
    def shape(self) -> Shape:
        z, y, x = self.labels.shape
        return (z, y, x)

    def read_patch(self, box: tuple[slice, slice, slice]) -> tuple[NDArray[np.float32], NDArray[np.int16]]:
        return self.image[(slice(None), *box)], self.labels[box]


def made(shape: Shape, name: str = "a", foreground: bool = True) -> Made:
    labels = np.zeros(shape, np.int16)
    if foreground:
        labels[tuple(size // 2 for size in shape)] = 1
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape) + 1
    return Made(name, image, labels, {"organ": np.argwhere(labels == 1).astype(np.int32)})


def sampling(
    patch: Shape, initial: Shape | None = None, batch: int = 2, share: float = 0.33, ignore: bool = False
) -> Sampling:
    return Sampling(patch, initial or patch, batch, share, ignore, seed=3)


@pytest.mark.parametrize(("batch", "forced"), [(1, 0), (2, 1), (9, 3), (12, 4)])
def test_the_last_third_of_a_batch_is_forced(batch: int, forced: int) -> None:
    entry = sampling((4, 4, 4), batch=batch)
    assert [entry.forced(position) for position in range(batch)] == [False] * (batch - forced) + [True] * forced


@given(
    shape=st.tuples(*[st.integers(1, 30)] * 3),
    patch=st.tuples(*[st.integers(1, 24)] * 3),
    extra=st.tuples(*[st.integers(0, 10)] * 3),
    step=st.integers(0, 10_000),
)
@settings(max_examples=60, deadline=None)
def test_a_crop_has_its_size_and_the_right_voxels(shape: Shape, patch: Shape, extra: Shape, step: int) -> None:
    case = made(shape)
    initial = tuple(p + e for p, e in zip(patch, extra, strict=True))
    draw = draw_patch(sample_generator(0, step, 0), [case], sampling(patch, initial, batch=1), 0)
    (image,), (labels,) = padded([crop(case, draw.start, initial)], initial)
    assert image.shape == (1, *initial)
    assert labels.shape == initial
    inside = image[0] > 0
    assert ((labels == OUTSIDE) == ~inside).all()
    for index in np.argwhere(inside)[:20]:
        source = tuple(index + np.array(draw.start))
        assert image[(0, *index)] == case.image[(0, *source)]


@given(shape=st.tuples(*[st.integers(8, 40)] * 3), step=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_a_forced_patch_holds_foreground(shape: Shape, step: int) -> None:
    case = made(shape)
    entry = sampling((8, 8, 8), share=1.0)
    draw = draw_patch(sample_generator(1, step, 1), [case], entry, 1)
    _, labels = padded([crop(case, draw.start, entry.initial_size)], entry.initial_size)
    assert (labels == 1).any()


def starts_of(case: Made, entry: Sampling, position: int = 0) -> set[Shape]:
    return {draw_patch(sample_generator(0, step, position), [case], entry, position).start for step in range(20)}


@pytest.mark.parametrize("key", [ANNOTATED, "annotated"], ids=["now", "in earlier stores"])
def test_samples_keep_to_annotated_voxels_under_an_ignore_label(key: str) -> None:
    case = made((40, 40, 40))
    seen = np.array([[39, 39, 39]], np.int32)
    case = Made("a", case.image, case.labels, {**case.locations, key: seen})
    assert starts_of(case, sampling((4, 4, 4), share=0.0, ignore=True)) == {(37, 37, 37)}
    assert starts_of(case, sampling((4, 4, 4), share=1.0, ignore=True)) == {(18, 18, 18)}  # the one voxel of the organ
    empty = Made("a", case.image, case.labels, {"organ": np.zeros((0, 3), np.int32), key: seen})
    assert starts_of(empty, sampling((4, 4, 4), share=1.0, ignore=True)) == {(37, 37, 37)}


@pytest.mark.parametrize("ignore", [False, True])
def test_a_label_may_be_called_annotated(ignore: bool) -> None:
    case = made((40, 40, 40))
    locations = {"annotated": case.locations["organ"]}
    if ignore:
        locations[ANNOTATED] = np.array([[39, 39, 39]], np.int32)
    case = Made("a", case.image, case.labels, locations)
    assert starts_of(case, sampling((4, 4, 4), share=1.0, ignore=ignore)) == {(18, 18, 18)}


def test_a_sample_depends_on_seed_step_and_place_alone() -> None:
    cases = [made((20, 20, 20), name) for name in "abc"]
    entry = sampling((8, 8, 8), batch=4)
    first, second = make_batch(cases, entry, 17), make_batch(cases, entry, 17)
    assert first.cases == second.cases
    assert np.array_equal(first.images, second.images)
    single = make_batch(cases, sampling((8, 8, 8), batch=4), 18)
    assert not np.array_equal(first.images, single.images)


def test_2d_batches_have_no_slice_axis() -> None:
    batch = make_batch([made((5, 20, 20))], sampling((1, 8, 8), batch=3), 0)
    assert batch.images.shape == (3, 1, 8, 8)
    assert batch.labels.shape == (3, 8, 8)


def test_a_case_without_foreground_is_sampled_all_the_same() -> None:
    batch = make_batch([made((9, 9, 9), foreground=False)], sampling((8, 8, 8)), 0)
    assert batch.images.shape == (2, 1, 8, 8, 8)
