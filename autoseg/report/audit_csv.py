"""The queue of an audit as tables for other programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from autoseg.records import Audit, AuditedCase, AuditedPlace
from autoseg.report.page import Names

#: Columns of the two files. Voxels are counted from 0 along the file's axes; positions are RAS+ mm.
CASE_COLUMNS = (
    "rank", "case", "suspicion", "label", "kind", "what", "dice", "dice_corrected", "fold", "places",
    "i", "j", "k", "x_mm", "y_mm", "z_mm",
)  # fmt: skip
PLACE_COLUMNS = (
    "rank", "case", "suspicion", "label", "kind", "reference", "model", "margin", "voxels", "ml",
    "i", "j", "k", "x_mm", "y_mm", "z_mm",
)  # fmt: skip


def cases_csv(audit: Audit, names: Names) -> str:
    """A row per case, the likeliest label error first; coordinates are those of its most suspicious place."""
    return _table(CASE_COLUMNS, (_case(rank, case, names) for rank, case in enumerate(audit.cases, start=1)))


def places_csv(audit: Audit, names: Names) -> str:
    """A row per place, the most suspicious first."""
    return _table(PLACE_COLUMNS, (_place(rank, place, names) for rank, place in enumerate(audit.places, start=1)))


def _case(rank: int, case: AuditedCase, names: Names) -> Sequence[object]:
    return (
        *(rank, names(case.case), f"{case.suspicion:.3f}", case.label, case.kind, case.what),
        *(_figure(case.dice), _figure(case.dice_corrected), case.fold, len(case.places)),
        *(_where(case.places[0]) if case.places else [""] * 6),
    )


def _place(rank: int, place: AuditedPlace, names: Names) -> Sequence[object]:
    return (
        *(rank, names(place.case), f"{place.suspicion:.3f}", place.label, place.kind, place.reference, place.model),
        *(f"{place.margin:.3f}", place.voxels, f"{place.ml:.6g}"),
        *_where(place),
    )


def _where(place: AuditedPlace) -> list[object]:
    return [*place.index, *(f"{along:.2f}" for along in place.position)]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return stream.getvalue()
