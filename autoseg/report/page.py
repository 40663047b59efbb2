"""A report as a value, and the one self-contained HTML file that is made of it.

A page is sections, a section is blocks: figures (SVG), tables, pictures (data URIs) and words. The file loads nothing:
its own policy forbids it, and lets no script run but the one that sorts tables, so that a name with markup in it stays
a name.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from autoseg import __version__
from autoseg.errors import UsageError
from autoseg.files import write_text

TEMPLATES = Path(__file__).parent / "templates"

#: By this a file is known to be one of ours, which may be made anew.
GENERATOR = '<meta name="generator" content="autoseg'

#: Rows of a table at most, so that no page outgrows what can be mailed: a row has some 300 bytes.
MOST_ROWS = 2000

#: Letters of a name that stays on one line.
MOST_ON_A_LINE = 32

#: What stands where there is no figure.
NOTHING = "–"


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what is read, and what it is sorted by."""

    text: str
    order: float | str | None = None  # None: nothing, and last however the table is sorted
    kind: str = ""  # "good", "bad" or "doubt" are marked, "whole" stays on one line, "name" breaks at separators
    link: str = ""  # another page beside this one: only the list of reports has any

    @property
    def flush_right(self) -> bool:
        """Whether it is a figure."""
        return isinstance(self.order, float) or self.text == NOTHING


@dataclass(frozen=True)
class Table:
    """Rows of cells under column titles; sortable by every column."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""

    @property
    def right(self) -> tuple[bool, ...]:
        """Which columns hold figures only."""
        return tuple(all(row[index].flush_right for row in self.rows) for index in range(len(self.columns)))


@dataclass(frozen=True)
class Figure:
    """A drawing with its caption."""

    svg: Markup
    caption: str = ""


@dataclass(frozen=True)
class Charts:
    """Small drawings side by side."""

    members: tuple[Markup, ...]
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """Pixels as a data URI."""

    uri: str
    title: str
    caption: str = ""
    sides: bool = False  # whether it marks the sides of the patient
    image: bool = True  # whether it shows the image, or masks alone


@dataclass(frozen=True)
class Pictures:
    """Pictures side by side, as many as fit."""

    members: tuple[Picture, ...]
    caption: str = ""
    legend: tuple[tuple[str, str], ...] = ()  # (colour, name)
    width: int = 180  # of one picture, in CSS pixels


@dataclass(frozen=True)
class Words:
    """A paragraph; `kind` is "", "good", "doubt" or "bad"."""

    text: str
    kind: str = ""


@dataclass(frozen=True)
class Facts:
    """Figures that are to be seen first: name and value."""

    members: tuple[tuple[str, str], ...]


Block: TypeAlias = Table | Figure | Charts | Pictures | Words | Facts


@dataclass(frozen=True)
class Section:
    """A titled part of a page."""

    title: str
    blocks: tuple[Block, ...]
    lead: str = ""


@dataclass(frozen=True)
class Page:
    """A whole report."""

    kind: str  # "plan", "training", …
    title: str
    subtitle: str
    sections: tuple[Section, ...]


# -------------------------------------------------------------------------------------------------------- cells


def number(value: float | None, digits: int = 3, kind: str = "") -> Cell:
    """A figure with so many digits behind the point; thousands are set apart."""
    return Cell(NOTHING) if value is None else Cell(f"{value:,.{digits}f}", float(value), kind)


def word(text: object, kind: str = "") -> Cell:
    """A word, sorted by the alphabet."""
    return Cell(str(text), str(text).casefold(), kind)


def called(name: str) -> Cell:
    """The name of a case: on one line, or where it is long broken at its separators."""
    return word(name, "whole" if len(name) <= MOST_ON_A_LINE else "name")


def joined(values: Sequence[float], digits: int = 0, sign: str = " × ") -> str:
    """Sizes per axis: "40 × 56 × 40"."""
    return sign.join(f"{value:.{digits}f}" for value in values)


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]], caption: str = "") -> Table:
    """A table of any sequences."""
    return Table(tuple(columns), tuple(tuple(row) for row in rows), caption)


def beginning(
    columns: Sequence[str], rows: Sequence[Sequence[Cell]], rest: str, most: int = MOST_ROWS
) -> tuple[Block, ...]:
    """A table of the first rows; where there are more, `rest` says where they are."""
    shown = table(columns, rows[:most])
    return (shown,) if len(rows) <= most else (shown, Words(f"{len(rows) - most:,} more rows: {rest}"))


def sections(*found: Section | None) -> tuple[Section, ...]:
    """The sections that have anything in them."""
    return tuple(section for section in found if section is not None and section.blocks)


# ----------------------------------------------------------------------------------------------------- the file


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["told"] = told
    environment.filters["parted"] = parted
    return environment


def told(text: str) -> Markup:
    """Words with `commands` in them, which are set apart; all else is escaped."""
    return Markup(re.sub(r"`([^`\n]+)`", r"<code>\1</code>", str(escape(text))))


def parted(name: str) -> Markup:
    """A name that may be broken behind its separators, and nowhere else."""
    return Markup(re.sub(r"([-_./\\ ]+)", r"\1<wbr>", str(escape(name))))


def render(page: Page) -> str:
    """The page as HTML; every word in it is escaped."""
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode()
    return (
        _environment()
        .get_template("page.html")
        .render(
            page=page,
            version=__version__,
            style=Markup(style),
            script=Markup(script),
            script_hash=f"sha256-{digest}",
            kind_of=lambda block: type(block).__name__,
        )
    )


def write_page(path: Path, page: Page) -> None:
    """Write the page aside and rename it.

    Raises UsageError where another's file has the name: only reports are ever replaced.
    """
    require_own(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, render(page))


def require_own(path: Path) -> None:
    """Refuse a file that is not a report of ours."""
    if path.exists() and GENERATOR not in _beginning(path):
        raise UsageError(
            "is not a report of autoseg, so it is left alone", where=path, remedy="Move it, and make the report again."
        )


def _beginning(path: Path) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(2000)


# ------------------------------------------------------------------------------------------------------- names


@dataclass(frozen=True)
class Names:
    """How cases are called in a page: by their ids, or by numbers that tell nothing."""

    shown: Mapping[str, str]  # case id -> name
    anonymous: bool = False

    def __call__(self, case: str) -> str:
        """The name of a case."""
        return self.shown.get(case, "a case") if self.anonymous else case

    def words(self, text: str, instead: str) -> str:
        """Free text, which may hold names and paths: left out of anonymous pages."""
        return instead if self.anonymous else text


def names_for(cases: Sequence[str], anonymous: bool) -> Names:
    """Names for these cases; the order of anonymous numbers is that of the ids."""
    return Names(dict(_numbered(cases)) if anonymous else {}, anonymous)


def _numbered(cases: Sequence[str]) -> Iterator[tuple[str, str]]:
    width = len(str(len(cases)))
    for position, case in enumerate(sorted(set(cases)), start=1):
        yield case, f"case {position:0{width}d}"
