"""`view`: an image and masks in the browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.dataset.geometry import affine_rows
from autoseg.dataset.nifti import nifti_bytes
from autoseg.dataset.readers import read_image, read_labels, stem_of
from autoseg.errors import UsageError
from autoseg.files import read_record
from autoseg.progress import Progress
from autoseg.records import Dataset, Geometry, Labels
from autoseg.viewer.files import Shown, page_files
from autoseg.viewer.niivue import niivue_script
from autoseg.viewer.server import FileServer
from autoseg.workspace import Workspace


def view(
    image: Path, masks: Sequence[Path], *, niivue: Path | None = None, work: Workspace | None = None, progress: Progress
) -> FileServer:
    """A server of a page that shows the first channel of the image with masks over it; the caller serves and closes.

    Whatever format is read is shown, by the radiological convention where its sides are known. Label names are those of
    the work folder, where there is one. Raises UsageError where NiiVue is not there, ReadError for a file that cannot
    be read.
    """
    script = niivue_script(niivue, Path.cwd())
    labels = read_record(work.dataset, Dataset).labels if work is not None and work.dataset.exists() else None
    with progress.stage("Reading volumes", 1 + len(masks)) as advance:
        volume = read_image((image,))
        sides = volume.geometry.has_sides
        shown = [Shown(stem_of(image), _nifti(volume.image[0], volume.geometry, sides), sides=sides)]
        advance(1)
        for mask in masks:
            shown.append(_shown_mask(mask, labels, sides))
            advance(1)
    return FileServer(page_files(shown, script))


def _nifti(array: NDArray[np.float32] | NDArray[np.int32], geometry: Geometry, sides: bool) -> bytes:
    """The volume as NIfTI. Without known sides it lies so that the viewer shows it as stored, first row on top."""
    if not sides:
        z, y, x = geometry.spacing
        matrix = np.diag([-x, -y, 1.0 if geometry.flat else z, 1.0])
        geometry = geometry.model_copy(update={"affine": affine_rows(matrix)})
    return nifti_bytes(array, geometry)


def _shown_mask(mask: Path, labels: Labels | None, sides: bool) -> Shown:
    found = read_labels(mask)
    if not np.issubdtype(found.labels.dtype, np.integer):
        raise UsageError("holds fractions, so it is no mask", where=mask, remedy="Name it first, as the image.")
    values = [int(value) for value in np.unique(found.labels)]
    names = {} if labels is None else {value: name for name, value in labels.names.items() if isinstance(value, int)}
    told = {value: names.get(value, str(value)) for value in values}
    return Shown(stem_of(mask), _nifti(found.labels.astype(np.int32), found.geometry, sides), told, sides)
