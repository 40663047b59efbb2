"""What `dataset.json` says: nnU-Net's (version 1 and 2) and the Medical Segmentation Decathlon's."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autoseg.errors import DatasetError
from autoseg.records import Labels

FILE_NAME = "dataset.json"


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
    labels, notes = _labels(record, path)
    name, ending, count = record.get("name"), record.get("file_ending"), record.get("numTraining")
    return Declaration(
        name=name if isinstance(name, str) and name.strip() else None,
        channels=_channels(record, path),
        labels=labels,
        file_ending=ending if isinstance(ending, str) else None,
        training=_explicit(record, path) or _list(record, "training", path),
        test=_list(record, "test", path),
        cases_declared=count if isinstance(count, int) else None,
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
                raise _bad(path, field, f"its keys {list(entry)} are not channel numbers") from None
        if isinstance(entry, list | tuple) and entry:
            return tuple(str(name) for name in entry)
    return ()


def _labels(record: dict[str, Any], path: Path) -> tuple[Labels | None, tuple[str, ...]]:
    """The labels table, from {name: value} or the older {"value": name}; None where it is absent or empty."""
    entry = record.get("labels")
    if entry is None or entry in ({}, []):
        return None, ()
    if not isinstance(entry, dict):
        raise _bad(path, "labels", "it should be an object of names and values")
    notes: tuple[str, ...] = ()
    names: dict[str, Any] = dict(entry)
    if all(_is_number(key) and isinstance(value, str) and not _is_number(value) for key, value in entry.items()):
        names = {}
        for key in sorted(entry, key=int):
            if entry[key] in names:
                raise _bad(path, "labels", f"the name {entry[key]!r} is given twice")
            names[entry[key]] = int(key)
    values = {name: _value(name, value, path) for name, value in names.items()}
    ignore = values.pop("ignore", None)
    if isinstance(ignore, tuple):
        raise _bad(path, "labels", "ignore must be one value")
    values, renamed = _with_background(values)
    order = record.get("regions_class_order")
    try:
        labels = Labels(names=values, ignore=ignore, regions_class_order=None if order is None else tuple(order))
    except (ValidationError, TypeError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise _bad(path, "labels", reason.removeprefix("Value error, ")) from None
    return labels, notes + renamed


def _with_background(
    values: dict[str, int | tuple[int, ...]],
) -> tuple[dict[str, int | tuple[int, ...]], tuple[str, ...]]:
    """The table with an entry background: 0, put first where it had to be added or renamed, and a note on that."""
    if values.get("background", 0) != 0 and values["background"] != (0,):
        return values, ()  # the record's own check refuses it
    zeros = [name for name, value in values.items() if value in (0, (0,))]
    if values.get("background") == 0 and len(zeros) == 1:
        return values, ()
    rest = {name: value for name, value in values.items() if name not in zeros}
    others = [name for name in zeros if name != "background"]
    note = "dataset.json declares no background: value 0 is taken as it"
    if zeros:
        note = f"label {', '.join(others or zeros)} has value 0 and is taken as the background"
    return {"background": 0, **rest}, (note,)


def _value(name: str, value: object, path: Path) -> int | tuple[int, ...]:
    if isinstance(value, list) and value:
        members = [_value(name, member, path) for member in value]
        return tuple(member for member in members if isinstance(member, int))
    number = float(value) if isinstance(value, int | float) or _is_number(value) else None  # type: ignore[arg-type]
    if number is None or isinstance(value, bool):
        raise _bad(path, f"labels.{name}", f"{value!r} is neither a number nor a list of numbers")
    if not number.is_integer():
        raise _bad(path, f"labels.{name}", f"{value!r} is not a whole number")
    return int(number)


def _is_number(text: object) -> bool:
    return isinstance(text, str) and text.strip().lstrip("-").isdecimal()


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
        if not all(isinstance(part, str) for part in images) or not isinstance(label, str | None):
            raise _bad(path, f"{field}.{position}", "it should be a path, or an object with image and label")
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
            raise _bad(path, f"dataset.{case}", 'it should be {"images": [paths], "label": path}')
        found.append(Listed(tuple(str(image) for image in images), entry.get("label"), id=str(case)))
    return tuple(found)


def _bad(path: Path, field: str, what: str) -> DatasetError:
    return DatasetError(f"field {field}: {what}", where=path, remedy="Correct this field.")
