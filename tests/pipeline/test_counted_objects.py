"""Objects that are counted, the whole way: ids read, trained on as cores and borders, found again, written, scored."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_label_kinds import QUIET, SHAPE, image_of, save, trained
from volume_builders import Told

from autoseg.cli import main
from autoseg.dataset.label_files import read_case_labels
from autoseg.dataset.layout_checks import check_layout
from autoseg.dataset.layouts import open_dataset
from autoseg.dataset.readers import read_labels, write_labels
from autoseg.errors import PredictionError, UsageError
from autoseg.evaluation.summary import read_summary
from autoseg.files import file_hash, write_record
from autoseg.inference.found_scene import found_scene, write_objects
from autoseg.inference.writing import CaseOutcome, ScoredCase, write_case
from autoseg.model_file import read_header
from autoseg.pipeline import result_pages
from autoseg.pipeline.check import check
from autoseg.pipeline.evaluate import evaluate
from autoseg.pipeline.looks import Scored, confusion_of
from autoseg.pipeline.mask_account import MadeMask
from autoseg.pipeline.mask_folder import remove_old_maps
from autoseg.pipeline.predict import predict
from autoseg.predictor import Predictor
from autoseg.records import Case, Dataset, Labels, MapKinds, PredictSettings
from autoseg.report.results_page import Confusion
from autoseg.workspace import Workspace

NAMES = {"background": 0, "cell": 1, "tissue": 2}


def build(root: Path, instances: object = ("cell",)) -> Dataset:
    """Two cells that touch, and another, in tissue."""
    for seed, case in enumerate(("x", "y")):
        ids, kinds = np.zeros(SHAPE, np.uint32), np.zeros(SHAPE, np.uint8)
        kinds[:, :, : 12 - seed] = 2
        ids[1:6, 1:6, 1:6], ids[1:6, 1:6, 6:11], ids[7:9, 8:11, 2:5] = 70_000, 4, 2**31
        kinds[ids > 0] = 1
        save(root / "imagesTr" / f"{case}.nii.gz", image_of(kinds, seed))
        save(root / "instancesTr" / f"{case}.nii.gz", ids)
        save(root / "labelsTr" / f"{case}.nii.gz", kinds)
    record = {"channel_names": ["MR"], "labels": NAMES, "instances": instances, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(record), encoding="utf-8")
    return open_dataset(root)


def segmented(cases: list[Case], masks: Path, model: Path, **options: object) -> tuple[str, ...]:
    """Cases that were there already."""
    settings = PredictSettings(mirror=False)
    return predict(cases, masks, models=(model,), device="cpu", settings=settings, progress=QUIET, **options).skipped  # type: ignore[arg-type]


def test_the_whole_way(tmp_path: Path) -> None:
    dataset = build(tmp_path / "data")
    assert check_layout(dataset) == []
    assert check(dataset.root, workers=0, progress=QUIET).cases_ok == 2
    model, masks = tmp_path / "model.safetensors", tmp_path / "masks"
    trained(dataset, tmp_path / "store", model)
    assert read_header(model).labels == dataset.labels
    assert Predictor(model, device="cpu").labels == NAMES
    assert segmented(list(dataset.cases), masks, model) == ()
    for case in dataset.cases:
        mask = read_labels(masks / f"{case.id}.nii.gz").labels
        ids = read_labels(masks / "instances" / f"{case.id}.nii.gz").labels
        assert set(np.unique(mask)) <= {0, 1, 2}
        np.testing.assert_array_equal(ids > 0, mask == 1)
        table = (masks / "objects" / f"{case.id}.csv").read_text(encoding="utf-8")
        rows = list(csv.DictReader(table.splitlines()))
        assert [int(row["id"]) for row in rows] == np.unique(ids[ids > 0]).tolist()
        assert [int(row["voxels"]) for row in rows] == [int((ids == int(row["id"])).sum()) for row in rows]
        assert all(0 < float(row["score"]) <= 1 for row in rows)
    summary = evaluate(masks, dataset.root / "labelsTr", labels_from=dataset.root, workers=0, progress=QUIET).summary
    assert not summary.failures
    assert list(summary.labels) == ["cell", "tissue"]
    assert summary.labels["cell"].instances is not None
    assert summary.labels["cell"].instances.reference == 6


def test_masks_are_kept_with_their_objects_only(tmp_path: Path) -> None:
    dataset = build(tmp_path / "data")
    model, masks = tmp_path / "model.safetensors", tmp_path / "masks"
    trained(dataset, tmp_path / "store", model)
    (masks / "objects").mkdir(parents=True)
    (masks / "objects" / "x.csv").write_text("mine\n", encoding="utf-8")
    with pytest.raises(PredictionError, match=r"objects/x.csv: not written by autoseg"):
        segmented(list(dataset.cases), masks, model)
    assert (masks / "objects" / "x.csv").read_text(encoding="utf-8") == "mine\n"
    assert segmented(list(dataset.cases), masks, model, overwrite=True) == ()
    assert segmented(list(dataset.cases), masks, model) == ("x", "y")
    (masks / "instances" / "x.nii.gz").unlink()
    assert segmented(list(dataset.cases), masks, model) == ("y",)
    assert (masks / "instances" / "x.nii.gz").exists()


def perfect_masks(dataset: Dataset, masks: Path) -> Path:
    masks.mkdir()
    for case in dataset.cases:
        label_map = read_case_labels(case, dataset.labels)
        scene = found_scene(label_map.labels, dataset.labels, label_map.geometry)  # type: ignore[arg-type]
        write_labels(masks / f"{case.id}.nii.gz", scene.labels, label_map.geometry)
        write_objects(scene, case, masks)
    return masks


def test_references_of_somebody_else_are_those_that_are_scored(tmp_path: Path) -> None:
    """Not the dataset's own, which have the same names."""
    dataset = build(tmp_path / "data")
    masks, reader = perfect_masks(dataset, tmp_path / "masks"), tmp_path / "reader"
    ids, kinds = {}, {}
    for case in dataset.cases:
        assert case.instances is not None
        assert case.labels is not None
        ids[case.id], kinds[case.id] = read_labels(case.instances).labels, read_labels(case.labels).labels.copy()
        kinds[case.id][ids[case.id] == 4] = 0  # a cell that the other reader does not see
        save(reader / f"{case.id}.nii.gz", kinds[case.id])
    told = Told()
    summary = evaluate(masks, reader, labels_from=dataset.root, workers=0, progress=told).summary
    assert not summary.failures
    assert summary.panoptic is None
    assert "not scored in 2 of 2 cases, whose references are label maps without ids" in told.text
    assert summary.labels["cell"].dice is not None
    assert summary.labels["cell"].dice < 0.9
    assert summary.labels["tissue"].dice == 1
    for case in dataset.cases:
        save(reader / "instances" / f"{case.id}.nii.gz", np.where(ids[case.id] == 4, 0, ids[case.id]))
    found = evaluate(masks, reader, labels_from=dataset.root, workers=0, progress=QUIET).summary.labels["cell"]
    assert found.instances is not None
    assert (found.instances.reference, found.instances.prediction, found.instances.matched) == (4, 6, 4)
    (masks / "instances").rename(tmp_path / "elsewhere")
    told = Told()
    evaluate(masks, reader, labels_from=dataset.root, workers=0, progress=told)
    assert "no folder `instances` with their ids below the masks" in told.text


def test_label_maps_are_no_ids_where_a_model_alone_tells_the_labels(tmp_path: Path) -> None:
    dataset, model = build(tmp_path / "data"), tmp_path / "model.safetensors"
    masks = perfect_masks(dataset, tmp_path / "masks")
    trained(dataset, tmp_path / "store", model)
    summary = evaluate(masks, dataset.root / "labelsTr", labels_from=model, workers=0, progress=QUIET).summary
    assert not summary.failures
    assert summary.mean_dice == 1


def test_volumes_are_those_of_the_mask(tmp_path: Path) -> None:
    """What is too small for an object is not in it."""
    dataset = build(tmp_path / "data")
    label_map = read_case_labels(dataset.cases[0], dataset.labels)
    found = label_map.labels.copy()
    found[0, 11, 13] = 1
    scored = ScoredCase(
        CaseOutcome(dataset.cases[0]),
        found,  # type: ignore[arg-type]
        dataset.labels,
        label_map.geometry,
        {},
        None,
    )
    outcome = write_case(scored, tmp_path)
    assert outcome.error is None
    assert outcome.unnamed is not None
    mask = read_labels(outcome.unnamed).labels
    assert set(outcome.seen.volumes) == {"cell", "tissue"}
    for name, value in (("cell", 1), ("tissue", 2)):
        assert outcome.seen.volumes[name].voxels == int((mask == value).sum()) > 0
    assert outcome.seen.volumes["cell"].voxels == int(np.isin(label_map.labels, (1, 3)).sum())


def test_an_instance_map_under_another_name_goes(tmp_path: Path) -> None:
    """Of a picture it is a PNG where it was a TIFF, for the number of its objects."""
    case = Case(id="a", images=(tmp_path / "a.png",))
    old, new = (tmp_path / "instances" / name for name in ("a.tif", "a.png"))
    old.parent.mkdir()
    old.write_bytes(b"many")
    before = MadeMask(model="", options="", inputs="", mask="", maps={"instances": file_hash(old, 16)})
    remove_old_maps(tmp_path, case, before, {"instances": old})
    assert old.exists()
    remove_old_maps(tmp_path, case, before, {"instances": new})
    assert not old.exists()
    old.write_bytes(b"somebody's")
    remove_old_maps(tmp_path, case, before, {"instances": new})
    assert old.exists()


def test_perfect_masks_have_perfect_scores(tmp_path: Path) -> None:
    dataset = build(tmp_path / "data")
    masks = perfect_masks(dataset, tmp_path / "masks")
    for references in ("labelsTr", "instancesTr"):
        summary = evaluate(
            masks, dataset.root / references, labels_from=dataset.root, workers=0, progress=QUIET
        ).summary
        assert not summary.failures
        assert summary.mean_dice == 1
        assert summary.panoptic is not None
        assert (summary.panoptic.things, summary.panoptic.stuff, summary.panoptic.all) == (1, 1, 1)
        cell, tissue = (summary.labels[name].instances for name in ("cell", "tissue"))
        assert cell is not None
        assert tissue is not None
        assert (cell.reference, cell.matched, tissue.reference, tissue.matched) == (6, 6, 2, 2)
    scored = [Scored(masks / f"{case.id}.nii.gz", case) for case in dataset.cases]
    confusion = confusion_of(scored, dataset.labels)
    assert confusion is not None
    assert confusion.names == ("background", "cell", "tissue")
    assert (confusion.voxels.diagonal() > 0).all()
    assert confusion.voxels.sum() == confusion.voxels.trace()  # cores are not told apart from their objects


def test_the_page_of_scores_knows_ids_from_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, work = build(tmp_path / "data"), Workspace(tmp_path / "work")
    masks = perfect_masks(dataset, tmp_path / "masks")
    work.root.mkdir()
    write_record(work.dataset, dataset)
    report = evaluate(masks, dataset.root / "instancesTr", work=work, workers=0, progress=QUIET)
    seen = []

    def noted(found: Sequence[Scored], labels: Labels) -> Confusion | None:
        seen.append(confusion_of(found, labels))
        return seen[-1]

    monkeypatch.setattr(result_pages, "confusion_of", noted)
    page = result_pages.results_report(masks, dataset.root / "instancesTr", report.summary, report.output, work)
    assert page.exists()
    (confusion,) = seen
    assert confusion is not None
    assert (confusion.voxels.diagonal() > 0).all()
    assert confusion.voxels.sum() == confusion.voxels.trace() == 2 * np.prod(SHAPE)


def test_a_mask_of_each_object_on_request(tmp_path: Path) -> None:
    dataset = build(tmp_path / "data")
    model, masks = tmp_path / "model.safetensors", tmp_path / "masks"
    trained(dataset, tmp_path / "store", model)
    cases, every = list(dataset.cases), MapKinds(object_masks=True)
    assert segmented(cases, masks, model) == ()
    assert not (masks / "object_masks").exists()
    assert segmented(cases, masks, model, maps=every) == ()  # made again, with them
    assert segmented(cases, masks, model, maps=every) == ("x", "y")
    assert segmented(cases, masks, model) == ("x", "y")
    scene = Predictor(model, device="cpu", mirror=False).predict_objects(cases[0].images)
    ids = read_labels(masks / "instances" / "x.nii.gz").labels
    np.testing.assert_array_equal(scene.ids, ids)
    np.testing.assert_array_equal(scene.labels, read_labels(masks / "x.nii.gz").labels)
    rows = list(csv.DictReader((masks / "objects" / "x.csv").read_text(encoding="utf-8").splitlines()))
    assert [float(row["score"]) for row in rows] == pytest.approx([one.score for one in scene.objects], abs=1e-4)
    with np.load(masks / "object_masks" / "x.npz") as found:
        np.testing.assert_array_equal(found["masks"], scene.masks())
        assert found["masks"].shape == (len(rows), *ids.shape)
        assert found["ids"].tolist() == [int(row["id"]) for row in rows]
    assert segmented(cases, masks, model, overwrite=True) == ()
    assert not list((masks / "object_masks").iterdir())  # they would be of other masks


def test_masks_of_objects_need_a_model_that_counts(tmp_path: Path) -> None:
    dataset = build(tmp_path / "data", instances=False)
    model = tmp_path / "model.safetensors"
    trained(dataset, tmp_path / "store", model)
    with pytest.raises(UsageError, match="counts no objects"):
        segmented(list(dataset.cases), tmp_path / "masks", model, maps=MapKinds(object_masks=True))
    assert not (tmp_path / "masks").exists()


def pictures(root: Path, count: int = 6) -> Path:
    """Pictures of squares in rows that touch, each with its id."""
    for number in range(count):
        generator = np.random.default_rng(number)
        ids = np.kron(np.arange(1, 17).reshape(4, 4), np.ones((14, 14))).astype(np.uint16)
        ids = np.pad(np.where(generator.random(17)[ids] > 0.4, ids, 0), 4).astype(np.uint16)
        edges = np.abs(np.gradient(ids.astype(float))).sum(0) > 0
        image = np.where(ids > 0, 180, 20) - 80 * (edges & (ids > 0)) + generator.integers(0, 20, ids.shape)
        for folder, pixels in (("imagesTr", image.astype(np.uint8)), ("instancesTr", ids)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / folder / f"p{number}.png")
    return root


@pytest.mark.slow
def test_from_the_dataset_to_a_selected_model(tmp_path: Path) -> None:
    data, work = str(pictures(tmp_path / "data")), str(tmp_path / "work")
    assert main(["plan", data, "--work", work]) == 0
    assert main(["train", "--work", work, "--fold", "0", "--epochs", "30"]) == 0
    run = tmp_path / "work" / "runs" / "default" / "2d" / "fold_0"
    scores = read_summary(run / "summary.json").labels["object"]
    assert scores.instances is not None
    assert scores.instances.reference > 0
    assert len(list((run / "validation" / "instances").glob("*.png"))) == len(list((run / "validation").glob("*.png")))
    masks = tmp_path / "masks"
    words = ["--work", work, "--model", str(run / "model.safetensors")]
    assert main(["predict", str(tmp_path / "data" / "imagesTr"), str(masks), *words, "--object-masks"]) == 0
    assert main(["evaluate", str(masks), str(tmp_path / "data" / "instancesTr"), "--labels-from", data]) == 0
    assert read_summary(masks / "summary.json").panoptic is not None

    assert main(["train", "--work", work, "--fold", "1", "--epochs", "30"]) == 0
    assert main(["select", "--work", work]) == 0
    selected = tmp_path / "selected"
    assert main(["predict", str(tmp_path / "data" / "imagesTr"), str(selected), "--work", work, "--object-masks"]) == 0
    assert len(list((selected / "instances").glob("*.png"))) == 6
    assert main(["evaluate", str(selected), str(tmp_path / "data" / "instancesTr"), "--labels-from", data]) == 0
    assert read_summary(selected / "summary.json").panoptic is not None
