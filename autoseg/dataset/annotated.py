"""Which labels were drawn in which case: said in dataset.json or annotated.csv."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from autoseg.dataset.declaration import ALL_DRAWN, FILE_NAME
from autoseg.errors import DatasetError
from autoseg.records import Case, Labels

CSV_NAME = "annotated.csv"

#: Stands between the label names of a cell.
SEPARATOR = ";"


def read_annotated(root: Path, declared: Mapping[str, tuple[str, ...]] | None) -> Mapping[str, tuple[str, ...]] | None:
    """Case -> labels that were drawn, from annotated.csv or as dataset.json declares it; None where neither says.

    Raises DatasetError where both do, or the CSV is not of the form case,labels with ; between the labels.
    """
    path = root / CSV_NAME
    if not path.is_file():
        return declared
    if declared is not None:
        raise DatasetError(
            "says what was drawn, and so does `annotated` in dataset.json", where=path, remedy="Keep one of them."
        )
    remedy = "It should have a header case,labels and lines such as patient-7,liver;spleen."
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            rows, columns = list(reader), set(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"cannot be read ({error})", where=path, remedy=remedy) from error
    if columns != {"case", "labels"}:
        raise DatasetError(f"has the columns {', '.join(sorted(columns))}", where=path, remedy=remedy)
    found: dict[str, tuple[str, ...]] = {}
    for number, row in enumerate(rows, start=2):
        if None in row:
            raise DatasetError(f"line {number} has more than two cells", where=path, remedy=remedy)
        case = row["case"].strip()
        if case in found:
            raise DatasetError(
                f"line {number}: case {case!r} is there twice", where=path, remedy="Keep one line of it."
            )
        found[case] = tuple(name.strip() for name in row["labels"].split(SEPARATOR) if name.strip())
    return found


def with_annotated(
    cases: Sequence[Case],
    test: Sequence[Case],
    labels: Labels,
    table: Mapping[str, tuple[str, ...]],
    root: Path,
) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    """Training and test cases with what the table says was drawn in them; what it does not name stays.

    Raises DatasetError for a case or a label that does not exist.
    """
    csv_file = root / CSV_NAME
    in_csv = csv_file.is_file()
    where = csv_file if in_csv else root / FILE_NAME
    known = {case.id for case in (*cases, *test)}
    for case, names in table.items():
        field = f"case {case}" if in_csv else f"field annotated.{case}"
        if case not in known:
            raise DatasetError(f"{field}: there is no such case", where=where, remedy="Correct its name.")
        unknown = [name for name in names if name not in labels.names and name != "ignore"]
        if unknown:
            raise DatasetError(
                f"{field}: {', '.join(map(repr, unknown))} is no label; labels are {', '.join(labels.classes)}",
                where=where,
                remedy="Correct the name.",
            )

    def told(case: Case) -> Case:
        if table is ALL_DRAWN:
            return case.model_copy(update={"annotated": None})
        if case.id not in table:
            return case
        drawn = labels.drawn_names(table[case.id])
        return case.model_copy(update={"annotated": None if len(drawn) == len(labels.foreground) else drawn})

    return tuple(told(case) for case in cases), tuple(told(case) for case in test)
