"""The page of what to label next, made from its record and what is kept of each image."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from autoseg.arrays.orientation import oriented_index
from autoseg.dataset.readers import read_image
from autoseg.errors import AutosegError
from autoseg.files import read_record
from autoseg.pipeline.looks import drawn_orientation, look_at, values_of
from autoseg.pipeline.pages import page_path
from autoseg.pipeline.suggest_evidence import read_mask, read_seen
from autoseg.records import Suggestions
from autoseg.report.page import Names, Picture, names_for, require_own, write_page
from autoseg.report.pictures import comparison
from autoseg.report.suggest_page import caption_of, suggest_page
from autoseg.workspace import Workspace

#: Candidates that are shown, and the bytes that their pictures take at most, so that a page can be mailed.
SHOWN, MOST_BYTES = 24, 3_000_000


def suggest_report(work: Workspace, *, anonymous: bool = False) -> Path:
    """The page of a queue; images that have gone since are left out."""
    path = page_path(work, work.suggestions / "suggestions.html", anonymous)
    require_own(path)
    found = read_record(work.suggestions / "suggestions.json", Suggestions)
    names = names_for(sorted({*(one.case for one in found.suggested), *found.failures}), anonymous)
    pictures: list[Picture] = []
    room = MOST_BYTES
    for picture in _pictures(work, found, names):
        room -= len(picture.uri)
        if room < 0:
            break
        pictures.append(picture)
    write_page(path, suggest_page(found, tuple(found.labels.foreground), pictures, names))
    return path


def _pictures(work: Workspace, found: Suggestions, names: Names) -> Iterator[Picture]:
    """A picture of each of the first; slices of one case that follow one another read it once."""
    ranks = list(enumerate(found.suggested[:SHOWN], start=1))
    for case, members in groupby(ranks, key=lambda entry: entry[1].case):
        kept = work.suggestions / "seen" / f"{case}.npz"
        seen, mask = read_seen(kept, case, None), read_mask(kept)
        if seen is None or mask is None or case not in found.images:
            continue
        try:
            image = read_image(found.images[case]).image[0]
        except AutosegError:
            continue
        look = look_at(names(case), image, mask, seen.geometry)
        for rank, one in members:
            i, j, k = one.index
            at = oriented_index((k, j, i), seen.geometry.shape, drawn_orientation(seen.geometry))
            yield comparison(look, values_of(found.labels), caption_of(one, rank), at=at, ticks=True)
