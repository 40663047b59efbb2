"""What surrounds a training: its settings, and the lock on its folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from autoseg.errors import UsageError, WorkspaceError
from autoseg.files import read_record, remove_leftovers
from autoseg.locks import HeldByAnother, locked
from autoseg.planning.overrides import optimizer_settings, require_settable, settings_with
from autoseg.records import TrainSettings
from autoseg.training.checkpoint import read_state, require_intact
from autoseg.workspace import Run


def run_settings(
    run: Run,
    defaults: TrainSettings,
    *,
    epochs: int | None = None,
    budget_seconds: float | None = None,
    patience: int | None = None,
    optimizer: str | None = None,
    seed: int | None = None,
    overrides: Mapping[str, str] | None = None,
    plugins: Sequence[str] = (),
) -> TrainSettings:
    """The settings of a run: what was asked for, over what the run began with, or over the plan's defaults.

    An optimizer other than the plan's brings its own rate, decay and warm-up, unless they are asked for as well. A run
    that has begun may be made longer, by epochs or by budget as it began, and may be given another patience.

    Raises WorkspaceError when a run that has begun is asked to go on with other settings, UsageError for settings
    that do not exist, are impossible, or exclude each other.
    """
    if epochs is not None and budget_seconds is not None:
        raise UsageError("--epochs and --budget exclude each other", remedy="Give one of them.")
    require_settable(*(overrides or {}))
    asked: dict[str, object] = dict(overrides or {})
    if plugins:
        asked["plugins"] = tuple(plugins)
    if optimizer is not None:
        asked = {"optimizer": optimizer, **optimizer_settings(defaults, optimizer), **asked}
    if epochs is not None:
        asked |= {"epochs": epochs, "budget_seconds": None}
    if budget_seconds is not None:
        asked["budget_seconds"] = budget_seconds
    if patience is not None:
        asked["patience"] = patience
    if seed is not None:
        asked["seed"] = seed
    began = has_begun(run)
    base = read_record(run.settings, TrainSettings) if began else defaults
    settings = settings_with(base, asked)
    differing = [name for name in TrainSettings.model_fields if getattr(settings, name) != getattr(base, name)]
    if began and not all(_may_change(name, base, settings) for name in differing):
        told = ", ".join(f"{name} was {getattr(base, name)}, now {getattr(settings, name)}" for name in differing)
        raise WorkspaceError(
            f"this run began with other settings ({told})",
            where=run.folder,
            remedy="Leave the option out to go on with it (it can be made longer, not shorter), or rename its folder "
            "to begin anew.",
        )
    if differing and has_lost_its_state(run):
        raise WorkspaceError(
            f"this run has a model, but the state is gone from which it could go on ({run.state_tensors.name})",
            where=run.folder,
            remedy="Restore the file, or rename the folder to begin anew.",
        )
    return settings


def has_lost_its_state(run: Run) -> bool:
    """Whether a model was trained here and its state removed, as people do to save space."""
    return run.model.exists() and not run.state_tensors.exists()


def has_begun(run: Run) -> bool:
    """Whether steps were made, so that other settings would no longer be those that the run is made with."""
    if not run.settings.exists():
        return False
    return run.model.exists() or (run.state_tensors.exists() and read_state(run.state_tensors).step > 0)


def _may_change(name: str, before: TrainSettings, now: TrainSettings) -> bool:
    """Whether a setting may change while a run goes on: its length may grow; patience alters no step."""
    if name == "epochs":
        return now.epochs > before.epochs and now.budget_seconds is None
    if name == "budget_seconds":
        return bool(before.budget_seconds and now.budget_seconds and now.budget_seconds > before.budget_seconds)
    return name == "patience"


def lengthen(run: Run, settings: TrainSettings) -> TrainSettings | None:
    """Take a run that is to be longer back to before its final decay; gives its earlier settings, None where it is not.

    To be called before the new settings are written: after a kill in between the run is one that has not ended yet.
    """
    if not has_begun(run) or not run.state_tensors.exists():
        return None
    before = read_record(run.settings, TrainSettings)
    longer = settings.epochs > before.epochs or (settings.budget_seconds or 0) > (before.budget_seconds or 0)
    out_of_patience = read_state(run.state_tensors).finished_by == "patience"
    if not longer and not (out_of_patience and settings.patience != before.patience):
        return None
    if run.kept_state.exists():
        require_intact(run.kept_state)  # the one that it replaces is sound
        os.replace(run.kept_state, run.state_tensors)
    return before


@contextmanager
def running(run: Run) -> Iterator[None]:
    """Hold the run's folder against a second process that would train in it.

    Raises WorkspaceError while another living process holds it; what a killed process left behind is taken over.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(run.lock):
            remove_leftovers(run.folder)
            shutil.rmtree(run.folder / "trial", ignore_errors=True)
            yield
    except HeldByAnother as held:
        raise WorkspaceError(
            f"process {held.owner or 'another'} is training here",
            where=run.folder,
            remedy="Wait for it to end, or stop it.",
        ) from None
