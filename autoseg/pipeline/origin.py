"""A receipt and what it can be compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from autoseg.errors import UsageError
from autoseg.files import read_record
from autoseg.records import Receipt
from autoseg.workspace import Workspace


@dataclass(frozen=True)
class Given:
    """Where things are that a receipt does not tell, for it holds no path."""

    data: Path | None = None  # the dataset, the images, or the references
    models: tuple[Path, ...] = ()
    work: Workspace | None = None  # whose model predicted


@dataclass(frozen=True)
class Origin:
    """A receipt, and what it can be compared with."""

    title: str
    receipt: Receipt
    now: Mapping[str, str] = field(default_factory=dict)  # input or result -> its hash now; what is absent is unknown
    further: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)  # what -> then, now
    precision: str | None = None  # that is asked for, by the command or the model; None: unknown


def no_receipt(path: Path) -> UsageError:
    """The error for what has none."""
    return UsageError(
        "has no receipt: it is no result of autoseg, or one of an earlier version",
        where=path,
        remedy="Name a work folder, a plan, a run, a model file, a folder of masks or of prepared cases, or a "
        "summary.json.",
    )


def required_receipt(path: Path) -> Receipt:
    """The receipt in a file. Raises UsageError where it is missing, RecordError where it is damaged."""
    if not path.exists():
        raise no_receipt(path)
    return read_record(path, Receipt)
