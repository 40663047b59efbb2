"""The voxel size of a TIFF stack: in a JSON file beside it, as nnU-Net keeps it, or in the metadata of OME or ImageJ.

TIFF itself knows dots per inch, and nothing of the distance of slices. OME-XML stands in the image description
(https://docs.openmicroscopy.org/ome-model/latest/ome-tiff/), and so do ImageJ's lines of name=value, whose size of a
pixel is in the tags of the resolution.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from autoseg.dataset.geometry import VOXEL_EDGES_MM
from autoseg.dataset.pictures import DECODING_ERRORS, unreadable
from autoseg.errors import ReadError
from autoseg.records import Spacing

UNTOLD_NOTE = "a TIFF stack tells no voxel size: 1 mm is assumed"
THICKNESS_NOTE = "a TIFF stack tells how large its pixels are, but not how far apart its slices: as far as its rows"

#: Millimetres of the units that microscopes and their programs write.
_MILLIMETRES = {"m": 1e3, "dm": 1e2, "cm": 10.0, "mm": 1.0, "µm": 1e-3, "nm": 1e-6, "pm": 1e-9, "Å": 1e-7, "in": 25.4}

#: Other words for them.
_UNIT_WORDS = {"um": "µm", "micron": "µm", "inch": "in", "inche": "in", "angstrom": "Å"} | {
    f"{prefix}{ending}": unit
    for prefix, unit in (("", "m"), ("centi", "cm"), ("milli", "mm"), ("micro", "µm"), ("nano", "nm"))
    for ending in ("meter", "metre")
}


def stack_spacing(path: Path, file: Any) -> tuple[Spacing | None, str | None]:
    """Voxel size (Z, Y, X) in mm of a stack, None where nothing tells it, and a note on what had to be assumed.

    `file` is the tifffile.TiffFile of the path. Raises ReadError for broken metadata, and a broken JSON file beside it.
    """
    beside = spacing_file(path)
    told = None if beside is None else _from_json(beside)
    if told is not None:
        return told, None
    try:
        z, y, x = _of_ome(file) or _of_imagej(file) or (None, None, None)
    except DECODING_ERRORS as error:  # tags are read when they are asked for
        raise unreadable(path, error) from error
    if y is None or x is None:
        return None, UNTOLD_NOTE
    return (z or y, y, x), None if z else THICKNESS_NOTE


def spacing_file(path: Path) -> Path | None:
    """The JSON file that tells of a TIFF: of its name, or for images of its name without the number of the channel."""
    for name in dict.fromkeys((path.stem, re.sub(r"_\d{4}$", "", path.stem))):
        beside = path.with_name(f"{name}.json")
        if beside.is_file():
            return beside
    return None


def _from_json(path: Path) -> Spacing | None:
    """The spacing in a JSON file, in the order of the array; None where it tells of something else."""
    try:
        record = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ReadError(
            f"is no JSON, and should tell the voxel size of the TIFF beside it ({error})",
            where=path,
            remedy='Write {"spacing": [Z, Y, X]}, or remove the file.',
        ) from error
    if not isinstance(record, dict) or "spacing" not in record:
        return None
    entry = record["spacing"]
    sizes = [_size(size) for size in entry] if isinstance(entry, list) else []
    if len(sizes) != 3 or None in sizes:
        raise ReadError(
            f"field spacing: {json.dumps(entry)[:80]} is not three voxel sizes",
            where=path,
            remedy="Give the sizes in mm in the order of the array: [Z, Y, X].",
        )
    z, y, x = (float(size) for size in entry)
    return z, y, x


Sizes = tuple[float | None, float | None, float | None]  # (Z, Y, X) in mm, None where it is not told


def _of_ome(file: Any) -> Sizes | None:
    """What OME-XML says of the first image."""
    if not file.ome_metadata:
        return None
    try:
        pixels = ElementTree.fromstring(file.ome_metadata).find("{*}Image/{*}Pixels")
    except (ElementTree.ParseError, ValueError):
        return None
    if pixels is None:
        return None
    z, y, x = (_in_mm(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "ZYX")
    return z, y, x


def _of_imagej(file: Any) -> Sizes | None:
    """What ImageJ says: pixels per unit in the tags, the distance of slices and the unit in the description."""
    told = file.imagej_metadata
    if not told:
        return None
    unit = told.get("unit")
    tags = file.pages.first.tags
    rows, columns = (_pixel(tags.valueof(f"{axis}Resolution")) for axis in "YX")
    return (
        _in_mm(told.get("spacing"), told.get("zunit", unit)),
        _in_mm(rows, told.get("yunit", unit)),
        _in_mm(columns, unit),
    )


def _pixel(resolution: Any) -> float | None:
    """Size of a pixel from pixels per unit, a fraction."""
    try:
        pixels, units = resolution
        return float(units) / float(pixels)
    except (TypeError, ValueError, ArithmeticError):
        return None


def _in_mm(size: Any, unit: Any) -> float | None:
    """A size in mm; None for one that is none, or whose unit (pixels, say) is no length."""
    word = str(unit).strip().replace("\\u00B5", "µ").replace("μ", "µ")  # ImageJ escapes it; the Greek letter is another
    if word not in _MILLIMETRES:
        word = _UNIT_WORDS.get(word.lower().removesuffix("s"), "")
    try:
        return _size(abs(float(size)) * _MILLIMETRES[word])
    except (TypeError, ValueError, KeyError):
        return None


def _size(value: Any) -> float | None:
    """A number that may be the edge of a voxel in mm."""
    least, most = VOXEL_EDGES_MM
    return value if isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most else None
