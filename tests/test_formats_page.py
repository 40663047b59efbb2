"""The page of formats is made from the tables, and says of each how it was checked.

`python tests/test_formats_page.py` writes docs/reference/formats.md anew.
"""

from __future__ import annotations

from pathlib import Path

from autoseg.dataset.layouts import LAYOUTS
from autoseg.dataset.readers import READERS
from autoseg.interop.mask_formats import MASK_FORMATS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "formats.md"

#: What each family of endings is, and the program other than ours that the tests hold it against.
FAMILIES: dict[tuple[str, ...], tuple[str, str]] = {
    (".nii.gz", ".nii"): ("NIfTI 1 and 2, 2D to 4D, sheared affines, RGB", "nibabel"),
    (".mha", ".mhd"): ("MetaImage, components and 4D as channels", "bytes written and read by hand"),
    (".nrrd", ".nhdr", ".seg.nrrd"): (
        "NRRD, components and 4D as channels, 3D Slicer's masks",
        "bytes by hand",
    ),
    (".gipl", ".gipl.gz"): ("GIPL (no directions)", "bytes written by hand"),
    (".png", ".bmp", ".jpg", ".jpeg"): ("2D images, grey, palette, RGB(A), 8 and 16 bits", "Pillow"),
    (".tif", ".tiff"): ("2D images and stacks; voxel size from JSON, OME-XML or ImageJ", "tifffile"),
    (".dcm", ".ima"): ("DICOM series (a folder, or any of its files), enhanced objects", "SimpleITK (GDCM)"),
    (".seg.dcm",): ("DICOM-SEG: binary, fractional, label map", "dcmqi and its NRRD files; raw bits; dciodvfy"),
    (".rtstruct.dcm",): ("RTSTRUCT", "scikit-image's rasterizer on raw coordinates; dciodvfy"),
}

#: What is read of a family, and what is written as masks.
USES = {
    ".dcm": ("images", "–"),
    ".seg.dcm": ("labels", "masks (`--format dicom-seg`)"),
    ".rtstruct.dcm": ("labels", "masks (`--format rtstruct`)"),
}

INTRODUCTION = """# Formats and layouts

This page is generated from the tables of the program: `python tests/test_formats_page.py`.

## Files

Files are known by their endings; DICOM files by their content, whatever their name. A mask has the format of its image,
or the one that stands behind an arrow, where the image's format cannot hold every mask; `--format` chooses another.
"""


def files_table() -> list[str]:
    rows = ["| format | endings | read | write | checked against |", "|---|---|---|---|---|"]
    for endings, (what, checked) in FAMILIES.items():
        written = [ending for ending in endings if READERS[ending].mask_ending is None]
        moved = {ending: READERS[ending].mask_ending for ending in endings if READERS[ending].mask_ending}
        told = [f"`{ending}`" for ending in written] + [f"`{ending}` → `{other}`" for ending, other in moved.items()]
        read, write = USES.get(endings[0], ("images, labels", "masks: " + ", ".join(told)))
        if endings[0] == ".dcm":
            write = f"masks: `{READERS['.dcm'].mask_ending}`"
        names = ", ".join(f"`{ending}`" for ending in endings)
        rows.append(f"| {what} | {names} | {read} | {write} | {checked} |")
    return rows


def masks_table() -> list[str]:
    rows = ["| `--format` | ending | names and colours |", "|---|---|---|"]
    for name, writer in MASK_FORMATS.items():
        beside = "`labels.ctbl` beside the masks" if writer.colour_table else "in the file"
        inside = " and in the file" if writer.ending == ".seg.nrrd" else ""
        ending = "that of the image" if writer.ending is None else f"`{writer.ending}`"
        rows.append(f"| `{name}` | {ending} | {beside}{inside} |")
    return rows


def page() -> str:
    layouts = [f"| `{name}` | {(layout.__doc__ or '').strip()} |" for name, layout in LAYOUTS.items()]
    parts = [
        INTRODUCTION,
        *files_table(),
        "\nDICOM needs the extra `dicom`; [how to use it](../how-to/dicom.md).",
        "\n## Formats of masks\n",
        *masks_table(),
        "\nDICOM-SEG and RTSTRUCT need DICOM images. NRRD masks hold names and colours in every case.",
        "\n## Layouts of datasets\n\nTried in this order; [examples](../how-to/your-own-dataset.md).\n",
        "| layout | what it is |\n|---|---|",
        *layouts,
    ]
    return "\n".join(parts) + "\n"


def test_the_page_is_what_the_tables_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python tests/test_formats_page.py"


def test_every_ending_has_its_row() -> None:
    assert [ending for endings in FAMILIES for ending in endings] == sorted(
        READERS, key=[ending for endings in FAMILIES for ending in endings].index
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
