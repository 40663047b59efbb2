"""What to label next as a page: the queue with pictures, and how much of what is unsure its head speaks for."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from autoseg.records import Suggested, Suggestions
from autoseg.report.page import (
    NOTHING,
    Block,
    Cell,
    Facts,
    Names,
    Page,
    Picture,
    Pictures,
    Section,
    beginning,
    called,
    number,
    sections,
    word,
)
from autoseg.report.pictures import colours_of, reading


def suggest_page(found: Suggestions, labels: Sequence[str], pictures: Sequence[Picture], names: Names) -> Page:
    """The page of a queue.

    Args:
        found: the queue.
        labels: names of the labels, in the order of their colours.
        pictures: of the first of the queue, with their captions.
        names: how to call the cases.
    """
    units = f"{found.unit}s"
    compared = f", compared to {found.labelled} labelled cases" if found.labelled else ""
    return Page(
        kind="suggest",
        title="What to label next",
        subtitle=f"{len(found.suggested)} of {found.candidates} unlabelled {units}, the most worthwhile first{compared}"
        f"{names.words(f'. Looked at by {found.models}', '')}.",
        sections=sections(
            Section(
                "Label these first",
                _queue(found, names),
                "Gain is the share of the loss expected over all of them that a label would speak for: its own, and "
                f"that of {units} like it, beyond what those before it speak for. Loss is one less the Dice that is "
                "expected.",
            ),
            Section("Pictures", _pictures(pictures, labels)),
            Section("Not looked at", _left_out(found, names)),
        ),
    )


def _queue(found: Suggestions, names: Names) -> tuple[Block, ...]:
    so_far = list(accumulate(one.gain for one in found.suggested))
    head = so_far[min(10, len(so_far)) - 1] if so_far else 0.0
    facts = Facts(
        (
            (f"unlabelled {found.unit}s", str(found.candidates)),
            (f"the first {min(10, len(so_far))} speak for", f"{head:.0%} of the loss"),
        )
    )
    columns = ["rank", "case", "slice", "gain", "so far", "expected loss", "likeness to labelled", "i, j, k"]
    rows = [_row(rank, *entry, names) for rank, entry in enumerate(zip(found.suggested, so_far, strict=True), start=1)]
    if found.unit == "case":
        columns.remove("slice")
        rows = [row[:2] + row[3:] for row in rows]
    return (facts, *beginning(columns, rows, "suggestions.csv has all."))


def _row(rank: int, one: Suggested, so_far: float, names: Names) -> tuple[Cell, ...]:
    return (
        number(float(rank), 0),
        called(names(one.case)),
        word(f"{one.axis} = {one.slice}" if one.axis else NOTHING, "whole"),
        _percent(one.gain),
        _percent(so_far),
        number(one.loss, 3),
        number(one.likeness, 2),
        word(", ".join(map(str, one.index)), "whole"),
    )


def _percent(share: float) -> Cell:
    return Cell(f"{share:.1%}", share)


def caption_of(one: Suggested, rank: int) -> str:
    """What stands below a picture."""
    which = f"slice {one.axis} = {one.slice}, " if one.axis else ""
    return f"{rank}. {which}gain {one.gain:.1%}, expected loss {one.loss:.2f}"


def _pictures(found: Sequence[Picture], labels: Sequence[str]) -> tuple[Block, ...]:
    if not found:
        return ()
    legend = tuple((colour, name) for name, colour in colours_of(tuple(labels)).items())[:14]
    order = (
        "Each is cut through the middle of what networks are least sure of, where yellow ticks point. "
        f"{reading(found, ('image', 'what networks see'))}"
    )
    return (Pictures(tuple(found), order, legend, width=260),)


def _left_out(found: Suggestions, names: Names) -> tuple[Block, ...]:
    if not found.failures:
        return ()
    rows = [(called(names(case)), word(names.words(why, "failed"), "bad")) for case, why in found.failures.items()]
    return beginning(("case", "why"), rows, "suggestions.json has all.")
