"""The same image under several names: found by its voxels, whatever name, header or orientation it has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

from autoseg.records import CaseFingerprint, Fold, Problem

#: Cases named in a message.
_NAMED = 6


def same_images(cases: Iterable[CaseFingerprint]) -> tuple[tuple[str, ...], ...]:
    """Groups of at least two cases whose images have the same voxels: sorted ids, groups sorted by their first."""
    by_content: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        if case.content:
            by_content[case.content].append(case.case)
    return tuple(sorted(tuple(sorted(ids)) for ids in by_content.values() if len(ids) > 1))


def same_image_problems(cases: Iterable[CaseFingerprint]) -> tuple[Problem, ...]:
    """A warning for every group of cases with the same image."""
    return tuple(
        Problem(
            severity="warning",
            kind="same-image",
            what=f"{len(ids)} cases have the same image, voxel for voxel: {listed(ids)}",
            remedy="Remove all but one. Until then they stay in one part of every fold.",
            case=ids[0],
        )
        for ids in same_images(cases)
    )


def same_label_problems(drawn: Iterable[tuple[str, str]], cases: Iterable[CaseFingerprint]) -> tuple[Problem, ...]:
    """A warning for every group of cases with the same labels on different images.

    Args:
        drawn: (case, hash of its labels), "" for labels that may be the same by chance.
        cases: what is known of their images.
    """
    by_labels: dict[str, list[str]] = defaultdict(list)
    for case_id, labels in drawn:
        if labels:
            by_labels[labels].append(case_id)
    image_of = {case.case: case.content for case in cases}
    groups = sorted(tuple(sorted(ids)) for ids in by_labels.values() if len({image_of.get(id) for id in ids}) > 1)
    return tuple(
        Problem(
            severity="warning",
            kind="same-labels",
            what=f"{len(ids)} cases have the same labels, voxel for voxel, on different images: {listed(ids)}",
            remedy="Look at them: a label file was copied or saved under a wrong name.",
            case=ids[0],
        )
        for ids in groups
    )


def patient_problems(
    shared: Mapping[str, tuple[str, ...]], folds: Iterable[Fold], test: Collection[str], rule: str
) -> tuple[Problem, ...]:
    """Warnings for patients of whom a fold trains on one case and validates on another, or of whom some are test cases.

    Args:
        shared: patients with several cases.
        folds: a given split; none where there is none yet.
        test: ids of the test cases.
        rule: how patients are told.
    """
    inside = {patient: tuple(id for id in ids if id not in test) for patient, ids in shared.items()}
    found = [
        Problem(
            severity="warning",
            kind="patient-in-several-folds",
            what=f"the split trains and validates on cases of the same patient, told by {rule}: {listed(ids)}",
            remedy="Make the split anew by patients: `autoseg plan` without --splits does.",
            case=ids[0],
        )
        for ids in parted(inside.values(), folds)
    ]
    found += [
        Problem(
            severity="warning",
            kind="patient-in-test",
            what=f"{patient}, told by {rule}, has test cases and training cases: {listed(ids)}",
            remedy="Take the patient out of one of them: test scores would be better than those of new patients.",
            case=ids[0],
        )
        for patient, ids in shared.items()
        if 0 < len(inside[patient]) < len(ids)
    ]
    return tuple(found)


def parted(groups: Iterable[tuple[str, ...]], folds: Iterable[Fold]) -> tuple[tuple[str, ...], ...]:
    """The groups of which a fold has cases in training and others in validation."""
    parts = [(set(fold.train), set(fold.val)) for fold in folds]
    return tuple(
        group for group in groups if any(train.intersection(group) and val.intersection(group) for train, val in parts)
    )


def listed(names: tuple[str, ...]) -> str:
    """Names for a message: the first few, and how many more."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
