"""A dataset read once: checked, measured on all cores, and what of it can be used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.checks import MISPLACED
from autoseg.errors import DatasetError
from autoseg.fingerprint.merge import merge
from autoseg.pipeline.check import examine
from autoseg.pipeline.misplaced import pictured
from autoseg.progress import Progress
from autoseg.records import Dataset, Fingerprint, Problem
from autoseg.workers.pool import WorkerPool, default_workers

#: Findings written out in an error; the rest is counted (`autoseg check` prints all).
SHOWN = 20


@dataclass(frozen=True)
class MeasuredDataset:
    """A dataset, read once."""

    usable: Dataset  # without the cases that have errors
    left_out: tuple[str, ...]  # these cases
    problems: tuple[Problem, ...]
    fingerprint: Fingerprint


def with_trusted_voxels(found: Dataset) -> Dataset:
    """The dataset with labels that lie on the voxels of their image, whatever their headers say."""
    trusted = {
        part: tuple(case.model_copy(update={"trust_voxels": True}) for case in getattr(found, part))
        for part in ("cases", "test_cases")
    }
    return found.model_copy(update=trusted)


def measured_dataset(
    found: Dataset, pictures: Path, skip_bad: bool, workers: int | None, progress: Progress
) -> MeasuredDataset:
    """Read, check and measure every case; labels that lie elsewhere than their image are drawn into `pictures`.

    Raises DatasetError for cases with errors, unless they may be skipped.
    """
    with WorkerPool(default_workers(len(found.cases)) if workers is None else workers) as pool:
        problems, measurements = examine(found, pool, progress)
    problems = pictured(found, problems, pictures)
    good = {measurement.fingerprint.case for measurement in measurements}
    left_out = tuple(case.id for case in found.cases if case.id not in good)
    if left_out and not skip_bad:
        raise _refusal(found, problems, left_out)
    if not measurements:
        raise DatasetError("no case can be used", where=found.root, remedy="`autoseg check` lists what is wrong.")
    usable = found.model_copy(update={"cases": tuple(case for case in found.cases if case.id in good)})
    return MeasuredDataset(usable, left_out, problems, merge(usable, measurements))


def _refusal(found: Dataset, problems: tuple[Problem, ...], left_out: tuple[str, ...]) -> DatasetError:
    errors = [problem for problem in problems if problem.severity == "error"]
    lines = [f"  {problem.case or found.name}: {problem.what}" for problem in errors[:SHOWN]]
    if len(errors) > SHOWN:
        lines.append(f"  … and {len(errors) - SHOWN} more (`autoseg check` lists all)")
    remedy = "\nMend or remove them, or plan with the good ones only: --skip-bad."
    if any(problem.kind == MISPLACED for problem in errors):
        remedy += " Labels that lie on the voxels of their image whatever the headers say: --trust-voxels."
    return DatasetError(
        f"{len(left_out)} of {len(found.cases)} cases cannot be used:\n" + "\n".join(lines),
        where=found.root,
        remedy=remedy,
    )
