"""Files on disk: written aside and renamed, hashed, and JSON records read strictly.

Whoever writes a file goes through `written_aside`, so that a crash, a full disk or a kill at any moment leaves
the earlier file, or none, under the final name, never half a file.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from autoseg.errors import DiskFullError, RecordError

RecordT = TypeVar("RecordT", bound=BaseModel)

#: Beginning of the name of every temporary file and folder; what carries it may be deleted by anyone when it is stale.
ASIDE_PREFIX = ".aside-"

_DIGITS = 12  # after it, so that no two writers have the same name


def aside_name(path: Path) -> Path:
    """A name in the same folder (so that renaming is atomic), with the same ending (readers look at it)."""
    return path.with_name(f"{ASIDE_PREFIX}{uuid.uuid4().hex[:_DIGITS]}-{path.name}")


def left_aside(path: Path) -> Iterator[Path]:
    """What killed commands left under temporary names of `path`; only for who writes it alone."""
    yield from path.parent.glob(f"{ASIDE_PREFIX}{'?' * _DIGITS}-{glob.escape(path.name)}")


@contextmanager
def written_aside(path: Path, needed: int | None = None) -> Iterator[Path]:
    """Give a temporary name beside `path`; on success rename it to `path`, on failure remove it.

    Works for a file and for a folder (a folder must not exist yet under the final name). `needed` bytes, where they
    are known, stand in the error for a full disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = aside_name(path)
    try:
        yield aside
        _flush(aside)
        os.replace(aside, path)
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(path, needed, error) from error
        raise
    finally:
        if aside.is_dir():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.unlink(missing_ok=True)


def is_disk_full(error: OSError) -> bool:
    """Whether the disk, or what the user may take of it, is full."""
    return error.errno in (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


def disk_full(path: Path, needed: int | None = None, cause: OSError | None = None) -> DiskFullError:
    """The error for a file that did not fit, with the free space in it, and the needed bytes where they are known."""
    free = shutil.disk_usage(path.parent).free
    wants = "" if needed is None else f"{_megabytes(needed)} are needed, "
    if cause is not None and cause.errno == errno.EFBIG:
        return DiskFullError(
            f"no room to write it: {wants}and no file may be so large here",
            where=path,
            remedy="Raise the limit (ulimit -f), or name a folder on another disk, and run the same command again.",
        )
    return DiskFullError(
        f"no room to write it: {wants}{_megabytes(free)} are free on this disk",
        where=path,
        remedy="Free some space and run the same command again; what was written before is intact.",
    )


def why_not_written(folder: Path, needed: int) -> OSError | None:
    """What the system says when so many bytes are written into a folder; None where there is nothing to say.

    For libraries that write files by themselves and do not tell why they could not. What is written is removed.
    """
    trial = folder / f"{ASIDE_PREFIX}{uuid.uuid4().hex[:12]}"
    try:
        with open(trial, "wb") as file:
            for _ in range(0, needed, 1 << 20):
                file.write(bytes(1 << 20))
    except OSError as error:
        return error
    finally:
        trial.unlink(missing_ok=True)
    return None


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.0f} MB" if count >= 10e6 else f"{count / 1e6:.2f} MB"


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder; only for who holds the folder alone."""
    for path in folder.glob(f"{ASIDE_PREFIX}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Force a file's bytes to the disk before it gets its final name (a power cut must not leave an empty file)."""
    if path.is_dir():
        return
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8, atomically."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: object) -> None:
    """Write plain JSON, atomically; keys keep their order."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_record(path: Path, record: BaseModel) -> None:
    """Write a record as JSON, atomically."""
    write_text(path, record.model_dump_json(indent=2) + "\n")


def read_record(path: Path, kind: type[RecordT]) -> RecordT:
    """Read a record strictly: unknown, missing or mistyped fields are errors that name file and field."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecordError("does not exist", where=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"cannot be read ({error})", where=path) from error
    return parse_record(text, kind, where=path)


def parse_record(text: str, kind: type[RecordT], where: object) -> RecordT:
    """Parse a record from JSON text; `where` names its origin in the error."""
    try:
        raw = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise RecordError(f"is not valid JSON ({error})", where=where, remedy="Restore it or make it anew.") from error
    _check_format(raw, kind, where)
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc']) or 'record'}: {fault['msg']}"
            for fault in error.errors()[:5]
        )
        raise RecordError(
            f"is not a valid {kind.__name__}: {faults}", where=where, remedy="Correct the field or make the file anew."
        ) from None


def _check_format(raw: object, kind: type[BaseModel], where: object) -> None:
    field = kind.model_fields.get("format")
    if field is None or not isinstance(raw, dict):
        return
    known, found = field.default, raw.get("format", field.default)
    if found != known:
        newer = isinstance(found, int) and isinstance(known, int) and found > known
        remedy = "Update autoseg to read it." if newer else "Make it anew with this version."
        raise RecordError(
            f"field format: it is of format {found!r}, this version knows format {known}", where=where, remedy=remedy
        )


def file_hash(path: Path, length: int = 64) -> str:
    """SHA-256 of a file's bytes, as hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:length]


def text_hash(text: str, length: int = 64) -> str:
    """SHA-256 of a text, as hex digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:length]
