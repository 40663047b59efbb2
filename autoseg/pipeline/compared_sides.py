"""What `compare` is given, as scores: files of scores, runs, configurations, and masks that are scored for it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autoseg.dataset.layouts import open_dataset
from autoseg.dataset.naming import data_files
from autoseg.dataset.pairing import pair_up
from autoseg.errors import RecordError, UsageError
from autoseg.evaluation.differences import CaseValues, ScoredSide
from autoseg.evaluation.paired import values_of
from autoseg.evaluation.summary import names_by_key, read_summary
from autoseg.evaluation.verdicts import METRICS
from autoseg.files import read_record
from autoseg.interop.nnunet_summary import is_nnunet_summary, label_names, names_of, nnunet_scores
from autoseg.model_file import read_header
from autoseg.pipeline.evaluate import score_cases, scoring_tasks
from autoseg.progress import Progress
from autoseg.records import CaseScore, Dataset, Summary
from autoseg.workspace import DEFAULT_PLAN, Workspace

#: What files of scores are called, in ours and in nnU-Net's folders.
SUMMARY = "summary.json"

#: Where a fold keeps it: ours in the run, nnU-Net beside the masks.
_IN_A_FOLD = (SUMMARY, f"validation/{SUMMARY}")

#: What `evaluate` and this call a label whose name is not known.
_NUMBERED = re.compile(r"label_(\d+)")


@dataclass(frozen=True)
class Scoring:
    """How masks are scored that have no scores yet."""

    references: Path
    work: Workspace
    labels_from: Path | None
    tolerance_mm: float
    workers: int | None
    progress: Progress


@dataclass(frozen=True)
class Scored:
    """The scores of one side as they were found, with labels called as in their files."""

    name: str
    cases: Mapping[str, CaseValues]
    names: Mapping[str, str]  # nnU-Net's key -> name, as far as these files tell
    foreign: Mapping[str, str]  # the same from nnU-Net's dataset.json
    tolerances: frozenset[float]  # of surface Dice, in mm
    failures: Mapping[str, str]  # case -> why it has no score


# ---------------------------------------------------------------------------------------------------- which is meant


def short_names(words: Sequence[str]) -> list[str]:
    """The last parts of each path, as many as tell all of them apart. Raises UsageError for one that is there twice."""
    parts = [Path(word).parts or (word,) for word in words]
    for count in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(part[-count:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    twice = next(word for word, part in zip(words, parts, strict=True) if parts.count(part) > 1)
    raise UsageError("is named twice", where=twice, remedy="Compare it with another one.")


def place_of(word: str, work: Workspace) -> Path:
    """The file or folder that a word means: a path, or a configuration, a run or an ensemble of the work folder.

    Of several plans that have a configuration it is the plan `default`. Raises UsageError where there is none, or
    several without that.
    """
    path = Path(word)
    if path.exists():
        return path
    plans = [folder.name for folder in sorted(work.runs.glob("*")) if (folder / word).is_dir()]
    if DEFAULT_PLAN in plans or len(plans) == 1:
        return work.runs / (DEFAULT_PLAN if DEFAULT_PLAN in plans else plans[0]) / word
    if plans:
        raise UsageError(
            f"{word!r} is trained by several plans: {', '.join(plans)}",
            where=work.root,
            remedy=f"Name one: {plans[0]}/{word}",
        )
    for folder in (work.runs / word, work.ensemble(word.replace(" ", ""))):
        if folder.is_dir():
            return folder
    known = sorted({f"{run.configuration}" for run in work.all_runs() if run.summary.exists()})
    raise UsageError(
        "is neither a file or folder, nor a trained configuration of the work folder",
        where=word,
        remedy=f"The work folder {work.root} has scores of: {', '.join(known) or 'nothing'}.",
    )


def summaries_in(place: Path) -> dict[Path, str | None]:
    """The files of scores of a run, a configuration or a folder of masks, each with the fold that it is of, if any.

    `fold_all` has no cases that it had not seen, and is left out.
    """
    if place.is_file():
        return {place: None}
    for name in _IN_A_FOLD:
        if (place / name).is_file():
            return {place / name: _fold(place)}
    folds = [folder for folder in sorted(place.glob("fold_*")) if folder.name != "fold_all"]
    return {folder / name: _fold(folder) for folder in folds for name in _IN_A_FOLD if (folder / name).is_file()}


def _fold(folder: Path) -> str | None:
    name = folder.resolve().name
    return name.removeprefix("fold_") if name.startswith("fold_") else None


# ----------------------------------------------------------------------------------------------------------- reading


def read_side(name: str, place: Path, scoring: Scoring | None) -> Scored:
    """The scores of a place. Masks are scored where references are given, whatever scores lie beside them.

    Raises UsageError where there is neither a score nor a mask with a reference.
    """
    files = summaries_in(place)
    if scoring is not None and place.is_dir() and (not files or pair_up(place, scoring.references)[0]):
        return _scored_now(name, place, scoring)
    if not files:
        has_masks = "It holds masks: " if data_files(place) else ""
        raise UsageError(
            f"holds no {SUMMARY}, and no folds that hold one",
            where=place,
            remedy=f"{has_masks}`autoseg evaluate MASKS REFERENCES` writes it, and --reference REFERENCES scores masks "
            "for this comparison alone.",
        )
    parts = [_read(path, fold) for path, fold in files.items()]
    cases: dict[str, CaseValues] = {}
    for part in parts:
        cases = {**part.cases, **cases}  # of several folds that hold a case out the first counts, as in `select`
    failures = {case: why for part in parts for case, why in part.failures.items() if case not in cases}
    return Scored(
        name,
        cases,
        {key: label for part in parts for key, label in part.names.items()},
        {key: label for part in parts for key, label in part.foreign.items()},
        frozenset(tolerance for part in parts for tolerance in part.tolerances),
        failures,
    )


def _scored_now(name: str, masks: Path, scoring: Scoring) -> Scored:
    tasks, failures = scoring_tasks(masks, scoring.references, scoring.work, scoring.labels_from, scoring.tolerance_mm)
    scoring.progress.say(f"{name}: masks are scored against {scoring.references}")
    summary = score_cases(tasks, failures, scoring.tolerance_mm, scoring.workers, scoring.progress)
    return _ours(summary, names_of(tasks[0].labels), None, name)


def _read(path: Path, fold: str | None) -> Scored:
    """One file of scores, of ours or of nnU-Net's. Raises RecordError for any other."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise RecordError(f"cannot be read ({error})", where=path, remedy="Evaluate again.") from error
    if is_nnunet_summary(raw):
        cases = {case: replace(entry, fold=fold) for case, entry in nnunet_scores(raw, path).items()}
        return Scored(path.name, cases, {}, label_names(path), frozenset(), {})
    if not isinstance(raw, Mapping) or "cases" not in raw:
        raise RecordError(
            "is neither a summary of autoseg nor of nnU-Net",
            where=path,
            remedy="Name a summary.json, or a folder that holds one.",
        )
    return _ours(read_summary(path), names_by_key(raw), fold, path.name)


def _ours(summary: Summary, names: Mapping[str, str], fold: str | None, name: str) -> Scored:
    cases = {score.case: _case_values(score, fold) for score in summary.cases}
    return Scored(name, cases, names, {}, frozenset({summary.tolerance_mm}), summary.failures)


def _case_values(score: CaseScore, fold: str | None) -> CaseValues:
    values: dict[str, dict[str, float]] = {}
    for metric in METRICS.values():
        for label, value in values_of(score, metric.field).items():
            values.setdefault(label, {})[metric.field] = value
    found = {label: entry.true_positives + entry.false_negatives for label, entry in score.labels.items()}
    alarms = [label for label, voxels in found.items() if not voxels and score.labels[label].false_positives]
    return CaseValues({label: values[label] for label in score.labels if label in values}, tuple(alarms), fold)


# ------------------------------------------------------------------------------------------------------ label names


def named_alike(found: Sequence[Scored], work: Workspace, labels_from: Path | None) -> list[ScoredSide]:
    """The sides with their labels called by one name each.

    What --labels-from says goes before what our own files say, this before nnU-Net's dataset.json, and that before the
    work folder's dataset. A value that nobody names is called label_1, as by `evaluate`.
    """
    names: dict[str, str] = {}
    for source in _sources(found, work, labels_from):
        names = {**source, **names}
    return [
        ScoredSide(side.name, {case: _renamed(entry, names) for case, entry in side.cases.items()}) for side in found
    ]


def _sources(found: Sequence[Scored], work: Workspace, labels_from: Path | None) -> Iterator[Mapping[str, str]]:
    """Names of labels by nnU-Net's keys, the best source first."""
    if labels_from is not None:
        model = labels_from.suffix == ".safetensors"
        yield names_of(read_header(labels_from).labels if model else open_dataset(labels_from).labels)
    # a name that was made up of a value is none
    yield from ({key: name for key, name in side.names.items() if not _NUMBERED.fullmatch(name)} for side in found)
    yield from (side.foreign for side in found)
    if work.dataset.exists():
        yield names_of(read_record(work.dataset, Dataset).labels)


def _renamed(case: CaseValues, names: Mapping[str, str]) -> CaseValues:
    return replace(
        case,
        values={_named(label, names): entry for label, entry in case.values.items()},
        false_alarms=tuple(_named(label, names) for label in case.false_alarms),
    )


def _named(label: str, names: Mapping[str, str]) -> str:
    numbered = _NUMBERED.fullmatch(label)
    key = numbered[1] if numbered else label
    if key in names:
        return names[key]
    return f"label_{key}" if key.isdecimal() else label


def require_one_tolerance(found: Sequence[Scored]) -> None:
    """Raise UsageError where surface Dice was measured at several tolerances: such figures are not comparable."""
    known = {side.name: sorted(side.tolerances) for side in found if side.tolerances}
    if len({tolerance for tolerances in known.values() for tolerance in tolerances}) > 1:
        told = "; ".join(f"{name}: {', '.join(f'{one:g}' for one in each)} mm" for name, each in known.items())
        raise UsageError(
            f"surface Dice was measured at several tolerances ({told})",
            remedy="Score the masks again: autoseg evaluate --tolerance MM, or --reference and --tolerance here.",
        )
