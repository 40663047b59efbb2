"""`evaluate`: masks against references, per case and label; and the scoring of held-out and test cases."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.components import post_processed
from autoseg.dataset.checks import labels_place
from autoseg.dataset.geometry import corner_distance_mm
from autoseg.dataset.instance_maps import INSTANCES, whole_objects
from autoseg.dataset.label_files import file_names, labels_of_files, on_one_grid, read_reference, with_drawn
from autoseg.dataset.label_values import labels_from_files
from autoseg.dataset.layouts import open_dataset
from autoseg.dataset.pairing import nothing_paired, pair_up
from autoseg.dataset.readers import read_labels
from autoseg.errors import DatasetError, UsageError
from autoseg.evaluation.metrics import score_case
from autoseg.evaluation.summary import RECEIPT, as_nnunet_summary, summarize
from autoseg.files import read_record, write_json
from autoseg.interrupts import StopSwitch
from autoseg.machine import available_cores
from autoseg.model_file import read_header
from autoseg.pipeline.receipts import GONE, files_hash, joint_hash, plain, short_hash, versions
from autoseg.pipeline.reports import EvaluateReport
from autoseg.pipeline.scored_objects import counted_reference, with_objects
from autoseg.progress import Progress
from autoseg.records import Case, CaseScore, Dataset, Labels, Receipt, Summary
from autoseg.workers.pool import WorkerPool, default_workers
from autoseg.workspace import Workspace

#: Tolerance of the normalized surface Dice, in mm, unless another is asked for.
TOLERANCE_MM = 1.0

#: Grids whose corners lie further apart than this share of the smallest voxel edge are different grids.
GRID_TOLERANCE = 0.1


@dataclass(frozen=True)
class ScoreTask:
    """What a worker needs to score one case."""

    mask: Path
    reference: Case  # its label map or label files, and what was drawn in it
    labels: Labels
    tolerance_mm: float
    lesion_iou: float | None = None  # None: lesions are not matched
    post_processing: tuple[str | None, ...] = ()  # largest components of these are kept first; None: all foreground

    @property
    def case(self) -> str:
        """Case id."""
        return self.reference.id


def evaluate(
    masks: Path,
    references: Path,
    *,
    work: Workspace | None = None,
    labels_from: Path | None = None,
    tolerance_mm: float = TOLERANCE_MM,
    lesion_iou: float | None = None,
    output: Path | None = None,
    workers: int | None = None,
    progress: Progress,
) -> EvaluateReport:
    """Score the masks of a folder (or one mask) against the references that their names go with (`dataset.pairing`).

    A reference is a label map, or a folder with one binary file per label. Labels that were not drawn in a case are
    left out there, as the dataset says of it. Raises UsageError where there is nothing to score, or where the scores
    would replace a file that is no summary of ours, such as nnU-Net's.
    """
    target = output or (masks if masks.is_dir() else masks.parent) / "summary.json"
    require_own_summary(target)
    tasks, failures = scoring_tasks(masks, references, work, labels_from, tolerance_mm, lesion_iou)
    for words in _uncounted(tasks):
        progress.say(words)
    summary = score_cases(tasks, failures, tolerance_mm, workers, progress)
    write_summary(target, summary, tasks[0].labels, evaluation_receipt(tasks))
    return EvaluateReport(summary, target)


def _uncounted(tasks: Sequence[ScoreTask]) -> Iterator[str]:
    """Why objects are not scored, where labels are counted."""
    counted = [task for task in tasks if task.labels.things]
    if any((task.mask.parent / INSTANCES).is_dir() for task in counted[:1]):
        without_ids = sum(task.reference.instances is None for task in counted)
        if without_ids:
            yield (
                f"Objects are not scored in {without_ids} of {len(tasks)} cases, whose references are label maps "
                "without ids (--labels-from DATASET finds its own; else they belong into a folder `instances` below)"
            )
    elif counted:
        yield f"Objects are not scored: there is no folder `{INSTANCES}` with their ids below the masks"


def scoring_tasks(
    masks: Path,
    references: Path,
    work: Workspace | None,
    labels_from: Path | None,
    tolerance_mm: float,
    lesion_iou: float | None = None,
) -> tuple[list[ScoreTask], dict[str, str]]:
    """What is to be scored, one at least, and why other cases are not. Raises UsageError where nothing is."""
    pairs, failures = pair_up(masks, references)
    if not pairs:
        raise nothing_paired(masks, references)
    labels, known = _labels(work, labels_from, [reference for _, reference in pairs])
    names = file_names([reference for _, reference in pairs])
    tasks = []
    for mask, reference in pairs:
        drawn = with_drawn(reference, labels, names)
        if reference.id in known:
            drawn = reference.model_copy(update={"annotated": known[reference.id].annotated})
        if labels.things:
            drawn = counted_reference(drawn, known.get(reference.id), labels)
        tasks.append(ScoreTask(mask, drawn, labels, tolerance_mm, lesion_iou))
    return tasks, failures


def score_cases(
    tasks: Sequence[ScoreTask],
    failures: Mapping[str, str],
    tolerance_mm: float,
    workers: int | None,
    progress: Progress,
    stop: StopSwitch | None = None,
) -> Summary:
    """Score all; a case that cannot be scored becomes a failure in the summary, not an end.

    After each case `stop` is asked, where one is given, and raises where a person wants to leave off.
    """
    scores: list[CaseScore] = []
    failed = dict(failures)
    processes = _scoring_workers(len(tasks)) if workers is None else workers
    # cases side by side in processes, or one after another here with its labels side by side
    score = partial(score_files, threads=available_cores() if processes == 0 else 1)
    with WorkerPool(processes) as pool, progress.stage("Scoring cases", len(tasks)) as advance:
        for outcome in pool.map(score, tasks):
            if outcome.error is not None:
                failed[outcome.item.case] = str(outcome.error)
            elif outcome.value is not None:
                scores.append(outcome.value)
            advance(1)
            if stop is not None:
                stop.raise_if_set()
    names, things = (list(tasks[0].labels.classes), tasks[0].labels.things) if tasks else ([], {})
    lesion_iou = tasks[0].lesion_iou if tasks else None
    ordered = sorted(scores, key=lambda score: score.case)
    summary = summarize(ordered, tolerance_mm, failed, names, lesion_iou, things)
    skipped = {name: entry.not_annotated for name, entry in summary.labels.items() if entry.not_annotated}
    if skipped:
        told = ", ".join(f"{name} in {count}" for name, count in skipped.items())
        progress.say(f"Labels that were not drawn in a case are not scored there: {told} of {len(scores)} cases")
    return summary


def _scoring_workers(tasks: int) -> int:
    """Starting processes takes longer than scoring a handful of cases."""
    return default_workers(tasks) if tasks > 8 else 0


def score_files(task: ScoreTask, threads: int = 1) -> CaseScore:
    """Read and score one case, so many labels at a time (runs in a worker).

    Raises ReadError for a file that cannot be read, DatasetError where mask and reference are not on one grid.
    """
    mask = read_labels(task.mask)
    reference, labels = read_reference(task.reference, task.labels)
    mask, reference = on_one_grid(mask, task.mask, reference, task.reference)
    if labels.things:
        # a label map that is no map of ids has no cores
        whole = reference if task.reference.instances is None else whole_objects(reference, labels)
        reference, labels = whole, labels.without_cores
    if mask.labels.shape != reference.labels.shape:
        raise DatasetError(
            f"the mask has shape {mask.labels.shape}, the reference {reference.labels.shape}",
            where=task.mask,
            remedy="They must lie on one grid.",
        )
    distance = corner_distance_mm(mask.geometry, reference.geometry)
    if distance > GRID_TOLERANCE * min(reference.geometry.spacing) and not task.reference.trust_voxels:
        raise DatasetError(
            f"mask and reference lie {distance:.2f} mm apart in the world",
            where=task.mask,
            remedy="They must lie on one grid.",
        )
    score = score_case(
        task.case,
        reference.labels,
        _processed(mask.labels, task.post_processing, labels),
        reference.geometry.spacing,
        labels,
        task.tolerance_mm,
        task.reference.annotated,
        task.lesion_iou,
        threads,
    )
    place = labels_place(task.reference)
    counted = with_objects(score, task.mask, mask.labels, task.reference, task.labels)
    return counted.model_copy(
        update={"prediction_file": task.mask.name, "reference_file": "" if place is None else place.name}
    )


def _processed(mask: NDArray[np.generic], steps: Sequence[str | None], labels: Labels) -> NDArray[np.generic]:
    """The mask after post-processing; one that does not hold integers is left for scoring to refuse."""
    return post_processed(mask, steps, labels) if np.issubdtype(mask.dtype, np.integer) else mask  # type: ignore[arg-type]


def require_own_summary(path: Path) -> None:
    """Raises UsageError where a file of that name is there that holds no summary of ours."""
    if not path.exists():
        return
    try:
        ours = "cases" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        ours = False
    if not ours:
        raise UsageError(
            "is no summary that autoseg wrote, so it is left alone",
            where=path,
            remedy="Name another file for the scores: --output FILE.",
        )


def write_summary(path: Path, summary: Summary, labels: Labels, receipt: Receipt | None = None) -> None:
    """summary.json: our fields beside nnU-Net's, and the receipt of scores that have no other."""
    told = {} if receipt is None else {RECEIPT: receipt.model_dump(mode="json")}
    write_json(path, as_nnunet_summary(summary, labels) | told)


def evaluation_receipt(tasks: Sequence[ScoreTask]) -> Receipt:
    """What scores are made from and with."""
    masks, references = evaluated_hashes([(task.mask, task.reference) for task in tasks])
    return Receipt(
        stage="evaluate",
        versions=versions(),
        options={
            "tolerance_mm": tasks[0].tolerance_mm,
            "lesion_iou": tasks[0].lesion_iou,
            "labels": plain(tasks[0].labels),
        }
        if tasks
        else {},
        inputs={"masks": masks, "references": references},
    )


def evaluated_hashes(pairs: Sequence[tuple[Path, Case]]) -> tuple[str, str]:
    """Hashes over the masks, and over the references that go with them."""
    masks = joint_hash({reference.id: short_hash(mask) for mask, reference in pairs})
    references = {reference.id: files_hash(reference.label_paths) for _, reference in pairs}
    return masks, GONE if GONE in references.values() else joint_hash(references)


def _labels(
    work: Workspace | None, labels_from: Path | None, references: Sequence[Case]
) -> tuple[Labels, dict[str, Case]]:
    """The labels to score, and the cases of the dataset that they are of, by id.

    Both are of a dataset that was named, or of the work folder; a model knows the labels; else they are what occurs in
    the references.
    """
    if labels_from is not None and labels_from.suffix == ".safetensors":
        return read_header(labels_from).labels, {}
    dataset: Dataset | None = None
    if labels_from is not None:
        dataset = open_dataset(labels_from)
    elif work is not None and work.dataset.exists():
        dataset = read_record(work.dataset, Dataset)
    if dataset is not None:
        return dataset.labels, {case.id: case for case in (*dataset.cases, *dataset.test_cases)}
    by_files = [reference for reference in references if reference.label_files]
    if by_files:
        return labels_of_files(by_files, None, by_files[0].label_files[0][1].parent)[0], {}
    files = [reference.labels for reference in references if reference.labels is not None]
    remedy = "Name the dataset or model whose labels these are with --labels-from, or check the references."
    root = files[0].parent if files else Path(references[0].id)
    return labels_from_files(files, root, remedy)[0], {}


def read_mean_dice(path: Path) -> float | None:
    """The mean Dice of a summary.json, ours or nnU-Net's; None where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        value = content["foreground_mean"]["Dice"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if value is None else float(value)
