"""The table of formats that masks can be written in, by the name that `--format` takes.

A new format is a `MaskWriter` and one line here.
"""

from __future__ import annotations

from autoseg.dataset.mask_writers import LIKE_IMAGE, NIFTI, NRRD, MaskWriter
from autoseg.errors import UsageError
from autoseg.interop.dicom_seg_file import check_dicom_seg, write_dicom_seg
from autoseg.interop.dicom_source import require_series
from autoseg.interop.rtstruct_file import write_rtstruct

MASK_FORMATS: dict[str, MaskWriter] = {
    "auto": LIKE_IMAGE,
    "nifti": NIFTI,
    "nrrd": NRRD,
    "dicom-seg": MaskWriter(write_dicom_seg, ".seg.dcm", check_dicom_seg, colour_table=False),
    "rtstruct": MaskWriter(write_rtstruct, ".rtstruct.dcm", require_series, colour_table=False),
}


def find_mask_format(name: str) -> MaskWriter:
    """The writer of a format. Raises UsageError for an unknown name."""
    if name not in MASK_FORMATS:
        raise UsageError(f"--format {name}: there is no such format", remedy=f"Known are {', '.join(MASK_FORMATS)}.")
    return MASK_FORMATS[name]
