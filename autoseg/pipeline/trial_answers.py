"""What the trainings of a diagnosis say, from the scores that each left in its folder."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from autoseg.errors import RecordError
from autoseg.evaluation.answers import NETWORKS, SET_ASIDE, Conclusions, Forecast, compared, more_cases
from autoseg.evaluation.paired import ScoreTable, dice_table
from autoseg.evaluation.summary import read_summary
from autoseg.evaluation.trainings import Tried
from autoseg.files import read_record
from autoseg.pipeline.trials import ALL_CASES, CLEANED, FRACTIONS, Asked, network_part, part_of
from autoseg.planning.scaling import WIDTHS
from autoseg.records import Answer, CaseScore, Diagnosis, Receipt, Trial, TrialResult
from autoseg.workspace import Run, Workspace

#: Steps of trainings of one network that differ by more than this factor are not of one length.
_EVEN = 1.2

_DOUBLED = Conclusions(gain="more cases helped", loss="the score fell with more cases")


def diagnosis_of(
    asked: Asked, finished: Sequence[tuple[Trial, Run]], not_prepared: Collection[str], failures: Mapping[str, str]
) -> Diagnosis:
    """What the finished trainings say; `not_prepared` are cases that no training had."""
    scores = [{score.case: score for score in read_summary(run.summary).cases} for _, run in finished]
    held_out = sorted(set(asked.split.val).intersection(*scores)) if scores else []
    counts = [sum(case not in not_prepared for case in trial.split.train) for trial, _ in finished]
    results = tuple(
        _result(trial, run, asked.folder, count) for (trial, run), count in zip(finished, counts, strict=True)
    )
    parts = _parts(results, scores, held_out, list(asked.dataset.labels.foreground))
    forecast, answers = _answers(parts, asked.more, len(asked.set_aside))
    return Diagnosis(
        plan=asked.plan.name,
        configuration=asked.entry.name,
        fold=asked.fold,
        length=asked.length.told,
        training_cases=len(asked.split.train),
        held_out=len(held_out),
        answers=(*(() if forecast is None else (forecast.answer,)), *answers),
        results=results,
        curve=() if forecast is None else forecast.curve,
        exponent=None if forecast is None else forecast.exponent,
        set_aside=asked.set_aside,
        notes=(*asked.notes, *_notes(asked, results, len(held_out))),
        failures=dict(failures),
    )


def _parts(
    results: Sequence[TrialResult],
    scores: Sequence[Mapping[str, CaseScore]],
    held_out: Sequence[str],
    labels: Sequence[str],
) -> dict[str, Tried]:
    """The trainings of each part, with the same cases in the rows of all tables."""
    found: dict[str, dict[int, ScoreTable]] = {}
    for result, by_case in zip(results, scores, strict=True):
        found.setdefault(result.part, {})[result.seed] = dice_table([by_case[case] for case in held_out], labels)
    counts = {result.part: result.cases for result in results}
    return {part: Tried(counts[part], tables) for part, tables in found.items()}


def _answers(parts: Mapping[str, Tried], more: int, set_aside: int) -> tuple[Forecast | None, list[Answer]]:
    """What more cases would bring, and an answer to each other question that was tried at all.

    What chance does is taken from all trainings of the planned network together; another network may vary more, or
    less, and is set against the planned one alone.
    """
    if ALL_CASES not in parts:
        return None, []
    networks = [network_part(size) for size in WIDTHS]
    planned = {name: tried for name, tried in parts.items() if name not in networks}
    forecast = more_cases(planned, [name for name in map(part_of, FRACTIONS) if name in parts], more)
    half = part_of(FRACTIONS[-2])
    answers = []
    if half in parts:
        question = f"from {parts[half].cases} to {parts[ALL_CASES].cases} cases, as measured"
        answers.append(compared(question, planned, ALL_CASES, half, _DOUBLED))
    for name in networks:
        if name in parts:
            pair = {ALL_CASES: parts[ALL_CASES], name: parts[name]}
            answers.append(compared(name, pair, name, ALL_CASES, NETWORKS))
    if CLEANED in parts:
        cases = "the most suspicious case" if set_aside == 1 else f"the {set_aside} most suspicious cases"
        answers.append(compared(f"after setting aside {cases}", planned, CLEANED, ALL_CASES, SET_ASIDE))
    return forecast, answers


def _result(trial: Trial, run: Run, folder: Workspace, cases: int) -> TrialResult:
    try:
        receipt = read_record(run.receipt, Receipt)
    except RecordError:  # it tells how it went, and no score
        receipt = None
    steps = None if receipt is None else receipt.course.get("steps")
    return TrialResult(
        kind=trial.kind,
        part=trial.part,
        seed=trial.seed,
        cases=cases,
        mean_dice=read_summary(run.summary).mean_dice,
        steps=steps if isinstance(steps, int) else None,
        seconds=None if receipt is None else receipt.seconds.get("total"),
        run=run.folder.relative_to(folder.root).as_posix(),
    )


def _notes(asked: Asked, results: Sequence[TrialResult], held_out: int) -> list[str]:
    """What limits the answers."""
    notes = []
    if len(results) < len(asked.trials):
        notes.append(f"{len(asked.trials) - len(results)} of {len(asked.trials)} trainings are not finished")
    lost = len(asked.split.val) - held_out
    if results and lost:
        notes.append(f"{lost} held-out cases are left out, since not every training has a score of them")
    if asked.more > len(asked.split.train):
        notes.append(f"{asked.more} more cases are more than there are: so far out the curve is a guess")
    steps = [result.steps for result in results if result.kind == "cases" and result.steps]
    if steps and max(steps) > _EVEN * min(steps):
        notes.append(
            f"trainings of the planned network made {min(steps):,} to {max(steps):,} steps in the same time: the "
            "machine was not equally free, and part of what is seen may be that. --epochs makes them equally long"
        )
    return notes
