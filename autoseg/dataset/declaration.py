"""What `dataset.json` says: nnU-Net's (version 1 and 2) and the Medical Segmentation Decathlon's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from autoseg.dataset.label_table import bad_field, label_table
from autoseg.errors import DatasetError
from autoseg.records import Labels

FILE_NAME = "dataset.json"

#: What "annotated": "all" is read as: no case lacks a label.
ALL_DRAWN: Mapping[str, tuple[str, ...]] = MappingProxyType({})


@dataclass(frozen=True)
class Listed:
    """One case of a list in dataset.json: paths as written there."""

    images: tuple[str, ...]
    labels: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class Declaration:
    """The parts of dataset.json that matter here; what is absent is None or empty."""

    name: str | None = None
    channels: tuple[str, ...] = ()
    labels: Labels | None = None
    file_ending: str | None = None
    training: tuple[Listed, ...] = ()
    test: tuple[Listed, ...] = ()
    cases_declared: int | None = None
    annotated: Mapping[str, tuple[str, ...]] | None = None  # case -> labels that were drawn; ALL_DRAWN for all cases
    instances: bool | str | tuple[str, ...] | None = None  # which objects are counted, see `dataset.counted`
    notes: tuple[str, ...] = ()


def read_declaration(root: Path) -> Declaration | None:
    """The declaration in a dataset folder, or None where there is no dataset.json.

    Raises DatasetError naming line and column where it is no JSON, and the field where it makes no sense.
    """
    path = root / FILE_NAME
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DatasetError(
            f"is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}",
            where=path,
            remedy="Correct that place (a comma before a closing bracket and comments are not allowed).",
        ) from error
    except (OSError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise DatasetError(f"cannot be read ({error})", where=path) from error
    if not isinstance(record, dict):
        raise DatasetError("does not hold a JSON object", where=path, remedy="It should look like {…}.")
    return _declaration(record, path)


def _declaration(record: dict[str, Any], path: Path) -> Declaration:
    labels, notes = label_table(record, path)
    name, ending, count = record.get("name"), record.get("file_ending"), record.get("numTraining")
    return Declaration(
        name=name if isinstance(name, str) and name.strip() else None,
        channels=_channels(record, path),
        labels=labels,
        file_ending=ending if isinstance(ending, str) else None,
        training=_explicit(record, path) or _list(record, "training", path),
        test=_list(record, "test", path),
        cases_declared=count if isinstance(count, int) else None,
        annotated=_annotated(record, path),
        instances=_instances(record, path),
        notes=notes,
    )


def _channels(record: dict[str, Any], path: Path) -> tuple[str, ...]:
    """Channel names in order of their numbers."""
    for field in ("channel_names", "modality"):
        entry = record.get(field)
        if isinstance(entry, dict) and entry:
            try:
                return tuple(str(entry[key]) for key in sorted(entry, key=int))
            except ValueError:
                raise bad_field(path, field, f"its keys {list(entry)} are not channel numbers") from None
        if isinstance(entry, list | tuple) and entry:
            return tuple(str(name) for name in entry)
    return ()


def _list(record: dict[str, Any], field: str, path: Path) -> tuple[Listed, ...]:
    """Cases of a Decathlon list: objects with image and label, or plain paths."""
    entries = record.get(field)
    if not isinstance(entries, list):
        return ()
    found = []
    for position, entry in enumerate(entries):
        if isinstance(entry, str):
            entry = {"image": entry}
        image = entry.get("image") if isinstance(entry, dict) else None
        images = tuple(image) if isinstance(image, list) else (image,)
        label = entry.get("label") if isinstance(entry, dict) else None
        if not images or not all(isinstance(part, str) for part in images) or not isinstance(label, str | None):
            raise bad_field(path, f"{field}.{position}", "it should be a path, or an object with image and label")
        found.append(Listed(tuple(str(part) for part in images), label))
    return tuple(found)


def _explicit(record: dict[str, Any], path: Path) -> tuple[Listed, ...]:
    """Cases of nnU-Net's table {case: {"images": […], "label": …}}."""
    entries = record.get("dataset")
    if not isinstance(entries, dict):
        return ()
    found = []
    for case, entry in entries.items():
        images = entry.get("images") if isinstance(entry, dict) else None
        if not isinstance(images, list) or not images or not isinstance(entry.get("label"), str | None):
            raise bad_field(path, f"dataset.{case}", 'it should be {"images": [paths], "label": path}')
        found.append(Listed(tuple(str(image) for image in images), entry.get("label"), id=str(case)))
    return tuple(found)


def _instances(record: dict[str, Any], path: Path) -> bool | str | tuple[str, ...] | None:
    """Whether objects are counted one by one, and of which labels."""
    entry = record.get("instances")
    if isinstance(entry, list) and entry and all(isinstance(name, str) for name in entry):
        return tuple(entry)
    if entry is None or isinstance(entry, bool) or (isinstance(entry, str) and entry.strip()):
        return entry
    raise bad_field(path, "instances", "it should be true, false, a label's name, or a list of names")


def _annotated(record: dict[str, Any], path: Path) -> Mapping[str, tuple[str, ...]] | None:
    """{case: [labels that were drawn]}; "all" says that a label without a file is absent in every case."""
    entry = record.get("annotated")
    if entry is None:
        return None
    if entry == "all":
        return ALL_DRAWN
    if not isinstance(entry, dict):
        raise bad_field(path, "annotated", 'it should be {"case": ["label", …]}, or "all"')
    found = {}
    for case, names in entry.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise bad_field(path, f"annotated.{case}", "it should be a list of label names")
        found[str(case)] = tuple(names)
    return found
