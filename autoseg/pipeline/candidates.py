"""Trained models that can be compared: what each predicted of cases that it had not seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from autoseg.dataset.mask_writers import mask_path
from autoseg.errors import AutosegError
from autoseg.evaluation.comparison import Entrant
from autoseg.evaluation.summary import read_summary
from autoseg.files import read_record
from autoseg.model_file import read_header
from autoseg.plain_names import require_plain_name
from autoseg.records import Case, CaseScore, Dataset, ModelHeader, Receipt
from autoseg.workspace import DEFAULT_PLAN, Run, Workspace


@dataclass(frozen=True, eq=False)
class Fold:
    """One trained network, and the cases that it had not seen."""

    run: Run
    header: ModelHeader
    cases: tuple[str, ...]  # held out and scored
    mirrored: bool  # whether its held-out cases were predicted with mirroring
    seconds_per_case: float | None  # to predict and score them, then


@dataclass(frozen=True, eq=False)
class Configured:
    """The folds of one configuration of one plan that are done."""

    name: str
    folds: Mapping[str, Fold]
    scores: Mapping[str, CaseScore]
    fold_of: Mapping[str, str]  # case -> the fold whose network predicts it

    @property
    def networks(self) -> int:
        """Networks that run one after the other for one fold: two for a cascade."""
        header = next(iter(self.folds.values())).header
        return len({member.configuration.name for member in header.members})

    @property
    def mean_seconds(self) -> float | None:
        """Seconds per held-out case; None where a fold does not tell."""
        known = [fold.seconds_per_case for fold in self.folds.values()]
        return None if None in known or not known else sum(s for s in known if s is not None) / len(known)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model that may be chosen: one configuration, or several whose probabilities are averaged."""

    parts: tuple[Configured, ...]
    scores: Mapping[str, CaseScore]
    masks: Mapping[str, Path]  # of the held-out cases
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The configurations' names."""
        return joint_name(self.parts)

    @property
    def networks(self) -> int:
        """Networks that run one after the other for one fold."""
        return sum(part.networks for part in self.parts)

    @property
    def runs(self) -> tuple[Run, ...]:
        """All trainings behind it."""
        return tuple(fold.run for part in self.parts for fold in part.folds.values())

    def models_unseen(self, case: str) -> list[Path]:
        """The model files whose networks had not seen a case."""
        return [part.folds[part.fold_of[case]].run.model for part in self.parts]

    def entrant(self) -> Entrant:
        """What a comparison needs."""
        return Entrant(self.name, self.networks, self.scores)


@dataclass(frozen=True, eq=False)
class Found:
    """What a work folder has to choose from."""

    configured: tuple[Configured, ...]
    left_out: Mapping[str, str]  # run or configuration -> why


def joint_name(parts: Sequence[Configured]) -> str:
    """What an ensemble is called, whichever of its parts comes first."""
    return " + ".join(sorted(part.name for part in parts))


def find_candidates(
    work: Workspace, dataset: Dataset, plans: Sequence[str] = (), configurations: Sequence[str] = ()
) -> Found:
    """The configurations with at least one fold that is trained and scored, of the named plans or of all."""
    for name in plans:
        require_plain_name(name, "plan")
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in work.all_runs():
        if (not plans or run.plan in plans) and (not configurations or run.configuration in configurations):
            groups.setdefault((run.plan, run.configuration), []).append(run)
    names = _names(list(groups))
    found: list[Configured] = []
    left_out: dict[str, str] = {}
    for key, runs in groups.items():
        folds: dict[str, tuple[Fold, dict[str, CaseScore]]] = {}
        for run in runs:
            try:
                folds[run.fold] = _read_fold(run, dataset)
            except AutosegError as error:
                left_out[f"{names[key]}, fold {run.fold}"] = error.what
        if folds:
            found.append(_configured(names[key], folds))
    return Found(tuple(found), left_out)


def _configured(name: str, folds: Mapping[str, tuple[Fold, dict[str, CaseScore]]]) -> Configured:
    scores: dict[str, CaseScore] = {}
    fold_of: dict[str, str] = {}
    for number, (_, own) in folds.items():
        for case, score in own.items():
            if case not in scores:  # of several folds that hold a case out the first predicts it
                scores[case], fold_of[case] = score, number
    return Configured(name, {number: fold for number, (fold, _) in folds.items()}, scores, fold_of)


def _read_fold(run: Run, dataset: Dataset) -> tuple[Fold, dict[str, CaseScore]]:
    """A finished training and its held-out scores. Raises AutosegError, in words, where it cannot be compared."""
    if run.fold == "all":
        raise AutosegError("holds no case out, so nothing is known of it")
    if not run.model.exists():
        raise AutosegError("not trained to its end yet")
    if not run.summary.exists():
        raise AutosegError("trained, but its held-out cases are not scored yet")
    header = read_header(run.model)
    if (header.labels, header.channels) != (dataset.labels, dataset.channels):
        raise AutosegError("its labels or channels are not those of the dataset")
    known = {case.id for case in dataset.cases}
    scores = {score.case: score for score in read_summary(run.summary).cases if score.case in known}
    if not scores:
        raise AutosegError("no held-out case has a score")
    mirrored, seconds = _told_by_receipt(run, len(scores))
    return Fold(run, header, tuple(scores), mirrored, seconds), scores


def _told_by_receipt(run: Run, cases: int) -> tuple[bool, float | None]:
    """Whether held-out cases were mirrored, and seconds per case; a receipt that cannot be read tells nothing."""
    try:
        told = read_record(run.receipt, Receipt)
    except AutosegError:
        return True, None
    seconds = told.seconds.get("score")
    return bool(told.course.get("scored_with_mirroring", True)), None if seconds is None else seconds / cases


def _names(keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """What each plan's configuration is called: its own name where that is enough."""
    often = Counter(configuration for _, configuration in keys)
    return {
        (plan, configuration): configuration
        if often[configuration] == 1 or plan == DEFAULT_PLAN
        else f"{configuration} ({plan})"
        for plan, configuration in keys
    }


def single(part: Configured, cases: Mapping[str, Case]) -> Candidate:
    """One configuration by itself, with the masks that training wrote."""
    masks = {
        case: mask_path(cases[case], part.folds[fold].run.validation)
        for case, fold in part.fold_of.items()
        if case in cases
    }
    return Candidate((part,), part.scores, {case: path for case, path in masks.items() if path.exists()})


def possible_ensembles(found: Sequence[Configured], largest: int = 2) -> list[tuple[Configured, ...]]:
    """All ensembles of up to `largest` configurations that share an unseen case, the most promising first.

    So are their parts: where one network is enough, as for the quickest speed, the first is taken.

    The first stage of a cascade is no ensemble with its second: it is in it already.
    """

    def promise(parts: Sequence[Configured]) -> float:
        scores = [_mean_dice(part) for part in parts]
        return sum(scores) / len(scores)

    possible = [
        parts
        for size in range(2, largest + 1)
        for parts in combinations(sorted(found, key=_mean_dice, reverse=True), size)
        if shared_cases(parts) and not _stages_of_one(parts)
    ]
    return sorted(possible, key=lambda parts: (len(parts), -promise(parts)))


def shared_cases(parts: Sequence[Configured]) -> list[str]:
    """Cases that all of them predicted unseen."""
    first, *others = parts
    return sorted(set(first.scores).intersection(*(part.scores for part in others)))


def _stages_of_one(parts: Sequence[Configured]) -> bool:
    members = [
        {(fold.run.plan, member.name) for fold in part.folds.values() for member in fold.header.members}
        for part in parts
    ]
    return any(one < other or other < one for one, other in combinations(members, 2))


def _mean_dice(part: Configured) -> float:
    dice = [entry.dice for score in part.scores.values() for entry in score.labels.values() if entry.dice is not None]
    return sum(dice) / len(dice) if dice else 0.0
