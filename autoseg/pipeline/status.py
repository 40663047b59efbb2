"""`status`: what a work folder holds, and the next command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from autoseg.errors import AutosegError, RecordError, WorkspaceError
from autoseg.files import read_record
from autoseg.model_file import read_header
from autoseg.pipeline.choosing_model import in_words
from autoseg.pipeline.dataset_now import dataset_now, other_cases, other_names
from autoseg.pipeline.epoch_log import read_epochs
from autoseg.pipeline.plans import dataset_command, read_dataset, read_plan, run_options
from autoseg.pipeline.reports import StatusReport
from autoseg.pipeline.selected import trained_since
from autoseg.preprocessing.store import is_current
from autoseg.records import Audit, Dataset, DiagnosisDesign, Plan, Suggestions, TrainSettings
from autoseg.training.checkpoint import read_state
from autoseg.workspace import DEFAULT_PLAN, Run, Workspace


def status(work: Workspace) -> StatusReport:
    """What is planned, prepared and trained, the disk it takes, and what to do next."""
    if not work.root.is_dir():
        raise WorkspaceError(
            "there is no such work folder", where=work.root, remedy="`autoseg plan DATASET` makes one."
        )
    lines: list[tuple[str, str]] = [("work folder", str(work.root))]
    if not work.dataset.exists():
        return StatusReport((*lines, *_plans_without_images(work)), dataset_command(work))
    dataset = read_dataset(work)
    lines.append(("dataset", f"{dataset.name}: {len(dataset.cases)} cases in {dataset.root}"))
    now = dataset_now(work)
    cases = "" if now is None else other_cases(work, now)
    if cases:
        lines.append(("dataset now", cases))
    plans = {name: read_plan(work, name) for name in work.plan_names()}
    for name, plan in plans.items():
        others = "" if now is None else other_names(plan, now)
        differs = f"; the dataset is another now: {others}" if others else ""
        lines.append((f"plan {name}", f"preset {plan.preset}: {', '.join(plan.configurations)}{differs}"))
        lines.extend((f"prepared {entry}", text) for entry, text in _prepared(work, plan, dataset).items())
    runs = work.all_runs()
    lines.extend((f"run {run.plan}/{run.configuration}/fold_{run.fold}", _run_state(run)) for run in runs)
    if work.model.exists():
        lines.append(("selected model", _selected(work)))
    lines.extend(_examined(work))
    lines.append(("disk used", f"{_size(work.root) / 1e6:.1f} MB"))
    return StatusReport(tuple(lines), _next(work, plans, runs))


def _plans_without_images(work: Workspace) -> list[tuple[str, str]]:
    """A line per plan that was made from a fingerprint alone."""
    plans = {name: read_plan(work, name) for name in work.plan_names()}
    return [
        (f"plan {name}", f"preset {plan.preset}: {', '.join(plan.configurations)}; from a fingerprint, without images")
        for name, plan in plans.items()
    ]


def _prepared(work: Workspace, plan: Plan, dataset: Dataset) -> dict[str, str]:
    told = {}
    for name, configuration in plan.configurations.items():
        folder = work.prepared_folder(configuration.preparation)
        current = sum(is_current(folder, case) for case in dataset.cases)
        told[name] = f"{current} of {len(dataset.cases)} cases"
    return told


def _run_state(run: Run) -> str:
    early = read_header(run.model).ended_early if run.model.exists() else ""
    ended = f", {early}" if early else ""
    if run.summary.exists():
        return f"trained and scored{ended}{_longer(run)}"
    if run.model.exists():
        return f"trained on all cases{ended}" if run.fold == "all" else f"trained{ended}, not scored yet"
    try:
        epochs = len(read_epochs(run.metrics))
    except RecordError as error:  # a person's edit; training will name it as well
        return f"under way: {run.metrics.name}: {error.what}"
    return f"under way: {epochs} epochs"


def _longer(run: Run) -> str:
    """That a finished run goes on, since it was asked to be longer."""
    try:
        state = read_state(run.state_tensors) if run.state_tensors.exists() else None
        asked = read_record(run.settings, TrainSettings)
    except AutosegError:  # training will name it
        return ""
    going_on = state is not None and not state.finished_by and not read_header(run.model).ended_early
    if state is None or not going_on:
        return ""
    of_all = "" if asked.budget_seconds else f" of {asked.epochs}"
    return f", and is made longer: {state.epoch}{of_all} epochs"


def _selected(work: Workspace) -> str:
    """The deployable model in a line, and what it lags behind."""
    newer = trained_since(work)
    behind = f"; trained since: {', '.join(newer)}" if newer else ""
    return in_words(read_header(work.model)) + behind


def _examined(work: Workspace) -> Iterator[tuple[str, str]]:
    """What the trained networks were asked about data and labels."""
    if (work.audit / "audit.json").exists():
        audit = read_record(work.audit / "audit.json", Audit)
        yield "label audit", f"{len(audit.cases)} cases ranked, {len(audit.places)} places to look at"
    if (work.suggestions / "suggestions.json").exists():
        found = read_record(work.suggestions / "suggestions.json", Suggestions)
        yield "to label next", f"{len(found.suggested)} of {found.candidates} {found.unit}s suggested"
    for path in sorted(work.diagnoses.glob("*/design.json")):
        folder = work.diagnosis(path.parent.name)
        done = sum(run.summary.exists() for run in folder.all_runs())
        yield f"diagnosis {folder.root.name}", f"{done} of {len(read_record(path, DiagnosisDesign).trials)} trainings"


def _next(work: Workspace, plans: dict[str, Plan], runs: list[Run]) -> str:
    if not plans:
        return "autoseg plan DATASET"
    unfinished = [run for run in runs if not (run.model if run.fold == "all" else run.summary).exists()]
    if unfinished:
        run = unfinished[0]
        return f"autoseg train --fold {run.fold} --configuration {run.configuration}{run_options(work, run.plan)}"
    if not runs:
        return f"autoseg train --fold 0{run_options(work, next(iter(plans)))}"
    if len(runs) > 1 and (not work.model.exists() or trained_since(work)):
        return f"autoseg select{run_options(work, DEFAULT_PLAN)}"
    return f"autoseg predict IMAGES MASKS{run_options(work, DEFAULT_PLAN)}"


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
