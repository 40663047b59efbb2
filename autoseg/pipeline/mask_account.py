"""The account of a folder of masks: how each was made, on the disk before the mask has its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field, ValidationError

from autoseg.files import disk_full, file_hash, is_disk_full, read_record, write_record
from autoseg.records import CaseCost, CaseTrust, Record

#: Where a folder of masks keeps it.
PREDICTIONS = "predictions.json"

#: What has been entered since a large account was written, a line for each mask.
JOURNAL = "predictions.jsonl"

#: Bytes from which an account is large.
LARGE_BYTES = 200_000


class MadeMask(Record):
    """How one mask was made: equal entries mean equal masks (what it cost apart)."""

    model: str  # hash of the model files
    options: str  # of what decides the mask beside model and input
    inputs: str  # hash of the input files
    mask: str  # hash of the mask file
    replaces: str = ""  # hash of what had its name before: the entry is written first
    formats: dict[str, str] = Field(default_factory=dict)  # name -> hash of all its files, in whichever format
    maps: dict[str, str] = Field(default_factory=dict)  # kind -> hash of the file
    receipt: str = ""  # name in receipts.json of what it was made with; decides nothing here
    trust: CaseTrust | None = None  # None: made by a version that did not ask
    cost: CaseCost | None = None  # the same


class Predictions(Record):
    """predictions.json: the masks of a folder."""

    format: int = 1
    masks: dict[str, MadeMask]


class JournalStart(Record):
    """First line of the journal: the account that it goes on from, by its hash. It belongs to no other."""

    after: str


class JournalEntry(Record):
    """A further line: a mask that was entered."""

    case: str
    made: MadeMask


def made_before(masks: Path) -> dict[str, MadeMask]:
    """How each mask of the folder was made, by case. Raises RecordError for another program's file of that name."""
    path = masks / PREDICTIONS
    if not path.exists():
        return {}
    made = dict(read_record(path, Predictions).masks)
    made.update({entry.case: entry.made for entry in _journal(masks)})
    return made


def enter(masks: Path, made: dict[str, MadeMask], case: str, entry: MadeMask) -> None:
    """Enter a mask among those `made`; it is on the disk when this returns.

    A small account is written whole. To a large one a journal is added, a line for each mask, until both are as large:
    the time that writing takes is in proportion to the masks, not to their square. Whoever begins to enter masks calls
    `settle` first: a journal that a killed command left may belong to an earlier account.
    """
    made[case] = entry
    path, journal = masks / PREDICTIONS, masks / JOURNAL
    size = _size(path)
    if size < LARGE_BYTES or _size(journal) >= size:
        _write_whole(masks, made)
        return
    line = JournalEntry(case=case, made=entry).model_dump_json()
    if not journal.exists():
        start = JournalStart(after=file_hash(path, 16)).model_dump_json()
        line = f"{start}\n{line}"
    else:  # behind a line that a kill may have torn
        line = f"\n{line}"
    try:
        with open(journal, "ab") as file:
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(journal, len(line), error) from error
        raise


def settle(masks: Path) -> None:
    """Bring the account into one file; for the beginning and the end of a command that holds the folder alone."""
    if (masks / JOURNAL).exists():
        _write_whole(masks, made_before(masks))


def _write_whole(masks: Path, made: dict[str, MadeMask]) -> None:
    write_record(masks / PREDICTIONS, Predictions(masks=dict(sorted(made.items()))))
    (masks / JOURNAL).unlink(missing_ok=True)  # were it to stay, it would belong to another account


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _journal(masks: Path) -> Iterator[JournalEntry]:
    """The entries since the account was written; a line that was torn by a kill is of a mask that got no name."""
    journal = masks / JOURNAL
    if not journal.exists():
        return
    first, *lines = journal.read_text(encoding="utf-8", errors="replace").split("\n")
    try:
        if JournalStart.model_validate_json(first).after != file_hash(masks / PREDICTIONS, 16):
            return
    except ValidationError:
        return
    for line in lines:
        try:
            yield JournalEntry.model_validate_json(line)
        except ValidationError:
            continue
