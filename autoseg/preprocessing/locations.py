"""Where the foreground lies in a prepared case: the voxels around which training draws patches."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from autoseg.records import Labels

#: Voxels kept per label: all up to LARGEST, or this share of them if that is more (nnU-Net).
LARGEST = 10_000
SHARE = 0.01

#: Key of the annotated voxels, present only with an ignore label: the one name that no foreground label can have.
ANNOTATED = "background"

#: Their key in stores that were prepared earlier, where a label could have it as well.
_FORMERLY = "annotated"

_SEED = 1234


def class_locations(labels: NDArray[np.int16], names: Labels) -> dict[str, NDArray[np.int32]]:
    """Foreground name -> voxels (N, 3) in (Z, Y, X) of a prepared label map, chosen at random where there are many.

    A region has the voxels of all its labels. With an ignore label there is an entry ANNOTATED too: voxels that are
    not ignored. The choice is the same at every call.
    """
    generator = np.random.default_rng(_SEED)
    flat = labels.reshape(-1)
    foreground = np.flatnonzero(flat > 0)
    values = flat[foreground]
    found = {}
    for name, members in names.foreground.items():
        wanted = [member for member in members if member != 0]
        chosen = values == wanted[0] if len(wanted) == 1 else np.isin(values, wanted)
        found[name] = _voxels(_sample(foreground[chosen], generator), labels.shape)
    if names.ignore_index is not None:
        found[ANNOTATED] = _voxels(_sample(np.flatnonzero(flat != names.ignore_index), generator), labels.shape)
    return found


def label_voxels(locations: Mapping[str, NDArray[np.int32]], has_ignore: bool) -> dict[str, NDArray[np.int32]]:
    """The locations of the labels alone: foreground name -> voxels (N, 3)."""
    other = _annotated_key(locations) if has_ignore else None
    return {name: voxels for name, voxels in locations.items() if name != other}


def annotated_voxels(locations: Mapping[str, NDArray[np.int32]], has_ignore: bool) -> NDArray[np.int32] | None:
    """Voxels (N, 3) that are not ignored, whatever their label; None where the labels have nothing to ignore."""
    return locations.get(_annotated_key(locations)) if has_ignore else None


def _annotated_key(locations: Mapping[str, NDArray[np.int32]]) -> str:
    return ANNOTATED if ANNOTATED in locations else _FORMERLY


def _sample(voxels: NDArray[np.intp], generator: np.random.Generator) -> NDArray[np.intp]:
    """Some of the voxels, in ascending order (they compress well so)."""
    number = max(LARGEST, -(-len(voxels) // round(1 / SHARE)))
    if len(voxels) <= number:
        return voxels
    chosen = generator.choice(len(voxels), number, replace=False, shuffle=False)
    chosen.sort()
    return voxels[chosen]


def _voxels(flat: NDArray[np.intp], shape: tuple[int, ...]) -> NDArray[np.int32]:
    return np.stack(np.unravel_index(flat, shape), axis=1).astype(np.int32)
