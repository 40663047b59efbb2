"""A derived value together with why it is so: what every planning rule gives back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from autoseg.records import Reason

ValueT = TypeVar("ValueT")

#: What is no smaller is not written with its digits: whole numbers in an edited file may have thousands of them.
LARGEST_WRITTEN = 1e300


@dataclass(frozen=True)
class Decision(Generic[ValueT]):
    """A value, in one or two sentences the rule and the numbers that entered, and the alternative it beat."""

    value: ValueT
    because: str
    instead: str = ""

    def reason(self, field: str, value: str) -> Reason:
        """The record for the plan; `value` is how a person reads the value."""
        return Reason(field=field, value=value, because=self.because, instead=self.instead)


def times(numbers: Iterable[float]) -> str:
    """Sizes as people write them: "40 × 56 × 40"."""
    return " × ".join(f"{number:g}" if number < LARGEST_WRITTEN else "far too many" for number in numbers)


def millimetres(spacing: Iterable[float]) -> str:
    """A spacing as people write it: "3 × 0.78 × 0.78 mm"."""
    return " × ".join(f"{number:.4g}" for number in spacing) + " mm"


def millions(number: float) -> str:
    """A large number as people read it: "452.8 million"."""
    return f"{number / 1e6:,.1f} million"


def given(option: str, words: str, ruled: Decision[ValueT], ruled_words: str) -> tuple[str, str]:
    """`because` and `instead` of a value that a person gave where the rule gives `ruled`."""
    because = f"Given by --set {option}={words} instead of what the rule gives: {ruled_words}."
    return because, f"By the rule {ruled_words}: {ruled.because}"
