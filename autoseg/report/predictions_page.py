"""Masks as a page: which to look at first and why, volumes, expected quality, and what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from autoseg.records import CaseCost, CaseTrust
from autoseg.report.chart_parts import Dot
from autoseg.report.charts import box_plots, histogram
from autoseg.report.cost_section import cost_section
from autoseg.report.page import (
    NOTHING,
    Block,
    Cell,
    Charts,
    Facts,
    Figure,
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
    word,
)
from autoseg.report.pictures import colours_of, reading
from autoseg.words import counted


def predictions_page(
    title: str,
    trusts: Mapping[str, CaseTrust],
    failures: Mapping[str, str],
    pictures: Sequence[Picture],
    labels: Sequence[str],
    costs: Mapping[str, CaseCost],
    names: Names,
) -> Page:
    """The page of a folder of masks.

    Args:
        title: which folder.
        trusts: what is known of each mask, those to look at first before the others.
        failures: why other cases have no mask.
        pictures: of the masks to look at first.
        labels: that the masks hold.
        costs: time and memory of each mask, where that is known.
        names: how to call the cases.
    """
    return Page(
        kind="masks",
        title=names.words(title, "Masks"),
        subtitle=f"{counted(len(trusts), 'mask')}, {len(failures)} failed.",
        sections=sections(
            Section("To look at first", _review(trusts, names), _order(trusts)),
            Section("Looks", _looks(pictures, labels)),
            Section("Volumes", _volumes(trusts, names), "A dot is a case."),
            Section("Expected quality", _expected(trusts)),
            Section("Failures", _failures(failures, names)),
            cost_section(costs, names),
            Section("Table of labels", _table(trusts, names)),
        ),
    )


def _review(trusts: Mapping[str, CaseTrust], names: Names) -> tuple[Block, ...]:
    doubted = sum(bool(trust.reasons or trust.unlike) for trust in trusts.values())
    facts = Facts((("masks", str(len(trusts))), ("with a reason to look", str(doubted))))
    if not trusts:
        return ()
    columns: dict[str, list[Cell]] = {
        "place": [number(float(place), 0) for place in range(1, len(trusts) + 1)],
        "case": [called(names(case)) for case in trusts],
    }
    if _expects(trusts):
        means = (trust.expected_mean for trust in trusts.values())
        columns["expected Dice"] = [Cell(NOTHING) if mean is None else Cell(str(mean), mean.dice) for mean in means]
    else:
        columns["confidence"] = [number(trust.seen.confidence, 2) for trust in trusts.values()]
    if any(trust.unlike for trust in trusts.values()):
        columns["unlike the training data"] = [word("; ".join(trust.unlike), "bad") for trust in trusts.values()]
    if any(trust.reasons for trust in trusts.values()):
        columns["why"] = [word("; ".join(trust.reasons), "doubt") for trust in trusts.values()]
    rows = list(zip(*columns.values(), strict=True))
    return (facts, *beginning(tuple(columns), rows, "review.csv has all."))


def _order(trusts: Mapping[str, CaseTrust]) -> str:
    """By what the cases are ordered."""
    figure = "the lowest expected Dice" if _expects(trusts) else "the lowest confidence"
    return f"Cases with a reason to look stand first; among them, and among the others, those with {figure}."


def _expects(trusts: Mapping[str, CaseTrust]) -> bool:
    """Whether the Dice to be expected is known of any case."""
    return any(trust.expected_mean is not None for trust in trusts.values())


def _looks(pictures: Sequence[Picture], labels: Sequence[str]) -> tuple[Block, ...]:
    if not pictures:
        return ()
    legend = tuple((colour, name) for name, colour in colours_of(labels).items())[:14]
    return (Pictures(tuple(pictures), reading(pictures, ("image", "mask")), legend, width=320),)


def _volumes(trusts: Mapping[str, CaseTrust], names: Names) -> tuple[Block, ...]:
    groups: dict[str, list[Dot]] = {}
    for case, trust in trusts.items():
        for label, volume in trust.seen.volumes.items():
            groups.setdefault(label, []).append(Dot(volume.ml, names(case)))
    row = 46 if len(groups) <= 12 else 26
    return (Figure(box_plots(groups, "volume (ml)", row=row)),) if groups else ()


def _expected(trusts: Mapping[str, CaseTrust]) -> tuple[Block, ...]:
    means = [trust.expected_mean.dice for trust in trusts.values() if trust.expected_mean is not None]
    if not means:
        return (Words("This model does not tell what Dice is to be expected; `autoseg select` teaches it.", ""),)
    return (Charts((histogram(means, "expected Dice"),)),)


def _failures(failures: Mapping[str, str], names: Names) -> tuple[Block, ...]:
    if not failures:
        return (Words("Every case has a mask.", "good"),)
    rows = [(called(names(case)), word(names.words(why, "failed"), "bad")) for case, why in sorted(failures.items())]
    return beginning(("case", "why"), rows, "failures.json has all.")


def _table(trusts: Mapping[str, CaseTrust], names: Names) -> tuple[Block, ...]:
    rows = []
    for case, trust in trusts.items():
        for label, volume in trust.seen.volumes.items():
            told = trust.seen.evidence.get(label)
            rows.append(
                (
                    called(names(case)),
                    word(label),
                    number(volume.ml, 3),
                    number(volume.components, 0),
                    word(", ".join(volume.border)),
                    number(None if told is None else told.confidence),
                    number(None if told is None else told.boundary),
                )
            )
    columns = ("case", "label", "volume (ml)", "components", "touches the border", "confidence", "at the boundary")
    return beginning(columns, rows, "volumes.csv has all.") if rows else ()
