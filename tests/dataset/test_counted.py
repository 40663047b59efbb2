from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from instance_builders import IDS, KINDS, NAMES, dataset, found_in, save
from numpy.typing import NDArray

from autoseg.arrays.components import pieces_of
from autoseg.dataset.checks import check_case
from autoseg.dataset.counted import counted_dataset, with_cores
from autoseg.dataset.instance_maps import read_scene
from autoseg.dataset.label_files import read_case_labels, read_reference
from autoseg.dataset.layout_checks import check_layout
from autoseg.dataset.layouts import open_dataset
from autoseg.dataset.readers import read_image, read_labels, write_labels
from autoseg.errors import DatasetError
from autoseg.evaluation.instances import score_instances
from autoseg.records import Case, Labels


def test_a_folder_of_instance_maps_is_found(tmp_path: Path) -> None:
    """Labels that dataset.json does not call counted are parts of objects, or anything: they are not read."""
    record = {"labels": {"background": 0, "core": 1, "border": 2}}
    found = open_dataset(dataset(tmp_path, record, instancesTr=IDS, labelsTr=KINDS))
    assert found.labels.things == {"object": "object core"}
    assert found.labels.names == {"background": 0, "object": (1, 2), "object core": 2}
    assert found.labels.classes == {"object": (1, 2)}
    case = found.cases[0]
    assert (case.instances, case.labels) == (tmp_path / "instancesTr" / "a.png", None)
    assert case.labelled
    assert any("counted one by one" in note for note in found.notes)
    assert any("label maps are not read" in note for note in found.notes)
    assert check_layout(found) == []
    score = score_instances(IDS[None], found_in(case, found.labels))
    assert (score.reference, score.panoptic_quality) == (3, 1.0)


def test_label_maps_may_hold_the_ids(tmp_path: Path) -> None:
    record = {"labels": {"background": 0, "cell": 4}, "instances": True}
    found = open_dataset(dataset(tmp_path, record, labelsTr=IDS))
    assert found.labels.names == {"background": 0, "cell": (4, 5), "cell core": 5}
    assert found.cases[0].instances == tmp_path / "labelsTr" / "a.png"
    values = read_case_labels(found.cases[0], found.labels).labels
    np.testing.assert_array_equal(values[0] > 0, IDS > 0)
    assert set(np.unique(values)) == {0, 4, 5}
    assert score_instances(IDS[None], found_in(found.cases[0], found.labels)).panoptic_quality == 1


def test_ids_and_voxels_to_ignore_in_one_file(tmp_path: Path) -> None:
    stored = IDS.copy()
    stored[12:, :5] = 255
    record = {"labels": {"background": 0, "cell": 4, "ignore": 255}, "instances": True}
    found = open_dataset(dataset(tmp_path, record, labelsTr=stored))
    case, labels = found.cases[0], found.labels
    assert labels.ignore == 255
    ids, values, _ = read_scene(case, labels)
    np.testing.assert_array_equal(ids[0], IDS)
    np.testing.assert_array_equal(values[0] == 255, stored == 255)
    np.testing.assert_array_equal(read_case_labels(case, labels).labels[0] == 255, stored == 255)
    assert score_instances(IDS[None], found_in(case, labels)).panoptic_quality == 1


def test_in_a_folder_of_ids_the_value_to_be_ignored_is_an_id(tmp_path: Path) -> None:
    record = {"labels": {"background": 0, "cell": 1, "ignore": 7}}
    found = open_dataset(dataset(tmp_path, record, instancesTr=IDS))
    ids, values, _ = read_scene(found.cases[0], found.labels)
    np.testing.assert_array_equal(ids[0], IDS)
    np.testing.assert_array_equal(values[0], IDS > 0)


def test_no_json_and_no_labels_are_needed(tmp_path: Path) -> None:
    found = open_dataset(dataset(tmp_path, None, instancesTr=IDS))
    assert (found.layout, list(found.labels.things)) == ("folders", ["object"])


def test_objects_of_several_labels_and_regions_without(tmp_path: Path) -> None:
    record = {"labels": NAMES, "instances": ["cell", "vessel"]}
    found = open_dataset(dataset(tmp_path, record, instancesTr=IDS, labelsTr=KINDS))
    labels = found.labels
    assert list(labels.things) == ["cell", "vessel"]
    assert labels.classes == {"cell": (1, 4), "vessel": (2, 5), "tissue": (3,)}
    assert labels.has_regions
    case = found.cases[0]
    values = read_case_labels(case, labels).labels[0]
    np.testing.assert_array_equal(np.isin(values, [1, 4]), (IDS == 7) | (IDS == 900))
    np.testing.assert_array_equal(np.isin(values, [2, 5]), IDS == 65535)
    np.testing.assert_array_equal(values == 3, (KINDS == 3) & (IDS == 0))
    ids, kinds, _ = read_scene(case, labels)
    np.testing.assert_array_equal(ids[0], IDS)
    assert set(np.unique(kinds)) == {0, 1, 2, 3}
    assert kinds[0, 9, 2] == 1  # what most of the object is
    assert read_reference(case, labels)[1] == labels
    assert score_instances(IDS[None], found_in(case, labels)).panoptic_quality == 1


def test_every_label_may_be_counted(tmp_path: Path) -> None:
    names = {"background": 0, "cell": 1, "vessel": 2, "other": 3}
    kinds = np.where(IDS > 0, KINDS, 0).astype(np.uint8)
    found = open_dataset(dataset(tmp_path, {"labels": names, "instances": True}, instancesTr=IDS, labelsTr=kinds))
    assert list(found.labels.things) == ["cell", "vessel", "other"]


def test_one_name_for_all_objects(tmp_path: Path) -> None:
    record = {"labels": NAMES, "instances": "nucleus"}
    found = open_dataset(dataset(tmp_path, record, instancesTr=IDS, labelsTr=KINDS))
    assert found.labels.classes == {"nucleus": (1, 2)}


def test_instance_maps_can_be_left_alone(tmp_path: Path) -> None:
    found = open_dataset(dataset(tmp_path, {"labels": NAMES, "instances": False}, instancesTr=IDS, labelsTr=KINDS))
    assert found.labels == Labels(names=NAMES)
    assert found.cases[0].instances is None
    assert found.cases[0].labels == tmp_path / "labelsTr" / "a.png"


def test_cores_of_a_label_that_was_drawn_are_known(tmp_path: Path) -> None:
    cells = np.where(IDS == 65535, 0, IDS)
    record = {
        "labels": {"background": 0, "cell": 1, "tissue": 2},
        "instances": ["cell"],
        "annotated": {"a": ["cell"]},
    }
    kinds = (cells > 0).astype(np.uint8)
    found = open_dataset(dataset(tmp_path, record, instancesTr=cells, labelsTr=kinds))
    case, labels = found.cases[0], found.labels
    assert case.annotated == ("cell", "cell core")
    assert labels.drawn_outputs(case.annotated) == (True, False, True)
    assert labels.drawn_outputs(["tissue"]) == (False, True, False)
    problems = check_case(case, read_image(case.images), read_case_labels(case, labels), labels, 1)
    assert [problem.kind for problem in problems if problem.severity == "error"] == []


def test_a_folder_that_goes_with_no_image_is_told(tmp_path: Path) -> None:
    """Else label maps would be taken for ids, or nothing be counted, without a word."""
    names = {"background": 0, "cell": 1}
    root = dataset(tmp_path / "told", {"labels": names}, labelsTr=KINDS)
    save(root, "instancesTr", IDS, "other.png")
    found = open_dataset(root)
    assert not found.labels.things
    assert any("objects are not counted by the folder instancesTr" in note for note in found.notes)
    asked = dataset(tmp_path / "asked", {"labels": names, "instances": True}, labelsTr=KINDS)
    save(asked, "instancesTr", IDS, "other.png")
    only = dataset(tmp_path / "only", None)
    save(only, "instancesTr", IDS, "other.png")
    for folder in (asked, only):
        with pytest.raises(DatasetError, match=r"instancesTr: none of its 1 files .*other.png, where a case is a\."):
            open_dataset(folder)
    refused = dataset(tmp_path / "refused", {"labels": names, "instances": False}, labelsTr=KINDS)
    save(refused, "instancesTr", IDS, "other.png")
    assert not any("not counted" in note for note in open_dataset(refused).notes)


def test_a_case_without_ids_has_no_labels(tmp_path: Path) -> None:
    root = dataset(tmp_path, {"labels": NAMES, "instances": True}, instancesTr=IDS, labelsTr=KINDS)
    save(root, "imagesTr", KINDS, "b.png")
    save(root, "labelsTr", KINDS, "b.png")
    problems = check_layout(open_dataset(root))
    assert [(problem.kind, problem.case) for problem in problems if problem.severity == "error"] == [
        ("missing-label", "b")
    ]


def test_a_case_without_a_label_map_is_refused_where_objects_are_of_several_labels(tmp_path: Path) -> None:
    """They would all be taken for the first."""
    root = dataset(tmp_path, {"labels": NAMES, "instances": ["cell", "vessel"]}, instancesTr=IDS, labelsTr=KINDS)
    save(root, "imagesTr", KINDS, "b.png")
    save(root, "instancesTr", IDS, "b.png")
    found = open_dataset(root)
    with pytest.raises(DatasetError, match=r"b\.png: no label map tells which of its objects are cell, vessel"):
        read_case_labels(found.cases[1], found.labels)


@pytest.mark.parametrize(
    ("record", "folders", "told"),
    [
        ({"labels": NAMES, "instances": 3}, {"instancesTr": IDS}, "field instances: it should be"),
        ({"labels": NAMES, "instances": ["axon"]}, {"instancesTr": IDS}, "'axon' is no label"),
        ({"labels": NAMES, "instances": True}, {"labelsTr": IDS}, "hold ids of objects"),
        ({"labels": {**NAMES, "all": [1, 2]}, "instances": True}, {"instancesTr": IDS}, "cannot be counted"),
        ({"instances": ["cell"]}, {"instancesTr": IDS}, "no labels are declared"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, record: dict[str, object], folders: dict[str, NDArray[np.generic]], told: str
) -> None:
    with pytest.raises(DatasetError, match=told):
        open_dataset(dataset(tmp_path, record, **folders))


def test_the_smallest_object_is_half_of_nearly_all(tmp_path: Path) -> None:
    ids = np.zeros((60, 60), np.uint16)
    for number in range(100):
        row, column = divmod(number, 10)
        size = 1 if number < 4 else 4  # specks that somebody drew
        ids[6 * row : 6 * row + size, 6 * column : 6 * column + size] = number + 1
    root = dataset(tmp_path, {"instances": "cell"}, instancesTr=IDS)
    save(root, "instancesTr", ids)
    found = open_dataset(root)
    assert found.labels.smallest_object_mm3 == pytest.approx(8)
    assert any("smaller than 8 mm3 is no object" in note for note in found.notes)
    assert Labels.model_validate_json(found.labels.model_dump_json()) == found.labels


def test_no_label_is_lost_for_the_size_of_another(tmp_path: Path) -> None:
    ids, kinds = np.zeros((60, 60), np.uint16), np.zeros((60, 60), np.uint8)
    for number in range(100):
        row, column = divmod(number, 10)
        size = 2 if number < 3 else 5
        box = slice(6 * row, 6 * row + size), slice(6 * column, 6 * column + size)
        ids[box], kinds[box] = number + 1, 2 if number < 3 else 1
    names = {"background": 0, "cell": 1, "nucleolus": 2}
    found = open_dataset(dataset(tmp_path, {"labels": names, "instances": True}, instancesTr=ids, labelsTr=kinds))
    assert found.labels.smallest_object_mm3 == pytest.approx(2)
    assert any("of the label with the smallest" in note for note in found.notes)


def test_objects_in_pieces_are_told(tmp_path: Path) -> None:
    def told(name: str, ids: NDArray[np.generic]) -> list[str]:
        found = open_dataset(dataset(tmp_path / name, {"instances": "cell"}, instancesTr=ids))
        return [note for note in found.notes if "in pieces" in note]

    assert told("whole", IDS) == []
    ids = IDS.copy()
    ids[0, 29] = 7
    (note,) = told("one", ids)
    assert note.startswith("1 of 3 objects are in pieces")
    assert "mask" not in note
    (note,) = told("mask", ((IDS > 0) * 255).astype(np.uint8))
    assert note.startswith("1 of 1 objects are in pieces")
    assert "as in a mask, number them first" in note


MICRON = 1e-3


def test_objects_are_measured_on_the_grid_of_their_image(tmp_path: Path) -> None:
    """Drawn ids in a TIFF stack tell no voxel size, and images of microscopes a very small one."""
    ids = np.zeros((6, *IDS.shape), np.uint16)
    ids[1:5] = IDS
    image = (np.arange(ids.size) % 256).astype(np.uint8).reshape(ids.shape)
    for folder in ("imagesTr", "instancesTr"):
        (tmp_path / folder).mkdir()
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(
        tmp_path / "imagesTr" / "a.tif", image, ome=True, photometric="minisblack", metadata={"axes": "ZYX", **sizes}
    )
    tifffile.imwrite(tmp_path / "instancesTr" / "a.tif", ids, photometric="minisblack", metadata=None)
    found = open_dataset(tmp_path)
    case, labels = found.cases[0], found.labels
    assert labels.core_margin_mm == pytest.approx(0.5 * MICRON, rel=1e-3)  # a quarter of four pixels, which is one
    # of 144, 256 and 256 voxels
    smallest = 0.5 * np.percentile([144, 256, 256], 5) * 0.5 * 0.5 * 2.0 * MICRON**3
    assert labels.smallest_object_mm3 == pytest.approx(smallest, rel=1e-3, abs=0)
    assert score_instances(ids, found_in(case, labels)).panoptic_quality == 1


def test_names_and_values_of_cores_are_new() -> None:
    labels = with_cores(Labels(names={"background": 0, "cell": 5, "cell core": 2}, ignore=7), ["cell"], 2.0)
    assert labels.names == {"background": 0, "cell": (5, 8), "cell core": 2, "cell core of objects": 8}
    assert (labels.things, labels.ignore) == ({"cell": "cell core of objects"}, 7)


# ------------------------------------------------------------------------------------------------------- real data


def quality_of(case: Case, labels: Labels) -> float:
    """Panoptic quality of the objects of a case that were borders and cores in between."""
    quality = score_instances(read_scene(case, labels)[0], found_in(case, labels)).panoptic_quality
    return 1.0 if quality is None else quality


@pytest.mark.slow
def test_every_nucleus_comes_back(shared: Path) -> None:
    found = open_dataset(shared / "data" / "Dataset515_DSB2018")
    assert np.mean([quality_of(case, found.labels) for case in found.cases]) >= 0.99


#: Ids above this one are those of discs and end plates: plates of one voxel in scraps, which no core fits into.
LAST_VERTEBRA = 100


@pytest.mark.parametrize("name", ["sample_ct", "sample_mri"])
def test_every_vertebra_comes_back(name: str, shared: Path, tmp_path: Path) -> None:
    """In pieces where the end of the image cuts it into pieces."""
    (path,) = (shared / "data" / "vertebra_crops" / name).glob("*seg-vert*")
    found = read_labels(path)
    pieces, _ = pieces_of(np.where(found.labels < LAST_VERTEBRA, found.labels, 0))
    write_labels(tmp_path / "ids.nii.gz", pieces, found.geometry)
    case = Case(id=name, images=(path,), instances=tmp_path / "ids.nii.gz")
    labels = counted_dataset(None, None, [case], [], tmp_path).labels
    assert quality_of(case, labels) >= 0.99
