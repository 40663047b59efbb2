"""The same image under several names: found by its voxels, whatever name, header or orientation it has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

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
