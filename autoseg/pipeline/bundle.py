"""The deployable model file of a work folder: the chosen trainings as one, with all that is known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from autoseg.evaluation.instances import precision_at
from autoseg.evaluation.paired import dice_table, interval
from autoseg.files import file_hash, write_record, written_aside
from autoseg.inference.joining import joined_model
from autoseg.model_file import write_model
from autoseg.pipeline.candidates import Candidate
from autoseg.pipeline.receipts import versions
from autoseg.pipeline.selected import DIGITS
from autoseg.records import (
    Card,
    CaseScore,
    Compared,
    LabelCard,
    ModelHeader,
    Selection,
    Summary,
)
from autoseg.workspace import Workspace


@dataclass(frozen=True, eq=False)
class Bundle:
    """A model file before it is written."""

    header: ModelHeader
    tensors: Mapping[str, Mapping[str, Tensor]]


def bundled(chosen: Candidate) -> Bundle:
    """Every finished fold of the chosen configurations as one model, nothing measured yet."""
    header, tensors = joined_model([run.model for run in chosen.runs])
    early = [fold.header.ended_early for part in chosen.parts for fold in part.folds.values()]
    told = {"ended_early": "; ".join(dict.fromkeys(words for words in early if words)), "versions": versions()}
    return Bundle(header.model_copy(update=told), tensors)


def write_bundle(work: Workspace, bundle: Bundle, selection: Selection) -> Selection:
    """Write WORK/model.safetensors and selection.json, which knows the model by its hash.

    The record is written before the file gets its name, and names the file before it as well: after a kill at any
    moment the file that is there is known as a selection's.
    """
    before = file_hash(work.model, DIGITS) if work.model.exists() else ""
    with written_aside(work.model) as aside:
        write_model(aside, bundle.header, bundle.tensors)
        selection = selection.model_copy(update={"bundle": file_hash(aside, DIGITS), "replaces": before})
        write_record(work.selection, selection)
    return selection


def make_card(chosen: Candidate, summary: Summary, compared: Sequence[Compared]) -> Card:
    """What the file says of the model's quality; `summary` scores its held-out cases, post-processing done."""
    names = list(summary.labels)
    overall = interval(dice_table(summary.cases, names))
    return Card(
        cases=len(summary.cases),
        folds=max(len(part.folds) for part in chosen.parts),
        tolerance_mm=summary.tolerance_mm,
        mean_dice=overall.value,
        low=overall.low,
        high=overall.high,
        labels=tuple(_label_card(name, summary, summary.cases) for name in names),
        compared=without_plan_names(compared),
        ended_early=tuple(
            f"{part.name.partition(' ')[0]}, fold {number}, {fold.header.ended_early}"
            for part in chosen.parts
            for number, fold in part.folds.items()
            if fold.header.ended_early
        ),
    )


def _label_card(name: str, summary: Summary, scores: Sequence[CaseScore]) -> LabelCard:
    entry, dice = summary.labels[name], interval(dice_table(scores, [name]))
    counted = entry.instance_means
    return LabelCard(
        name=name,
        dice=dice.value,
        low=dice.low,
        high=dice.high,
        hd95_mm=entry.hd95_mm,
        nsd=entry.nsd,
        cases=entry.cases,
        false_alarms=entry.empty_references,
        rightly_absent=entry.both_empty,
        panoptic_quality=None if counted is None else counted.panoptic_quality,
        average_precision_50=None if counted is None else precision_at(counted, 0.5),
    )


def without_plan_names(compared: Sequence[Compared]) -> tuple[Compared, ...]:
    """The rows with plans by number: a person may have called a plan by any name, and the file goes to others."""
    plans = dict.fromkeys(
        plan for row in compared for part in row.name.split(" + ") if (plan := part.partition(" (")[2])
    )
    numbers = {plan: number for number, plan in enumerate(plans, start=2)}

    def neutral(name: str) -> str:
        parts = (part.partition(" (") for part in name.split(" + "))
        return " + ".join(f"{own} (plan {numbers[plan]})" if plan else own for own, _, plan in parts)

    return tuple(row.model_copy(update={"name": neutral(row.name)}) for row in compared)
