"""Warnings before the network runs: what sets images apart from those that the model was trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from autoseg.dataset.geometry import axis_codes
from autoseg.fingerprint.likeness import Unlike, unlike_grid
from autoseg.progress import Progress
from autoseg.records import Case, Geometry, ModelHeader

#: What a header tells is warned of before the first case; the rest when an image is read.
_OF_THE_GRID = ("spacing", "field of view", "orientation")

#: Cases of which a line of their own tells; of more only how many.
_MOST_LINES = 10


def warn_of_grids(headers: Sequence[ModelHeader], grids: Mapping[str, Geometry], progress: Progress) -> None:
    """Warn of images whose grid is unlike those of the training; `grids` are those of the cases by id."""
    known = headers[0].fingerprint
    stored = any(
        member.configuration.preparation.orientation == "stored" for header in headers for member in header.members
    )
    told = [(case, found) for case, grid in grids.items() if (found := unlike_grid(known, grid, stored_axes=stored))]
    for case, found in told[:_MOST_LINES]:
        progress.warn(f"{case}: {'; '.join(map(str, found))}")
    if len(told) > _MOST_LINES:
        progress.warn(f"{len(told) - _MOST_LINES} more cases are unlike the training; review.csv will name them")
    if stored and not known.orientations:
        _note_orientations(list(grids.values()), progress)


def warn_of_intensities(case: Case, found: Sequence[Unlike], progress: Progress) -> None:
    """Warn of what the intensities of an image tell, before the network sees it."""
    rest = [entry for entry in found if entry.kind not in _OF_THE_GRID]
    if rest:
        progress.warn(f"{case.id}: {'; '.join(map(str, rest))}")


def _note_orientations(grids: Sequence[Geometry], progress: Progress) -> None:
    """Which images are not stored as RAS, where a model sees axes as stored and does not know what it was shown."""
    counts = Counter(map(axis_codes, grids))
    odd = {letters: count for letters, count in sorted(counts.items()) if letters not in ("RAS", "flat")}
    if odd:
        told = ", ".join(f"{letters} in {count}" for letters, count in odd.items())
        progress.say(
            f"Note: this model sees axes as they are stored in the file, and {sum(odd.values())} of {len(grids)} "
            f"images are not stored as RAS ({told}). Its masks can be trusted where its training images were stored "
            "alike."
        )
