"""The queue of likely label errors as a page: what to correct first, with pictures and coordinates."""

from __future__ import annotations

from collections.abc import Sequence

from autoseg.evaluation.label_doubts import SUSPICIOUS
from autoseg.records import Audit, AuditedCase, AuditedPlace
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
    Words,
    beginning,
    called,
    number,
    sections,
    table,
    word,
)
from autoseg.report.pictures import ERRORS, colours_of, reading
from autoseg.words import counted

#: Rows of the table of places.
_MOST_PLACES = 500


def audit_page(
    audit: Audit,
    labels: Sequence[str],
    cases: Sequence[Picture],
    places: Sequence[Picture],
    names: Names,
) -> Page:
    """The page of an audit.

    Args:
        audit: the queue.
        labels: names of the labels, in the order of their colours.
        cases, places: pictures of the first of either, with their captions.
        names: how to call the cases.
    """
    return Page(
        kind="audit",
        title="Label audit",
        subtitle=f"{counted(len(audit.cases), 'reference')}, judged by networks that had not seen them"
        f"{names.words(f': {audit.models}', '')}.",
        sections=sections(
            Section(
                "Correct these first",
                _queue(audit, names),
                "Suspicion tells by how much disagreement with the networks, and what a single correction repairs of "
                f"it, exceed what is usual, in units of how much cases differ; from {SUSPICIOUS:g} on it is marked. A "
                "network may be wrong: look before you correct.",
            ),
            Section("Cases", _pictures(cases, labels, "Each is cut through its most suspicious place.")),
            Section("Places", _pictures(places, labels, "A place is connected; yellow ticks point at it.")),
            Section(
                "Table of places",
                _places(audit.places, names),
                "i, j, k are voxels counted from 0 along the file's axes; x, y, z are mm towards right, anterior, "
                "superior.",
            ),
            Section("Across all cases", _pairs(audit)),
            Section("Not looked at", _left_out(audit, names)),
        ),
    )


def _queue(audit: Audit, names: Names) -> tuple[Block, ...]:
    marked = sum(case.suspicion >= SUSPICIOUS for case in audit.cases)
    facts = Facts((("references", str(len(audit.cases))), ("suspicious", str(marked))))
    rows = [_case_row(rank, case, names) for rank, case in enumerate(audit.cases, start=1)]
    columns = (
        "rank", "case", "suspicion", "label", "kind", "what is likely wrong", "Dice", "if corrected", "i, j, k",
    )  # fmt: skip
    return (facts, *beginning(columns, rows, "cases.csv has all."))


def _case_row(rank: int, case: AuditedCase, names: Names) -> tuple[Cell, ...]:
    return (
        number(float(rank), 0),
        called(names(case.case)),
        number(case.suspicion, 1, _kind(case.suspicion)),
        word(case.label or NOTHING),
        word(case.kind or NOTHING, "whole"),
        word(case.what or NOTHING),
        number(case.dice),
        number(case.dice_corrected),
        _where(case.places[0])[0] if case.places else Cell(NOTHING),
    )


def _kind(suspicion: float) -> str:
    return "bad" if suspicion >= 2 * SUSPICIOUS else "doubt" if suspicion >= SUSPICIOUS else ""


def _where(place: AuditedPlace) -> tuple[Cell, Cell]:
    return (
        word(", ".join(map(str, place.index)), "whole"),
        word(", ".join(f"{along:.1f}" for along in place.position), "whole"),
    )


def caption_of_case(case: AuditedCase, rank: int) -> str:
    """What stands below the picture of a case."""
    return f"{rank}. suspicion {case.suspicion:.1f}: {case.what or case.kind or case.label}"


def caption_of_place(place: AuditedPlace, rank: int) -> str:
    """What stands below the picture of a place."""
    where = f"voxel {', '.join(map(str, place.index))}; {', '.join(f'{along:.1f}' for along in place.position)} mm"
    return f"{rank}. {place.reference}, networks say {place.model}: {place.voxels} voxels at {where}"


def _pictures(found: Sequence[Picture], labels: Sequence[str], lead: str) -> tuple[Block, ...]:
    if not found:
        return ()
    legend = tuple((colour, name) for name, colour in colours_of(tuple(labels)).items())[:14]
    order = f"{lead} {reading(found, ('image', 'reference', 'networks', 'differences'))}"
    return (Pictures(tuple(found), order, (*legend, *ERRORS), width=480),)


def _places(places: Sequence[AuditedPlace], names: Names) -> tuple[Block, ...]:
    if not places:
        return (Words("The networks surely contradict no reference.", "good"),)
    rows = [
        (
            number(float(rank), 0),
            called(names(place.case)),
            number(place.suspicion, 1, _kind(place.suspicion)),
            word(place.reference),
            word(place.model),
            number(place.margin, 2),
            number(float(place.voxels), 0),
            number(place.ml, 3),
            *_where(place),
        )
        for rank, place in enumerate(places[:_MOST_PLACES], start=1)
    ]
    columns = (
        "rank", "case", "suspicion", "reference", "networks", "margin", "voxels", "ml", "i, j, k", "x, y, z (mm)",
    )  # fmt: skip
    blocks: list[Block] = [table(columns, rows)]
    if len(places) > _MOST_PLACES:
        blocks.append(Words(f"{len(places) - _MOST_PLACES:,} more places: places.csv has all."))
    return tuple(blocks)


def _pairs(audit: Audit) -> tuple[Block, ...]:
    rows = [
        (word(pair.reference), word(pair.model), number(float(pair.voxels), 0), number(float(pair.cases), 0))
        for pair in audit.pairs
    ]
    sure = ", ".join(f"{name} from {at:.2f}" for name, at in list(audit.thresholds.items())[:20])
    words = Words(f"Networks are sure of a label from its mean probability in the references on: {sure}.")
    if not rows:
        return (words,)
    return (table(("reference", "networks surely say", "voxels", "cases"), rows), words)


def _left_out(audit: Audit, names: Names) -> tuple[Block, ...]:
    blocks: list[Block] = []
    if audit.not_held_out:
        blocks.append(Words(f"{audit.not_held_out} cases are held out by no finished fold.", "doubt"))
    if audit.failures:
        rows = [(called(names(case)), word(names.words(why, "failed"), "bad")) for case, why in audit.failures.items()]
        blocks += beginning(("case", "why"), rows, "audit.json has all.")
    return tuple(blocks)
