"""A dataset as a page: what it holds, what is odd or wrong with it, and what it looks like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from autoseg.records import Fingerprint, Problem
from autoseg.report.chart_parts import Dot, Line
from autoseg.report.charts import box_plots, histogram, line_chart
from autoseg.report.outliers import is_calibrated, outliers, volume_ml
from autoseg.report.page import (
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
    joined,
    number,
    sections,
    table,
    word,
)
from autoseg.report.pictures import colours_of, reading
from autoseg.words import counted

#: Findings of one severity and kind that are written out.
_MOST_FINDINGS = 200

#: Labels whose volumes have a column in the table of cases, and whose intensities are drawn.
_MOST_COLUMNS, _MOST_HISTOGRAMS = 6, 7

_SEVERITY = {"error": "bad", "warning": "doubt", "note": ""}


@dataclass(frozen=True)
class Sample:
    """What was seen of the few cases that were read for the page."""

    thumbnails: tuple[Picture, ...] = ()
    intensities: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]] = field(default_factory=dict)
    # channel -> label -> middles of the bins, share of the label's voxels in each


def dataset_page(
    title: str,
    fingerprint: Fingerprint | None,
    problems: Sequence[Problem] | None,
    sample: Sample,
    names: Names,
    root: Path = Path(),
) -> Page:
    """The page of a dataset.

    Args:
        title: what it is called.
        fingerprint: of the cases without errors; None where there are none.
        problems: findings; None where nobody looked for any.
        sample: pictures and intensities of a few cases.
        names: how to call the cases.
        root: the dataset's folder, by which files are called.
    """
    cases = 0 if fingerprint is None else len(fingerprint.cases)
    found = Section("Findings", _findings(problems, names, root)) if problems is not None else None
    if fingerprint is None:
        return Page("dataset", names.words(title, "Dataset"), "No case can be used.", sections(found))
    odd = outliers(fingerprint)
    return Page(
        kind="dataset",
        title=names.words(title, "Dataset"),
        subtitle=f"{counted(cases, 'case')}{_left_out(fingerprint, problems)}, "
        f"{counted(len(fingerprint.labels.classes), 'label')}, "
        f"channels: {', '.join(fingerprint.channels)}.",
        sections=sections(
            Section("At a glance", (_facts(fingerprint, problems, odd), *_labels(fingerprint))),
            found,
            Section(
                "Shapes and spacings", _geometry(fingerprint), "Of the images as they are stored, turned to (Z, Y, X)."
            ),
            Section(
                "Label volumes",
                _volumes(fingerprint, odd, names),
                "A dot is a case; ringed ones lie far from the others.",
            ),
            Section("Intensities", _intensities(fingerprint, sample)),
            Section("Outliers", _outliers(odd, cases, names)),
            _thumbnails(fingerprint, sample),
            Section("Table of cases", _cases(fingerprint, odd, names)),
        ),
    )


def _left_out(fingerprint: Fingerprint, problems: Sequence[Problem] | None) -> str:
    """How many cases the page says nothing of, in words."""
    count = len(_unusable(fingerprint, problems))
    return f" that can be used, {count} more with errors" if count else ""


def _unusable(fingerprint: Fingerprint, problems: Sequence[Problem] | None) -> set[str]:
    """The cases that cannot be used, so that nothing is known of them but their errors."""
    bad = {problem.case for problem in problems or () if problem.severity == "error" and problem.case}
    return bad - {case.case for case in fingerprint.cases}


def _facts(fingerprint: Fingerprint, problems: Sequence[Problem] | None, odd: Mapping[str, object]) -> Facts:
    used, unusable = len(fingerprint.cases), len(_unusable(fingerprint, problems))
    cases = f"{used} of {used + unusable}" if unusable else str(used)
    facts = [("cases", cases), ("labels", str(len(fingerprint.labels.classes)))]
    if problems is not None:
        for severity in ("error", "warning"):
            facts.append((f"{severity}s", str(sum(problem.severity == severity for problem in problems))))
    return Facts((*facts, ("cases with something far out", str(len(odd)))))


def _labels(fingerprint: Fingerprint) -> tuple[Block, ...]:
    rows = []
    for label in fingerprint.labels.classes:
        volumes = sorted(value for case in fingerprint.cases if (value := volume_ml(case, label)) is not None)
        middle = volumes[len(volumes) // 2] if volumes else None
        ends = (volumes[0], volumes[-1]) if volumes else (None, None)
        rows.append((word(label), number(len(volumes), 0), number(ends[0], 2), number(middle, 2), number(ends[1], 2)))
    columns = ("label", "cases that have it", "smallest (ml)", "median (ml)", "largest (ml)")
    return (table(columns, rows),)


def _findings(problems: Sequence[Problem] | None, names: Names, root: Path) -> tuple[Block, ...]:
    if not problems:
        return (Words("Nothing is wrong with it.", "good"),)
    rows = [_finding(problem, names, root) for problem in problems[:_MOST_FINDINGS]]
    more = len(problems) - len(rows)
    rest = (Words(f"{more} more: `autoseg check` lists all."),) if more else ()
    return (table(("severity", "finding", "case", "what", "what to do"), rows), *rest)


def _finding(problem: Problem, names: Names, root: Path) -> tuple[Cell, ...]:
    what = problem.what if problem.file is None else f"{_relative(problem.file, root)}: {problem.what}"
    return (
        word(problem.severity, _SEVERITY[problem.severity]),
        word(problem.kind, "name"),
        called("" if problem.case is None else names(problem.case)),
        word(names.words(what, "")),
        word(names.words(problem.remedy, "")),
    )


def _relative(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)


def _geometry(fingerprint: Fingerprint) -> tuple[Block, ...]:
    shapes = [
        histogram([case.shape[axis] for case in fingerprint.cases], f"voxels in {name}")
        for axis, name in enumerate("ZYX")
    ]
    spacings = [
        histogram([case.spacing[axis] for case in fingerprint.cases], f"spacing in {name} (mm)")
        for axis, name in enumerate("ZYX")
    ]
    return (Charts(tuple(shapes)), Charts(tuple(spacings)))


def _volumes(fingerprint: Fingerprint, odd: Mapping[str, tuple[str, ...]], names: Names) -> tuple[Block, ...]:
    groups = {}
    for label in fingerprint.labels.classes:
        groups[label] = [
            Dot(value, names(case.case), any(told.startswith(f"{label} volume") for told in odd.get(case.case, ())))
            for case in fingerprint.cases
            if (value := volume_ml(case, label)) is not None
        ]
    groups = {label: dots for label, dots in groups.items() if dots}
    row = 46 if len(groups) <= 12 else 26
    return (Figure(box_plots(groups, "volume (ml)", row=row)),) if groups else ()


def _intensities(fingerprint: Fingerprint, sample: Sample) -> tuple[Block, ...]:
    blocks: list[Block] = []
    for channel, per_label in sample.intensities.items():
        shown = list(per_label.items())[:_MOST_HISTOGRAMS]
        lines = [Line(label, middles, shares) for label, (middles, shares) in shown]
        scale = "" if is_calibrated(channel) else ", 0 and 1 being the 1 % and 99 % quantiles of each image"
        if lines:
            blocks.append(
                Figure(
                    line_chart(lines, f"intensity of {channel}{scale}", "share of the label's voxels", height=230),
                    f"Histogram per label, from the {counted(len(sample.thumbnails), 'case')} below.",
                )
            )
    rows = [
        (
            word(channel),
            *(
                number(value, 2)
                for value in (
                    entry.mean,
                    entry.std,
                    entry.percentile_00_5,
                    entry.median,
                    entry.percentile_99_5,
                    entry.min,
                    entry.max,
                )
            ),
        )
        for channel, entry in zip(fingerprint.channels, fingerprint.intensities, strict=False)
    ]
    columns = ("channel", "mean", "deviation", "0.5 %", "median", "99.5 %", "lowest", "highest")
    if rows:
        blocks.append(table(columns, rows, "Of the foreground of all cases."))
    return tuple(blocks)


def _outliers(odd: Mapping[str, tuple[str, ...]], cases: int, names: Names) -> tuple[Block, ...]:
    if not odd:
        return (Words(f"None of the {cases} cases lies far from the others.", "good"),)
    rows = [(called(names(case)), word("; ".join(told), "doubt")) for case, told in sorted(odd.items())]
    rule = "Further than three times the distance of the quartiles from the nearer one, on a logarithmic scale."
    return (Words(rule), *beginning(("case", "what is far out"), rows, "the table of cases says how many in each."))


def _thumbnails(fingerprint: Fingerprint, sample: Sample) -> Section | None:
    if not sample.thumbnails:
        return None
    legend = tuple((colour, name) for name, colour in colours_of(tuple(fingerprint.labels.foreground)).items())[:14]
    axial = "axial " if any(picture.sides for picture in sample.thumbnails) else ""
    caption = f"The {axial}slice with most foreground, and the outlines of the labels. {reading(sample.thumbnails)}"
    return Section("Looks", (Pictures(sample.thumbnails, caption.rstrip(), legend, width=165),))


def _cases(fingerprint: Fingerprint, odd: Mapping[str, tuple[str, ...]], names: Names) -> tuple[Block, ...]:
    labels = list(fingerprint.labels.classes)[:_MOST_COLUMNS]
    columns = ("case", "shape", "spacing (mm)", "stored as", *(f"{label} (ml)" for label in labels), "far out")
    rows = [
        (
            called(names(case.case)),
            word(joined(case.shape)),
            word(joined(case.spacing, 2)),
            word(case.orientation),
            *(number(volume_ml(case, label), 2) for label in labels),
            number(float(len(odd.get(case.case, ()))), 0, "doubt" if case.case in odd else ""),
        )
        for case in fingerprint.cases
    ]
    return beginning(columns, rows, "fingerprint.json has all.")
