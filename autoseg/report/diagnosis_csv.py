"""The trainings of a diagnosis as a table for other programs."""

from __future__ import annotations

import csv
import io

from autoseg.records import Diagnosis

#: Columns of the CSV file.
COLUMNS = ("part", "cases", "seed", "mean_dice", "steps", "seconds", "run")


def as_csv(diagnosis: Diagnosis) -> str:
    """A row per training; what is not known is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in diagnosis.results:
        told = result.model_dump()
        writer.writerow([told[column] for column in COLUMNS])
    return stream.getvalue()
