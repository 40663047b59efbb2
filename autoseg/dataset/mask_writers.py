"""How masks are written: beside their image's format, or in a format that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset import itk
from autoseg.dataset.colours import slicer_segments
from autoseg.dataset.readers import fitting_type, mask_ending, write_labels
from autoseg.records import Case, Geometry, Labels

Mask = NDArray[np.integer]  # (Z, Y, X), label values on the image's own grid


@dataclass(frozen=True)
class MaskWriter:
    """One format of masks: the ending of their names, and how one is written.

    `write` gets the mask's path, its voxels and grid, the case it belongs to, and the labels of the model. `check`
    raises where cases cannot be written so (before any is predicted).
    """

    write: Callable[[Path, Mask, Geometry, Case, Labels], None]
    ending: str | None = None  # None: that of the image, or of a lossless format where the image's cannot hold masks
    check: Callable[[Sequence[Case], Labels], None] | None = None
    colour_table: bool = True  # whether names and colours go into a table beside the masks


def write_like_image(path: Path, mask: Mask, geometry: Geometry, case: Case, labels: Labels) -> None:
    """Write a mask in the format of its ending, with the header of its image; NRRD holds names and colours."""
    if path.name.lower().endswith(".nrrd"):
        fitting = fitting_type(mask)
        itk.write_labels(path, fitting, geometry, case.images[0], slicer_segments(fitting, labels))
    else:
        write_labels(path, mask, geometry, case.images[0])


LIKE_IMAGE = MaskWriter(write_like_image)
NIFTI = MaskWriter(write_like_image, ".nii.gz")
#: 3D Slicer reads files of this ending as segmentations.
NRRD = MaskWriter(write_like_image, ".seg.nrrd")


def require_writable(writer: MaskWriter, cases: Sequence[Case], labels: Labels) -> None:
    """Raise the writer's own error where the masks of some case cannot be written so."""
    if writer.check is not None:
        writer.check(cases, labels)


def mask_path(case: Case, masks_folder: Path, writer: MaskWriter = LIKE_IMAGE) -> Path:
    """Where the mask of a case goes: the case's name with the ending of the format."""
    return masks_folder / f"{case.id}{writer.ending or mask_ending(case.images[0])}"
