"""What surrounds a training: its settings, the lock on its folder, its receipt."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psutil
from pydantic import ValidationError

from autoseg import __version__
from autoseg.errors import UsageError, WorkspaceError
from autoseg.files import read_record
from autoseg.records import TrainSettings
from autoseg.workspace import Run


def run_settings(
    run: Run,
    defaults: TrainSettings,
    *,
    epochs: int | None = None,
    budget_seconds: float | None = None,
    seed: int | None = None,
    overrides: Mapping[str, str] | None = None,
) -> TrainSettings:
    """The settings of a run: what was asked for, over what the run began with, or over the plan's defaults.

    Raises WorkspaceError when a run that has begun is asked to go on with other settings, UsageError for settings
    that do not exist, are impossible, or exclude each other.
    """
    if epochs is not None and budget_seconds is not None:
        raise UsageError("--epochs and --budget exclude each other", remedy="Give one of them.")
    asked: dict[str, object] = dict(overrides or {})
    if epochs is not None:
        asked |= {"epochs": epochs, "budget_seconds": None}
    if budget_seconds is not None:
        asked["budget_seconds"] = budget_seconds
    if seed is not None:
        asked["seed"] = seed
    unknown = sorted(set(asked) - set(TrainSettings.model_fields))
    if unknown:
        raise UsageError(f"unknown setting {unknown[0]!r}", remedy=f"Known: {', '.join(TrainSettings.model_fields)}.")
    began = run.settings.exists() and (run.state_tensors.exists() or run.model.exists())
    base = read_record(run.settings, TrainSettings) if began else defaults
    try:
        settings = TrainSettings.model_validate({**base.model_dump(), **asked})
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(str(part) for part in fault["loc"])
        raise UsageError(f"setting {name}: {fault['msg']}", remedy="Correct its value.") from None
    if began and settings != base:
        differing = [name for name in TrainSettings.model_fields if getattr(settings, name) != getattr(base, name)]
        told = ", ".join(f"{name} was {getattr(base, name)}, now {getattr(settings, name)}" for name in differing)
        raise WorkspaceError(
            f"this run began with other settings ({told})",
            where=run.folder,
            remedy="Leave the option out to go on with it, or rename its folder to begin anew.",
        )
    return settings


@contextmanager
def running(run: Run) -> Iterator[None]:
    """Hold the run's folder against a second process that would train in it.

    Raises WorkspaceError while another living process holds it; what a killed process left behind is taken over.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            with open(run.lock, "x", encoding="utf-8") as lock:
                lock.write(f"{os.getpid()} {psutil.Process().create_time()}")
            break
        except FileExistsError:
            owner = _living_owner(run)
            if owner is not None:
                raise WorkspaceError(
                    f"process {owner} is training here", where=run.folder, remedy="Wait for it to end, or stop it."
                ) from None
            run.lock.unlink(missing_ok=True)
    try:
        yield
    finally:
        run.lock.unlink(missing_ok=True)


def _living_owner(run: Run) -> int | None:
    """The process that holds the lock, if it is alive: same number and same start time."""
    try:
        number, started = run.lock.read_text(encoding="utf-8").split()
        process = psutil.Process(int(number))
        return process.pid if abs(process.create_time() - float(started)) < 1.0 else None
    except (ValueError, OSError, psutil.Error):
        return None


def versions() -> dict[str, str]:
    """Versions that decide results, for model headers and receipts."""
    import numpy
    import scipy
    import torch

    return {
        "autoseg": __version__,
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
    }
