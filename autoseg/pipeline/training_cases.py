"""The prepared cases that a training reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from autoseg.errors import TrainingError
from autoseg.pipeline.prepare import prepare_again
from autoseg.preprocessing.entry import StoreError
from autoseg.preprocessing.store import read_case
from autoseg.progress import Progress
from autoseg.records import Configuration, Dataset, Fold
from autoseg.training.cases import load_cases
from autoseg.training.patches import TrainingCase
from autoseg.workspace import Workspace


def without(split: Fold, failures: Mapping[str, str], fold: str) -> Fold:
    """The split without the cases that could not be prepared; fold `all` holds nothing out.

    Raises TrainingError where no training case is left.
    """
    usable = Fold(
        train=tuple(case for case in split.train if case not in failures),
        val=() if fold == "all" else tuple(case for case in split.val if case not in failures),
    )
    if not usable.train:
        raise TrainingError("no training case is left", remedy="`autoseg check DATASET` lists what is wrong.")
    return usable


def loaded(
    work: Workspace,
    configuration: Configuration,
    dataset: Dataset,
    case_ids: Sequence[str],
    first_stage: Mapping[str, Path] | None,
    progress: Progress,
    processes: int = 1,
) -> list[TrainingCase]:
    """The prepared cases, of which each of so many processes of this machine holds its own copy.

    Entries found to be damaged are prepared anew, they alone.
    """
    folder = work.prepared_folder(configuration.preparation)
    try:
        return load_cases(folder, case_ids, first_stage, processes)
    except StoreError:
        by_id = {case.id: case for case in dataset.cases}
        for case_id in case_ids:
            try:
                read_case(folder, case_id)
            except StoreError as error:
                progress.warn(f"{error}; it is prepared anew")
                prepare_again(folder, by_id[case_id], configuration)
        return load_cases(folder, case_ids, first_stage, processes)
