"""The correction that brings a reference closest to the mask names what is wrong with it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from autoseg.evaluation import error_kinds
from autoseg.evaluation.error_kinds import (
    Correction,
    best_move,
    count_corrections,
    likeliest,
    mean_dice,
    moved,
    value_name,
    voxel_corrections,
)
from autoseg.records import Labels

LABELS = Labels(names={"background": 0, "front": 1, "back": 2})
REGIONS = Labels(names={"background": 0, "whole": (1, 2), "core": 2})
SHAPE = (24, 30, 22)
SPACING = (1.0, 1.0, 1.0)


def body() -> np.ndarray:
    """An ellipsoid of two labels, one behind the other."""
    z, y, x = (np.arange(size) - size / 2 for size in SHAPE)
    inside = (z[:, None, None] / 7) ** 2 + (y[None, :, None] / 11) ** 2 + (x[None, None, :] / 6) ** 2 < 1
    labels = np.where(inside, 1, 0).astype(np.int16)
    labels[:, 17:][inside[:, 17:]] = 2
    return labels


def rough() -> np.ndarray:
    """What networks make of the body: not quite the same at its surface."""
    noise = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=SHAPE), 1.5)
    depth = ndimage.distance_transform_edt(body() > 0) - ndimage.distance_transform_edt(body() == 0)
    kept = depth + 12 * noise > 0
    return np.where(kept, np.where(np.arange(SHAPE[1])[None, :, None] < 17, 1, 2), 0).astype(np.int16)


def counts_of(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    return np.histogram2d(truth.ravel(), found.ravel(), bins=np.arange(4))[0].astype(np.int64)


def named(truth: np.ndarray, found: np.ndarray | None = None, labels: Labels = LABELS) -> Correction:
    """The correction that gains most, "local" where it gains next to nothing."""
    sizes = np.array([float(np.isin(body(), members).sum()) for members in labels.foreground.values()])
    mask = rough() if found is None else found
    counted = count_corrections(counts_of(truth, mask), labels, sizes)
    best = likeliest((*counted, *voxel_corrections(truth, mask, labels, SPACING)))
    return Correction("local", "", 0.0) if best is None or best.gain < 0.05 else best


def test_no_correction_of_a_good_reference_gains_much() -> None:
    assert 0.8 < mean_dice(counts_of(body(), rough()), LABELS.value_membership) < 0.99
    assert named(body()).kind == "local"
    assert likeliest(voxel_corrections(body(), body(), LABELS, SPACING)) is None


@pytest.mark.parametrize("way", [(3, 0, 0), (-3, 0, 0), (0, 3, 0), (0, -3, 0), (0, 0, 3), (2, -2, 1)])
def test_a_shifted_reference(way: tuple[int, int, int]) -> None:
    found = named(moved(body(), way))
    assert found.kind == "shifted"
    assert f"({np.sqrt(np.square(way).sum()):.1f} mm)" in found.what
    for axis, along in zip("kji", way, strict=True):
        assert (f"{axis} {along:+d}" in found.what) == bool(along)


def test_a_reference_that_is_drawn_too_small_or_too_large() -> None:
    cross = ndimage.generate_binary_structure(3, 1)
    small = np.where(ndimage.binary_erosion(body() > 0, cross), body(), 0).astype(np.int16)
    assert named(small).kind == "eroded"
    distance, (z, y, x) = ndimage.distance_transform_edt(body() == 0, return_indices=True)
    large = np.where(distance <= 1, body()[z, y, x], 0).astype(np.int16)
    assert named(large).kind == "dilated"
    assert "too large, by about 1.0 mm" in named(large, body()).what


def test_two_labels_exchanged() -> None:
    swapped = np.array([0, 2, 1], np.int16)[body()]
    found = named(swapped)
    assert (found.kind, found.what) == ("swapped", "front and back are exchanged")
    dice = [mean_dice(counts_of(truth, rough()), LABELS.value_membership) for truth in (body(), swapped)]
    assert found.gain == pytest.approx(dice[0] - dice[1])


@pytest.mark.parametrize(("instead", "told"), [(0, "background"), (1, "front")])
def test_a_label_that_is_not_drawn(instead: int, told: str) -> None:
    lacking = np.array([0, 1, instead], np.int16)[body()]
    found = named(lacking)
    assert found.kind == "dropped"
    assert found.what == f"back is not drawn; most of its place is {told}"


def test_a_label_of_which_networks_see_but_a_speck_is_not_called_dropped() -> None:
    found, truth = body(), body()
    truth[truth == 2] = 0
    found[found == 2] = 0
    found[12, 18, 10:13] = 2
    assert named(truth, found).kind == "local"


def test_a_piece_that_is_missing_is_local() -> None:
    truth = body()
    truth[8:14, 8:14, 6:12] = 0
    assert named(truth).kind == "local"


def test_regions_are_exchanged_by_their_values() -> None:
    swapped = np.array([0, 2, 1], np.int16)[body()]
    found = named(swapped, labels=REGIONS)
    assert (found.kind, found.what) == ("swapped", "whole and whole+core are exchanged")
    assert value_name(2, REGIONS) == "whole+core"
    assert value_name(0, REGIONS) == "background"


def test_nothing_in_either_is_no_error() -> None:
    nothing = np.zeros(SHAPE, np.int16)
    assert voxel_corrections(nothing, nothing, LABELS, SPACING) == ()
    assert named(nothing, nothing).kind == "local"
    assert named(nothing).kind == "dropped"
    assert named(body(), nothing).kind == "local"


def test_large_cases_are_looked_at_voxel_by_every_second_voxel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_kinds, "MOST_VOXELS", 1000)
    found = named(moved(body(), (0, 4, 0)))
    assert found.kind == "shifted"
    assert "j +4 voxels" in found.what


def test_growing_counts_in_millimetres() -> None:
    """Slices far apart: a reference that is too small within them is grown within them."""
    small = body()
    for plane in small:
        plane[~ndimage.binary_erosion(plane > 0)] = 0
    found = likeliest(voxel_corrections(small, body(), LABELS, (6.0, 0.5, 0.5)))
    assert found is not None
    assert found.kind == "eroded"
    assert "0.5 mm" in found.what
    assert found.gain + mean_dice(counts_of(small, body()), LABELS.value_membership) > 0.9


def test_mean_dice_is_that_of_the_labels_that_occur() -> None:
    counts = np.array([[5, 0, 0], [2, 6, 0], [0, 0, 0]])
    assert mean_dice(counts, LABELS.value_membership) == pytest.approx(12 / 14)
    assert mean_dice(np.array([[5, 0, 0], [0, 0, 0], [0, 0, 0]]), LABELS.value_membership) == 1.0
    nested = np.array([[0, 0, 0], [0, 3, 1], [0, 0, 2]])  # the whole is right, the core has a voxel too many
    assert mean_dice(nested, REGIONS.value_membership) == pytest.approx((1 + 4 / 5) / 2)


@settings(max_examples=25, deadline=None)
@given(way=st.tuples(*(st.integers(-4, 4) for _ in range(3))))
def test_the_best_move_undoes_a_move(way: tuple[int, int, int]) -> None:
    padded = np.pad(body(), 5)
    assert best_move(moved(padded, way), padded, LABELS) == tuple(-along for along in way)
    assert np.array_equal(moved(moved(padded, way), [-along for along in way]), padded)
