"""metrics.jsonl: a line per epoch, added while a run is trained, and read again."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from autoseg.errors import RecordError
from autoseg.files import disk_full, is_disk_full, write_text
from autoseg.records import EpochRecord

#: Fields that a newer version added are passed over.
_RECORDS = TypeAdapter(EpochRecord)


def read_epochs(path: Path) -> list[EpochRecord]:
    """The epochs of a metrics.jsonl; nothing where there is none.

    A last line that was torn by a kill while it was written counts for nothing. Raises RecordError, with its number,
    for any other line that is no record of an epoch.
    """
    return [record for _, record in _lines(path)]


def kept_epochs(path: Path, epochs: int) -> list[EpochRecord]:
    """The records of the first `epochs` epochs, which alone stay in the file, with all that stands in their lines.

    Raises RecordError as `read_epochs` does; the file is then left as it is.
    """
    if not path.exists():
        return []
    kept = [(line, record) for line, record in _lines(path) if record.epoch < epochs]
    write_text(path, "".join(f"{line}\n" for line, _ in kept))
    return [record for _, record in kept]


def add_epoch(path: Path, records: list[EpochRecord], record: EpochRecord) -> None:
    """Add a line, and the record to `records`; epochs that training went back to are written anew."""
    if records and records[-1].epoch >= record.epoch:
        records[:] = kept_epochs(path, record.epoch)
    records.append(record)
    try:
        with open(path, "a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(asdict(record), sort_keys=True) + "\n")
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(path) from error
        raise


def _lines(path: Path) -> list[tuple[str, EpochRecord]]:
    """The whole lines of the file, as they are and as records."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    found = []
    for number, line in lines:
        try:
            content = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == lines[-1][0]:  # the beginning of a JSON object is none: a line that can be read is whole
                break
            raise _broken(path, number, f"is not valid JSON ({error})") from error
        try:
            found.append((line, _RECORDS.validate_python(content)))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the line"
            raise _broken(path, number, f"is no record of an epoch ({where}: {first['msg']})") from None
    return found


def _broken(path: Path, number: int, why: str) -> RecordError:
    return RecordError(
        f"line {number} {why}",
        where=path,
        remedy="Correct the line or take it out: training itself does not depend on it.",
    )
