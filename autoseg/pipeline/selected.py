"""What a selection left in a work folder: whose the model file is, and which trainings it has not seen.

Loads no torch, so that `status` answers at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from autoseg.errors import AutosegError, UsageError
from autoseg.files import file_hash, read_record
from autoseg.progress import Progress
from autoseg.records import Selection
from autoseg.workspace import DEFAULT_PLAN, Run, Workspace

#: Hex digits of a model's hash in selection.json.
DIGITS = 16


def require_replaceable(work: Workspace) -> None:
    """Raise UsageError where the work folder holds a model file that no selection wrote: it is kept."""
    if not work.model.exists():
        return
    if work.selection.exists():
        known = read_record(work.selection, Selection)
        if file_hash(work.model, DIGITS) in (known.bundle, known.replaces):
            return
    raise UsageError(
        "was not written by `autoseg select`, or was changed since, and is kept",
        where=work.model,
        remedy="Move it elsewhere, then select again.",
    )


def hashes(work: Workspace, runs: Sequence[Run]) -> dict[str, str]:
    """The hash of each run's model, by the run's place in the work folder."""
    return {place(work, run): file_hash(run.model, DIGITS) for run in runs if run.model.exists()}


def place(work: Workspace, run: Run) -> str:
    """Where a run lies in the work folder."""
    return run.folder.relative_to(work.root).as_posix()


def trained_since(work: Workspace) -> list[str]:
    """Finished trainings that the selection of a work folder had not seen as they are now, in words."""
    if not work.model.exists() or not work.selection.exists():
        return []
    try:
        known: Mapping[str, str] = read_record(work.selection, Selection).known
        written = work.model.stat().st_mtime
        newer = [run for run in work.all_runs() if run.model.exists() and run.model.stat().st_mtime > written]
        changed = [run for run in newer if known.get(place(work, run)) != file_hash(run.model, DIGITS)]
    except (AutosegError, OSError):
        return []  # a note is no reason not to predict
    return [described(run) for run in changed]


def tell_if_stale(work: Workspace | None, files: Sequence[Path], progress: Progress) -> None:
    """Say in a line which trainings have ended since the bundle was selected, where it is among the files."""
    newer = trained_since(work) if work is not None and work.model in files else []
    if newer:
        told = ", ".join(newer)
        progress.say(f"Note: trained since this model was selected: {told}. `autoseg select` compares anew.")


def described(run: Run) -> str:
    """A run in words: "3d_fullres fold 1"."""
    plan = "" if run.plan == DEFAULT_PLAN else f" of plan {run.plan}"
    return f"{run.configuration} fold {run.fold}{plan}"
