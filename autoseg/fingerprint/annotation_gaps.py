"""Labels that nearly every case has and some lack: drawn in part of the cases only, most likely."""

from __future__ import annotations

from collections.abc import Sequence

from autoseg.records import CaseFingerprint, Labels, Problem

#: Share of the cases that must have a label before its absence in others is remarkable.
NEARLY_EVERY = 0.8

#: Fewer cases show no habit.
FEWEST_CASES = 5

_NAMED = 5


def annotation_gaps(cases: Sequence[CaseFingerprint], labels: Labels) -> tuple[Problem, ...]:
    """A note for each label or region that nearly every case has and some lack without saying so.

    Cases that declare which labels were drawn in them (`annotated`) count for those only.
    """
    found = []
    drawn = [labels.drawn_names(case.annotated) for case in cases]
    for label in labels.classes:  # cores of objects go with their label
        asked = [case for case, names in zip(cases, drawn, strict=True) if label in names]
        lacking = [case.case for case in asked if case.voxels_per_label and not case.voxels_per_label.get(label)]
        having = len(asked) - len(lacking)
        if lacking and len(asked) >= FEWEST_CASES and having >= NEARLY_EVERY * len(asked):
            found.append(_note(label, sorted(lacking), having, len(asked)))
    return tuple(found)


def _note(label: str, lacking: Sequence[str], having: int, asked: int) -> Problem:
    more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
    return Problem(
        severity="note",
        kind="label-not-drawn",
        what=f"{label} is in {having} of {asked} cases, and not in {', '.join(lacking[:_NAMED])}{more}",
        remedy="If it was not drawn there, say what was drawn in these cases: in dataset.json "
        '{"annotated": {"case": ["label", …]}}, or in a file annotated.csv. Otherwise training takes its place for '
        "background. If it is truly absent, nothing needs to be done.",
        case=lacking[0],
    )
