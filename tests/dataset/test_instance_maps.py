from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from instance_builders import found_in
from numpy.typing import NDArray

from autoseg.dataset.counted import with_cores
from autoseg.dataset.instance_maps import instance_map_of, read_scene, whole_objects
from autoseg.dataset.label_files import read_case_labels
from autoseg.dataset.readers import write_labels
from autoseg.errors import DatasetError
from autoseg.evaluation.instances import score_instances
from autoseg.records import Case, Geometry, Labels

AFFINE = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))


def geometry(shape: tuple[int, int, int]) -> Geometry:
    return Geometry(shape=shape, affine=AFFINE)


def case_of(tmp_path: Path, ids: NDArray[np.generic], kinds: NDArray[np.generic] | None = None) -> Case:
    write_labels(tmp_path / "ids.nii.gz", ids, geometry(ids.shape))  # type: ignore[arg-type]
    if kinds is not None:
        write_labels(tmp_path / "kinds.nii.gz", kinds, geometry(kinds.shape))  # type: ignore[arg-type]
    labels = None if kinds is None else tmp_path / "kinds.nii.gz"
    return Case(id="a", images=(), labels=labels, instances=tmp_path / "ids.nii.gz")


ONE = with_cores(Labels(names={"background": 0, "cell": 1}), ["cell"], 1.0)


def test_ids_of_32_bits(tmp_path: Path) -> None:
    ids = np.zeros((6, 12, 24), np.uint32)
    ids[1:5, 2:10, 2:12], ids[1:5, 2:10, 12:22] = 70_000, 2**32 - 1
    case = case_of(tmp_path, ids)
    assert score_instances(ids, found_in(case, ONE)).panoptic_quality == 1


def test_more_objects_than_16_bits_can_count(tmp_path: Path) -> None:
    ids = np.zeros((1, 560, 1300), np.uint32)
    ids[0, ::2, ::2] = np.arange(1, 280 * 650 + 1).reshape(280, 650)
    found = found_in(case_of(tmp_path, ids), ONE)
    assert found.max() == 280 * 650 > 2 * 65535
    assert score_instances(ids, found).panoptic_quality == 1


def test_a_voxel_of_a_counted_label_without_an_id(tmp_path: Path) -> None:
    ids, kinds = np.zeros((1, 6, 9), np.uint16), np.zeros((1, 6, 9), np.uint8)
    ids[0, 1:4, 1:4], kinds[0, 1:4, 1:4], kinds[0, 1:4, 5:8] = 3, 1, 1
    plain = Labels(names={"background": 0, "cell": 1, "tissue": 2})
    case = case_of(tmp_path, ids, kinds)
    assert not read_case_labels(case, with_cores(plain, ["cell"], 1.0)).labels[0, :, 5:].any()
    ignoring = with_cores(plain.model_copy(update={"ignore": 9}), ["cell"], 1.0)
    assert (read_case_labels(case, ignoring).labels[0, 1:4, 5:8] == 9).all()


def test_an_object_that_is_to_be_ignored(tmp_path: Path) -> None:
    ids, kinds = np.zeros((1, 6, 9), np.uint16), np.zeros((1, 6, 9), np.uint8)
    ids[0, 1:4, 1:4], ids[0, 1:4, 5:8] = 3, 4
    kinds[ids == 3], kinds[ids == 4] = 1, 9
    labels = with_cores(Labels(names={"background": 0, "cell": 1, "tissue": 2}, ignore=9), ["cell"], 1.0)
    found, values, _ = read_scene(case_of(tmp_path, ids, kinds), labels)
    np.testing.assert_array_equal(found, np.where(ids == 3, 3, 0))
    np.testing.assert_array_equal(values, kinds)


def test_the_ignore_value_of_a_map_of_ids_may_be_below_0(tmp_path: Path) -> None:
    stored = np.zeros((1, 6, 9), np.int16)
    stored[0, 1:4, 1:4], stored[0, 5] = 300, -1
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(stored.T), np.eye(4)), tmp_path / "ids.nii.gz")
    case = Case(id="a", images=(), instances=tmp_path / "ids.nii.gz")
    plain = Labels(names={"background": 0, "cell": 1})
    with pytest.raises(DatasetError, match="negative numbers"):
        read_scene(case, with_cores(plain, ["cell"], 1.0))
    both = case.model_copy(update={"labels": case.instances})
    ids, values, _ = read_scene(both, with_cores(plain.model_copy(update={"ignore": -1}), ["cell"], 1.0))
    np.testing.assert_array_equal(ids, np.maximum(stored, 0))
    np.testing.assert_array_equal(values, np.where(stored > 0, 1, stored))


def test_label_maps_are_taken_voxel_by_voxel_where_that_is_asked(tmp_path: Path) -> None:
    ids = np.ones((2, 4, 4), np.uint8)
    case = case_of(tmp_path, ids, ids)
    moved = ((1.0, 0.0, 0.0, 7.0), *AFFINE[1:])
    write_labels(tmp_path / "kinds.nii.gz", ids, Geometry(shape=ids.shape, affine=moved))  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match=r"lies 7\.0 mm away from the ids"):
        read_scene(case, ONE)
    values = read_scene(case.model_copy(update={"trust_voxels": True}), ONE)[1]
    np.testing.assert_array_equal(values, ids)


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        (np.full((1, 4, 4), 2, np.uint8), "no voxel of a counted label"),
        (np.full((1, 4, 4), 8, np.uint8), "not declared"),
        (np.full((1, 4, 4), 3, np.uint8), "not declared"),  # the value of cores is no label of the file's
        (np.ones((1, 4, 5), np.uint8), "shape"),
    ],
)
def test_label_maps_that_do_not_fit_the_ids(tmp_path: Path, kinds: NDArray[np.uint8], told: str) -> None:
    ids = np.zeros((1, 4, 4), np.uint16)
    ids[0, 1:3, 1:3] = 5
    labels = with_cores(Labels(names={"background": 0, "cell": 1, "tissue": 2}), ["cell"], 1.0)
    with pytest.raises(DatasetError, match=told):
        read_case_labels(case_of(tmp_path, ids, kinds), labels)


def test_borders_and_cores_are_whole_objects(tmp_path: Path) -> None:
    ids = np.zeros((3, 8, 8), np.uint8)
    ids[:, 1:7, 1:7] = 1
    case = case_of(tmp_path, ids)
    encoded = read_case_labels(case, ONE)
    assert set(np.unique(encoded.labels)) == {0, 1, 2}
    np.testing.assert_array_equal(whole_objects(encoded, ONE).labels, read_scene(case, ONE)[1])


def test_the_instance_map_of_a_mask_lies_in_a_folder_below(tmp_path: Path) -> None:
    assert instance_map_of(tmp_path / "a.png") is None
    (tmp_path / "instances").mkdir()
    (tmp_path / "instances" / "b.png").touch()
    assert instance_map_of(tmp_path / "a.png") is None
    (tmp_path / "instances" / "a.tif").touch()
    assert instance_map_of(tmp_path / "a.png") == tmp_path / "instances" / "a.tif"
