"""Maps of objects: how the labels of a case with objects are read, from its ids and what each of them is.

An instance map holds the id of an object in each voxel, in any integer type; ids mean nothing beyond one case. Within
the program an object is two label values, its border and its core, and each counted label a region of both (see
`arrays.cores`). So one label map holds them all, and nothing after it needs to know of objects.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.cores import object_cores
from autoseg.arrays.objects import labels_of_objects
from autoseg.dataset.geometry import DIFFERENT_GRID_VOXELS, corner_distance_mm, smallest_voxel_edge
from autoseg.dataset.naming import data_files
from autoseg.dataset.readers import image_of, read_labels_on, stem_of
from autoseg.dataset.voxels import small_integers, smallest_type
from autoseg.errors import DatasetError
from autoseg.records import Case, LabelMap, Labels

#: Folder of instance maps below that of masks.
INSTANCES = "instances"


def read_objects(case: Case, labels: Labels) -> LabelMap:
    """The labels of a case with objects as one map (Z, Y, X) with the values of `labels`: borders, cores, and the rest.

    Raises ReadError for a file that cannot be read, DatasetError where ids are no whole numbers from 0 on, ids and
    labels lie on different grids, or an object is of no label.
    """
    ids, values, label_map = read_scene(case, labels)
    geometry = label_map.geometry
    cores = object_cores(ids, geometry.spacing, labels.core_margin_mm or 0.0)
    found = values.copy()
    for border, core in labels.core_values.items():
        found[cores & (values == border)] = core
    return LabelMap(found, geometry, label_map.notes)


def read_scene(case: Case, labels: Labels) -> tuple[NDArray[np.integer], NDArray[np.integer], LabelMap]:
    """Ids of objects and values of labels (Z, Y, X) of a case, as a user has them, and the map of ids as it was read.

    An object has the value that most of its voxels have in the label map; one that has voxels to be ignored, and none
    of a counted label, is ignored. A voxel of a counted label without an id is ignored where the labels have an ignore
    value, else background. Where there is one kind of objects and nothing else, the map of ids is enough; where it is
    the label map as well, the ignore value is none of the ids. Raises DatasetError where the case has no map of
    objects, or no label map and it takes one; ReadError for a file that cannot be read.
    """
    if case.instances is None:
        raise DatasetError("has no map of objects", where=case.id, remedy="Add its file to instancesTr.")
    label_map = read_labels_on(case.instances, image_of(case))
    if case.labels is None or case.labels == case.instances:
        return *_of_one_kind(label_map, case, labels), label_map
    ids = ids_of(label_map, case.instances)
    pairs = labels.core_values
    values = _background(ids.shape, labels)
    kinds = _kinds(case, case.labels, label_map)
    rest = [value for value in labels.values if value not in (*pairs, *pairs.values())]
    ignore = [] if labels.ignore is None else [labels.ignore]
    plain = (ids == 0) & np.isin(kinds, [*rest, *ignore])
    values[plain] = kinds[plain]
    values[(ids == 0) & np.isin(kinds, list(pairs))] = labels.ignore or 0
    unknown = ~np.isin(kinds, [*labels.values, *ignore]) | np.isin(kinds, list(pairs.values()))
    if unknown.any():
        raise DatasetError(
            f"holds values that are not declared: {', '.join(map(str, np.unique(kinds[unknown])[:8]))}",
            where=case.labels,
            remedy="Declare them in dataset.json, or correct the file.",
        )
    value_of = labels_of_objects(ids, kinds, pairs)
    if labels.ignore is not None:
        value_of = dict.fromkeys(labels_of_objects(ids, kinds, ignore), labels.ignore) | value_of
    _paint(values, ids, value_of, case.instances)
    if labels.ignore is not None:
        ids = np.where(values == labels.ignore, ids.dtype.type(0), ids)
    return ids, values, label_map


def _of_one_kind(label_map: LabelMap, case: Case, labels: Labels) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Ids and values of a map of ids that tells all that there is to tell."""
    where, ignore = case.instances or case.id, None if case.labels is None else labels.ignore
    if len(labels.classes) > 1:
        raise DatasetError(
            f"no label map tells which of its objects are {', '.join(labels.things)}",
            where=where,
            remedy="Add a label map of the same name to labelsTr.",
        )
    ignored = np.zeros(label_map.labels.shape, dtype=np.bool_)
    if ignore is not None:
        ignored = label_map.labels == ignore
        known = np.where(ignored, label_map.labels.dtype.type(0), label_map.labels)
        label_map = LabelMap(small_integers(known), label_map.geometry)
    ids = ids_of(label_map, where)
    values = _background(ids.shape, labels)
    values[ids > 0] = next(iter(labels.core_values))
    values[ignored] = ignore or 0
    return ids, values


def _background(shape: tuple[int, ...], labels: Labels) -> NDArray[np.integer]:
    """A map without any label, of a type that holds all of them."""
    declared = (*labels.values, labels.ignore or 0)
    return np.zeros(shape, dtype=smallest_type(min(declared), max(declared)))


def whole_objects(label_map: LabelMap, labels: Labels) -> LabelMap:
    """A map of borders and cores with one value for both, as `Labels.without_cores` has it."""
    if not labels.things:
        return label_map
    values: NDArray[np.generic] = label_map.labels.copy()
    for border, core in labels.core_values.items():
        values[label_map.labels == core] = border
    return LabelMap(values, label_map.geometry, label_map.notes)


def instance_map_of(mask: Path) -> Path | None:
    """The instance map that goes with a mask of ours, in a folder below; None where there is none."""
    folder = mask.parent / INSTANCES
    found = [path for path in data_files(folder) if stem_of(path) == stem_of(mask)] if folder.is_dir() else []
    return found[0] if len(found) == 1 else None


def _paint(values: NDArray[np.integer], ids: NDArray[np.integer], value_of: dict[int, int], where: Path) -> None:
    """Give all voxels of each object its value."""
    occurring, owners = np.unique(ids, return_inverse=True)
    table = np.array([value_of.get(int(number), 0) for number in occurring], dtype=values.dtype)
    nameless = occurring[(table == 0) & (occurring > 0)]
    if nameless.size:
        raise DatasetError(
            f"{nameless.size} objects have no voxel of a counted label (ids {', '.join(map(str, nameless[:8]))})",
            where=where,
            remedy="Label them in the label map, or take their ids away.",
        )
    inside = ids > 0
    values[inside] = table[owners.reshape(ids.shape)[inside]]


def ids_of(label_map: LabelMap, where: Path | str) -> NDArray[np.integer]:
    """The ids of a file; raises DatasetError where they are no whole numbers from 0 on."""
    found = label_map.labels
    if found.dtype.kind == "f" or (found.size and int(found.min()) < 0):
        what = "fractions" if found.dtype.kind == "f" else "negative numbers"
        raise DatasetError(f"holds {what} where ids of objects are expected", where=where, remedy="Save whole numbers.")
    return found.astype(np.uint8) if found.dtype == np.bool_ else found  # type: ignore[return-value]


def _kinds(case: Case, path: Path, ids: LabelMap) -> NDArray[np.integer]:
    """The label map of a case that goes with its map of ids."""
    found, ids_path = read_labels_on(path, image_of(case)), case.instances or path
    shapes = found.geometry.shape, ids.geometry.shape
    if shapes[0] != shapes[1]:
        what = f"has shape {shapes[0]} (Z, Y, X), but the ids in {ids_path.name} {shapes[1]}"
    elif found.labels.dtype.kind not in "iu":
        what = "holds fractions, not labels"
    else:
        distance = corner_distance_mm(found.geometry, ids.geometry)
        if case.trust_voxels or distance <= DIFFERENT_GRID_VOXELS * smallest_voxel_edge(ids.geometry):
            return found.labels  # type: ignore[return-value]
        what = f"lies {distance:.1f} mm away from the ids in {ids_path.name}"
    raise DatasetError(what, where=path, remedy="Give labels and ids on one grid.")
