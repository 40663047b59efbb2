"""The reports of trainings, scores and masks, gathered from the files that the commands leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from autoseg.dataset.label_files import with_drawn
from autoseg.dataset.pairing import Pair, images_for, pair_up
from autoseg.errors import AutosegError, UsageError
from autoseg.evaluation.summary import read_summary
from autoseg.files import read_record, write_text
from autoseg.model_file import read_header
from autoseg.pipeline.epoch_log import read_epochs
from autoseg.pipeline.looks import Scored, compared_all, confusion_of
from autoseg.pipeline.mask_account import MadeMask, made_before
from autoseg.pipeline.mask_folder import input_hash, read_failures
from autoseg.pipeline.pages import page_path
from autoseg.pipeline.receipts import read_receipt
from autoseg.pipeline.scored_objects import counted_reference
from autoseg.pipeline.training_samples import training_samples
from autoseg.pipeline.trust import review_rows
from autoseg.records import (
    AccelerationTrial,
    Calibration,
    Case,
    CaseCost,
    CaseCosts,
    Dataset,
    Labels,
    Summary,
    TrainSettings,
)
from autoseg.report.page import names_for, require_own, write_page
from autoseg.report.predictions_page import predictions_page
from autoseg.report.results_csv import COLUMNS, as_csv
from autoseg.report.results_page import mean_dice, results_page, to_look_at
from autoseg.report.training_page import training_page
from autoseg.workspace import Run, Workspace

#: Of masks that another program made.
NOTHING_KNOWN: Mapping[str, CaseCost] = {}

#: Masks of a folder that are shown.
_LOOKS = 6

# --------------------------------------------------------------------------------------------------------- training


def training_report(work: Workspace, run: Run, *, anonymous: bool = False) -> Path:
    """The page of a run, under way or finished."""
    path = page_path(work, run.report, anonymous)
    require_own(path)
    dataset = read_record(work.dataset, Dataset)
    names = names_for([case.id for case in dataset.cases], anonymous)
    settings = read_record(run.settings, TrainSettings)
    page = training_page(
        f"Training {run.configuration}, fold {run.fold}",
        read_epochs(run.metrics),
        settings,
        told_by_receipt(run),
        read_summary(run.summary) if run.summary.exists() else None,
        read_record(run.acceleration, AccelerationTrial) if run.acceleration.exists() else None,
        training_samples(work, run, settings, names),
        tuple(dataset.labels.foreground),
        names,
    )
    write_page(path, page)
    return path


def told_by_receipt(run: Run) -> dict[str, object]:
    """What the receipt of a run says of it, and of how it went; nothing where there is none, or a damaged one."""
    known = read_receipt(run.receipt)
    if known is None:
        return {}
    return {**known.model_dump(mode="json", exclude={"format", "stage", "course"}), **known.course}


# ---------------------------------------------------------------------------------------------------------- results


def run_results(work: Workspace, run: Run, *, anonymous: bool = False) -> Path:
    """The page of the scores of a run's held-out cases, and the CSV file beside it."""
    dataset, summary = read_record(work.dataset, Dataset), read_summary(run.summary)
    by_id = {case.id: case for case in dataset.cases}
    found = {
        score.case: Scored(run.validation / score.prediction_file, by_id[score.case])
        for score in summary.cases
        if score.case in by_id
    }
    path = page_path(work, run.results, anonymous)
    title = f"Results of {run.configuration}, fold {run.fold}"
    costs = read_record(run.costs, CaseCosts).cases if run.costs.exists() else NOTHING_KNOWN
    known = _calibration(work)
    return _write_results(path, title, summary, found, dataset.labels, known, anonymous, list(by_id), costs)


def results_report(
    masks: Path, references: Path, summary: Summary, output: Path, work: Workspace | None, images: Path | None = None
) -> Path:
    """The page of scores of a folder of masks, beside the scores.

    Cases are shown with the images of the place `images`; where none is named, with those of the work folder's dataset.
    """
    pairs, _ = pair_up(masks, references)
    labels = _scored_labels(summary, work)
    shown = {score.case for scores in to_look_at(summary) for score in scores}
    drawn = [(mask, case) for mask, case in pairs if case.id in shown]
    on_record = _cases_on_record(work)
    known = images_for(images, pairs) if images is not None else _images_on_record(masks, drawn, on_record)
    found = {}
    for mask, case in pairs:
        reference = with_drawn(case, labels, ())
        if labels.things:
            reference = counted_reference(reference, on_record.get(case.id), labels)
        found[case.id] = Scored(mask, reference.model_copy(update={"images": known.get(case.id, ())}))
    path = output.with_suffix(".html")
    title = f"Results of {masks.name}"
    return _write_results(path, title, summary, found, labels, None, False, costs=costs_of(masks))


def report_of_tests(work: Workspace, *, anonymous: bool = False) -> Path:
    """The page of scores of the dataset's own test cases."""
    dataset, summary = read_record(work.dataset, Dataset), read_summary(work.test / "summary.json")
    by_id = {case.id: case for case in dataset.test_cases}
    found = {
        score.case: Scored(work.test / score.prediction_file, by_id[score.case])
        for score in summary.cases
        if score.case in by_id
    }
    path = page_path(work, work.test / "summary.html", anonymous)
    title, known = "Results of the test cases", _calibration(work)
    return _write_results(path, title, summary, found, dataset.labels, known, anonymous, costs=costs_of(work.test))


def _write_results(
    path: Path,
    title: str,
    summary: Summary,
    found: Mapping[str, Scored],
    labels: Labels,
    calibration: Calibration | None,
    anonymous: bool,
    cases: Sequence[str] = (),
    costs: Mapping[str, CaseCost] = NOTHING_KNOWN,
) -> Path:
    table = path.with_suffix(".csv")
    require_own(path)
    if table.exists() and not table.read_text(encoding="utf-8", errors="replace").startswith(",".join(COLUMNS)):
        raise UsageError("is not a table of autoseg's scores, so it is left alone", where=table, remedy="Move it.")
    names = names_for(cases or [*(score.case for score in summary.cases), *summary.failures], anonymous)
    worst, best = (
        compared_all(found, {score.case: f"mean Dice {mean_dice(score):.3f}" for score in scores}, labels, names)
        for scores in to_look_at(summary)
    )
    own = {score.case: costs[score.case] for score in summary.cases if score.case in costs}
    confusion = confusion_of(list(found.values()), labels)
    page = results_page(title, summary, worst, best, confusion, calibration, own, names)
    write_page(path, page)
    write_text(table, as_csv(summary, names))
    return path


def _calibration(work: Workspace) -> Calibration | None:
    return read_header(work.model).calibration if work.model.exists() else None


def _cases_on_record(work: Workspace | None) -> dict[str, Case]:
    """The cases of the work folder's dataset by their names."""
    if work is None or not work.dataset.exists():
        return {}
    dataset = read_record(work.dataset, Dataset)
    return {case.id: case for case in (*dataset.cases, *dataset.test_cases)}


def _images_on_record(masks: Path, pairs: Sequence[Pair], known: Mapping[str, Case]) -> dict[str, tuple[Path, ...]]:
    """The images of cases that the work folder's dataset has by their names.

    An account of masks holds no paths, so that it can go wherever they go, but a hash of what each was made from: an
    image of the same name that is another one is left out.
    """
    made = _accounts_of(masks)
    return {
        case.id: known[case.id].images
        for _, case in pairs
        if case.id in known and (case.id not in made or made[case.id].inputs == input_hash(known[case.id]))
    }


def _scored_labels(summary: Summary, work: Workspace | None) -> Labels:
    """The labels with the names of the summary: the work folder's, or numbered as `evaluate` numbers them."""
    if work is not None and work.dataset.exists():
        labels = read_record(work.dataset, Dataset).labels
        if set(summary.labels) <= set(labels.foreground):
            return labels
    numbered = {
        name: int(name.removeprefix("label_")) for name in summary.labels if name.removeprefix("label_").isdigit()
    }
    return Labels(names={"background": 0, **numbered})


# -------------------------------------------------------------------------------------------------------- masks


def masks_report(masks: Path, images: Mapping[str, tuple[Path, ...]], labels: Labels) -> Path:
    """The page of a folder of masks; with the images of cases that are known it shows those to look at first."""
    made = made_before(masks)
    trusts = {case: entry.trust for case, entry in made.items() if entry.trust is not None}
    ordered = {row.case: trusts[row.case] for row in review_rows(trusts)}
    names = names_for(list(trusts), anonymous=False)
    found = {case: scored for case in ordered if (scored := _mask_of(masks, case, images.get(case, ()))) is not None}
    shown = dict.fromkeys(list(found)[:_LOOKS], "")
    failures = read_failures(masks) or {}
    pictures = compared_all(found, shown, labels, names)
    known = tuple(labels.classes)
    page = predictions_page(f"Masks in {masks.name}", ordered, failures, pictures, known, costs_of(masks), names)
    write_page(masks / "report.html", page)
    return masks / "report.html"


def costs_of(masks: Path) -> dict[str, CaseCost]:
    """Time and memory of each mask of a folder, where that was kept."""
    return {case: entry.cost for case, entry in _accounts_of(masks).items() if entry.cost is not None}


def _accounts_of(masks: Path) -> dict[str, MadeMask]:
    try:
        return made_before(masks)
    except AutosegError:  # another program's file of that name
        return {}


def _mask_of(masks: Path, case: str, images: tuple[Path, ...]) -> Scored | None:
    names = next((made.formats for key, made in made_before(masks).items() if key == case), {})
    file = next((masks / name for name in names if (masks / name).is_file()), None)
    return None if file is None else Scored(file, Case(id=case, images=images))
