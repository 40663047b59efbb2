"""volumes.csv, review.csv, warnings and maps, as a user meets them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from autoseg.errors import PredictionError
from autoseg.evaluation.expected_dice import fit_expected_dice
from autoseg.files import read_record
from autoseg.model_file import read_header, read_model, write_model
from autoseg.pipeline.plan import plan
from autoseg.pipeline.predict import predict
from autoseg.pipeline.result_pages import costs_of, masks_report
from autoseg.pipeline.train import train
from autoseg.pipeline.trust import Knowledge, TrustFiles, case_trust, review_rows
from autoseg.progress import SilentProgress
from autoseg.records import (
    CaseEvidence,
    CaseScore,
    CaseTrust,
    Dataset,
    Expectation,
    LabelEvidence,
    LabelRange,
    Labels,
    LabelScore,
    LabelVolume,
    MapKinds,
    TrainingData,
)
from autoseg.workspace import Workspace

LABELS = Labels(names={"background": 0, "liver": 1, "tumour": 2})


class Listening(SilentProgress):
    """Keeps the warnings, in order with what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.lines.append(f"WARNING {text}")

    @property
    def warnings(self) -> list[str]:
        return [line.removeprefix("WARNING ") for line in self.lines if line.startswith("WARNING ")]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def seen(**labels: tuple[float, float, float]) -> CaseEvidence:
    """By label: confidence, confidence at the boundary, ml."""
    return CaseEvidence(
        evidence={name: LabelEvidence(confidence=sure, boundary=edge) for name, (sure, edge, _) in labels.items()},
        volumes={name: LabelVolume(voxels=round(ml * 1000), ml=ml, components=1) for name, (*_, ml) in labels.items()},
    )


def knowledge() -> Knowledge:
    sizes = {"liver": LabelRange(cases=20, drawn=20, volume_ml=(1000.0, 1500.0, 2000.0))}
    return Knowledge(LABELS, (), None, TrainingData(cases=20, labels=sizes))


# ------------------------------------------------------------------------------------------------- the review queue


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (seen(liver=(0.98, 0.9, 1500)), ()),
        (seen(liver=(0.8, 0.55, 1500)), ("low confidence at the boundary of liver (0.55)",)),
        (seen(liver=(0.98, 0.9, 300)), ("liver has 300 ml, in training 1e+03 to 2e+03 ml",)),
        (CaseEvidence(), ("nothing was found",)),
        (seen(tumour=(0.9, 0.8, 3)), ("liver was not found, which nearly every training case has",)),
    ],
)
def test_reasons(case: CaseEvidence, words: tuple[str, ...]) -> None:
    assert case_trust(case, (), knowledge()).reasons == words


def test_borders_are_named() -> None:
    volume = LabelVolume(voxels=10, ml=1500, components=1, border=("superior", "left"))
    case = CaseEvidence(evidence={"liver": LabelEvidence(confidence=0.9, boundary=0.9)}, volumes={"liver": volume})
    assert case_trust(case, (), knowledge()).reasons == ("liver touches the border (superior, left)",)


def test_worst_first() -> None:
    good, bad = (Expectation(dice=value, low=value - 0.1, high=value) for value in (0.9, 0.4))
    sure = seen(liver=(0.99, 0.9, 1500))
    cases = {
        "good": CaseTrust(seen=sure, expected_mean=good),
        "bad": CaseTrust(seen=sure, expected_mean=bad),
        "strange": CaseTrust(seen=sure, expected_mean=good, unlike=("spacing unlike training: 9 mm",)),
        "empty": CaseTrust(seen=CaseEvidence(), reasons=("nothing was found",)),
    }
    rows = review_rows(cases)
    assert [row.case for row in rows] == ["empty", "strange", "bad", "good"]
    assert rows[1].reasons == ("spacing unlike training: 9 mm",)


def test_a_reason_to_look_comes_before_a_low_figure_without_one() -> None:
    cases = {
        "low": CaseTrust(seen=seen(liver=(0.6, 0.9, 1500))),
        "odd": CaseTrust(
            seen=seen(liver=(0.9, 0.5, 1500)), reasons=("low confidence at the boundary of liver (0.50)",)
        ),
        "worse": CaseTrust(seen=seen(liver=(0.8, 0.4, 1500)), reasons=("liver touches the border (superior)",)),
        "strange": CaseTrust(seen=seen(liver=(0.99, 0.9, 1500)), unlike=("spacing unlike training: 9 mm",)),
    }
    assert [row.case for row in review_rows(cases)] == ["strange", "worse", "odd", "low"]


def test_without_expected_dice_confidence_decides() -> None:
    cases = {str(sure): CaseTrust(seen=seen(liver=(sure, 0.9, 1500))) for sure in (0.99, 0.5, 0.8)}
    assert [row.case for row in review_rows(cases)] == ["0.5", "0.8", "0.99"]


def test_labels_that_are_not_asked_for_are_not_told(tmp_path: Path) -> None:
    case = seen(liver=(0.9, 0.8, 1500), tumour=(0.4, 0.4, 3))
    only = Knowledge(LABELS, ("liver",), None, TrainingData())
    TrustFiles(tmp_path).write({"a": case_trust(case, (), only)}, last=True)
    assert [row["label"] for row in rows_of(tmp_path / "volumes.csv")] == ["liver"]


def test_names_that_hold_commas_stay_in_their_cells(tmp_path: Path) -> None:
    TrustFiles(tmp_path).write({'a,"b"': CaseTrust(seen=seen(liver=(0.9, 0.8, 1500)))}, last=True)
    assert rows_of(tmp_path / "volumes.csv")[0]["case"] == 'a,"b"'


# ------------------------------------------------------------------------------------------------- from files to files


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, make_dataset: Callable[..., Path]) -> Workspace:
    root = tmp_path_factory.mktemp("trust")
    make_dataset(root / "data")
    work = Workspace(root / "work")
    plan(root / "data", work, device="cpu", probe=False, workers=0, progress=SilentProgress())
    train(work, fold="0", epochs=1, device="cpu", workers=0, progress=SilentProgress())
    return work


@pytest.fixture
def images(trained: Workspace) -> Path:
    return trained.root.parent / "data" / "imagesTr"


def predicted(trained: Workspace, image: Path, masks: Path, **options: object) -> list[str]:
    progress = Listening()
    report = predict(image, masks, work=trained, device="cpu", progress=progress, **options)  # type: ignore[arg-type]
    assert not report.failures
    return progress.warnings


def test_a_model_file_knows_its_training_data_and_no_case(trained: Workspace) -> None:
    (run,) = trained.all_runs()
    header = read_header(run.model)
    assert header.fingerprint.cases == 6
    assert header.fingerprint.spacing_max == (1.5, 1.0, 1.0)
    assert header.fingerprint.labels["ball"].cases == 6
    assert "case_0" not in header.model_dump_json()


def test_what_a_mask_cost_is_kept_and_shown(trained: Workspace, images: Path, tmp_path: Path) -> None:
    predicted(trained, images, tmp_path)
    costs = costs_of(tmp_path)
    assert len(costs) == 6
    for cost in costs.values():
        assert set(cost.seconds) == {"read", "network", "write"}
        assert cost.seconds["network"] > 0
        assert 50_000_000 < cost.peak_bytes["main"] < 100_000_000_000
    page = masks_report(tmp_path, {}, read_record(trained.dataset, Dataset).labels).read_text(encoding="utf-8")
    assert "Time and memory" in page
    (tmp_path / "predictions.json").write_text('{"theirs": 1}', encoding="utf-8")
    assert costs_of(tmp_path) == {}


def test_files_of_a_folder_grow_with_it(trained: Workspace, images: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    assert not predicted(trained, images / "case_00_0000.nii.gz", masks)
    first = (masks / "volumes.csv").read_bytes()
    predicted(trained, images / "case_01_0000.nii.gz", masks)
    rows = rows_of(masks / "volumes.csv")
    assert [row["case"] for row in rows] == ["case_00", "case_01"]
    assert (masks / "volumes.csv").read_bytes().startswith(first)
    mask = nibabel.load(masks / "case_01.nii.gz")
    voxels = int(np.count_nonzero(mask.get_fdata()))
    assert int(rows[1]["voxels"]) == voxels
    assert float(rows[1]["ml"]) == pytest.approx(voxels * 1.5 / 1000, rel=1e-4)
    assert {row["case"] for row in rows_of(masks / "review.csv")} == {"case_00", "case_01"}
    assert rows[0]["expected_dice"] == ""


def test_a_table_of_somebody_else_is_kept(trained: Workspace, images: Path, tmp_path: Path) -> None:
    (tmp_path / "volumes.csv").write_text("name,size\na,3\n")
    with pytest.raises(PredictionError, match=r"volumes\.csv"):
        predicted(trained, images / "case_00_0000.nii.gz", tmp_path)
    assert (tmp_path / "volumes.csv").read_text() == "name,size\na,3\n"


def test_warnings_come_before_the_network_runs(
    trained: Workspace, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = nibabel.load(images / "case_00_0000.nii.gz")
    strange = tmp_path / "strange.nii.gz"
    values = (stored.get_fdata() > 100).astype(np.float32) * np.float32(7)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([3.0, 1.0, 1.5, 1.0])), strange)
    progress = Listening()
    from autoseg.inference import lanes

    network = lanes.mask_of_prepared
    before: list[int] = []

    def listened(*args: object, **options: object) -> object:
        before.append(len(progress.warnings))
        return network(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(lanes, "mask_of_prepared", listened)
    report = predict(strange, tmp_path / "masks", work=trained, device="cpu", progress=progress)
    told = progress.warnings
    assert before == [2]
    assert "spacing unlike training: 3 mm along x, in training 1 mm" in told[0]
    assert "field of view" in told[0]
    assert "intensities unlike training: nearly all voxels have one value" in told[1]
    (row,) = report.review
    assert row.unlike
    reasons = rows_of(tmp_path / "masks" / "review.csv")[0]["reasons"]
    assert "spacing unlike training" in reasons
    assert "intensities unlike training" in reasons


def test_maps_are_made_where_they_are_missing_and_go_with_their_mask(
    trained: Workspace, images: Path, tmp_path: Path
) -> None:
    image, masks = images / "case_00_0000.nii.gz", tmp_path / "masks"
    maps = MapKinds(probabilities=True, uncertainty=True)
    predicted(trained, image, masks)
    mask = (masks / "case_00.nii.gz").read_bytes()
    predicted(trained, image, masks, maps=maps)
    files = sorted(masks.glob("*/case_00.nii.gz"))
    assert [file.parent.name for file in files] == ["disagreement", "entropy", "probabilities"]
    assert (masks / "case_00.nii.gz").read_bytes() == mask
    written = [file.stat().st_mtime_ns for file in files]
    predicted(trained, image, masks, maps=maps)
    predicted(trained, image, masks)  # without: what is there stays
    assert [file.stat().st_mtime_ns for file in files] == written

    from autoseg.records import PredictSettings

    predicted(trained, image, masks, settings=PredictSettings(mirror=False))  # another mask: the maps were of the old
    assert not list(masks.glob("*/case_00.nii.gz"))


def test_a_file_of_somebody_else_where_a_map_would_lie(trained: Workspace, images: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "entropy" / "case_00.nii.gz"
    foreign.parent.mkdir()
    foreign.write_bytes(b"mine")
    with pytest.raises(PredictionError, match=r"entropy/case_00\.nii\.gz"):
        predicted(trained, images / "case_00_0000.nii.gz", tmp_path, maps=MapKinds(uncertainty=True))
    assert foreign.read_bytes() == b"mine"


def test_a_model_that_can_tell(trained: Workspace, images: Path, tmp_path: Path) -> None:
    """The regression goes into the file, and comes out as columns."""
    rng = np.random.default_rng(0)
    scores, cases = [], {}
    for number in range(40):
        sure = rng.uniform(0.5, 0.99)
        score = LabelScore(
            dice=float(np.clip(sure + rng.normal(0, 0.03), 0, 1)),
            iou=None,
            true_positives=1,
            false_positives=1,
            false_negatives=1,
            volume_reference_ml=1,
            volume_prediction_ml=1,
        )
        scores.append(CaseScore(case=str(number), labels={"ball": score}))
        cases[str(number)] = seen(ball=(sure, sure, 1.0))
    (run,) = trained.all_runs()
    header, tensors = read_model(run.model)
    fitted = header.model_copy(update={"expected_dice": fit_expected_dice(scores, cases)})
    write_model(tmp_path / "model.safetensors", fitted, tensors)
    masks = tmp_path / "masks"
    predict(
        images, masks, models=(tmp_path / "model.safetensors",), work=trained, device="cpu", progress=SilentProgress()
    )
    rows = [row for row in rows_of(masks / "volumes.csv") if int(row["voxels"])]
    assert rows
    for row in rows:
        low, dice, high = (float(row[f"expected_dice{part}"]) for part in ("_low", "", "_high"))
        assert 0 <= low <= dice <= high <= 1
        assert abs(dice - float(row["confidence"])) < 0.15 or float(row["confidence"]) < 0.5
    queue = [float(row["expected_dice"]) for row in rows_of(masks / "review.csv") if row["expected_dice"]]
    assert len(queue) == len(rows)
