"""Connected components of masks: found, and the largest kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cc3d
import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.crop import bounding_box
from autoseg.records import Labels

#: Voxels that touch by a corner belong together, as in nnU-Net (26 neighbours in 3D, 8 in a single slice).
CONNECTIVITY: Final = 26

#: Voxels of background around what is given to cc3d: 4.1.1 fails where every other voxel of an odd array is set, as in
#: [1, 0, 1]; with a margin it does not.
MARGIN: Final = 1


def pieces_of(ids: NDArray[np.generic]) -> tuple[NDArray[np.uint32], int]:
    """The connected pieces of objects or of a mask (Z, Y, X), numbered from 1 on, and how many there are."""
    numbered, count = cc3d.connected_components(np.pad(ids, MARGIN), connectivity=CONNECTIVITY, return_N=True)
    return np.ascontiguousarray(numbered[1:-1, 1:-1, 1:-1], dtype=np.uint32), int(count)


def besides_largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels (Z, Y, X) of a mask outside its largest connected component; of several equally large all stay.

    Memory: the numbers of the components (2 or 4 bytes a voxel of the mask's box) and one byte a voxel of the box.
    """
    others = np.zeros(mask.shape, dtype=np.bool_)
    box = tuple(slice(start, stop) for start, stop in bounding_box(mask))
    inside = np.pad(mask[box], MARGIN)
    numbers, count = cc3d.connected_components(inside, connectivity=CONNECTIVITY, return_N=True)
    if count > 1:
        # counted by cc3d: bincount would first make 8 bytes of every voxel
        sizes = np.asarray(cc3d.statistics(numbers, no_slice_conversion=True)["voxel_counts"])[1:]
        small = np.concatenate([[False], sizes < sizes.max()])
        others[box] = small[numbers[1:-1, 1:-1, 1:-1]]
    return others


def keep_largest(values: NDArray[np.integer], label: str | None, labels: Labels) -> NDArray[np.integer]:
    """A mask (Z, Y, X) with the file's values in which of one label the largest component alone is left.

    `label` names a label or region; None is all foreground taken together. What is removed becomes background, also
    where a smaller region lies inside a larger one (nnU-Net's rule). The mask given is not changed.
    """
    removed = besides_largest(mask_of(values, label, labels))
    if not removed.any():
        return values
    kept = values.copy()
    kept[removed] = 0
    return kept


def post_processed(values: NDArray[np.integer], steps: Sequence[str | None], labels: Labels) -> NDArray[np.integer]:
    """A mask (Z, Y, X) with the file's values after `keep_largest` of each label in `steps`, in that order."""
    for label in steps:
        values = keep_largest(values, label, labels)
    return values


def mask_of(values: NDArray[np.integer], label: str | None, labels: Labels) -> NDArray[np.bool_]:
    """Where a map (Z, Y, X) with the file's values has a label or region; None is all foreground."""
    found: NDArray[np.bool_]
    if label is None:
        found = values != 0
        return found
    first, *others = (labels.values[index] for index in labels.foreground[label])
    found = values == first  # one comparison after the other: np.isin takes several bytes a voxel
    for value in others:
        found |= values == value
    return found
