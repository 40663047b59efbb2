from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from autoseg.arrays.cores import object_cores
from autoseg.dataset.counted import with_cores
from autoseg.dataset.readers import read_labels
from autoseg.evaluation.instances import score_instances
from autoseg.inference.found_scene import as_csv, found_scene, write_objects
from autoseg.inference.object_masks import object_masks
from autoseg.records import Case, Geometry, Labels

AFFINE = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))
LABELS = with_cores(
    Labels(names={"background": 0, "cell": 1, "vessel": 2, "tissue": 3}), ["cell", "vessel"], margin_mm=1.0
)

#: Two cells that touch and a vessel that touches one of them, in tissue.
IDS = np.zeros((1, 14, 40), np.uint16)
IDS[0, 2:10, 2:12], IDS[0, 2:10, 12:22], IDS[0, 3:9, 22:30] = 1, 2, 3
KINDS = np.select([IDS == 3, IDS > 0], [2, 1], 3).astype(np.uint8)


def geometry(shape: tuple[int, ...], flat: bool = False) -> Geometry:
    return Geometry(shape=shape, affine=AFFINE, flat=flat)  # type: ignore[arg-type]


def as_network_would() -> np.ndarray:
    core = object_cores(IDS, (1.0, 1.0, 1.0), 1.0)
    mask = KINDS.copy()
    for border, inner in LABELS.core_values.items():
        mask[core & np.equal(KINDS, border)] = inner
    return mask


def test_labels_and_objects_come_back() -> None:
    scene = found_scene(as_network_would(), LABELS, geometry(IDS.shape))
    np.testing.assert_array_equal(scene.labels, KINDS)
    assert score_instances(IDS, scene.ids).panoptic_quality == 1
    assert sorted(found.label for found in scene.objects) == ["cell", "cell", "vessel"]
    assert [found.voxels for found in scene.objects] == [int((scene.ids == found.id).sum()) for found in scene.objects]
    assert LABELS.without_cores == Labels(names={"background": 0, "cell": 1, "vessel": 2, "tissue": 3})


def test_an_object_has_one_label() -> None:
    mask = as_network_would()
    part = IDS == 1
    part[..., 5:] = False
    mask[part] = 2  # a part of a cell is taken for a vessel
    scene = found_scene(mask, LABELS, geometry(IDS.shape))
    np.testing.assert_array_equal(scene.labels, KINDS)


def test_scores_are_mean_probabilities() -> None:
    """Of their own label."""
    sure = np.stack([np.where(IDS == 2, 204, 102), np.full(IDS.shape, 51)]).astype(np.uint8)
    scene = found_scene(as_network_would(), LABELS, geometry(IDS.shape), sure)
    scores = {int(IDS[scene.ids == found.id][0]): found.score for found in scene.objects}
    assert scores == {1: pytest.approx(0.4), 2: pytest.approx(0.8), 3: pytest.approx(0.2)}


def test_specks_are_background() -> None:
    """Smaller than any object of the training; a speck of core beside a larger one makes no object of its own."""
    labels = LABELS.model_copy(update={"smallest_object_mm3": 12.0})
    mask = as_network_would()
    mask[0, 12, 2:5] = 1
    mask[0, 11:14, 30:34] = 1
    core = next(iter(LABELS.core_values.values()))
    mask[0, 12, 3] = mask[0, 12, 31] = core
    mask[0, 3, 2], mask[0, 4, 2] = core, 1
    scene = found_scene(mask, labels, geometry(IDS.shape))
    assert len(scene.objects) == 4
    assert [found.id for found in scene.objects] == [1, 2, 3, 4]
    assert not scene.labels[0, 12, 2:5].any()
    np.testing.assert_array_equal(scene.ids > 0, np.isin(scene.labels, (1, 2)))
    assert len(found_scene(mask, LABELS, geometry(IDS.shape)).objects) > 4


def test_nothing_is_found_in_nothing() -> None:
    scene = found_scene(np.zeros((2, 3, 4), np.uint8), LABELS, geometry((2, 3, 4)))
    assert not scene.ids.any()
    assert scene.objects == ()
    assert list(object_masks(scene.ids)) == []


def test_each_object_has_a_mask() -> None:
    scene = found_scene(as_network_would(), LABELS, geometry(IDS.shape))
    stacked = np.stack([mask for _, mask in object_masks(scene.ids)])
    assert stacked.shape == (3, *IDS.shape)
    assert (stacked.sum(0) == (scene.ids > 0)).all()


def test_the_table_has_a_line_for_each_object() -> None:
    scene = found_scene(as_network_would(), LABELS, geometry(IDS.shape))
    rows = list(csv.DictReader(io.StringIO(as_csv(scene.objects))))
    assert len(rows) == 3
    vessel = next(row for row in rows if row["label"] == "vessel")
    assert (vessel["voxels"], vessel["y_first"], vessel["y_end"], vessel["x_first"], vessel["x_end"]) == (
        "48", "3", "9", "22", "30",
    )  # fmt: skip
    assert (float(vessel["centre_y"]), float(vessel["centre_x"])) == (5.5, 25.5)
    assert vessel["score"] == ""


def test_places_in_micrometres_keep_their_digits() -> None:
    micron = tuple((*(1e-3 * number for number in row[:3]), row[3]) for row in AFFINE)
    scene = found_scene(as_network_would(), LABELS, Geometry(shape=IDS.shape, affine=micron))  # type: ignore[arg-type]
    vessel = next(row for row in csv.DictReader(io.StringIO(as_csv(scene.objects))) if row["label"] == "vessel")
    assert (vessel["centre_right_mm"], vessel["centre_anterior_mm"]) == ("0.0255", "0.0055")
    assert float(vessel["ml"]) == pytest.approx(48e-12, abs=0)


@pytest.mark.parametrize(("image", "ending"), [("a.nii.gz", ".nii.gz"), ("a.tif", ".tif"), ("a.png", ".png")])
def test_files_are_named_like_the_mask(tmp_path: Path, image: str, ending: str) -> None:
    scene = found_scene(as_network_would(), LABELS, geometry(IDS.shape, flat=ending != ".nii.gz"))
    written = write_objects(scene, _case(tmp_path, image), tmp_path)
    assert written == {"instances": tmp_path / "instances" / f"a{ending}", "objects": tmp_path / "objects" / "a.csv"}
    np.testing.assert_array_equal(read_labels(written["instances"]).labels, scene.ids)


def test_a_picture_of_very_many_objects_has_a_tiff(tmp_path: Path) -> None:
    mask = np.zeros((1, 520, 520), np.uint8)
    mask[0, ::2, ::2] = LABELS.core_values[1]
    scene = found_scene(mask, LABELS, geometry(mask.shape, flat=True))
    written = write_objects(scene, _case(tmp_path, "a.png"), tmp_path)
    assert written["instances"].name == "a.tif"
    found = read_labels(written["instances"]).labels
    assert found.max() == 260 * 260 == len(scene.objects)
    np.testing.assert_array_equal(found, scene.ids)


def _case(folder: Path, image: str) -> Case:
    from autoseg.dataset.readers import write_labels as write

    ending = image.removeprefix("a")
    write(folder / image, np.ones(IDS.shape, np.uint8), geometry(IDS.shape, flat=ending != ".nii.gz"))
    return Case(id="a", images=(folder / image,))
