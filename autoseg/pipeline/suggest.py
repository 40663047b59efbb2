"""`suggest`: which unlabelled cases, or slices, are worth labelling next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autoseg import devices
from autoseg.errors import ModelError, RecordError, UsageError
from autoseg.files import file_hash, read_record, text_hash, write_record, write_text
from autoseg.inference.joining import asked_precision, networks_of
from autoseg.inference.predictor import load_models
from autoseg.interrupts import stop_switch
from autoseg.pipeline.choosing_model import chosen_models
from autoseg.pipeline.predict import found_cases
from autoseg.pipeline.suggest_evidence import Onlooker, Seen, look_at_cases, of_labelled, onlooker
from autoseg.pipeline.suggest_ranking import ranked
from autoseg.plugins import load_plugins
from autoseg.progress import Progress
from autoseg.records import Case, Dataset, Suggestions
from autoseg.report.suggest_csv import COLUMNS, suggestions_csv
from autoseg.workspace import Workspace

#: Candidates that are ranked unless it is asked for more.
COUNT = 50


@dataclass(frozen=True)
class SuggestReport:
    """The queue, and where its table is."""

    suggestions: Suggestions
    table: Path
    looked_at: int  # cases


def suggest(
    images: Path | Sequence[Case],
    work: Workspace,
    *,
    models: tuple[Path, ...] = (),
    count: int = COUNT,
    slices: bool | None = None,
    labelled: bool = True,
    device: str = "auto",
    precision: str = "auto",
    use: Sequence[str] = (),
    progress: Progress,
) -> SuggestReport:
    """Rank unlabelled cases by what labelling them is worth; with `slices` slices (None: where networks see slices).

    With `labelled` they are compared to the labelled cases of the work folder's dataset as well, where it has one.
    Writes suggestions.json and suggestions.csv into WORK/suggest. Raises UsageError where there is no image, or a file
    in the way that is none of ours, ModelError where nothing is trained or no image could be looked at.
    """
    require_own_table(work)
    load_plugins(use)
    files, description, headers = chosen_models(models, work, use, progress)
    cases, failures = found_cases(images, headers, progress)
    target = devices.choose_device(device)
    chosen = devices.choose_precision(asked_precision(precision, headers), target, networks_of(headers))
    model_hash = text_hash("".join(file_hash(file) for file in files), 16)
    looking = onlooker(load_models(files, target, chosen), model_hash, work.suggestions / "seen")
    known = _known_cases(work, looking, cases) if labelled else []
    seen, others, failed = _looked_at(looking, cases, known, progress)
    failures |= failed
    _require_any(seen, failures)
    in_slices = looking.flat and any(len(one.sums.place) > 1 for one in seen) if slices is None else slices
    unit: Literal["case", "slice"] = "slice" if in_slices else "case"
    queue, among = ranked(seen, others, unit, count)
    named = {one.case for one in queue}
    suggestions = Suggestions(
        models=description,
        unit=unit,
        suggested=tuple(queue),
        candidates=among,
        labelled=len(others),
        labels=headers[0].labels.without_cores,
        images={case.id: tuple(map(Path.absolute, case.images)) for case in cases if case.id in named},
        failures=failures,
    )
    write_record(work.suggestions / "suggestions.json", suggestions)
    table = work.suggestions / "suggestions.csv"
    write_text(table, suggestions_csv(suggestions))
    return SuggestReport(suggestions, table, len(seen))


def _looked_at(
    looking: Onlooker, cases: Sequence[Case], known: Sequence[Case], progress: Progress
) -> tuple[list[Seen], list[Seen], dict[str, str]]:
    """What is seen of the unlabelled and of the labelled cases, and why unlabelled ones could not be looked at."""
    with stop_switch() as stop:
        seen, failures = look_at_cases(looking, cases, "Looking at unlabelled images", stop, progress)
        if not known:
            return seen, [], failures
        others, missed = look_at_cases(of_labelled(looking), known, "Looking at labelled images", stop, progress)
    for case, why in missed.items():
        progress.warn(f"{case} is labelled and could not be looked at: {why}")
    return seen, others, failures


def _require_any(seen: Sequence[Seen], failures: Mapping[str, str]) -> None:
    if not seen:
        case, why = next(iter(failures.items()))
        raise ModelError(f"no image could be looked at; {case}: {why}", remedy="See whether they fit the model.")


def _known_cases(work: Workspace, looking: Onlooker, unlabelled: Sequence[Case]) -> list[Case]:
    """The labelled cases of the work folder's dataset that are none of the unlabelled ones."""
    try:
        dataset = read_record(work.dataset, Dataset)
    except RecordError:
        return []
    if dataset.channels != looking.model.header.channels:
        return []
    new = {path.resolve() for case in unlabelled for path in case.images}
    return [case for case in dataset.cases if case.labelled and not new & {path.resolve() for path in case.images}]


def require_own_table(work: Workspace) -> None:
    """Raise UsageError where a file has the name of the table and is none of ours: it is kept."""
    path = work.suggestions / "suggestions.csv"
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(",".join(COLUMNS)):
        raise UsageError("is not a table of autoseg's suggestions, so it is left alone", where=path, remedy="Move it.")
