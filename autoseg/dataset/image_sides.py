"""What the six sides of an image are called."""

from __future__ import annotations

from autoseg.dataset.geometry import axis_codes
from autoseg.records import Geometry

#: An axis that runs towards a letter begins at one side and ends at the other.
_SIDES = {
    "R": ("left", "right"),
    "L": ("right", "left"),
    "A": ("posterior", "anterior"),
    "P": ("anterior", "posterior"),
    "S": ("inferior", "superior"),
    "I": ("superior", "inferior"),
}

#: A picture knows no patient.
_PICTURE = (("front", "back"), ("top", "bottom"), ("left edge", "right edge"))


def side_names(geometry: Geometry) -> tuple[tuple[str, str], tuple[str, str], tuple[str, str]]:
    """For each stored axis (k, j, i) the names of its first and its last plane, by the patient's anatomy."""
    if geometry.flat:
        return _PICTURE
    i, j, k = (_SIDES.get(letter, ("first", "last")) for letter in axis_codes(geometry))
    return k, j, i
