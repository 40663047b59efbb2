"""Which test stands for which fault, and the page that tells of them.

    python -m tests.faults.catalog

writes docs/reference/faults.md anew. (From the repository's root; `test_the_page.py` keeps it current.)
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "reference" / "faults.md"

#: How many there are.
FAULTS = 60

#: The modules of the tests, in the order of the numbers, and what they are about.
GROUPS = {
    "test_files": "Files",
    "test_geometry": "Geometry",
    "test_intensities": "Channels and intensities",
    "test_labels": "Labels",
    "test_resources": "Resources",
    "test_interruptions": "Interruptions and devices",
    "test_models_and_evaluation": "Models and evaluation",
}

INTRODUCTION = f"""\
# What each fault gets

{FAULTS} bad inputs and interruptions that users of such programs have met, and what autoseg does about each. Every row
is a test in `tests/faults` (`pytest tests/faults`), and this page is generated from them: `python -m
tests.faults.catalog`.

Always: the message names the file, the cause and what to do; one bad case does not stop the others; the exit code is
0 where all went well, 2 where some cases failed, 1 where nothing useful was done; and what was there before is intact.
"""


@dataclass(frozen=True)
class Fault:
    """A fault, and what a test of it shows."""

    number: int
    given: str
    gets: str


def fault(number: int, given: str, gets: str) -> pytest.MarkDecorator:
    """Mark a test: the number of the fault, what is wrong, and what the user gets."""
    return pytest.mark.fault(number, given, gets)


def faults_of(module: str) -> Iterator[Fault]:
    """The faults that the tests of a module stand for."""
    found = importlib.import_module(f"{__package__}.{module}")
    for name, function in vars(found).items():
        if name.startswith("test_"):
            for mark in getattr(function, "pytestmark", ()):
                if mark.name == "fault":
                    yield Fault(*mark.args)


def page() -> str:
    """The text of the page."""
    parts = [INTRODUCTION]
    for module, title in GROUPS.items():
        rows = sorted(faults_of(module), key=lambda entry: entry.number)
        lines = [f"| {row.number} | {_cell(row.given)} | {_cell(row.gets)} |" for row in rows]
        parts.append("\n".join([f"## {title}\n", "| | given | what happens |", "|---|---|---|", *lines]) + "\n")
    return "\n".join(parts)


def _cell(words: str) -> str:
    return re.sub(r"\s+", " ", words).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
