"""What `compare` is given: configurations, runs, masks, and files of scores of both programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest

from autoseg import cli
from autoseg.errors import AutosegError, RecordError, UsageError
from autoseg.evaluation.instances import score_instances
from autoseg.evaluation.summary import summarize
from autoseg.files import write_record
from autoseg.pipeline.compare import compare, comparison_report
from autoseg.pipeline.compared_sides import short_names
from autoseg.pipeline.evaluate import write_summary
from autoseg.progress import SilentProgress
from autoseg.records import CaseScore, Labels, LabelScore, TrainSettings
from autoseg.workspace import Workspace

SILENT = SilentProgress()
LABELS = Labels(names={"background": 0, "liver": 1, "kidney": 2})
NUMBERED = Labels(names={"background": 0, "label_1": 1, "label_2": 2})

#: Dice of the liver in twelve cases; the kidney has 0.1 less.
LOWER = np.linspace(0.60, 0.82, 12)
HIGHER = LOWER + np.linspace(0.02, 0.04, 12)


def label_score(dice: float) -> LabelScore:
    return LabelScore(
        dice=dice, iou=dice / (2 - dice), true_positives=50, false_positives=5, false_negatives=5,
        volume_reference_ml=1.0, volume_prediction_ml=1.0, nsd=dice,
    )  # fmt: skip


def write_scores(
    path: Path,
    dice: Mapping[int, float],
    labels: Labels = LABELS,
    failures: Mapping[str, str] | None = None,
    tolerance: float = 1.0,
) -> Path:
    names = list(labels.foreground)
    scores = [
        CaseScore(case=f"case_{number:02d}", labels={names[0]: label_score(value), names[1]: label_score(value - 0.1)})
        for number, value in dice.items()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_summary(path, summarize(scores, tolerance, failures, names), labels)
    return path


def write_nnunet(path: Path, dice: Mapping[int, float]) -> Path:
    def entry(value: float) -> dict[str, float]:
        return {"Dice": value, "IoU": value / (2 - value), "n_ref": 55, "n_pred": 55}

    cases = [
        {
            "metrics": {"1": entry(value), "2": entry(value - 0.1)},
            "prediction_file": f"/nnUNet_results/x/fold_0/validation/case_{number:02d}.nii.gz",
            "reference_file": f"/nnUNet_raw/x/labelsTr/case_{number:02d}.nii.gz",
        }
        for number, value in dice.items()
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"foreground_mean": {}, "mean": {}, "metric_per_case": cases}), encoding="utf-8")
    return path


def of_fold(values: Sequence[float], fold: int) -> dict[int, float]:
    return {number: float(value) for number, value in enumerate(values) if number % 3 == fold}


def trained(work: Workspace, configuration: str, values: Sequence[float], plan: str = "default") -> None:
    for fold in range(3):
        run = work.run(plan, configuration, fold)
        write_record(run.settings, TrainSettings(epochs=1, learning_rate=0.1, weight_decay=0.0))
        write_scores(run.summary, of_fold(values, fold))


@pytest.fixture
def work(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "work")
    trained(made, "2d", LOWER)
    trained(made, "3d_fullres", HIGHER)
    return made


def test_configurations_are_compared_over_their_folds(work: Workspace) -> None:
    found = compare(["2d", "3d_fullres"], work, progress=SILENT)
    (pair,) = found.pairs
    assert (found.labels, len(found.cases), found.notes) == (("liver", "kidney"), 12, ())
    assert pair.difference == pytest.approx(0.03)
    assert list(pair.folds) == ["0", "1", "2"]
    assert pair.fold_noise is not None
    assert pair.verdict == "second"
    assert pair.words.startswith("3d_fullres is better: difference +0.030")
    assert [row.label for row in found.by_label] == ["liver", "kidney"]


def test_runs_of_one_fold_know_no_fold_noise(work: Workspace) -> None:
    found = compare(["2d/fold_1", str(work.run("default", "3d_fullres", 1).folder)], work, progress=SILENT)
    (pair,) = found.pairs
    assert (pair.first, pair.second) == ("2d/fold_1", "3d_fullres/fold_1")
    assert (pair.cases, list(pair.folds), pair.fold_noise, pair.verdict) == (4, ["1"], None, "unclear")


def test_the_fold_with_all_cases_has_seen_them(work: Workspace) -> None:
    write_scores(work.run("default", "2d", "all").summary, {0: 1.0, 99: 1.0})
    found = compare(["2d", "3d_fullres"], work, progress=SILENT)
    assert found.notes == ()


def test_plans_are_named_where_there_are_several(work: Workspace) -> None:
    for plan in ("small", "large"):
        trained(work, "2d_wide", LOWER, plan)
    with pytest.raises(UsageError, match="is trained by several plans: large, small"):
        compare(["2d", "2d_wide"], work, progress=SILENT)
    found = compare(["2d", "small/2d_wide"], work, progress=SILENT)
    assert found.pairs[0].words == "a tie: every case has the same mean Dice"
    trained(work, "2d", HIGHER, "small")  # the plan called default goes first
    assert compare(["2d", "small/2d_wide"], work, progress=SILENT).pairs[0].difference == 0.0


def test_what_both_programs_wrote_is_compared(work: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "nnUNetTrainer__nnUNetPlans__2d"
    for fold in range(3):
        write_nnunet(folder / f"fold_{fold}" / "validation" / "summary.json", of_fold(LOWER, fold))
    found = compare(["2d", str(folder)], work, progress=SILENT)
    (pair,) = found.pairs
    assert found.labels == ("liver", "kidney")  # our own files say which is which
    assert (pair.cases, pair.verdict, list(pair.folds)) == (12, "tie", ["0", "1", "2"])
    assert pair.words == "a tie: every case has the same mean Dice"
    with pytest.raises(UsageError, match="no label of which all have normalized surface Dice"):
        compare(["2d", str(folder)], work, metric="nsd", progress=SILENT)


def test_objects_are_compared_by_their_quality(tmp_path: Path) -> None:
    reference = np.zeros((1, 4, 8), dtype=np.uint32)
    reference[0, 1, ::2] = [1, 2, 3, 4]
    for name, found in (("few", 2), ("all", 4)):
        mask = np.where(reference <= found, reference, 0)
        liver = label_score(0.9).model_copy(update={"instances": score_instances(reference, mask)})
        scores = [
            CaseScore(case=f"case_{number}", labels={"liver": liver, "kidney": label_score(0.8)}) for number in range(7)
        ]
        summary = tmp_path / name / "summary.json"
        summary.parent.mkdir()
        write_summary(summary, summarize(scores, 1.0, {}, list(LABELS.foreground), None, ["liver"]), LABELS)
    sides, work = [str(tmp_path / name) for name in ("few", "all")], Workspace(tmp_path / "none")
    for metric, difference in (("pq", 1 - 2 / 3), ("ap50", 0.5), ("dice", 0.0)):
        found = compare(sides, work, metric=metric, progress=SILENT)
        assert found.pairs[0].difference == pytest.approx(difference)
        assert found.labels == (("liver", "kidney") if metric == "dice" else ("liver",))
    write_scores(tmp_path / "plain" / "summary.json", of_fold(LOWER, 0))
    write_scores(tmp_path / "other" / "summary.json", of_fold(LOWER, 0))
    with pytest.raises(UsageError, match="Objects are scored where the dataset counts them"):
        compare([str(tmp_path / "plain"), str(tmp_path / "other")], work, metric="pq", progress=SILENT)


def test_labels_without_names_are_matched_by_value(tmp_path: Path) -> None:
    nowhere = Workspace(tmp_path / "none")
    dice = dict(enumerate(LOWER))
    ours = write_scores(tmp_path / "ours.json", dice, NUMBERED)
    theirs = write_nnunet(tmp_path / "theirs.json", dice)
    assert compare([str(ours), str(theirs)], nowhere, progress=SILENT).labels == ("label_1", "label_2")
    named = write_scores(tmp_path / "named.json", dice)
    found = compare([str(ours), str(theirs), str(named)], nowhere, progress=SILENT)
    assert found.labels == ("liver", "kidney")
    assert {pair.verdict for pair in found.pairs} == {"tie"}
    declaration = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "a": 1, "b": 2}, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(declaration), encoding="utf-8")  # as nnU-Net leaves it
    assert compare([str(ours), str(theirs)], nowhere, progress=SILENT).labels == ("a", "b")


def test_cases_without_a_score_are_told(work: Workspace, tmp_path: Path) -> None:
    path = write_scores(
        tmp_path / "masks" / "summary.json", {n: float(v) for n, v in enumerate(HIGHER[:9])}, failures={"x": "no mask"}
    )
    found = compare(["2d", str(path.parent)], work, progress=SILENT)
    assert found.notes == (
        "masks has no score of x: no mask",
        "cases of 2d left out, since not every side has a score of them: 3 of 12",
    )


# ------------------------------------------------------------------------------------------------------------- masks


def write_masks(folder: Path, shift: int, cases: int = 6) -> Path:
    folder.mkdir()
    for number in range(cases):
        mask = np.zeros((12, 12, 12), np.uint8)
        mask[3 + shift : 8 + shift, 2 : 5 + number, 3:9] = 1
        nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), folder / f"case_{number}.nii.gz")
    return folder


def test_masks_are_scored_against_references_and_left_alone(tmp_path: Path) -> None:
    references, near, far = (
        write_masks(tmp_path / name, shift) for name, shift in (("refs", 0), ("near", 1), ("far", 2))
    )
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    nowhere = Workspace(tmp_path / "none")
    found = compare([str(far), str(near)], nowhere, references=references, workers=0, progress=SILENT)
    (pair,) = found.pairs
    assert found.labels == ("label_1",)
    assert pair.difference == pytest.approx(2 * 4 / 10 - 2 * 3 / 10)  # of five slices four and three are shared
    assert (pair.verdict, pair.p) == ("second", pytest.approx(2 / 2**6))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    distances = compare(
        [str(far), str(near)], nowhere, metric="hd95", references=references, workers=0, progress=SILENT
    )
    assert distances.pairs[0].difference == pytest.approx(-1.0)
    assert distances.pairs[0].verdict == "second"


def test_masks_without_scores_ask_for_references(tmp_path: Path) -> None:
    near, far = write_masks(tmp_path / "near", 1), write_masks(tmp_path / "far", 2)
    nowhere = Workspace(tmp_path / "none")
    with pytest.raises(UsageError, match=r"holds no summary\.json.*It holds masks.*--reference"):
        compare([str(near), str(far)], nowhere, progress=SILENT)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no label map"):
        compare([str(near), str(far)], nowhere, references=tmp_path / "empty", progress=SILENT)


# ------------------------------------------------------------------------------------------------------------ errors


def test_words_that_mean_nothing(work: Workspace, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"neither a file or folder.*has scores of: 2d, 3d_fullres"):
        compare(["2d", "3d_lowres"], work, progress=SILENT)
    with pytest.raises(UsageError, match="nothing to compare it with"):
        compare(["2d"], work, progress=SILENT)
    with pytest.raises(UsageError, match="2d: is named twice"):
        compare(["2d", "2d"], work, progress=SILENT)
    with pytest.raises(UsageError, match=r"no metric 'auc'. There are: dice, iou, nsd, hd95, assd"):
        compare(["2d", "3d_fullres"], work, metric="auc", progress=SILENT)
    with pytest.raises(UsageError, match="does not exist"):
        compare(["2d", str(tmp_path)], work, references=tmp_path / "nowhere", progress=SILENT)


def test_files_that_are_no_scores(work: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    for content, words in (("{}", "neither a summary of autoseg nor of nnU-Net"), ("{", "cannot be read")):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(RecordError, match=words):
            compare(["2d", str(path)], work, progress=SILENT)


def test_surface_dice_of_several_tolerances_is_not_compared(tmp_path: Path) -> None:
    dice, nowhere = dict(enumerate(LOWER)), Workspace(tmp_path / "none")
    a, b = write_scores(tmp_path / "a.json", dice), write_scores(tmp_path / "b.json", dice, tolerance=2.0)
    with pytest.raises(UsageError, match=r"a\.json: 1 mm; b\.json: 2 mm"):
        compare([str(a), str(b)], nowhere, metric="nsd", progress=SILENT)
    assert compare([str(a), str(b)], nowhere, progress=SILENT).pairs[0].verdict == "tie"


def test_names_are_as_short_as_they_can_be() -> None:
    assert short_names(["x/2d", "y/3d/"]) == ["2d", "3d"]
    assert short_names(["x/masks/summary.json", "y/masks/summary.json"]) == [
        "x/masks/summary.json",
        "y/masks/summary.json",
    ]
    assert short_names([".", "a"]) == [".", "a"]
    with pytest.raises(UsageError, match="named twice"):
        short_names(["a", "b", "a/"])


# ------------------------------------------------------------------------------------------------- page and command


def test_the_page_goes_into_the_work_folder_and_replaces_no_file_of_another(work: Workspace) -> None:
    found = compare(["2d", "3d_fullres"], work, progress=SILENT)
    path = comparison_report(found, work)
    assert path == work.report / "comparison.html"
    html = path.read_text(encoding="utf-8")
    assert "3d_fullres against 2d: 3d_fullres is better" in html
    assert html.count("<svg") == 2
    assert "case_11" in html
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(AutosegError, match="not a report of autoseg"):
        comparison_report(found, work)


def test_the_command_ends_with_a_sentence_and_leaves_a_page(
    work: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    words = ["compare", "2d", "3d_fullres", "--work", str(work.root)]
    assert cli.main([*words, "--output", str(page)]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[-1].startswith("3d_fullres against 2d: 3d_fullres is better: difference +0.030")
    assert "Report: " in captured.err
    assert page.exists()
    assert cli.main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["pairs"][0]["verdict"] == "second"
    assert len(told["cases"]) == 12
    assert not (work.report / "comparison.html").exists()
    assert cli.main(["compare", "2d"]) == 1


def test_a_page_that_was_asked_for_and_cannot_be_written_is_a_failure(
    work: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", "2d", "3d_fullres", "--work", str(work.root)]
    mine = tmp_path / "notes.html"
    mine.write_text("mine", encoding="utf-8")
    assert cli.main([*words, "--output", str(mine)]) == 1
    captured = capsys.readouterr()
    assert "3d_fullres is better" in captured.out
    assert "is not a report of autoseg" in captured.err
    assert mine.read_text(encoding="utf-8") == "mine"
    assert cli.main([*words, "--output", str(tmp_path)]) == 1
    assert "is a folder" in capsys.readouterr().err


def test_columns_of_what_is_not_known_are_left_out(work: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", "2d", "3d_fullres", "--work", str(work.root)]) == 0
    assert "fold noise |" in capsys.readouterr().out
    page = (work.report / "comparison.html").read_text(encoding="utf-8")
    assert cli.main(["compare", "2d/fold_1", "3d_fullres/fold_1", "--work", str(work.root)]) == 0
    out = capsys.readouterr().out
    assert "fold noise |" not in out
    assert "| label" in out
    alone = (work.report / "comparison.html").read_text(encoding="utf-8")
    assert page.count(">fold noise") == alone.count(">fold noise") + 2
