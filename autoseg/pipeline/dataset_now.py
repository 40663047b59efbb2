"""Whether a dataset is still declared as it was when it was planned: who corrects it afterwards has to be told."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from autoseg.dataset.declaration import FILE_NAME
from autoseg.dataset.layouts import open_dataset
from autoseg.errors import AutosegError, UsageError
from autoseg.files import read_record
from autoseg.pipeline.plans import quoted, read_dataset, run_options
from autoseg.progress import Progress
from autoseg.records import Dataset, Findings, Labels, Plan
from autoseg.workspace import DEFAULT_PLAN, Workspace

#: Names that are listed of many.
LISTED = 5


def dataset_now(work: Workspace) -> Dataset | None:
    """The dataset of a work folder, read anew; None where that would open images, or where it cannot be read.

    With a dataset.json no image is opened. A folder that is gone or broken is told of by what needs it.
    """
    planned = read_dataset(work)
    if planned.layout == "dicom" or not (planned.root / FILE_NAME).exists():
        return None
    try:
        return open_dataset(planned.root)
    except AutosegError:
        return None


def other_names(plan: Plan, now: Dataset) -> str:
    """How channels and labels of a dataset differ from those that were planned for; nothing where they do not."""
    told = []
    if now.channels != plan.channels:
        told.append(f"channels were {_listed(plan.channels)} and are {_listed(now.channels)}")
    if _declared(now.labels) != _declared(plan.labels):
        told.append(f"labels {_differences(plan.labels, now.labels)}")
    return "; ".join(told)


def _declared(labels: Labels) -> Labels:
    """The labels without what was measured in some of the cases, which another case may change."""
    return labels.model_copy(update={"core_margin_mm": None, "smallest_object_mm3": None})


def _differences(planned: Labels, now: Labels) -> str:
    """How two tables of labels differ."""
    then, there = planned.names, now.names
    if then.keys() != there.keys():
        return f"were {_listed(_without_background(then))} and are {_listed(_without_background(there))}"
    others = [name for name in then if then[name] != there[name]]
    if others:
        return f"have other values: {_listed(others)}"
    return "are the same, but not what is ignored, their order, or which are counted"


def _without_background(names: Mapping[str, object]) -> list[str]:
    return [name for name in names if name != "background"]


def other_cases(work: Workspace, now: Dataset) -> str:
    """Cases that came or went since the dataset was planned; nothing where there are none.

    Those with errors were left out on purpose.
    """
    known, present = ({case.id for case in dataset.cases} for dataset in (read_dataset(work), now))
    findings = read_record(work.findings, Findings).problems if work.findings.exists() else ()
    left_out = {problem.case for problem in findings if problem.severity == "error"}
    added, removed = sorted(present - known - left_out), sorted(known - present)
    told = [f"not in the plan: {_listed(added)}"] if added else []
    return "; ".join(told + ([f"no longer there: {_listed(removed)}"] if removed else []))


def _listed(names: Collection[str]) -> str:
    shown = ", ".join([*names][:LISTED])
    return shown if len(names) <= LISTED else f"{shown} and {len(names) - LISTED} more"


def require_as_planned(work: Workspace, plan: Plan, begun: bool, progress: Progress) -> None:
    """Refuse to begin a training on a dataset whose channels or labels are called otherwise than in the plan.

    A run that was begun goes on with a warning, and cases that came or went are told. Raises UsageError.
    """
    now = dataset_now(work)
    if now is None:
        return
    names = other_names(plan, now)
    if names and not begun:
        raise UsageError(
            f"is not as it was planned for: {names}",
            where=now.root / FILE_NAME,
            remedy=f"Plan again: {plan_command(work, now.root, plan.name)}",
        )
    told = [words for words in (names, other_cases(work, now)) if words]
    if told:
        progress.warn(f"The dataset is not as it was planned for: {'; '.join(told)}")


def plan_command(work: Workspace, root: Path, plan: str) -> str:
    """The command that plans this dataset again; under a new name where something was trained from the plan."""
    trained = any(run.plan == plan for run in work.all_runs())
    name = "" if plan == DEFAULT_PLAN else f" --name {plan}"
    if trained:
        name = " --name NAME, then train with --plan NAME"
    return f"autoseg plan {quoted(root)}{run_options(work, DEFAULT_PLAN)}{name}"
