"""The list of the reports of a work folder."""

from __future__ import annotations

from collections.abc import Sequence

from autoseg.report.page import Cell, Page, Section, Words, sections, table, word


def index_page(title: str, found: Sequence[tuple[str, str, str]]) -> Page:
    """The page that names the others: (what it is, what it shows, its file)."""
    rows = [(word(what), word(shows), Cell(file, file, link=file)) for what, shows, file in found]
    blocks = (
        (table(("report", "what it shows", "file"), rows),)
        if rows
        else (Words("There is nothing to report yet.", "doubt"),)
    )
    return Page(
        "reports", title, "Each is one file that can be mailed and printed.", sections(Section("Reports", blocks))
    )
