"""A diagnosis as a page: what would help, the curve it rests on, and every training."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from autoseg.evaluation.answers import points
from autoseg.records import Answer, CurvePoint, Diagnosis, TrialResult
from autoseg.report.chart_parts import Dot, Frame, Line, axes, dot_at, legend, legend_height, limits, path, svg
from autoseg.report.page import Block, Facts, Figure, Names, Page, Section, Words, number, sections, table, word
from autoseg.words import counted

#: What a verdict is called beside its figures.
_WORDS = {"gain": "gain", "loss": "loss", "none": "no gain", "unclear": "cannot tell"}

#: How a verdict is marked.
_KINDS = {"gain": "good", "loss": "doubt", "none": "", "unclear": "doubt"}

_LEAD = (
    "Short trainings, all equally long, scored with the same held-out cases. What they say of cases and networks holds "
    "for trainings of this length; in longer ones more cases, and a larger network, may gain more."
)

_CURVE = (
    "A dot per training with the planned network. The line is the curve score = a - b n^-c through them, the band what "
    "the bootstrap over held-out cases and seeds leaves open. It is wide where cases differ much from one another; the "
    "interval of a gain is narrower, since it is of the same cases. Right of the dots the curve is a forecast."
)

_GAINS = (
    "Gains are in points, hundredths of Dice, with intervals of 95 %. Where an interval holds 0 this cannot tell, "
    "unless it leaves no room for half a point."
)


def diagnosis_page(diagnosis: Diagnosis, names: Names) -> Page:
    """The page of a diagnosis; `names` says how to call the cases."""
    trainings = f"{counted(len(diagnosis.results), 'training')} of {diagnosis.length} each"
    return Page(
        kind="diagnosis",
        title=f"{diagnosis.configuration}, fold {diagnosis.fold}: what would help",
        subtitle=names.words(f"{trainings}, plan {diagnosis.plan}.", f"{trainings}."),
        sections=sections(
            Section("At a glance", _glance(diagnosis, names), _LEAD),
            Section("Learning curve", _curve(diagnosis), _CURVE),
            Section("Gains", _gains(diagnosis.answers), _GAINS),
            Section("Trainings", _trainings(diagnosis.results)),
            Section("Set aside", tuple(Words(names(case)) for case in diagnosis.set_aside), _SET_ASIDE),
            Section("Failures", _failures(diagnosis, names)),
        ),
    )


_SET_ASIDE = "Training cases whose references the audit finds the most suspicious, the worst first."


def _failures(diagnosis: Diagnosis, names: Names) -> tuple[Block, ...]:
    told = ((name, names.words(why, "it failed")) for name, why in diagnosis.failures.items())
    return tuple(Words(f"{name}: {why}", "bad") for name, why in told)


def _glance(diagnosis: Diagnosis, names: Names) -> tuple[Block, ...]:
    facts = (
        ("training cases", str(diagnosis.training_cases)),
        ("held-out cases", str(diagnosis.held_out)),
        ("trainings", str(len(diagnosis.results))),
        ("of each", diagnosis.length),
    )
    answers = [Words(f"{answer.words}.", _KINDS[answer.verdict]) for answer in diagnosis.answers]
    notes = [Words(names.words(f"Note: {note}.", "There is a note.")) for note in diagnosis.notes]
    return (*answers, Facts(facts), *notes)


def _gains(answers: Sequence[Answer]) -> tuple[Block, ...]:
    rows = [
        (word(answer.question), *(number(_points(value), 2) for value in (answer.gain, answer.low, answer.high)),
         word(_WORDS[answer.verdict], _KINDS[answer.verdict]))
        for answer in answers
    ]  # fmt: skip
    return (table(("question", "gain (points)", "from", "to", "verdict"), rows),) if rows else ()


def _points(dice: float | None) -> float | None:
    return None if dice is None else round(100 * dice, 2) + 0.0


def _trainings(results: Sequence[TrialResult]) -> tuple[Block, ...]:
    rows = [
        (word(result.part), number(result.cases, 0), number(result.seed, 0), number(result.mean_dice),
         number(result.steps, 0), number(result.seconds, 0), word(result.run))
        for result in results
    ]  # fmt: skip
    return (table(("part", "cases", "seed", "mean Dice", "steps", "seconds", "folder"), rows),) if rows else ()


# --------------------------------------------------------------------------------------------------------- the curve


def _curve(diagnosis: Diagnosis) -> tuple[Block, ...]:
    if not diagnosis.curve:
        return ()
    dots = [
        (result.cases, Dot(result.mean_dice, f"{result.cases} cases, seed {result.seed}"))
        for result in diagnosis.results
        if result.kind == "cases" and result.mean_dice is not None
    ]
    forecast = next((answer for answer in diagnosis.answers), None)
    caption = f"Exponent c {diagnosis.exponent:.2f}." if diagnosis.exponent is not None else ""
    if forecast is not None and forecast.gain is not None:
        caption += f" {forecast.question}: {points(forecast.gain)} points."
    return (Figure(learning_curve(dots, diagnosis.curve), caption.strip()),)


def learning_curve(
    dots: Sequence[tuple[float, Dot]], curve: Sequence[CurvePoint], *, width: int = 700, height: int = 320
) -> Markup:
    """Scores against numbers of training cases, with the fitted curve and its band."""
    ends = [end for point in curve for end in (point.dice, point.low, point.high) if end is not None]
    x = limits([0.0, *(point.cases for point in curve)])
    frame = Frame(width, height, (0.0, x[1]), limits([*ends, *(dot.value for _, dot in dots)]))
    parts = [axes(frame, "training cases", "mean Dice of the held-out cases"), _band(frame, curve)]
    parts += path(frame, Line("curve", [point.cases for point in curve], [point.dice for point in curve]), "s0")
    parts += [dot_at(frame.at_x(at), frame.at_y(dot.value), dot, "s1", 4.0) for at, dot in dots]
    names = ["fitted curve", "a training"]
    parts += legend(names, width, height)
    return svg(width, height + legend_height(names, width), "Mean Dice over training cases", parts)


def _band(frame: Frame, curve: Sequence[CurvePoint]) -> str:
    known = [
        (point.cases, point.low, point.high) for point in curve if point.low is not None and point.high is not None
    ]
    if len(known) < 2:
        return ""
    there = [f"{frame.at_x(x):.1f} {frame.at_y(high):.1f}" for x, _, high in known]
    back = [f"{frame.at_x(x):.1f} {frame.at_y(low):.1f}" for x, low, _ in reversed(known)]
    return f'<path class="box s0" fill="currentColor" d="M{"L".join([*there, *back])}Z"/>'
