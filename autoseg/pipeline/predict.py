"""`predict`: masks for new volumes, from one or several models."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from autoseg import devices
from autoseg.arrays.normalize import NORMALIZATIONS
from autoseg.dataset.geometry import axis_codes
from autoseg.dataset.inputs import find_inputs
from autoseg.dataset.readers import read_geometry
from autoseg.errors import AutosegError, ModelError, PredictionError, UsageError
from autoseg.files import file_hash, read_record, text_hash, write_json, write_record
from autoseg.inference.predict_files import mask_path, predict_cases
from autoseg.inference.predictor import asked_precision, load_models
from autoseg.interrupts import stop_switch
from autoseg.model_file import read_header
from autoseg.pipeline.reports import PredictReport
from autoseg.plugins import load_plugins, require_allowed
from autoseg.progress import Progress
from autoseg.records import Case, Labels, ModelHeader, Plan, Record, TrainSettings
from autoseg.workspace import Run, Workspace

#: Where a folder of masks keeps account of how each was made, and of the cases without a mask.
PREDICTIONS = "predictions.json"
FAILURES = "failures.json"

#: Where it says what the values in the masks mean, if that is not plain.
LABELS = "labels.json"


class MadeMask(Record):
    """How one mask was made: equal entries mean equal masks."""

    model: str  # hash of the model files
    options: str  # of what decides the mask beside model and input
    inputs: str  # hash of the input files
    mask: str  # hash of the mask file


class Predictions(Record):
    """predictions.json: the masks of a folder."""

    format: int = 1
    masks: dict[str, MadeMask]


def predict(
    images: Path | Sequence[Case],
    masks: Path,
    *,
    models: tuple[Path, ...] = (),
    work: Workspace | None = None,
    device: str = "auto",
    mirror: bool = True,
    step: float = 0.5,
    precision: str = "auto",
    overwrite: bool = False,
    use: Sequence[str] = (),
    progress: Progress,
) -> PredictReport:
    """Segment a file, a folder, a list file or given cases; every mask lies on exactly its input's grid.

    `use` names modules to import. Those that the networks of a model need are imported if they are among them, or if
    a plan or run of the work folder names them and the model comes from there.
    """
    began = time.monotonic()
    load_plugins(use)
    files, description = choose_models(models, work)
    progress.say(f"Model: {description}")
    headers = [read_header(file) for file in files]
    header = headers[0]
    asked = any(told.plugins for told in headers)
    own = known_plugins(work) if asked and not models and work is not None else ()
    for file, told in zip(files, headers, strict=True):
        load_needed(told, (*use, *own), file, progress)
    if isinstance(images, Path):
        may_lack = all(told.channel_dropout > 0 for told in headers)
        cases, problems = find_inputs(images, len(header.channels), header.channels, may_lack=may_lack)
    else:
        cases, problems = list(images), []
    failures = {problem.case or str(problem.file): problem.what for problem in problems if problem.severity == "error"}
    for problem in problems:
        if problem.severity != "error":
            progress.warn(f"{problem.case or problem.file}: {problem.what}")
    if not cases and not failures:
        raise UsageError(
            "no image was found", where=images, remedy="Name an image, a folder of images, or a .csv or .json list."
        )
    target = devices.choose_device(device)
    chosen_precision = devices.choose_precision(asked_precision(precision, headers), target)
    fingerprint = "".join(file_hash(file) for file in files)
    wanted = {
        "model": text_hash(fingerprint, 16),
        "options": f"mirror={mirror} step={step:g} precision={chosen_precision}",
    }
    made = _made_before(masks)
    todo, skipped = _to_do(cases, masks, made, wanted, overwrite)
    written: dict[str, Path] = {}
    if todo:
        note = _orientation_note(headers, todo)
        if note is not None:
            progress.say(note)
        model = load_models(files, target, chosen_precision)
        with stop_switch() as stop, progress.stage("Predicting", len(todo)) as advance:
            for outcome in predict_cases(model, todo, masks, mirror=mirror, step=step):
                case = outcome.case
                for note in outcome.notes:
                    progress.say(f"{case.id}: {note}")
                if outcome.error is not None:
                    failures[case.id] = str(outcome.error)
                    progress.warn(f"{case.id} failed: {outcome.error}")
                elif outcome.mask is not None:
                    written[case.id] = outcome.mask
                    made[case.id] = MadeMask(**wanted, inputs=_input_hash(case), mask=file_hash(outcome.mask, 16))
                    write_record(masks / PREDICTIONS, Predictions(masks=dict(sorted(made.items()))))
                advance(1)
                stop.raise_if_set()
    _tell_failures(masks, failures)
    _tell_labels(masks, header.labels)
    present = {case.id: mask_path(case, masks) for case in cases if case.id in written or case.id in skipped}
    return PredictReport(description, written, tuple(skipped), present, failures, time.monotonic() - began)


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


def _orientation_note(headers: Sequence[ModelHeader], cases: Sequence[Case]) -> str | None:
    """Which images are not stored as RAS, where a model sees axes as stored: it may never have seen such a view."""
    if all(member.configuration.preparation.orientation == "ras" for header in headers for member in header.members):
        return None
    counts: Counter[str] = Counter()
    for case in cases:
        try:
            counts[axis_codes(read_geometry(case.images[0])[0])] += 1
        except AutosegError:
            continue  # it will fail by name
    odd = {letters: count for letters, count in sorted(counts.items()) if letters not in ("RAS", "flat")}
    if not odd:
        return None
    told = ", ".join(f"{letters} in {count}" for letters, count in odd.items())
    return (
        f"Note: this model sees axes as they are stored in the file, and {sum(odd.values())} of {len(cases)} images "
        f"are not stored as RAS ({told}). Its masks can be trusted where its training images were stored alike."
    )


def choose_models(models: tuple[Path, ...], work: Workspace | None) -> tuple[list[Path], str]:
    """The model files to use, and what they are in words.

    A named file is taken as it is, a named folder gives the finished runs in it; without a name the bundle of the work
    folder, else the finished folds of its best configuration.
    """
    if models:
        files = [file for entry in models for file in _expand(entry)]
        return files, ", ".join(str(entry) for entry in models) + (
            f" ({len(files)} networks)" if len(files) > 1 else ""
        )
    if work is None:
        raise UsageError("no model was named", remedy="Give --model FILE, or --work with a trained work folder.")
    if work.model.exists():
        return [work.model], f"{work.model}"
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


def _expand(path: Path) -> list[Path]:
    if not path.exists():
        raise ModelError("does not exist", where=path, remedy="Name a model.safetensors, or a folder of runs.")
    if path.is_file():
        return [path]
    found = sorted(path.rglob("model.safetensors"))
    if not found:
        raise ModelError(
            "holds no model.safetensors", where=path, remedy="Name a folder in which a training has finished."
        )
    return found


def _mean_dice(runs: Sequence[Run]) -> float:
    """Mean held-out Dice over the scored runs; -1 where none is scored."""
    from autoseg.pipeline.evaluate import read_mean_dice

    scores = [score for run in runs if (score := read_mean_dice(run.summary)) is not None]
    return sum(scores) / len(scores) if scores else -1.0


def _made_before(masks: Path) -> dict[str, MadeMask]:
    path = masks / PREDICTIONS
    return dict(read_record(path, Predictions).masks) if path.exists() else {}


def _to_do(
    cases: Sequence[Case], masks: Path, made: dict[str, MadeMask], wanted: dict[str, str], overwrite: bool
) -> tuple[list[Case], list[str]]:
    """Cases to predict, and those whose mask is there already, made from the same input in the same way.

    Raises PredictionError before anything is done when a mask in the way was not written by autoseg, or was changed.
    """
    todo, skipped, foreign = [], [], []
    for case in cases:
        path = mask_path(case, masks)
        if not path.exists() or overwrite:
            todo.append(case)
            continue
        before = made.get(case.id)
        if before is None or before.mask != file_hash(path, 16):
            foreign.append(path.name)
        elif before.inputs == _input_hash(case) and {"model": before.model, "options": before.options} == wanted:
            skipped.append(case.id)
        else:
            todo.append(case)
    if foreign:
        told = ", ".join(foreign[:5]) + (f" and {len(foreign) - 5} more" if len(foreign) > 5 else "")
        raise PredictionError(
            f"{told}: not written by autoseg, or changed since",
            where=masks,
            remedy="Choose another folder for the masks, or replace them with --overwrite.",
        )
    return todo, skipped


def _input_hash(case: Case) -> str:
    """Hash over the bytes of all input files; empty for one that cannot be read (it will fail by name)."""
    try:
        gaps = "".join(f"-{channel}" for channel in case.missing)
        return text_hash("".join(file_hash(path) for path in case.images) + gaps, 16)
    except OSError:
        return ""


def _tell_failures(masks: Path, failures: dict[str, str]) -> None:
    path = masks / FAILURES
    if failures:
        masks.mkdir(parents=True, exist_ok=True)
        write_json(path, failures)
    else:
        path.unlink(missing_ok=True)


def _tell_labels(masks: Path, labels: Labels) -> None:
    """Names and values of the labels beside the masks, where values have gaps or a label has several of them.

    A file of that name that we did not write stays.
    """
    plain = not labels.has_regions and labels.values == tuple(range(len(labels.values)))
    path = masks / LABELS
    if plain or not (masks / PREDICTIONS).exists():
        return
    values = {name: [labels.values[member] for member in members] for name, members in labels.foreground.items()}
    try:
        ours = not path.exists() or set(json.loads(path.read_text(encoding="utf-8"))) == {"format", "labels"}
    except (OSError, ValueError, TypeError):
        ours = False
    if ours:
        write_json(path, {"format": 1, "labels": {"background": [0], **values}})
