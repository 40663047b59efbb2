"""`evaluate`: masks against references, per case and label; and the scoring of held-out and test cases."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoseg.dataset.geometry import corner_distance_mm
from autoseg.dataset.layouts import open_dataset
from autoseg.dataset.readers import ending_of, read_labels, stem_of
from autoseg.errors import DatasetError, UsageError
from autoseg.evaluation.metrics import score_case
from autoseg.evaluation.summary import as_nnunet_summary, summarize
from autoseg.files import read_record, write_json
from autoseg.model_file import read_header
from autoseg.pipeline.reports import EvaluateReport
from autoseg.progress import Progress
from autoseg.records import CaseScore, Dataset, Labels, Summary
from autoseg.workers import WorkerPool, default_workers
from autoseg.workspace import Workspace

#: Tolerance of the normalized surface Dice, in mm, unless another is asked for.
TOLERANCE_MM = 1.0

#: Grids whose corners lie further apart than this share of the smallest voxel edge are different grids.
GRID_TOLERANCE = 0.1


@dataclass(frozen=True)
class ScoreTask:
    """What a worker needs to score one case."""

    case: str
    mask: Path
    reference: Path
    labels: Labels
    tolerance_mm: float


def evaluate(
    masks: Path,
    references: Path,
    *,
    work: Workspace | None = None,
    labels_from: Path | None = None,
    tolerance_mm: float = TOLERANCE_MM,
    output: Path | None = None,
    workers: int | None = None,
    progress: Progress,
) -> EvaluateReport:
    """Score the masks of a folder (or one mask) against the references of the same names."""
    tasks, failures = pair_up(masks, references)
    if not tasks:
        raise UsageError(
            "no mask has a reference of the same name", where=masks, remedy=f"References are sought in {references}."
        )
    labels = _labels(work, labels_from, [reference for _, _, reference in tasks])
    jobs = [ScoreTask(case, mask, reference, labels, tolerance_mm) for case, mask, reference in tasks]
    summary = score_cases(jobs, failures, tolerance_mm, workers, progress)
    target = output or (masks if masks.is_dir() else masks.parent) / "summary.json"
    write_summary(target, summary)
    return EvaluateReport(summary, target)


def score_cases(
    tasks: Sequence[ScoreTask],
    failures: Mapping[str, str],
    tolerance_mm: float,
    workers: int | None,
    progress: Progress,
) -> Summary:
    """Score all; a case that cannot be scored becomes a failure in the summary, not an end."""
    scores: list[CaseScore] = []
    failed = dict(failures)
    with (
        WorkerPool(_scoring_workers(len(tasks)) if workers is None else workers) as pool,
        progress.stage("Scoring cases", len(tasks)) as advance,
    ):
        for outcome in pool.map(score_files, tasks):
            if outcome.error is not None:
                failed[outcome.item.case] = str(outcome.error)
            elif outcome.value is not None:
                scores.append(outcome.value)
            advance(1)
    return summarize(sorted(scores, key=lambda score: score.case), tolerance_mm, failed)


def _scoring_workers(tasks: int) -> int:
    """Starting processes takes longer than scoring a handful of cases."""
    return default_workers(tasks) if tasks > 8 else 0


def score_files(task: ScoreTask) -> CaseScore:
    """Read and score one case (runs in a worker)."""
    mask, reference = read_labels(task.mask), read_labels(task.reference)
    if mask.labels.shape != reference.labels.shape:
        raise DatasetError(
            f"the mask has shape {mask.labels.shape}, the reference {reference.labels.shape}",
            where=task.mask,
            remedy="They must lie on one grid.",
        )
    distance = corner_distance_mm(mask.geometry, reference.geometry)
    if distance > GRID_TOLERANCE * min(reference.geometry.spacing):
        raise DatasetError(
            f"mask and reference lie {distance:.2f} mm apart in the world",
            where=task.mask,
            remedy="They must lie on one grid.",
        )
    score = score_case(
        task.case, reference.labels, mask.labels, reference.geometry.spacing, task.labels, task.tolerance_mm
    )
    return score.model_copy(update={"prediction_file": task.mask.name, "reference_file": task.reference.name})


def write_summary(path: Path, summary: Summary) -> None:
    """summary.json: our fields beside nnU-Net's."""
    write_json(path, as_nnunet_summary(summary))


def pair_up(masks: Path, references: Path) -> tuple[list[tuple[str, Path, Path]], dict[str, str]]:
    """(case, mask, reference) by name without ending, and what has no partner; one file each is always a pair."""
    for path in (masks, references):
        if not path.exists():
            raise UsageError("does not exist", where=path, remedy="Name a mask, or a folder of masks.")
    if masks.is_file() and references.is_file():
        return [(stem_of(masks), masks, references)], {}
    found, wanted = _by_name(masks), _by_name(references)
    tasks = [(case, found[case], wanted[case]) for case in sorted(found.keys() & wanted.keys())]
    failures = dict.fromkeys(sorted(found.keys() - wanted.keys()), "has no reference")
    if masks.is_dir():
        failures |= dict.fromkeys(sorted(wanted.keys() - found.keys()), "has no mask")
    return tasks, failures


def _by_name(path: Path) -> dict[str, Path]:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return {
        stem_of(file): file for file in files if file.is_file() and not file.name.startswith(".") and ending_of(file)
    }


def _labels(work: Workspace | None, labels_from: Path | None, references: Sequence[Path]) -> Labels:
    """The labels to score: of a dataset or model that was named, of the work folder, else the values that occur."""
    if labels_from is not None and labels_from.suffix == ".safetensors":
        return read_header(labels_from).labels
    if labels_from is not None:
        return open_dataset(labels_from).labels
    if work is not None and work.dataset.exists():
        return read_record(work.dataset, Dataset).labels
    values: set[int] = set()
    for reference in references:
        values.update(int(value) for value in np.unique(read_labels(reference).labels))
    names: dict[str, int | tuple[int, ...]] = {"background": 0}
    names |= {f"label_{value}": value for value in sorted(values - {0})}
    return Labels(names=names)


def read_mean_dice(path: Path) -> float | None:
    """The mean Dice of a summary.json, ours or nnU-Net's; None where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        value = content["foreground_mean"]["Dice"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if value is None else float(value)
