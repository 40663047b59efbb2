"""What to label next as a table for other programs."""

from __future__ import annotations

import csv
import io

from autoseg.records import Suggestions

#: Columns. Slices and voxels are counted from 0 along the file's axes; positions are RAS+ mm.
COLUMNS = (
    "rank", "case", "axis", "slice", "gain", "gain_so_far", "expected_loss", "likeness", "i", "j", "k",
    "x_mm", "y_mm", "z_mm",
)  # fmt: skip


def suggestions_csv(found: Suggestions) -> str:
    """A row per case or slice, the most worthwhile first; coordinates are of the middle of what is unsure."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    total = 0.0
    for rank, one in enumerate(found.suggested, start=1):
        total += one.gain
        writer.writerow(
            [
                *(rank, one.case, one.axis, "" if one.slice is None else one.slice),
                *(f"{value:.4f}" for value in (one.gain, total, one.loss, one.likeness)),
                *one.index,
                *(f"{along:.2f}" for along in one.position),
            ]
        )
    return stream.getvalue()
