"""The sections of what is counted: lesions, and objects with ids."""

from __future__ import annotations

from autoseg.records import Summary
from autoseg.report.page import Section, number, table, word


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


def objects_section(summary: Summary) -> Section | None:
    """Objects of each label; None where they are not counted."""
    rows = [
        (
            word(name),
            number(entry.instances.panoptic_quality),
            number(entry.instances.segmentation_quality),
            number(entry.instances.recognition_quality),
            number(entry.instances.counts[0].average_precision),
            number(entry.instances.reference, 0),
            number(entry.instances.prediction, 0),
            number(entry.instances.matched, 0),
        )
        for name, entry in summary.labels.items()
        if entry.instances is not None
    ]
    columns = ("label", "PQ", "SQ", "RQ", "AP50", "in the references", "in the masks", "matched")
    told = "Of all cases together."
    if summary.panoptic is not None:
        parts = ("things", "stuff", "all")
        known = [(part, mean) for part in parts if (mean := getattr(summary.panoptic, part)) is not None]
        told += f" Mean PQ of labels: {', '.join(f'{part} {mean:.3f}' for part, mean in known) or 'none'}."
    return Section("Objects", (table(columns, rows),), told) if rows else None
