"""What a network found of objects, as a user wants it: labels, ids, a table, and a binary mask each on request."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.arrays.cores import LARGEST_SHARE
from autoseg.arrays.objects import find_objects, labels_of_objects, object_table
from autoseg.dataset.instance_maps import INSTANCES
from autoseg.dataset.mask_writers import mask_path
from autoseg.dataset.readers import write_labels
from autoseg.files import write_text
from autoseg.inference.object_masks import OBJECT_MASKS, object_masks_path, stacked_masks, write_object_masks
from autoseg.records import Case, FoundObject, Geometry, Labels

#: Folder of tables of objects, below that of the masks; instance maps have one beside it.
OBJECTS = "objects"

#: Columns of a table of objects.
COLUMNS = (
    "id", "label", "voxels", "ml", "score", "centre_z", "centre_y", "centre_x", "centre_right_mm", "centre_anterior_mm",
    "centre_superior_mm", "z_first", "z_end", "y_first", "y_end", "x_first", "x_end",
)  # fmt: skip

#: The largest id of an instance map of a picture: PNG holds 16 bits.
LARGEST_IN_PICTURE = 65535


@dataclass(frozen=True, eq=False)
class FoundScene:
    """Labels and objects of one image, axes as stored in its file."""

    labels: NDArray[np.integer]  # (k, j, i) with the values of `Labels.without_cores`
    ids: NDArray[np.uint32]  # (k, j, i) 0 is no object
    objects: tuple[FoundObject, ...]
    geometry: Geometry

    def masks(self) -> NDArray[np.bool_]:
        """(N, k, j, i) one binary mask per object, in the order of `objects`."""
        return stacked_masks(self.ids, self.objects)


def found_scene(
    mask: NDArray[np.integer],
    labels: Labels,
    geometry: Geometry,
    sure: NDArray[np.uint8] | None = None,
) -> FoundScene:
    """The objects in a whole mask of borders, cores and labels without objects.

    Args:
        mask: (k, j, i) with the values of `labels`, which have things.
        labels: of the model.
        geometry: the grid of the mask.
        sure: (T, k, j, i) probability of each thing, 255 is 1: the score of an object is the mean over its voxels of
            that of its own label.

    Each object has the label that most of its voxels have, all over. What is smaller than the smallest object of the
    training is background.
    """
    values = mask.copy()
    core = np.zeros(mask.shape, dtype=np.bool_)
    for border, inner in labels.core_values.items():
        own = mask == inner
        core |= own
        values[own] = border
    foreground = np.isin(values, list(labels.core_values))
    ids = find_objects(foreground, core, geometry.spacing, *_smallest(labels, geometry))
    value_of = labels_of_objects(ids, values, labels.core_values)
    # ids are 1, 2, …: they are places in a table
    table = np.zeros(int(ids.max(initial=0)) + 1, dtype=values.dtype)
    table[list(value_of)] = list(value_of.values())
    values[foreground] = table[ids[foreground]]  # what is too small for an object is background
    names = {border: name for name, border in zip(labels.things, labels.core_values, strict=True)}
    scores = None if sure is None else dict(zip(labels.core_values, sure, strict=True))
    return FoundScene(values, ids, object_table(ids, value_of, names, geometry, scores), geometry)


def _smallest(labels: Labels, geometry: Geometry) -> tuple[float, float]:
    """Voxels of the smallest core that counts beside others, and of the smallest object.

    The core of a small object takes about this share of it: that of a disc, or of a ball, of so much of its radius.
    """
    voxels = (labels.smallest_object_mm3 or 0.0) / (1000 * geometry.voxel_ml)
    return voxels * LARGEST_SHARE ** (2 if geometry.shape[0] == 1 else 3), voxels


def as_csv(objects: tuple[FoundObject, ...]) -> str:
    """The table of objects, a line each."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for found in objects:
        limits = (limit for side in found.box for limit in side)
        score = "" if found.score is None else f"{found.score:.4f}"
        centre = (f"{place:.2f}" for place in found.centre)
        in_world = (f"{place:.6g}" for place in found.centre_mm)  # voxels of microscopes are parts of a micrometre
        writer.writerow([found.id, found.label, found.voxels, f"{found.ml:.6g}", score, *centre, *in_world, *limits])
    return stream.getvalue()


def object_files(case: Case, folder: Path) -> dict[str, tuple[Path, ...]]:
    """By kind all files that `write_objects` may write for a case, below the folder of its mask."""
    ids = mask_path(case, folder / INSTANCES)
    return {
        INSTANCES: (ids, ids.with_name(f"{case.id}.tif")),
        OBJECTS: (folder / OBJECTS / f"{case.id}.csv",),
        OBJECT_MASKS: (object_masks_path(case.id, folder),),
    }


def write_objects(scene: FoundScene, case: Case, folder: Path, *, masks: bool = False) -> dict[str, Path]:
    """Write the instance map and the table of objects of a case below the folder of its mask; by kind where they are.

    The map is of the image's format, but a TIFF where PNG has no room for all ids. With `masks` also one binary mask
    per object.
    """
    files = object_files(case, folder)
    ids, roomy = files[INSTANCES]
    if ids.name.lower().endswith(".png") and int(scene.ids.max(initial=0)) > LARGEST_IN_PICTURE:
        ids = roomy
    written = {INSTANCES: ids, OBJECTS: files[OBJECTS][0]}
    for path in written.values():
        path.parent.mkdir(parents=True, exist_ok=True)
    write_labels(ids, scene.ids, scene.geometry, case.images[0] if case.images else None)
    write_text(written[OBJECTS], as_csv(scene.objects))
    if masks:
        written[OBJECT_MASKS] = files[OBJECT_MASKS][0]
        write_object_masks(written[OBJECT_MASKS], scene.ids, scene.objects)
    return written
