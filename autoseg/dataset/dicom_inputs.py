"""DICOM folders as cases: which series to predict or learn from, and what to call them.

Case ids come from the names of folders, or from a hash of the series' UID: never from a field that tells of the
patient, since they become file names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from autoseg.dataset.dicom import Found, find_series
from autoseg.dataset.naming import safe_id
from autoseg.files import text_hash
from autoseg.records import Problem

#: Folders that sort files and name no case.
SORTING = ("images", "imagestr", "imagests", "dicom", "dicomdir", "series")

#: Digits of the hash that tells series of one folder apart.
_DIGITS = 8


def dicom_inputs(folder: Path, problems: list[Problem]) -> list[tuple[str, tuple[Path, ...]]]:
    """(case id, paths) for every image series in a folder or below it; notes on what is no image."""
    found = find_series(folder)
    images = [one for one in found if not one.labels and not one.localizer]
    for one in found:
        if one not in images:
            what = f"holds {'labels' if one.labels else 'a localizer'} ({one.modality}), no image to segment: left out"
            problems.append(_note("no-image", what, one.path))
    several = {path for path, count in Counter(one.folder for one in images).items() if count > 1}
    for path in sorted(several):
        members = [one for one in images if one.folder == path]
        told = ", ".join(f"{one.modality} of {one.files} files" for one in members)
        problems.append(_note("several-series", f"holds {len(members)} series: {told}; each is a case", path))
    split = [uid for uid, count in Counter(one.series for one in images).items() if count > 1]
    for uid in split:
        parts = [one.folder.name for one in images if one.series == uid]
        what = f"a series lies in {len(parts)} folders ({', '.join(parts[:4])}): each is read as a case of its own"
        problems.append(_note("split-series", what, folder))
    return [(name, (one.path,)) for name, one in zip(series_names(images, folder), images, strict=True)]


def series_names(found: Sequence[Found], root: Path) -> list[str]:
    """A name for each series: its folder's below `root`, as much of its path as tells it from the others."""
    paths = [_words(one.folder, root) for one in found]
    firsts = Counter(words[:1] for words in paths)
    names = ["_".join(words[:1] if firsts[words[:1]] == 1 else words) for words in paths]
    again = Counter(names)
    return [
        safe_id(name if again[name] == 1 else f"{name}-{text_hash(one.series, _DIGITS)}", one.folder)
        for name, one in zip(names, found, strict=True)
    ]


def _words(folder: Path, root: Path) -> tuple[str, ...]:
    words = [word for word in folder.relative_to(root).parts if word.lower() not in SORTING]
    return tuple(words) or (root.resolve().name or "series",)


def _note(kind: str, what: str, file: Path) -> Problem:
    return Problem(severity="note", kind=kind, what=what, remedy="Nothing to do if that is right.", file=file)
