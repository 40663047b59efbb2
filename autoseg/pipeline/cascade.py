"""From the first stage of a cascade to the second: predictions that no network made of a case that it was trained on.

When a fold of the first stage is trained, it predicts its held-out cases for the second stage, which is trained on
them: `runs/<plan>/<first stage>/fold_k/next_stage/<case>.b2nd`, label maps on the grid of the second stage's prepared
cases. So the second stage learns from mistakes of the kind that it will be given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from autoseg.dataset.folds import read_splits
from autoseg.devices import Precision
from autoseg.errors import AutosegError, PlanError, TrainingError, UsageError
from autoseg.files import file_hash
from autoseg.inference.cascade import first_stage_labels
from autoseg.inference.predictor import LoadedModel, load_models
from autoseg.interrupts import StopSwitch
from autoseg.model_file import read_model
from autoseg.pipeline.plans import run_options
from autoseg.pipeline.prepare import full_patch, prepare_again, prepare_cases
from autoseg.preprocessing.case import placement_for
from autoseg.preprocessing.entry import StoreError
from autoseg.preprocessing.label_store import labels_path, open_labels, write_labels
from autoseg.preprocessing.store import read_case
from autoseg.progress import Progress
from autoseg.records import Case, Configuration, Dataset, Fold, Member, ModelHeader, Plan, PredictSettings, PreparedCase
from autoseg.workspace import Run, Workspace

#: Hex digits of the hash of the model that made a prediction, kept with it.
_DIGITS = 16


@dataclass(frozen=True, eq=False)
class Stages:
    """What both ends of a cascade need to know."""

    work: Workspace
    dataset: Dataset
    plan: Plan
    first: Configuration
    second: Configuration
    device: torch.device
    precision: Precision
    mirror: bool
    workers: int | None
    stop: StopSwitch
    progress: Progress

    def first_run(self, fold: int) -> Run:
        """The training of one fold of the first stage."""
        return self.work.run(self.plan.name, self.first.name, fold)


def next_configuration(plan: Plan, configuration: Configuration) -> Configuration | None:
    """The second stage that is trained on what this configuration finds; None where there is none."""
    following = plan.configurations.get(configuration.next_stage or "")
    return following if following is not None and following.previous_stage == configuration.name else None


def previous_configuration(plan: Plan, configuration: Configuration) -> Configuration:
    """The first stage of a second one."""
    return plan.configuration(configuration.previous_stage)


def require_cascade(work: Workspace, plan: Plan, configuration: Configuration, fold: str) -> None:
    """Refuse what could not be trained as the second stage of a cascade, before anything is done.

    Raises PlanError where the stages do not fit together, UsageError for a fold that the first stage has not, and
    TrainingError, with the commands to run, where the first stage is not trained on every fold.
    """
    if configuration.previous_stage is None:
        return
    first = previous_configuration(plan, configuration)
    require_stages(plan, first, configuration)
    folds = len(read_splits(work.splits))
    if fold != "all" and not (fold.isdecimal() and int(fold) < folds):
        raise UsageError(
            f"a cascade has no fold {fold}: its stages share the {folds} folds of this work folder",
            remedy=f"Use a fold from 0 to {folds - 1}, or all.",
        )
    missing = [number for number in range(folds) if not work.run(plan.name, first.name, number).model.exists()]
    if missing:
        options = run_options(work, plan.name)
        commands = [f"autoseg train --configuration {first.name} --fold {number}{options}" for number in missing]
        raise TrainingError(
            f"{configuration.name} learns from what {first.name} finds in held-out cases, and {first.name} is not "
            f"trained on fold {', '.join(map(str, missing))}",
            where=f"plan {plan.name!r}",
            remedy=f"Run first: {'; '.join(commands)}. Or all in one: "
            f"autoseg train --fold every --configuration {configuration.name}{options}",
        )


def require_stages(plan: Plan, first: Configuration, second: Configuration) -> None:
    """Raise PlanError unless two configurations are the stages of a cascade."""
    where = f"plan {plan.name!r}"
    if first.previous_stage is not None or second.dimensions != 3 or first.dimensions != 3:
        raise PlanError(
            f"{second.name} after {first.name} is no cascade of two stages in 3D",
            where=where,
            remedy="Name a 3D configuration without a stage before it as previous_stage.",
        )
    if first.next_stage != second.name:
        raise PlanError(
            f"field next_stage of {first.name}: it is {first.next_stage!r}, and {second.name} names "
            f"{first.name} as its previous_stage",
            where=where,
            remedy=f"Write {second.name!r} there.",
        )
    ours, theirs = second.preparation, first.preparation
    if (ours.orientation, ours.axis_order) != (theirs.orientation, theirs.axis_order):
        raise PlanError(
            f"{second.name} and {first.name} turn the images differently",
            where=where,
            remedy="Give both the same orientation and axis_order.",
        )


# --------------------------------------------------------------------------------------- what the first stage gives


def hand_on(stages: Stages, fold: str) -> dict[str, str]:
    """Predict the held-out cases of a trained fold of the first stage for the second, those not yet done.

    Gives the cases that failed, and why. Folds that the second stage does not look at (all, and those drawn at random)
    are left alone.
    """
    folds = read_splits(stages.work.splits)
    if fold == "all" or int(fold) >= len(folds):
        return {}
    run = stages.first_run(int(fold))
    made_by = file_hash(run.model, _DIGITS)
    known = {case.id: case for case in stages.dataset.cases}
    held_out = [known[case_id] for case_id in folds[int(fold)].val if case_id in known]
    todo = [case for case in held_out if not _is_made(labels_path(run.next_stage, case.id), made_by)]
    if not todo:
        return {}
    prepared = prepare_cases(stages.work, [stages.first], todo, stages.workers, stages.progress, stages.stop)
    failures = dict(prepared.failures)
    model = load_models([run.model], stages.device, stages.precision)
    with stages.progress.stage(f"Predicting for {stages.second.name}, fold {fold}", len(todo)) as advance:
        for case in todo:
            if case.id not in failures:
                try:
                    _hand_on_case(stages, model, case, labels_path(run.next_stage, case.id), made_by)
                except AutosegError as error:
                    failures[case.id] = str(error)
            advance(1)
            stages.stop.raise_if_set()
    return failures


def _hand_on_case(stages: Stages, model: LoadedModel, case: Case, path: Path, made_by: str) -> None:
    prepared = _intact(stages, case)
    target = placement_for(prepared.placement, stages.second.preparation)
    found = first_stage_labels(model, model.groups[0], prepared, target, settings=PredictSettings(mirror=stages.mirror))
    write_labels(path, found, made_by, full_patch(stages.second))


def _intact(stages: Stages, case: Case) -> PreparedCase:
    folder = stages.work.prepared_folder(stages.first.preparation)
    try:
        return read_case(folder, case.id)
    except StoreError as error:
        stages.progress.warn(f"{error}; it is prepared anew")
        prepare_again(folder, case, stages.first)
        return read_case(folder, case.id)


def _is_made(path: Path, made_by: str) -> bool:
    try:
        return open_labels(path).made_by == made_by
    except StoreError:
        return False


def is_handed_on(run: Run, folds: Sequence[Fold]) -> bool:
    """Whether the predictions of a fold of the first stage are there for all its held-out cases."""
    if run.fold == "all" or int(run.fold) >= len(folds):
        return True
    made_by = file_hash(run.model, _DIGITS)
    return all(_is_made(labels_path(run.next_stage, case_id), made_by) for case_id in folds[int(run.fold)].val)


# --------------------------------------------------------------------------------------- what the second stage takes


def first_stage_maps(stages: Stages, split: Fold, fold: str) -> tuple[dict[str, Path], dict[str, str]]:
    """For each case of a fold of the second stage what the first found in it, held out; and the cases that failed.

    Predictions that are missing although the first stage is trained are made. Raises TrainingError where a case is held
    out in no fold.
    """
    folds = read_splits(stages.work.splits)
    holding = {
        case_id: _held_out_in(case_id, folds, int(fold) if fold != "all" and case_id in split.val else None)
        for case_id in (*split.train, *split.val)
    }
    never = [case_id for case_id, number in holding.items() if number is None]
    if never:
        raise TrainingError(
            f"held out in no fold, so that no first stage can predict them unseen: {', '.join(never[:5])}"
            + (f" and {len(never) - 5} more" if len(never) > 5 else ""),
            where=stages.work.splits,
            remedy="Plan with folds that hold out every case once, or train 3d_fullres.",
        )
    needed = sorted({number for number in holding.values() if number is not None})
    failures: dict[str, str] = {}
    for number in needed:
        failures |= hand_on(stages, str(number))
    maps = {
        case_id: labels_path(stages.first_run(number).next_stage, case_id)
        for case_id, number in holding.items()
        if number is not None and case_id not in failures
    }
    return maps, {case_id: why for case_id, why in failures.items() if case_id in holding}


def _held_out_in(case_id: str, folds: Sequence[Fold], preferred: int | None) -> int | None:
    """The fold that holds a case out: the preferred one if it does, else the first."""
    holding = [number for number, fold in enumerate(folds) if case_id in fold.val]
    return preferred if preferred in holding else next(iter(holding), None)


def first_stage_members(
    work: Workspace, plan: Plan, second: Configuration, fold: str
) -> tuple[str, tuple[Member, ...], dict[str, Mapping[str, Tensor]]]:
    """The first stage that goes into the model of a second: what `Member.previous_stage` says, members, tensors.

    That of the same fold, so that held-out cases stay unseen; for fold all those of every fold, whose mean it is then.
    """
    first = previous_configuration(plan, second)
    numbers = range(len(read_splits(work.splits))) if fold == "all" else (int(fold),)
    members: list[Member] = []
    tensors: dict[str, Mapping[str, Tensor]] = {}
    for number in numbers:
        header, stored = read_model(work.run(plan.name, first.name, number).model)
        members.extend(header.members)
        tensors |= stored
    return first.name if fold == "all" else members[0].name, tuple(members), tensors


def with_first_stage(header: ModelHeader, previous: str, members: tuple[Member, ...]) -> ModelHeader:
    """The header of a second stage's model, first stage included."""
    own = header.members[0].model_copy(update={"previous_stage": previous})
    return header.model_copy(update={"members": (own, *members)})
