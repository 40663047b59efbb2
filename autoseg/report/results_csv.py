"""Scores as a table for other programs."""

from __future__ import annotations

import csv
import io

from autoseg.records import Summary
from autoseg.report.page import Names

#: Columns of the CSV file.
COLUMNS = (
    "case", "label", "dice", "iou", "nsd", "hd95_mm", "assd_mm", "volume_reference_ml", "volume_prediction_ml",
    "volume_error_ml", "true_positives", "false_positives", "false_negatives",
)  # fmt: skip


def as_csv(summary: Summary, names: Names) -> str:
    """A row per case and label; what does not exist is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for case in summary.cases:
        for label, score in case.labels.items():
            told = score.model_dump(include=set(COLUMNS))
            writer.writerow([names(case.case), label, *(told[column] for column in COLUMNS[2:])])
    return stream.getvalue()
