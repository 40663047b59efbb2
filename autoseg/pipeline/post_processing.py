"""Which labels of a model are better off with their largest component alone, tried on its held-out masks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.components import besides_largest, mask_of, post_processed
from autoseg.arrays.labels import encode
from autoseg.dataset.label_files import read_reference
from autoseg.dataset.readers import read_geometry, read_labels
from autoseg.evaluation.keep_largest import CaseDice, Trial, decide
from autoseg.evaluation.summary import summarize
from autoseg.pipeline.candidates import Candidate
from autoseg.pipeline.evaluate import TOLERANCE_MM, ScoreTask, score_cases
from autoseg.progress import Progress
from autoseg.records import Case, CaseScore, Labels, Summary, TriedStep
from autoseg.workers.pool import WorkerPool, default_workers

#: Voxels of all cases together of which starting processes takes longer than looking at them here.
FEW_VOXELS = 1 << 26

#: Planes of a volume that are counted together.
PLANES = 16


@dataclass(frozen=True)
class TrialTask:
    """What a worker needs to try steps on one case."""

    mask: Path
    reference: Case
    labels: Labels
    steps: tuple[str | None, ...]
    options: tuple[str | None, ...]


def try_steps(
    candidate: Candidate, cases: Mapping[str, Case], labels: Labels, workers: int | None, progress: Progress
) -> tuple[TriedStep, ...]:
    """Every step that was tried on the candidate's held-out masks, and whether it is kept."""
    names = sorted(candidate.masks)
    with WorkerPool(_trial_workers([candidate.masks[name] for name in names]) if workers is None else workers) as pool:

        def measure(steps: Sequence[str | None], options: Sequence[str | None]) -> list[Trial]:
            tasks = [
                TrialTask(candidate.masks[name], cases[name], labels, tuple(steps), tuple(options)) for name in names
            ]
            trials: dict[int, Trial] = {}
            what = "all foreground" if options == [None] else ", ".join(str(option) for option in options[:3])
            more = f" and {len(options) - 3} more" if len(options) > 3 else ""
            with progress.stage(f"Trying the largest component of {what}{more}", len(tasks)) as advance:
                for outcome in pool.map(try_case, tasks):
                    if outcome.value is not None:  # a case that cannot be read was told of when it was scored
                        trials[outcome.index] = outcome.value
                    advance(1)
            return [trials[index] for index in sorted(trials)]

        return decide(labels, measure)


def _trial_workers(masks: Sequence[Path]) -> int:
    voxels = sum(math.prod(read_geometry(mask)[0].shape) for mask in masks)
    return default_workers(len(masks)) if voxels > FEW_VOXELS else 0


def try_case(task: TrialTask) -> Trial:
    """Read and try one case (runs in a worker)."""
    mask = read_labels(task.mask).labels
    reference, labels = read_reference(task.reference, task.labels)
    drawn = labels.drawn_names(task.reference.annotated)
    return try_options(reference.labels, mask, labels, task.steps, task.options, drawn)  # type: ignore[arg-type]


def score_processed(
    candidate: Candidate,
    tried: Sequence[TriedStep],
    cases: Mapping[str, Case],
    labels: Labels,
    workers: int | None,
    progress: Progress,
) -> Summary:
    """Scores of the candidate's held-out masks after the steps that are kept; known scores where none is."""
    steps = tuple(entry.step.label for entry in tried if entry.kept)
    if not steps:
        return summary_of(list(candidate.scores.values()), labels)
    tasks = [
        ScoreTask(mask, cases[name], labels, TOLERANCE_MM, post_processing=steps)
        for name, mask in sorted(candidate.masks.items())
    ]
    return score_cases(tasks, {}, TOLERANCE_MM, workers, progress)


def summary_of(scores: Sequence[CaseScore], labels: Labels) -> Summary:
    """The summary of scores that are there already."""
    ordered = sorted(scores, key=lambda score: score.case)
    return summarize(ordered, TOLERANCE_MM, names=list(labels.classes), things=labels.things)


# ------------------------------------------------------------------------------------------------------- one case


def try_options(
    reference: NDArray[np.generic],
    mask: NDArray[np.integer],
    labels: Labels,
    steps: Sequence[str | None],
    options: Sequence[str | None],
    drawn: Sequence[str],
) -> Trial:
    """The trial of one case: maps (Z, Y, X) with the file's values on one grid; `drawn` are the labels to look at.

    Voxels that the reference ignores count for nothing, but belong to components. One table of counts is made, and for
    each option only the voxels that it removes are looked at again. Raises DatasetError for values that are not
    declared.
    """
    truth = encode(reference, labels)
    found = post_processed(mask, steps, labels)
    counted = np.ones(truth.shape, dtype=np.bool_) if labels.ignore_index is None else truth != labels.ignore_index
    counts = _joint(encode(found, labels), truth, counted, labels)
    after = []
    for option in options:
        removed = besides_largest(mask_of(found, option, labels)) & counted
        moved = _joint(encode(found[removed], labels)[None], truth[removed][None], None, labels)
        changed = counts - moved
        changed[0] += moved.sum(axis=0)
        after.append(_dice(changed, labels, drawn))
    return Trial(_dice(counts, labels, drawn), tuple(after))


def _joint(
    found: NDArray[np.int16], truth: NDArray[np.int16], counted: NDArray[np.bool_] | None, labels: Labels
) -> NDArray[np.int64]:
    """Voxels by training label in the mask (rows) and in the reference (columns)."""
    size = len(labels.values)
    counts = np.zeros(size * size, dtype=np.int64)
    for place in range(0, max(len(found), 1), PLANES):  # part by part: counting takes 8 bytes a voxel
        part = slice(place, place + PLANES)
        codes = found[part].astype(np.int32) * size + truth[part]
        inside = codes.reshape(-1) if counted is None else codes[counted[part]]
        counts += np.bincount(inside, minlength=size * size)
    return counts.reshape(size, size)


def _dice(counts: NDArray[np.int64], labels: Labels, drawn: Sequence[str]) -> CaseDice:
    found = {}
    for name, members in labels.foreground.items():
        inside = list(members)
        volume = int(counts[:, inside].sum())
        if name in drawn and volume > 0:
            both = int(counts[np.ix_(inside, inside)].sum())
            found[name] = 2 * both / (int(counts[inside].sum()) + volume)
    return found
