from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.dataset.readers import read_image
from autoseg.fingerprint.content import content_hash


def picture(seed: int, shape: tuple[int, ...] = (1, 5, 7, 6)) -> np.ndarray:
    return np.rint(np.random.default_rng(seed).normal(0, 300, shape)).astype(np.float32)


@given(st.integers(0, 50), st.permutations((1, 2, 3)), st.tuples(st.booleans(), st.booleans(), st.booleans()))
@settings(deadline=None, max_examples=60)
def test_turning_an_image_does_not_show(seed: int, axes: tuple[int, ...], flips: tuple[bool, ...]) -> None:
    image = picture(seed, (2, 5, 7, 6))
    turned = image.transpose(0, *axes)[(slice(None), *(slice(None, None, -1 if flip else 1) for flip in flips))]
    assert content_hash(turned) == content_hash(image)
    assert content_hash(np.ascontiguousarray(turned)) == content_hash(image)
    assert len(content_hash(image)) == 32


@given(st.integers(0, 50), st.integers(0, 209), st.sampled_from([1.0, -1.0, 1e-3, 4096.0]))
@settings(deadline=None, max_examples=60)
def test_one_other_voxel_shows(seed: int, place: int, step: float) -> None:
    image = picture(seed)
    changed = image.copy()
    changed.reshape(-1)[place] += step
    assert content_hash(changed) != content_hash(image)


def test_other_arrangements_of_the_same_values_show() -> None:
    image = picture(3)
    exchanged = image.copy()
    exchanged[0, 0, 0, 0], exchanged[0, 2, 3, 4] = image[0, 2, 3, 4], image[0, 0, 0, 0]
    hashes = {content_hash(each) for each in (image, exchanged, np.roll(image, 1, axis=3), np.roll(image, 2, axis=1))}
    assert len(hashes) == 4


def test_channels_and_sizes_belong_to_the_content() -> None:
    image = picture(1, (2, 4, 4, 4))
    others = [image[:1], image[::-1], np.pad(image, ((0, 0), (0, 1), (0, 0), (0, 0))), image * 2]
    assert len({content_hash(np.ascontiguousarray(each)) for each in (image, *others)}) == 5


def test_large_images_are_summed_in_blocks_alike() -> None:
    image = picture(2, (1, 70, 60, 50))
    assert content_hash(image) == content_hash(image[:, ::-1].transpose(0, 3, 1, 2))


def test_blank_images_have_no_content() -> None:
    assert content_hash(np.zeros((2, 3, 4, 5), np.float32)) == ""
    one_blank = np.stack([np.zeros((3, 4, 5), np.float32), picture(0, (3, 4, 5))])
    assert content_hash(one_blank) != ""


def test_one_real_volume_in_all_orientations(shared: Path) -> None:
    files = sorted((shared / "data" / "orientations").glob("*.nii.gz"))
    assert len(files) == 48
    assert len({content_hash(read_image((path,)).image) for path in files}) == 1


def test_different_real_volumes_differ(shared: Path) -> None:
    files = sorted((shared / "data" / "Task04_Hippocampus" / "imagesTr").glob("h*.nii.gz"))[:40]
    assert len({content_hash(read_image((path,)).image) for path in files}) == len(files)


@pytest.mark.parametrize("shape", list(itertools.permutations((1, 30, 20))))
def test_flat_images_may_lie_along_any_axis(shape: tuple[int, ...]) -> None:
    flat = picture(5, (1, 1, 30, 20))
    order = sorted(range(3), key=lambda axis: flat.shape[1:][axis])
    places = sorted(range(3), key=lambda axis: shape[axis])
    axes = [0, 0, 0]
    for source, target in zip(order, places, strict=True):
        axes[target] = 1 + source
    assert flat.transpose(0, *axes).shape[1:] == shape
    assert content_hash(flat.transpose(0, *axes)) == content_hash(flat)
