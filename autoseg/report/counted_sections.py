"""The sections of what is counted: lesions, and objects with ids."""

from __future__ import annotations

from autoseg.records import InstanceMeans, Summary
from autoseg.report.page import Cell, Section, number, table, word


def lesions_section(summary: Summary) -> Section | None:
    """Connected components of each label; None where they were not matched."""
    rows = [
        (
            word(name),
            number(entry.lesions.f1),
            number(entry.lesions.sensitivity),
            number(entry.lesions.precision),
            number(entry.lesions.true_positives, 0),
            number(entry.lesions.false_negatives, 0),
            number(entry.lesions.false_positives, 0),
        )
        for name, entry in summary.labels.items()
        if entry.lesions is not None
    ]
    columns = ("label", "F1", "sensitivity", "precision", "found", "missed", "false alarms")
    return Section("Lesions", (table(columns, rows),)) if rows else None


def _means(found: InstanceMeans | None) -> tuple[Cell, Cell]:
    """Panoptic quality and average precision at an IoU of a half, as means over cases."""
    known = (None, None) if found is None else (found.panoptic_quality, found.average_precision[0])
    return number(known[0]), number(known[1])


def objects_section(summary: Summary) -> Section | None:
    """Objects of each label; None where they are not counted."""
    rows = [
        (
            word(name),
            number(entry.instances.panoptic_quality),
            number(entry.instances.segmentation_quality),
            number(entry.instances.recognition_quality),
            number(entry.instances.counts[0].average_precision),
            *_means(entry.instance_means),
            number(entry.instances.reference, 0),
            number(entry.instances.prediction, 0),
            number(entry.instances.matched, 0),
        )
        for name, entry in summary.labels.items()
        if entry.instances is not None
    ]
    columns = ("label", "PQ", "SQ", "RQ", "AP50", "PQ of cases", "AP50 of cases", "in the references", "in the masks",
               "matched")  # fmt: skip
    told = "Of all cases together, and in two columns means over cases."
    if summary.panoptic is not None:
        parts = ("things", "stuff", "all")
        known = [(part, mean) for part in parts if (mean := getattr(summary.panoptic, part)) is not None]
        told += f" Mean PQ of labels: {', '.join(f'{part} {mean:.3f}' for part, mean in known) or 'none'}."
    return Section("Objects", (table(columns, rows),), told) if rows else None
