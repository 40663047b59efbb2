"""Masks of some labels only."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import UsageError
from autoseg.records import Labels


def named_labels(labels: Labels, words: Sequence[str]) -> tuple[str, ...]:
    """The labels or regions that are named, in order of declaration; () where all are, or none is.

    A word is a name, or several with commas between. Raises UsageError naming those that the model knows.
    """
    known = labels.classes  # cores of objects are not for users
    wanted: set[str] = set()
    for word in words:
        names = [word] if word in known else [part.strip() for part in word.split(",") if part.strip()]
        wanted.update(names)
    for name in sorted(wanted - set(known)):
        near = difflib.get_close_matches(name, known, n=1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"the model knows no label {name!r}", remedy=f"Known are: {', '.join(known)}.{meant}")
    chosen = tuple(name for name in known if name in wanted)
    return () if len(chosen) == len(known) else chosen


def chosen_indices(labels: Labels, names: Sequence[str]) -> tuple[int, ...]:
    """Training labels of the labels and regions that are named, ascending; of all of them where none is."""
    entries = labels.foreground
    return tuple(sorted({index for name in names or entries for index in entries[name]}))


def held_labels(labels: Labels, names: Sequence[str]) -> Labels:
    """The labels that such a mask can hold: those that are named, all where none is, and no others."""
    if not names:
        return labels
    kept = {name: value for name, value in labels.names.items() if name in names}
    return Labels(names={"background": 0, **kept})


def only_chosen(mask: NDArray[np.integer], labels: Labels, names: Sequence[str]) -> NDArray[np.integer]:
    """The mask, with the values in its files, in which all but the named labels are background; itself for no name.

    All labels have competed before: a voxel of a chosen label is one in the whole mask, and the other way round.
    """
    if not names:
        return mask
    values = [labels.values[index] for index in chosen_indices(labels, names)]
    return np.where(np.isin(mask, values), mask, mask.dtype.type(0))
