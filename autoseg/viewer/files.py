"""What the viewer's page is made of, as files in memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.viewer.server import Served

#: Colours of the first labels, told apart by colour-blind readers too (Okabe & Ito 2008).
COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167))

_FOLDER = Path(__file__).parent
_KINDS = {"": "page.html", "page.css": "page.css", "page.js": "page.js"}
_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript"}


@dataclass(frozen=True)
class Shown:
    """One volume to show."""

    title: str  # what it is called on the page
    nifti: bytes
    labels: dict[int, str] | None = None  # value -> name of a mask; None: an image
    sides: bool = True  # whether it is known where right, front and top are: they are marked then


def page_files(volumes: Sequence[Shown], script: bytes) -> dict[str, Served]:
    """Name below the address -> file: the page, NiiVue, and the volumes, whose own names stay out of addresses."""
    files = {
        name: Served((_FOLDER / source).read_bytes(), _TYPES[Path(source).suffix]) for name, source in _KINDS.items()
    }
    files["niivue.js"] = Served(script, _TYPES[".js"])
    listed = []
    for number, volume in enumerate(volumes):
        file = f"volume-{number}.nii"
        files[file] = Served(volume.nifti, "application/octet-stream")
        table = None if volume.labels is None else colour_table(volume.labels)
        listed.append({"file": file, "title": volume.title, "labels": table, "sides": volume.sides})
    files["volumes.json"] = Served(json.dumps(listed).encode("utf-8"), "application/json")
    return files


def colour_table(labels: dict[int, str]) -> dict[str, list[int] | list[str]]:
    """NiiVue's colours of labels: red, green, blue, alpha, value and name, the background transparent."""
    values = sorted({0, *labels})
    colours = [
        (0, 0, 0) if value == 0 else COLOURS[(position - 1) % len(COLOURS)] for position, value in enumerate(values)
    ]
    return {
        "R": [red for red, _, _ in colours],
        "G": [green for _, green, _ in colours],
        "B": [blue for _, _, blue in colours],
        "A": [0 if value == 0 else 255 for value in values],
        "I": values,
        "labels": [labels.get(value, "background" if value == 0 else str(value)) for value in values],
    }
