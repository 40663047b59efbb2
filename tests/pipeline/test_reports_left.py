"""The reports that commands leave, made from the files of a work folder."""

from __future__ import annotations

import json
import re
import shutil
import socket
from pathlib import Path

import pytest

from autoseg import cli
from autoseg.dataset.readers import read_labels, write_labels
from autoseg.errors import UsageError, WorkspaceError
from autoseg.files import read_record, write_record
from autoseg.pipeline.evaluate import evaluate
from autoseg.pipeline.mask_account import MadeMask, Predictions
from autoseg.pipeline.mask_folder import input_hash
from autoseg.pipeline.pages import left
from autoseg.pipeline.report import report
from autoseg.pipeline.result_pages import results_report, run_results, training_report
from autoseg.progress import SilentProgress
from autoseg.records import Dataset, TrainSettings
from autoseg.workspace import Run, Workspace

SILENT = SilentProgress()


class Listening(SilentProgress):
    """Keeps what it is warned of."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(scope="module")
def planned(example_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A planned work folder, and a run as a training leaves it, with masks that miss a slice."""
    folder = tmp_path_factory.mktemp("reports")
    data = folder / "data"
    shutil.copytree(example_data, data)
    work = Workspace(folder / "work")
    assert cli.main(["plan", str(data), "--work", str(work.root), "--no-probe", "--workers", "1"]) == 0
    run = work.run("default", "3d_fullres", 0)
    run.validation.mkdir(parents=True)
    write_record(run.settings, TrainSettings(epochs=3, learning_rate=0.01, weight_decay=0.0))
    lines = [
        {"epoch": epoch, "step": epoch + 1, "seconds": epoch + 1.0, "data_wait": 0.1, "learning_rate": 0.1,
         "train_loss": 1.0 / (epoch + 1), "patch_dice": 0.5, "patch_dice_per_label": {"bean": 0.4, "lobe": 0.6}}
        for epoch in range(3)
    ]  # fmt: skip
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"epoch": 3, "st', encoding="utf-8")
    dataset = read_record(work.dataset, Dataset)
    for case in dataset.cases[:3]:
        assert case.labels is not None
        found = read_labels(case.labels)
        mask = found.labels.copy()
        mask[: mask.shape[0] // 2] = 0
        write_labels(run.validation / case.labels.name, mask, found.geometry)
    evaluate(run.validation, data / "labelsTr", work=work, output=run.summary, workers=0, progress=SILENT)
    return work


def only_run(work: Workspace) -> Run:
    return work.all_runs()[0]


def test_plan_leaves_the_pages_of_plan_and_dataset(planned: Workspace) -> None:
    plan, dataset = ((planned.report / name).read_text(encoding="utf-8") for name in ("plan.html", "dataset.html"))
    assert "Each number with its reason" in plan
    assert dataset.count("data:image/webp") >= 8
    assert "Findings" in dataset


def test_a_run_under_way_has_a_page(planned: Workspace) -> None:
    html = training_report(planned, only_run(planned)).read_text(encoding="utf-8")
    assert "Under way: 3 epochs" in html
    assert "Full-volume Dice" in html


def test_results_show_the_cases_and_leave_a_table(planned: Workspace) -> None:
    page = run_results(planned, only_run(planned))
    html, table = page.read_text(encoding="utf-8"), page.with_suffix(".csv").read_text(encoding="utf-8")
    assert html.count("data:image/webp") == 3
    assert "over 3 cases, in percent" in html
    assert len(table.splitlines()) == 1 + 3 * 2


def test_a_table_of_another_is_left_alone(planned: Workspace, tmp_path: Path) -> None:
    masks, output = only_run(planned).validation, tmp_path / "scores.json"
    references = planned.root.parent / "data" / "labelsTr"
    summary = evaluate(masks, references, work=planned, output=output, workers=0, progress=SILENT).summary
    (tmp_path / "scores.csv").write_text("mine\n", encoding="utf-8")
    listening = Listening()
    assert left(lambda: results_report(masks, references, summary, output, planned), listening) is None
    assert (tmp_path / "scores.csv").read_text(encoding="utf-8") == "mine\n"
    assert not (tmp_path / "scores.html").exists()
    assert "scores.csv: is not a table of autoseg's scores" in listening.warnings[0]


@pytest.mark.parametrize("held", ['{"metric_per_case": [], "mean": {}}', "[1]", "not JSON"])
def test_a_summary_of_another_program_is_left_alone(planned: Workspace, tmp_path: Path, held: str) -> None:
    masks, references = only_run(planned).validation, planned.root.parent / "data" / "labelsTr"
    theirs = tmp_path / "summary.json"
    theirs.write_text(held, encoding="utf-8")
    with pytest.raises(UsageError, match="is no summary that autoseg wrote"):
        evaluate(masks, references, work=planned, output=theirs, workers=0, progress=SILENT)
    assert theirs.read_text(encoding="utf-8") == held
    ours = tmp_path / "ours.json"
    for _ in range(2):  # our own is written anew
        evaluate(masks, references, work=planned, output=ours, workers=0, progress=SILENT)


def test_evaluate_without_a_work_folder_shows_masks_without_images(planned: Workspace, tmp_path: Path) -> None:
    masks, output = only_run(planned).validation, tmp_path / "scores.json"
    references = planned.root.parent / "data" / "labelsTr"
    summary = evaluate(masks, references, output=output, workers=0, progress=SILENT).summary
    html = results_report(masks, references, summary, output, None).read_text(encoding="utf-8")
    assert html.count("data:image/webp") == 3
    assert "label_1" in html
    assert "Columns: reference, prediction, errors." in html
    assert "--images FOLDER" in html
    images = planned.root.parent / "data" / "imagesTr"
    shown = results_report(masks, references, summary, output, None, images).read_text(encoding="utf-8")
    assert "Columns: image, reference, prediction, errors." in shown
    assert "--images FOLDER" not in shown


def test_an_image_of_the_dataset_is_shown_only_where_the_mask_was_made_from_it(
    planned: Workspace, tmp_path: Path
) -> None:
    masks, references, output = tmp_path / "masks", planned.root.parent / "data" / "labelsTr", tmp_path / "scores.json"
    shutil.copytree(only_run(planned).validation, masks)
    summary = evaluate(masks, references, work=planned, output=output, workers=0, progress=SILENT).summary
    dataset = read_record(planned.dataset, Dataset)
    for right in (True, False):
        made = {
            case.id: MadeMask(model="m", options="", inputs=input_hash(case) if right else "another", mask="x")
            for case in dataset.cases
        }
        write_record(masks / "predictions.json", Predictions(masks=made))
        html = results_report(masks, references, summary, output, planned).read_text(encoding="utf-8")
        assert ("Columns: image, reference" in html) == right


def test_evaluate_by_command_shows_images_that_are_named(planned: Workspace, tmp_path: Path) -> None:
    masks, data = only_run(planned).validation, planned.root.parent / "data"
    words = ["evaluate", str(masks), str(data / "labelsTr"), "--output", str(tmp_path / "s.json"), "--workers", "1"]
    words += ["--work", str(tmp_path / "none")]
    assert cli.main([*words, "--images", str(data / "imagesTr")]) == 2  # there are cases without a mask
    assert "Columns: image, reference" in (tmp_path / "s.html").read_text(encoding="utf-8")
    (tmp_path / "s.json").unlink()
    assert cli.main([*words, "--images", str(data / "imagesTrr")]) == 1
    assert not (tmp_path / "s.json").exists()  # told before anything is scored


def test_report_makes_every_page_again(planned: Workspace) -> None:
    made = report(planned, progress=SILENT)
    assert not made.failures
    assert len(made.pages) == 4
    index = made.index.read_text(encoding="utf-8")
    for place in re.findall(r'href="([^#"]+)"', index.replace('href="data:,"', "")):
        assert (made.index.parent / place).exists()


def test_anonymous_reports_hold_no_case_path_or_host(planned: Workspace) -> None:
    made = report(planned, anonymous=True, progress=SILENT)
    cases = [case.id for case in read_record(planned.dataset, Dataset).cases]
    secrets = [*cases, str(planned.root.parent), socket.gethostname(), Path.home().as_posix() + "/"]
    written = sorted((planned.report / "anonymous").iterdir())
    assert len(written) == 6  # four pages, a table and the list
    assert made.index in written
    for path in written:
        text = re.sub(r"base64,[A-Za-z0-9+/=]*", "", path.read_text(encoding="utf-8"))
        assert not [secret for secret in secrets if secret in text], path.name
        assert not [secret for secret in secrets if secret in path.name]


def test_the_report_command(planned: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(planned.root), "--no-open"]) == 0
    assert "index.html" in capsys.readouterr().out.replace("\n", "")


def test_an_empty_folder_has_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="nothing to report"):
        report(Workspace(tmp_path), progress=SILENT)


def test_a_fault_in_a_page_is_a_warning_of_one_line() -> None:
    def faulty() -> Path:
        raise ZeroDivisionError("division\nby zero")

    listening = Listening()
    assert left(faulty, listening) is None
    (told,) = listening.warnings
    assert "no report was written: ZeroDivisionError: division by zero (test_reports_left.py, line " in told
    assert "\n" not in told


def test_a_command_whose_page_fails_has_done_its_work(
    planned: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("autoseg.pipeline.pages.dataset_page", lambda *_: 1 / 0)
    output = tmp_path / "work"
    words = ["plan", str(planned.root.parent / "data"), "--work", str(output), "--no-probe", "--workers", "1"]
    assert cli.main(words) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "no report was written: ZeroDivisionError" in told
    assert "Traceback" not in told
    assert (output / "report" / "plan.html").exists()


def test_a_page_that_fails_stops_no_other(planned: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autoseg.pipeline.pages.plan_page", lambda *_: 1 / 0)
    made = report(planned, progress=SILENT)
    assert list(made.failures) == ["plan default"]
    assert "ZeroDivisionError" in made.failures["plan default"]
    assert len(made.pages) == 3


def test_check_leaves_a_page_with_its_findings(example_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(example_data, data)
    next((data / "labelsTr").glob("*.nii.gz")).unlink()
    work = tmp_path / "work"
    assert cli.main(["check", str(data), "--work", str(work), "--workers", "1"]) == 2
    page = (work / "report" / "check.html").read_text(encoding="utf-8")
    assert "missing-label" in page.replace("<wbr>", "")
