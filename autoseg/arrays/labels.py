"""Between the label values in files and the training labels 0..n-1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from autoseg.errors import DatasetError
from autoseg.records import Labels

#: Widest range of values for which a table of all of them is kept.
_TABLE_SIZE = 1 << 16


def encode(labels: NDArray[np.generic], names: Labels) -> NDArray[np.int16]:
    """Training labels, int16, of a label map with the file's values: positions in `names.values`, ignore last.

    Raises DatasetError, with value and number of voxels, if a voxel has a value that `names` does not declare.
    """
    declared = _declared(names)
    if labels.size == 0:
        return np.zeros(labels.shape, dtype=np.int16)
    whole = _whole_numbers(labels)
    lowest, highest = int(whole.min()), int(whole.max())
    if lowest >= 0 and highest < len(declared) and list(declared[: highest + 1]) == list(range(highest + 1)):
        return whole.astype(np.int16)  # the usual case: values 0..n-1 are their own positions
    if lowest >= 0 and highest < _TABLE_SIZE:
        table = np.full(highest + 1, -1, dtype=np.int16)
        for position, value in enumerate(declared):
            if 0 <= value <= highest:
                table[value] = position
        encoded: NDArray[np.int16] = table[whole]
    else:
        encoded = _searched(whole, declared)
    if encoded.min() < 0:
        raise _undeclared(whole[encoded < 0], names)
    return encoded


def decode(labels: NDArray[np.integer], names: Labels) -> NDArray[np.integer]:
    """The file's values of a map of training labels, in the smallest integer type that holds all declared values.

    The type is unsigned unless the ignore label is negative. Voxels outside the nonzero region (-1) become background.
    """
    declared = np.asarray(_declared(names), dtype=np.int64)
    smallest, largest = min(0, int(declared.min())), int(declared.max())
    kind = (
        np.min_scalar_type(largest)
        if smallest == 0
        else np.promote_types(np.min_scalar_type(smallest), np.min_scalar_type(-largest - 1))
    )
    if labels.dtype.kind == "u" and declared[-1] == len(declared) - 1 and smallest == 0:
        return labels.astype(kind, copy=False)  # 0..n-1: nothing to map
    table = np.zeros(len(declared) + 1, dtype=kind)
    table[: len(declared)] = declared
    # a training label of -1 takes the last entry, which stays 0
    values: NDArray[np.integer] = table[labels]
    return values


def region_round_trip(labels: Labels) -> tuple[str, ...]:
    """What is lost between label values, regions and masks, in words; nothing where every value comes back.

    Every value of the label files must be written into a mask again where its own regions are found without a fault.
    """
    if not labels.has_regions:
        return ()
    membership = labels.value_membership
    faults = []
    for position, (value, back) in enumerate(zip(labels.values, _written_back(labels, membership), strict=True)):
        if back != value:
            inside = [name for name, belongs in zip(labels.foreground, membership[position], strict=True) if belongs]
            faults.append(f"value {value} (in {', '.join(inside) or 'no region'}) would become {back}")
    return tuple(faults)


def _written_back(labels: Labels, membership: NDArray[np.bool_]) -> list[int]:
    """For each value what a mask would hold where exactly its regions are found."""
    if labels.regions_class_order is not None:
        written = np.zeros(len(labels.values), dtype=np.int64)
        for region, value in enumerate(labels.regions_class_order):
            written[membership[:, region]] = value
        return [int(value) for value in written]
    found = np.where(membership, 1, -1)  # scores of a perfect prediction, one row per true value
    winners = (found @ membership.T.astype(np.int64)).argmax(axis=1)
    return [labels.values[int(winner)] for winner in winners]


def _declared(names: Labels) -> tuple[int, ...]:
    return names.values if names.ignore is None else (*names.values, names.ignore)


def _whole_numbers(labels: NDArray[np.generic]) -> NDArray[np.integer]:
    """The label map as integers; fractions and what is not finite are the user's fault."""
    if labels.dtype == np.bool_:
        return labels.astype(np.uint8)
    if np.issubdtype(labels.dtype, np.integer):
        integers: NDArray[np.integer] = labels  # type: ignore[assignment]
        return integers
    values: NDArray[Any] = labels
    fractional = ~np.isfinite(values) | (values != np.rint(values))
    if fractional.any():
        examples = ", ".join(f"{value:g}" for value in np.unique(values[fractional])[:5])
        raise DatasetError(
            f"{int(fractional.sum())} voxels of the label map are not whole numbers (such as {examples})",
            remedy="Save the labels as integers; a resampled label map needs nearest-neighbour interpolation.",
        )
    return values.astype(np.int64)


def _searched(whole: NDArray[np.integer], declared: tuple[int, ...]) -> NDArray[np.int16]:
    """Positions of any values by search; -1 where a value is not declared."""
    order = np.argsort(declared, kind="stable")
    ascending = np.asarray(declared, dtype=np.int64)[order]
    found = np.empty(whole.shape, dtype=np.int16)
    planes = (len(whole), -1)
    # one by one: a search takes 32 bytes a voxel
    for plane, positions in zip(whole.reshape(planes), found.reshape(planes), strict=True):
        wide = plane.astype(np.int64)
        place = np.minimum(np.searchsorted(ascending, wide), len(ascending) - 1)
        positions[:] = np.where(ascending[place] == wide, order[place], -1)
    return found


def _undeclared(values: NDArray[np.integer], names: Labels) -> DatasetError:
    found, counts = np.unique(values, return_counts=True)
    listing = ", ".join(f"{value} ({count} voxels)" for value, count in zip(found[:8], counts[:8], strict=True))
    more = "" if len(found) <= 8 else f" and {len(found) - 8} more"
    return DatasetError(
        f"the label map holds values that are not declared: {listing}{more}; "
        f"declared are {', '.join(str(value) for value in _declared(names))}",
        remedy="Add them to `labels` in dataset.json, name the dataset or model whose labels these are, or correct the "
        "label map.",
    )
