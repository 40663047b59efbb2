"""Which cases are of one patient: declared in the dataset folder, or seen in the case ids.

Scans of one patient are alike. With one of them in training, the other one in validation would seem easier than a new
patient is.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.dataset.declaration import FILE_NAME
from autoseg.dataset.patient_ids import patients_in_ids
from autoseg.errors import DatasetError

GROUPS_FILE = "groups.csv"
_FIELD = "groups"
_COLUMNS = ("case", "patient")


@dataclass(frozen=True)
class PatientGroups:
    """The patient of every case, and how that was found out."""

    patient_of: Mapping[str, str]
    rule: str  # completes "patients are told by …"
    notes: tuple[str, ...] = ()

    @property
    def shared(self) -> dict[str, tuple[str, ...]]:
        """Patients with several cases, sorted, and their sorted cases."""
        cases: dict[str, list[str]] = defaultdict(list)
        for case_id in sorted(self.patient_of):
            cases[self.patient_of[case_id]].append(case_id)
        return {patient: tuple(cases[patient]) for patient in sorted(cases) if len(cases[patient]) > 1}


def patient_groups(root: Path, case_ids: Sequence[str]) -> PatientGroups | None:
    """The patients of the cases; None where every case is a patient of its own, as far as anybody can see.

    What is declared decides: `groups` {case: patient} in dataset.json, or a file groups.csv with the columns case and
    patient. Without a declaration the case ids do, where they plainly name visits, scans or sides of patients.

    Raises DatasetError where a declaration makes no sense.
    """
    declared = declared_patients(root)
    if declared is None:
        seen = patients_in_ids(case_ids)
        found = None if seen is None else PatientGroups(seen.patient_of, seen.rule)
    else:
        found = _completed(*declared, case_ids)
    return found if found is not None and found.shared else None


def declared_patients(root: Path) -> tuple[dict[str, str], Path] | None:
    """{case: patient} as declared in a dataset folder, with the file that does; None where nothing does.

    Raises DatasetError where it makes no sense, or where two files declare it.
    """
    path = root / GROUPS_FILE
    from_json = _in_json(root / FILE_NAME)
    if from_json is not None and path.is_file():
        raise DatasetError(
            f"both {FILE_NAME} (field {_FIELD}) and {GROUPS_FILE} say which patient a case is of",
            where=root,
            remedy="Keep one of them.",
        )
    if from_json is not None:
        return from_json, root / FILE_NAME
    return (_in_table(path), path) if path.is_file() else None


def _in_json(path: Path) -> dict[str, str] | None:
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"cannot be read ({error})", where=path) from error
    entry = record.get(_FIELD) if isinstance(record, dict) else None
    if entry is None:
        return None
    if not isinstance(entry, dict) or not all(isinstance(patient, str | int) for patient in entry.values()):
        raise DatasetError(
            f"field {_FIELD}: it should be an object of case ids and patients",
            where=path,
            remedy='Write it as {"groups": {"case_1": "patient_1", "case_2": "patient_1"}}.',
        )
    return {case_id: str(patient) for case_id, patient in entry.items()}


def _in_table(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for line, (case_id, patient) in read_columns(path, _COLUMNS):
        if not patient or found.get(case_id, patient) != patient:
            what = "has no patient" if not patient else f"is given two patients, {found[case_id]} and {patient}"
            raise DatasetError(f"line {line}: case {case_id!r} {what}", where=path, remedy="Correct this line.")
        found[case_id] = patient
    return found


def read_columns(path: Path, names: tuple[str, str]) -> list[tuple[int, tuple[str, str]]]:
    """The two named columns of a CSV file with a header: (number of the line, values without spaces around them).

    Commas, semicolons and tabs separate; lines without any value are skipped. Raises DatasetError where the file
    cannot be read or has no such columns.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot be read ({error})", where=path) from error
    first = text.split("\n", 1)[0]
    separator = max(",;\t", key=first.count)
    rows = csv.reader(io.StringIO(text), delimiter=separator)
    header = [word.strip().casefold() for word in next(rows, [])]
    if not set(names) <= set(header):
        raise DatasetError(
            f"its first line is {first.strip()!r}, without the columns {names[0]} and {names[1]}",
            where=path,
            remedy=f"Begin it with the line: {names[0]},{names[1]}",
        )
    places = [header.index(name) for name in names]
    found = []
    for row in rows:
        if any(cell.strip() for cell in row):
            one, other = (row[place].strip() if place < len(row) else "" for place in places)
            found.append((rows.line_num, (one, other)))
    return found


def _completed(declared: Mapping[str, str], path: Path, case_ids: Sequence[str]) -> PatientGroups:
    """The declared groups of the cases at hand; cases that nobody mentions are patients of their own."""
    known = set(case_ids)
    missing = sorted(known - declared.keys())
    strangers = sorted(declared.keys() - known)
    notes = []
    if missing:
        notes.append(f"{path.name} names no patient for {_some(missing)}: each is taken as a patient of its own")
    if strangers:
        notes.append(f"{path.name} names patients of cases that are not in use: {_some(strangers)}")
    patients = set(declared.values())
    patient_of = {}
    for case_id in sorted(known):
        # a case's own name might be that of another one's patient
        own = case_id if case_id not in patients else f"{case_id} (not named)"
        patient_of[case_id] = declared.get(case_id, own)
    return PatientGroups(patient_of, path.name, tuple(notes))


def _some(names: Sequence[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{', '.join(names[:shown])}{more}"
