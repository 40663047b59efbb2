"""A comparison as a page: what to say of each pair, every case's difference, and the tables behind it."""

from __future__ import annotations

from collections.abc import Sequence

from autoseg.evaluation.verdicts import METRICS, Metric, short_verdict
from autoseg.records import Comparison, PairedDifference
from autoseg.report.chart_parts import Dot
from autoseg.report.charts import box_plots, scatter
from autoseg.report.page import (
    Block,
    Cell,
    Charts,
    Facts,
    Figure,
    Names,
    Page,
    Section,
    Words,
    beginning,
    called,
    number,
    sections,
    table,
    word,
)
from autoseg.words import counted

#: Pairs whose cases are drawn against one another.
_MOST_CHARTS = 6

#: How a verdict is marked.
_KINDS = {"first": "good", "second": "good", "tie": "", "unclear": "doubt"}


def comparison_page(comparison: Comparison, names: Names) -> Page:
    """The page of a comparison; `names` says how to call the cases."""
    metric = next(known for known in METRICS.values() if known.field == comparison.metric)
    told = tuple(
        Words(f"{pair.second} against {pair.first}: {pair.words}.", _KINDS[pair.verdict]) for pair in comparison.pairs
    )
    return Page(
        kind="comparison",
        title=" and ".join(side.name for side in comparison.sides),
        subtitle=f"{metric.title} of {counted(len(comparison.cases), 'case')} and "
        f"{counted(len(comparison.labels), 'label')} that all have.",
        sections=sections(
            Section("At a glance", (*told, *_glance(comparison, metric))),
            Section("Paired differences", _differences(comparison, metric, names), _LEAD),
            Section("Case by case", _scatters(comparison, metric, names), "On the dashed line both are equal."),
            Section("Tests", _tests(comparison.pairs, metric), _TESTS),
            Section("Labels", _tests(comparison.by_label, metric)),
            Section("Folds", _folds(comparison.pairs, metric), _FOLDS),
            Section(
                "Left out",
                tuple(
                    Words(names.words(f"{note}.", "Some cases or labels are left out.")) for note in comparison.notes
                ),
            ),
            Section("Table of cases", _cases(comparison, metric, names)),
        ),
    )


_LEAD = "The second less the first, a dot per case: its mean over labels. Point at a dot to see which case it is."

_TESTS = (
    "Intervals are of 95 %, from the bootstrap over cases. p is that of the signed-rank test, corrected by Holm's "
    "method for all tests of its table. One side is called better where the interval leaves out 0, the corrected p is "
    "below 0.05, the difference is one that anybody would report, and it is larger than the fold noise, where that is "
    "known."
)

_FOLDS = (
    "The difference within each fold, whose networks were trained apart from those of the others. The fold noise is "
    "the standard deviation of these."
)


def _glance(comparison: Comparison, metric: Metric) -> tuple[Block, ...]:
    facts = (
        ("cases", str(len(comparison.cases))),
        ("labels", str(len(comparison.labels))),
        ("better is", "higher" if metric.higher_is_better else "lower"),
    )
    digits = metric.digits
    rows = [
        (
            word(side.name), number(side.mean, digits), number(side.low, digits), number(side.high, digits),
            number(side.false_alarms, 0, "doubt" if side.false_alarms else ""),
        )
        for side in comparison.sides
    ]  # fmt: skip
    columns = ("compared", f"mean {metric.title}{_unit(metric)}", "from", "to", "false alarms")
    caption = (
        "Mean over labels of the means over cases, with its interval. A false alarm, a label that the reference lacks, "
        "enters no mean."
    )
    return (Facts(facts), table(columns, rows, caption))


def _unit(metric: Metric) -> str:
    return f" ({metric.unit.strip()})" if metric.unit else ""


def _differences(comparison: Comparison, metric: Metric, names: Names) -> tuple[Block, ...]:
    groups = {
        f"{pair.second} − {pair.first}": [Dot(value, names(case)) for case, value in _each(comparison, pair).items()]
        for pair in comparison.pairs
    }
    reach = 1.05 * max((abs(dot.value) for dots in groups.values() for dot in dots), default=0.0) or 0.01
    # 0 in the middle, so that one sees to which side the dots lie
    drawn = box_plots(groups, f"difference in {metric.title}{_unit(metric)}", value=(-reach, reach))
    return (Figure(drawn, "Boxes are quartiles, whiskers reach 1.5 times their distance."),)


def _each(comparison: Comparison, pair: PairedDifference) -> dict[str, float]:
    """The difference of each case."""
    found = {}
    for case, means in comparison.cases.items():
        first, second = means[pair.first], means[pair.second]
        if first is not None and second is not None:
            found[case] = second - first
    return found


def _scatters(comparison: Comparison, metric: Metric, names: Names) -> tuple[Block, ...]:
    charts = []
    for index, pair in enumerate(comparison.pairs[:_MOST_CHARTS]):
        dots = [
            (first, Dot(second, names(case)))
            for case, means in comparison.cases.items()
            if (first := means[pair.first]) is not None and (second := means[pair.second]) is not None
        ]
        unit = _unit(metric)
        charts.append(
            scatter(dots, pair.first + unit, pair.second + unit, diagonal=True, colour=index, width=340, height=300)
        )
    return (Charts(tuple(charts)),)


def _tests(rows: Sequence[PairedDifference], metric: Metric) -> tuple[Block, ...]:
    """A row per pair, or per label and pair; no column of labels or fold noise where there is none."""
    if not rows:
        return ()
    digits = metric.digits + 1
    cells = [
        (
            word(row.label or ""), word(row.first), word(row.second),
            number(row.difference, digits), number(row.low, digits), number(row.high, digits),
            _p(row.p), _p(row.p_holm), number(row.fold_noise, digits),
            number(row.higher, 0), number(row.lower, 0), number(row.cases, 0),
            word(short_verdict(row), _KINDS[row.verdict]),
        )
        for row in rows
    ]  # fmt: skip
    columns = (
        "label", "first", "second", f"second less first{_unit(metric)}", "from", "to", "p", "p corrected",
        "fold noise", "higher in", "lower in", "cases", "verdict",
    )  # fmt: skip
    known = [place for place, name in enumerate(columns) if name not in _unknown(rows)]
    kept = [tuple(row[place] for place in known) for row in cells]
    return beginning([columns[place] for place in known], kept, "`autoseg compare --json` has all.")


def _unknown(rows: Sequence[PairedDifference]) -> set[str]:
    """Columns that would be empty."""
    found = {"label": rows[0].label is None, "fold noise": all(row.fold_noise is None for row in rows)}
    return {name for name, empty in found.items() if empty}


def _p(value: float | None) -> Cell:
    return number(None) if value is None else Cell(f"{value:.2g}", value)


def _folds(pairs: Sequence[PairedDifference], metric: Metric) -> tuple[Block, ...]:
    rows = [
        (word(pair.first), word(pair.second), word(fold), number(difference, metric.digits + 1))
        for pair in pairs
        if len(pair.folds) > 1  # the difference within the only one is that of all
        for fold, difference in pair.folds.items()
    ]
    return (table(("first", "second", "fold", f"second less first{_unit(metric)}"), rows),) if rows else ()


def _cases(comparison: Comparison, metric: Metric, names: Names) -> tuple[Block, ...]:
    """A row per case, those with the largest differences first."""
    sides = [side.name for side in comparison.sides]
    found = sorted(comparison.cases, key=lambda case: _spread(comparison, case), reverse=True)
    rows = [
        (
            called(names(case)),
            *(number(comparison.cases[case][side], metric.digits) for side in sides),
            number(_spread(comparison, case), metric.digits + 1),
        )
        for case in found
    ]
    columns = ("case", *(f"{side}{_unit(metric)}" for side in sides), "largest difference")
    return beginning(columns, rows, "`autoseg compare --json` has all.")


def _spread(comparison: Comparison, case: str) -> float:
    known = [value for value in comparison.cases[case].values() if value is not None]
    return max(known) - min(known) if known else 0.0
