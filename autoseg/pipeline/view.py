"""`view`: an image and masks in the browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from autoseg.dataset.nifti import nifti_bytes
from autoseg.dataset.readers import read_image, read_labels, stem_of
from autoseg.errors import UsageError
from autoseg.files import read_record
from autoseg.progress import Progress
from autoseg.records import Dataset, Labels
from autoseg.viewer.files import Shown, page_files
from autoseg.viewer.niivue import niivue_script
from autoseg.viewer.server import FileServer
from autoseg.workspace import Workspace


def view(
    image: Path, masks: Sequence[Path], *, niivue: Path | None = None, work: Workspace | None = None, progress: Progress
) -> FileServer:
    """A server of a page that shows the first channel of the image with masks over it; the caller serves and closes.

    Whatever format is read is shown. Label names are those of the work folder, where there is one. Raises UsageError
    where NiiVue is not there, ReadError for a file that cannot be read.
    """
    script = niivue_script(niivue, Path.cwd())
    labels = read_record(work.dataset, Dataset).labels if work is not None and work.dataset.exists() else None
    with progress.stage("Reading volumes", 1 + len(masks)) as advance:
        volume = read_image((image,))
        shown = [Shown(stem_of(image), nifti_bytes(volume.image[0], volume.geometry))]
        advance(1)
        for mask in masks:
            shown.append(_shown_mask(mask, labels))
            advance(1)
    return FileServer(page_files(shown, script))


def _shown_mask(mask: Path, labels: Labels | None) -> Shown:
    found = read_labels(mask)
    if not np.issubdtype(found.labels.dtype, np.integer):
        raise UsageError("holds fractions, so it is no mask", where=mask, remedy="Name it first, as the image.")
    values = [int(value) for value in np.unique(found.labels)]
    names = {} if labels is None else {value: name for name, value in labels.names.items() if isinstance(value, int)}
    told = {value: names.get(value, str(value)) for value in values}
    return Shown(stem_of(mask), nifti_bytes(found.labels.astype(np.int32), found.geometry), told)
