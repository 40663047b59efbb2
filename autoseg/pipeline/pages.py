"""The reports of a dataset and its plans, gathered from the files of the work folder, so that any can be made again."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from autoseg import __version__
from autoseg.errors import AutosegError
from autoseg.files import read_record
from autoseg.pipeline.looks import sample_of
from autoseg.pipeline.plans import read_plan
from autoseg.planning.costs import preview
from autoseg.progress import Progress
from autoseg.records import Dataset, Diagnosis, Findings, Fingerprint, Probe, Problem
from autoseg.report.dataset_page import Sample, dataset_page
from autoseg.report.diagnosis_page import diagnosis_page
from autoseg.report.page import names_for, require_own, write_page
from autoseg.report.plan_page import plan_page
from autoseg.workspace import DEFAULT_PLAN, Workspace


def left(make: Callable[[], Path], progress: Progress) -> Path | None:
    """Make a report at the end of a command and say where it is; that it cannot be made is no reason to fail."""
    try:
        path = make()
    except Exception as error:  # a fault in a picture ends no command whose work is done
        progress.warn(f"no report was written: {why_not(error)}")
        return None
    progress.say(f"Report: {path}")
    return path


def why_not(error: Exception) -> str:
    """Why a page could not be made, on one line: what the machine or the files did, or where our fault lies."""
    if isinstance(error, AutosegError | OSError):
        return str(error)
    if isinstance(error, MemoryError):
        return "memory ran out"
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in place)
    told = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{told}{where}: a fault in autoseg {__version__}; please report it with this line"


def page_path(work: Workspace, own: Path, anonymous: bool) -> Path:
    """Where a page goes: anonymous ones into a folder of their own, under names that tell no folder."""
    if not anonymous:
        return own
    return work.report / "anonymous" / "-".join(own.relative_to(work.root).parts)


# ---------------------------------------------------------------------------------------------------- plan, dataset


def plan_report(work: Workspace, name: str = DEFAULT_PLAN, *, anonymous: bool = False) -> Path:
    """The page of a plan."""
    plan = read_plan(work, name)
    probe = read_record(work.probe(name), Probe) if work.probe(name).exists() else None
    costs = preview(plan, read_record(work.fingerprint, Fingerprint), probe) if work.fingerprint.exists() else ()
    path = page_path(work, work.report / work.plan(name).with_suffix(".html").name, anonymous)
    write_page(path, plan_page(plan, probe, costs, names_for([], anonymous)))
    return path


def dataset_report(work: Workspace, *, anonymous: bool = False) -> Path:
    """The page of the dataset that the work folder was planned for."""
    dataset, fingerprint = read_record(work.dataset, Dataset), read_record(work.fingerprint, Fingerprint)
    problems = read_record(work.findings, Findings).problems if work.findings.exists() else None
    path = page_path(work, work.report / "dataset.html", anonymous)
    return _write_dataset(path, dataset, fingerprint, problems, anonymous)


def diagnosis_report(work: Workspace, folder: Path, *, anonymous: bool = False) -> Path:
    """The page of the diagnosis in a folder of the work folder."""
    path = page_path(work, folder / "diagnosis.html", anonymous)
    found = read_record(folder / "diagnosis.json", Diagnosis)
    names = names_for([case.id for case in read_record(work.dataset, Dataset).cases], anonymous)
    write_page(path, diagnosis_page(found, names))
    return path


def check_report(
    work: Workspace, dataset: Dataset, fingerprint: Fingerprint | None, problems: Sequence[Problem]
) -> Path:
    """The page of what `check` found."""
    return _write_dataset(work.report / "check.html", dataset, fingerprint, problems, anonymous=False)


def _write_dataset(
    path: Path, dataset: Dataset, fingerprint: Fingerprint | None, problems: Sequence[Problem] | None, anonymous: bool
) -> Path:
    require_own(path)
    names = names_for([case.id for case in dataset.cases], anonymous)
    sample = Sample() if fingerprint is None else sample_of(dataset, fingerprint, names)
    write_page(path, dataset_page(dataset.name, fingerprint, problems, sample, names, dataset.root))
    return path
