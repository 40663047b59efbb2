"""Which model files to predict with, and the modules that they need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from autoseg.arrays.normalize import NORMALIZATIONS
from autoseg.errors import ModelError, UsageError
from autoseg.files import read_record
from autoseg.model_file import read_header
from autoseg.pipeline.selected import tell_if_stale
from autoseg.plugins import load_plugins, require_allowed
from autoseg.progress import Progress
from autoseg.records import ModelHeader, Plan, TrainSettings
from autoseg.workspace import Run, Workspace

#: What model files are called in work folders and runs.
MODEL = "model.safetensors"


def choose_models(models: tuple[Path, ...], work: Workspace | None) -> tuple[list[Path], str]:
    """The model files to use, and what they are in words.

    A named file is taken as it is, a named folder gives the finished runs in it; without a name the bundle of the work
    folder, else the finished folds of its best configuration. Raises UsageError or WorkspaceError where there is none.
    """
    if models:
        files = [file for entry in models for file in _expand(entry)]
        return files, ", ".join(str(entry) for entry in models) + (
            f" ({len(files)} networks)" if len(files) > 1 else ""
        )
    if work is None:
        raise UsageError("no model was named", remedy="Give --model FILE, or --work with a trained work folder.")
    if work.model.exists():
        return [work.model], f"{work.model} ({in_words(read_header(work.model))})"
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in work.all_runs():
        if run.model.exists():
            groups.setdefault((run.plan, run.configuration), []).append(run)
    if not groups:
        raise ModelError(
            "nothing was trained here yet",
            where=work.root,
            remedy="Run `autoseg train --fold 0` first, or give --model FILE.",
        )
    best = max(groups, key=lambda group: (_mean_dice(groups[group]), group))
    runs = groups[best]
    folds = ", ".join(run.fold for run in runs)
    score = _mean_dice(runs)
    told = f", mean Dice of the held-out cases {score:.3f}" if score >= 0 else ""
    return [run.model for run in runs], f"plan {best[0]}, {best[1]}, fold {folds}{told}"


def chosen_models(
    models: tuple[Path, ...], work: Workspace | None, use: Sequence[str], progress: Progress
) -> tuple[list[Path], str, list[ModelHeader]]:
    """The model files, what they are in words, and their headers; modules that they need are imported."""
    files, description = choose_models(models, work)
    progress.say(f"Model: {description}")
    tell_if_stale(work, files, progress)
    headers = [read_header(file) for file in files]
    asked = any(told.plugins for told in headers)
    own = known_plugins(work) if asked and not models and work is not None else ()
    for file, told in zip(files, headers, strict=True):
        load_needed(told, (*use, *own), file, progress)
    return files, description, headers


def in_words(header: ModelHeader) -> str:
    """The networks of a model, how good it is, and what it does to masks, in a line."""
    counts = Counter(member.configuration.name for member in header.members)
    told = [" + ".join(f"{name} x {count}" for name, count in counts.items())]
    card = header.card
    if card is not None and card.mean_dice is not None:
        told.append(f"mean Dice of {card.cases} held-out cases {card.mean_dice:.3f}")
    steps = [step.label or "all foreground" for step in header.post_processing]
    if steps:
        told.append(f"keeps the largest component of {', '.join(steps)}")
    return "; ".join(told)


def _expand(path: Path) -> list[Path]:
    if not path.exists():
        raise ModelError("does not exist", where=path, remedy="Name a model.safetensors, or a folder of runs.")
    if path.is_file():
        return [path]
    if (path / MODEL).is_file():  # of a work folder the bundle, which has its networks from the runs below
        return [path / MODEL]
    found = sorted(path.rglob(MODEL))
    if not found:
        raise ModelError(
            "holds no model.safetensors", where=path, remedy="Name a folder in which a training has finished."
        )
    return found


def _mean_dice(runs: Sequence[Run]) -> float:
    """Mean held-out Dice over the scored runs; -1 where none is. Fold all is scored on what it was trained on."""
    from autoseg.pipeline.evaluate import read_mean_dice

    held_out = [run for run in runs if run.fold != "all"]
    scores = [score for run in held_out if (score := read_mean_dice(run.summary)) is not None]
    return sum(scores) / len(scores) if scores else -1.0


def known_plugins(work: Workspace) -> tuple[str, ...]:
    """The modules that the plans and runs of a work folder name."""
    found: dict[str, None] = {}
    for name in work.plan_names():
        found |= dict.fromkeys(read_record(work.plan(name), Plan).plugins)
    for run in work.all_runs():
        found |= dict.fromkeys(read_record(run.settings, TrainSettings).plugins or ())
    return tuple(found)


def load_needed(header: ModelHeader, allowed: Sequence[str], file: Path, progress: Progress) -> None:
    """Import the modules that a model names, where its networks or normalizations are not the program's own.

    Raises ModelError where one of them is not in `allowed`: a file must not decide which code runs.
    """
    from autoseg.networks.catalog import NETWORKS  # loads torch

    configurations = [member.configuration for member in header.members]
    known = all(
        entry.network in NETWORKS and set(entry.preparation.normalization) <= NORMALIZATIONS.keys()
        for entry in configurations
    )
    if known or not header.plugins:
        return
    require_allowed(header.plugins, allowed, file)
    fresh = load_plugins(header.plugins)
    if fresh:
        progress.say(f"Imported for {file.name}: {', '.join(fresh)}")
