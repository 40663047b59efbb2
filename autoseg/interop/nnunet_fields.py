"""Fields of nnU-Net's JSON files, read strictly: whatever is missing or impossible is an error that names the field."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoseg.errors import PlanError


@dataclass(frozen=True)
class Fields:
    """A JSON object, where it stands in its file ("configurations.2d"), and which file that is (for errors)."""

    values: Mapping[str, Any]
    place: str = ""
    source: str | None = None

    def error(self, name: str, what: str, remedy: str | None = "Correct this field.") -> PlanError:
        """The error for one field."""
        return PlanError(f"field {self._path(name)}: {what}", where=self.source, remedy=remedy)

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.values.get(name) is not None

    def get(self, name: str) -> Any:
        """The field as it is."""
        if name not in self.values:
            raise self.error(name, "is missing", "Add it, as nnU-Net writes it.")
        return self.values[name]

    def table(self, name: str) -> Fields:
        """The field as an object."""
        found = self.get(name)
        if not isinstance(found, Mapping):
            raise self.error(name, f"{found!r} is not a JSON object")
        return Fields(found, self._path(name), self.source)

    def text(self, name: str) -> str:
        """The field as a word."""
        found = self.get(name)
        if not isinstance(found, str):
            raise self.error(name, f"{found!r} is not a word")
        return found

    def flag(self, name: str) -> bool:
        """The field as true or false."""
        found = self.get(name)
        if not isinstance(found, bool):
            raise self.error(name, f"{found!r} is neither true nor false")
        return found

    def flags(self, name: str, count: int) -> tuple[bool, ...]:
        """The field as so many entries of true or false."""
        return tuple(bool(entry) for entry in self._list(name, count, lambda entry: isinstance(entry, bool)))

    def words(self, name: str, count: int) -> tuple[str, ...]:
        """The field as so many words."""
        return tuple(str(entry) for entry in self._list(name, count, lambda entry: isinstance(entry, str)))

    def whole(self, name: str, least: int = 1) -> int:
        """The field as a whole number."""
        found = self.get(name)
        if not is_whole(found) or found < least:
            raise self.error(name, f"{found!r} is not a whole number of at least {least}")
        return int(found)

    def wholes(self, name: str, count: int, least: int = 1) -> tuple[int, ...]:
        """The field as so many whole numbers."""
        return tuple(int(entry) for entry in self._list(name, count, lambda entry: is_whole(entry) and entry >= least))

    def sizes(self, name: str, count: int) -> tuple[float, ...]:
        """The field as so many positive numbers."""
        return tuple(float(entry) for entry in self._list(name, count, lambda entry: is_number(entry) and entry > 0))

    def per_stage(self, name: str, stages: int) -> tuple[int, ...]:
        """A number for every stage; one number stands for all of them."""
        found = self.get(name)
        return (self.whole(name),) * stages if is_whole(found) else self.wholes(name, stages)

    def rows(self, name: str, stages: int, axes: int) -> tuple[tuple[int, ...], ...]:
        """A row of a number per axis for every stage; one number stands for a row, or for all rows."""
        found = self.get(name)
        entries = [found] * stages if is_whole(found) else found
        if not isinstance(entries, Sequence) or isinstance(entries, str) or len(entries) != stages:
            raise self.error(name, f"needs {stages} entries, one per stage")
        rows = [[entry] * axes if is_whole(entry) else entry for entry in entries]
        for row in rows:
            if not isinstance(row, Sequence) or len(row) != axes or not all(is_whole(n) and n >= 1 for n in row):
                raise self.error(name, f"{row!r} is not {axes} whole numbers of at least 1")
        return tuple(tuple(int(number) for number in row) for row in rows)

    def _list(self, name: str, count: int, fits: Any) -> Sequence[Any]:
        found = self.get(name)
        if not isinstance(found, Sequence) or isinstance(found, str) or len(found) != count:
            raise self.error(name, f"{found!r} is not a list of {count}")
        if not all(fits(entry) for entry in found):
            raise self.error(name, f"{found!r} holds something impossible")
        return found

    def _path(self, name: str) -> str:
        return f"{self.place}.{name}" if self.place else name


def parse_fields(text: str | bytes, source: str) -> Fields:
    """The fields of a JSON file. Raises PlanError naming the file."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PlanError(f"is not valid JSON ({error})", where=source, remedy="Restore the file.") from error
    if not isinstance(record, dict):
        raise PlanError("does not hold a JSON object", where=source, remedy="Restore the file.")
    return Fields(record, source=source)


def is_number(value: Any) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: Any) -> bool:
    """Whether it is a whole number, 3.0 too."""
    return is_number(value) and float(value).is_integer()
