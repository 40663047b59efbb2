from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autoseg.arrays.tiles import gaussian_window
from autoseg.errors import PredictionError
from autoseg.inference import window_sums
from autoseg.inference.sliding_window import Room, score_slabs
from autoseg.inference.tile_grid import mirror_sets, tile_grid
from autoseg.inference.window_memory import room_on

CPU = torch.device("cpu")


def predict_scores(forward, image, patch_size, *, step=0.5, **options) -> np.ndarray:
    """All slabs of a volume put together; they come in order and without gaps."""
    slabs = list(score_slabs(forward, image, tile_grid(image.shape[1:], patch_size, step), **options))
    assert [first for first, _ in slabs] == np.cumsum([0, *(slab.shape[1] for _, slab in slabs[:-1])]).tolist()
    return torch.cat([slab for _, slab in slabs], dim=1).numpy()


def random_image(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def pointwise(batch: Tensor) -> Tensor:
    """Two outputs that depend on the voxel alone, so that tiling cannot show."""
    return torch.cat([batch[:, :1] * 2 + 1, batch[:, :1] ** 2], dim=1)


def ramp(batch: Tensor) -> Tensor:
    """Depends on the place in the patch: every tile and every mirrored copy gives something else."""
    place = torch.arange(batch[0, 0].numel(), dtype=torch.float32).reshape(batch.shape[2:])
    return torch.cat([batch[:, :1] + place, batch[:, :1] * place], dim=1)


def by_definition(
    image: np.ndarray, patch: tuple[int, int, int], step: float, mirror_axes: tuple[int, ...]
) -> np.ndarray:
    """The weighted mean over tiles and mirrors, written down as the method states it, in float64."""
    grid = tile_grid(image.shape[1:], patch, step)
    padded = np.pad(image, ((0, 0), *grid.pads))
    window = gaussian_window(patch).astype(np.float64)
    total, weight = np.zeros((2, *grid.padded_shape)), np.zeros(grid.padded_shape)
    for start in product(*grid.starts):
        place = tuple(slice(first, first + length) for first, length in zip(start, patch, strict=True))
        tile = torch.from_numpy(padded[(slice(None), *place)])[None]
        passes = []
        for axes in mirror_sets(mirror_axes):
            flipped = [axis + 2 for axis in axes]
            passes.append(ramp(tile.flip(flipped)).flip(flipped)[0].double().numpy())
        total[(slice(None), *place)] += np.mean(passes, axis=0) * window
        weight[place] += window
    inner = tuple(slice(pad[0], pad[0] + size) for pad, size in zip(grid.pads, grid.shape, strict=True))
    return (total / weight)[(slice(None), *inner)]


@given(
    shape=st.tuples(*[st.integers(1, 14)] * 3),
    patch=st.tuples(*[st.integers(2, 8)] * 3),
    step=st.sampled_from([0.3, 0.5, 0.75, 1.0]),
    mirror_axes=st.sampled_from([(), (2,), (0, 1), (0, 1, 2)]),
    batch_size=st.integers(1, 9),
)
@settings(deadline=None, max_examples=40)
def test_equals_the_definition(
    shape: tuple[int, int, int],
    patch: tuple[int, int, int],
    step: float,
    mirror_axes: tuple[int, ...],
    batch_size: int,
) -> None:
    image = random_image((1, *shape))
    scores = predict_scores(
        ramp, image, patch, heads=2, step=step, mirror_axes=mirror_axes, batch_size=batch_size, device=CPU
    )
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, by_definition(image, patch, step, mirror_axes), rtol=2e-4, atol=2e-3)


def test_tiling_does_not_show_in_a_pointwise_network() -> None:
    image = random_image((1, 19, 30, 23))
    expected = pointwise(torch.from_numpy(image)[None])[0].numpy()
    image.flags.writeable = False  # as arrays from a store may be
    scores = predict_scores(pointwise, image, (8, 12, 10), heads=2, mirror_axes=(0, 1, 2), batch_size=3, device=CPU)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


def test_a_2d_network_sees_every_slice() -> None:
    image = random_image((1, 5, 30, 23))
    seen: list[tuple[int, ...]] = []

    def forward(batch: Tensor) -> Tensor:
        seen.append(tuple(batch.shape))
        return pointwise(batch)

    scores = predict_scores(forward, image, (16, 16), heads=2, mirror_axes=(1, 2), batch_size=4, device=CPU)
    np.testing.assert_allclose(scores, pointwise(torch.from_numpy(image)[None])[0].numpy(), rtol=1e-5, atol=1e-5)
    assert all(len(shape) == 4 and shape[0] <= 4 for shape in seen)
    assert sum(shape[0] for shape in seen) == tile_grid((5, 30, 23), (16, 16)).tiles * len(mirror_sets((1, 2)))


def test_batch_size_changes_nothing_but_speed() -> None:
    image = random_image((1, 12, 20, 18))
    one, many = (
        predict_scores(ramp, image, (6, 8, 8), heads=2, mirror_axes=(0, 2), batch_size=size, device=CPU)
        for size in (1, 7)
    )
    np.testing.assert_allclose(one, many, rtol=1e-6, atol=1e-5)


def test_slabs_leave_as_the_window_moves() -> None:
    image = random_image((1, 40, 10, 10))
    grid = tile_grid((40, 10, 10), (8, 8, 8))
    slabs = list(score_slabs(pointwise, image, grid, heads=2, device=CPU))
    assert [first for first, _ in slabs] == list(grid.starts[0])
    assert max(slab.shape[1] for _, slab in slabs) <= 8
    assert sum(slab.shape[1] for _, slab in slabs) == 40


def test_every_tile_is_reported() -> None:
    told: list[int] = []
    image = random_image((1, 12, 20, 18))
    predict_scores(
        pointwise, image, (6, 8, 8), heads=2, mirror_axes=(0, 2), batch_size=3, device=CPU, on_tile=told.append
    )
    assert sum(told) == tile_grid((12, 20, 18), (6, 8, 8)).tiles


def test_scores_that_are_not_finite_are_an_error() -> None:
    image = random_image((1, 8, 8, 8))
    image[0, 3, 3, 3] = np.nan
    with pytest.raises(PredictionError, match="not finite"):
        predict_scores(pointwise, image, (8, 8, 8), heads=2, device=CPU)


def test_sums_are_float32_when_the_network_is_not() -> None:
    image = random_image((1, 12, 12, 12))
    scores = predict_scores(
        lambda batch: pointwise(batch).to(torch.bfloat16), image, (8, 8, 8), heads=2, mirror_axes=(0, 1, 2), device=CPU
    )
    exact = pointwise(torch.from_numpy(image)[None])[0]
    np.testing.assert_allclose(scores, exact.to(torch.bfloat16).float().numpy(), rtol=1e-5, atol=1e-5)


def test_a_2d_network_is_not_mirrored_across_slices() -> None:
    with pytest.raises(ValueError, match="slices"):
        predict_scores(pointwise, random_image((1, 2, 8, 8)), (8, 8), heads=2, mirror_axes=(0,), device=CPU)


def test_scores_that_overflow_are_computed_again_in_full_precision() -> None:
    image = random_image((1, 8, 8, 8))
    calls = []

    def overflowing(batch: Tensor) -> Tensor:
        return pointwise(batch) * torch.tensor([1.0, torch.inf])[None, :, None, None, None]

    def precise(batch: Tensor) -> Tensor:
        calls.append(len(batch))
        return pointwise(batch)

    found = predict_scores(overflowing, image, (8, 8, 8), heads=2, device=CPU, precise=precise)
    np.testing.assert_allclose(found, pointwise(torch.from_numpy(image)[None])[0].numpy(), rtol=1e-5, atol=1e-6)
    assert calls == [1]
    predict_scores(pointwise, image, (8, 8, 8), heads=2, device=CPU, precise=precise)
    assert calls == [1]


@pytest.mark.parametrize("mirror_axes", [(), (0, 2)])
def test_half_sums_are_those_of_nnunet(mirror_axes: tuple[int, ...]) -> None:
    """Written down as nnU-Net's description has it: mean over mirrors, then sums and weights in half precision."""
    image, patch = random_image((1, 13, 9, 17)), (8, 6, 10)
    grid = tile_grid(image.shape[1:], patch, 0.5)
    window = torch.from_numpy(10 * gaussian_window(patch).astype(np.float64)).half()
    window[window == 0] = window[window > 0].min()
    sums = torch.zeros((2, *grid.padded_shape), dtype=torch.float16)
    weights = torch.zeros(grid.padded_shape, dtype=torch.float16)
    padded = torch.from_numpy(np.pad(image, ((0, 0), *grid.pads)))
    for start in product(*grid.starts):
        place = (slice(None), *(slice(first, first + size) for first, size in zip(start, patch, strict=True)))
        copies = []
        for axes in mirror_sets(mirror_axes):
            flipped = [axis + 2 for axis in axes]
            copies.append(ramp(padded[place][None].flip(flipped)).flip(flipped)[0])
        sums[place] += sum(copies[1:], start=copies[0]) / len(copies) * window
        weights[place[1:]] += window
    inner = tuple(slice(pad[0], pad[0] + size) for pad, size in zip(grid.pads, grid.shape, strict=True))
    wanted = (sums / weights)[(slice(None), *inner)]
    found = predict_scores(
        ramp, image, patch, heads=2, mirror_axes=mirror_axes, batch_size=3, device=CPU, half_sums=True
    )
    # the window's last bits may be rounded elsewhere: a step of half precision
    np.testing.assert_allclose(found, wanted.float().numpy(), rtol=2e-3, atol=2e-3)
    exact = predict_scores(ramp, image, patch, heads=2, mirror_axes=mirror_axes, batch_size=3, device=CPU)
    assert np.abs(found - exact).max() > 1e-3, "half precision is to show"


def test_a_batch_that_does_not_fit_goes_on_smaller_from_where_it_was() -> None:
    image = random_image((1, 12, 20, 18))
    sizes: list[int] = []

    def small_device(batch: Tensor) -> Tensor:
        if len(batch) > (8 if len(sizes) < 3 else 3):  # memory gets scarce on the way
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(batch))
        return ramp(batch)

    options = {"heads": 2, "mirror_axes": (0, 2), "batch_size": 8, "device": CPU}
    found = predict_scores(small_device, image, (6, 8, 8), **options)
    np.testing.assert_allclose(found, predict_scores(ramp, image, (6, 8, 8), **options), rtol=1e-6, atol=1e-5)
    assert sizes[:3] == [8, 8, 8]
    assert set(sizes[3:]) <= {1, 2}
    assert sum(sizes) == tile_grid((12, 20, 18), (6, 8, 8)).tiles * len(mirror_sets((0, 2)))  # no patch twice


def test_what_does_not_fit_at_all_is_an_error() -> None:
    def full_device(batch: Tensor) -> Tensor:
        raise torch.OutOfMemoryError(f"no room for {len(batch)}")

    with pytest.raises(torch.OutOfMemoryError, match="no room for 1"):
        predict_scores(full_device, random_image((1, 8, 8, 8)), (8, 8, 8), heads=2, batch_size=4, device=CPU)


@given(
    shape=st.tuples(*[st.integers(1, 20)] * 3),
    step=st.sampled_from([0.3, 0.5, 1.0]),
    batch=st.integers(1, 9),
    half=st.booleans(),
    slab_bytes=st.sampled_from([1, 3000, 10**9]),
)
@settings(deadline=None, max_examples=40)
def test_neither_place_nor_slabs_nor_batches_change_a_score(shape, step, batch, half, slab_bytes) -> None:
    image, patch = random_image((1, *shape)), (5, 6, 4)
    made: list[Tensor] = []

    def elsewhere(size, dtype) -> Tensor:
        made.append(torch.zeros(tuple(size), dtype=dtype))
        return made[-1]

    options = {"heads": 2, "mirror_axes": (1,), "device": CPU, "half_sums": half, "batch_size": 1}
    plain = predict_scores(ramp, image, patch, step=step, **options)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(window_sums, "SLAB_BYTES", slab_bytes)
        room = Room(allocate=elsewhere, batch_size=batch)
        other = predict_scores(ramp, image, patch, step=step, **{**options, "batch_size": 9}, room=room)
    np.testing.assert_array_equal(other, plain)
    assert {tensor.shape[1] for tensor in made} == {patch[0]}  # sums are never deeper than a patch


def test_an_accelerator_holds_what_fits() -> None:
    device, main_memory = torch.device("cuda"), CPU
    parts = {"image": 100, "sums": 400, "passes": 300}
    assert room_on(device, 1000, **parts) == Room(image=device, sums=device)
    assert room_on(device, 900, **parts) == Room(image=main_memory, sums=device)
    assert room_on(device, 500, **parts) == Room(image=device, sums=main_memory)
    assert room_on(device, 400, **parts) == Room(image=main_memory, sums=main_memory)
