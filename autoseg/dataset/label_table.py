"""The labels table of dataset.json: values, lists of values, and regions by the names of other labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from autoseg.errors import DatasetError
from autoseg.records import Labels

#: Stands between the names of the labels that a region is made of.
JOIN = "+"

Value = int | tuple[int, ...]


def bad_field(path: Path, field: str, what: str) -> DatasetError:
    """The error for a field of dataset.json that makes no sense."""
    return DatasetError(f"field {field}: {what}", where=path, remedy="Correct this field.")


def label_table(record: Mapping[str, Any], path: Path) -> tuple[Labels | None, tuple[str, ...]]:
    """The labels of dataset.json and notes on how they were read; None where they are absent or empty.

    The table is {name: value} or the older {"value": name}. A value is a number, a list of numbers (nnU-Net's regions),
    or the names of other labels: "enhancing + necrosis". Raises DatasetError naming the field.
    """
    entry = record.get("labels")
    if entry is None or entry in ({}, []):
        return None, ()
    if not isinstance(entry, dict):
        raise bad_field(path, "labels", "it should be an object of names and values")
    entries = _turned(entry, path)
    raw_ignore = entries.pop("ignore", None)
    ignore = None if raw_ignore is None else _Table({"ignore": raw_ignore}, path).value("ignore")
    if isinstance(ignore, tuple):
        raise bad_field(path, "labels", "ignore must be one value")
    table = _Table(entries, path)
    values, notes = _with_background({name: table.value(name) for name in entries})
    order = record.get("regions_class_order")
    try:
        labels = Labels(names=values, ignore=ignore, regions_class_order=None if order is None else tuple(order))
    except (ValidationError, TypeError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise bad_field(path, "labels", reason.removeprefix("Value error, ")) from None
    return labels, notes


def _turned(entry: dict[str, Any], path: Path) -> dict[str, Any]:
    """{name: value}, from {"value": name} too."""
    if not all(_is_number(key) and isinstance(value, str) and not _is_number(value) for key, value in entry.items()):
        return dict(entry)
    names: dict[str, Any] = {}
    for key in sorted(entry, key=int):
        if entry[key] in names:
            raise bad_field(path, "labels", f"the name {entry[key]!r} is given twice")
        names[entry[key]] = int(key)
    return names


class _Table:
    """Finds the values of entries that may name one another."""

    def __init__(self, entries: Mapping[str, Any], path: Path) -> None:
        self._entries = entries
        self._path = path
        self._found: dict[str, Sequence[int]] = {}  # else entries that name others twice, many deep, take for ever

    def value(self, name: str) -> Value:
        """The value of an entry, or its values without repetition in the order in which they are named."""
        entry = self._entries[name]
        if isinstance(entry, list) or (isinstance(entry, str) and not _is_number(entry)):
            return tuple(self._members(name, ()))
        return self._number(name, entry)

    def _members(self, name: str, chain: tuple[str, ...]) -> Sequence[int]:
        """All values of an entry; `chain` are the entries that led to it."""
        if name in chain:
            told = " → ".join((*chain[chain.index(name) :], name))
            raise bad_field(self._path, f"labels.{chain[0]}", f"it is made of itself: {told}")
        if name in self._found:
            return self._found[name]
        entry = self._entries[name]
        parts = entry if isinstance(entry, list) else [entry]
        if not parts:
            raise bad_field(self._path, f"labels.{name}", "the list is empty")
        found: list[int] = []
        for part in parts:
            for word in self._words(part):
                if isinstance(word, str) and word in self._entries:
                    found.extend(self._members(word, (*chain, name)))
                else:
                    found.append(self._number(name, word))
        self._found[name] = tuple(dict.fromkeys(found))
        return self._found[name]

    def _words(self, part: object) -> Sequence[object]:
        """What a part of an entry names: one number or name, or those joined by +."""
        if not isinstance(part, str) or _is_number(part) or part.strip() in self._entries:
            return [part.strip() if isinstance(part, str) else part]
        return [word.strip() for word in part.split(JOIN)]

    def _number(self, name: str, value: object) -> int:
        if isinstance(value, str) and not _is_number(value):
            known = ", ".join(other for other in self._entries if other != name)
            what = f"{value!r} is neither a number nor the name of another label (those are {known})"
            raise bad_field(self._path, f"labels.{name}", what)
        if not isinstance(value, int | float | str) or isinstance(value, bool):
            raise bad_field(self._path, f"labels.{name}", f"{value!r} is neither a number nor a list of numbers")
        if isinstance(value, int):
            return value
        number = float(value)
        if not number.is_integer():
            raise bad_field(self._path, f"labels.{name}", f"{value!r} is not a whole number")
        return int(number)


def _with_background(values: dict[str, Value]) -> tuple[dict[str, Value], tuple[str, ...]]:
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


def _is_number(text: object) -> bool:
    return isinstance(text, str) and text.strip().lstrip("-").isdecimal()
