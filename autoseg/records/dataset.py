"""What the user has: images, label maps, cases, and what was found wrong with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from autoseg.records.base import FLAT_SPACING_FACTOR, Affine, Record, Shape, Spacing
from autoseg.records.labels import Labels


class Geometry(Record):
    """Where the voxels of a file lie in the world.

    `shape` is the file's grid in array order (Z, Y, X) = (k, j, i), as stored. `affine` maps file indices (i, j, k) to
    RAS+ millimetres, NIfTI's convention, whatever the file format.
    """

    shape: Shape
    affine: Affine
    flat: bool = False  # a 2D image: one slice with no thickness of its own
    placed: bool = True  # whether the file says how its axes lie in the body; else they are taken as R, A, S

    @property
    def has_sides(self) -> bool:
        """Whether it is known where right, front and top are."""
        return self.placed and not self.flat

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The 4x4 affine as an array."""
        return np.asarray(self.affine, dtype=np.float64)

    @property
    def spacing(self) -> Spacing:
        """Voxel size in mm as stored, (Z, Y, X); a 2D image gets FLAT_SPACING_FACTOR times its largest as Z."""
        i, j, k = (float(size) for size in np.linalg.norm(self.matrix[:3, :3], axis=0))
        return (FLAT_SPACING_FACTOR * max(i, j), j, i) if self.flat else (k, j, i)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel in ml; a pixel of a 2D image, which has no thickness, counts as 1 mm thick."""
        z, y, x = self.spacing
        return (1.0 if self.flat else z) * y * x / 1000.0


@dataclass(frozen=True, eq=False)
class Volume:
    """An image as stored in its file(s)."""

    image: NDArray[np.float32]  # (C, Z, Y, X), axes as stored
    geometry: Geometry
    notes: tuple[str, ...] = ()  # what the reader found odd (sform and qform differ, for one)


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Labels as stored in a file: the file's own values, not yet mapped to 0..K-1."""

    labels: NDArray[np.generic]  # (Z, Y, X), axes as stored; integers, or floats if the file holds fractions
    geometry: Geometry
    notes: tuple[str, ...] = ()
    white: str = ""  # what is told where 255, white, was taken as the one label; empty where it was not


class Case(Record):
    """One patient or image: its files. One path per channel, or one file that holds all channels.

    Its labels are one label map, or one binary file per label (`label_files`, in the order of the dataset's labels), or
    nothing. With `instances`, a map of the ids of objects, the label map tells what each object is; where that needs no
    telling there is none, and where the map of ids has voxels to be ignored it is the label map as well. `images` are
    the files that there are, in the order of the channels. `annotated` names the labels that were drawn in this case;
    None means all of the dataset's. With `trust_voxels` the labels lie on the voxels of the image whatever their header
    says.
    """

    id: str
    images: tuple[Path, ...]
    labels: Path | None = None
    label_files: tuple[tuple[str, Path], ...] = ()
    annotated: tuple[str, ...] | None = None
    missing: tuple[int, ...] = ()  # channels without a file: only for a model that has learned to do without
    trust_voxels: bool = False
    instances: Path | None = None

    @property
    def label_paths(self) -> tuple[Path, ...]:
        """All files of its labels: the map of objects, the label map, and those of single labels."""
        return (
            *(path for path in (self.instances, self.labels) if path is not None),
            *(path for _, path in self.label_files),
        )

    @property
    def labelled(self) -> bool:
        """Whether any label file belongs to it."""
        return bool(self.label_paths)


class Dataset(Record):
    """A dataset folder as it was understood."""

    format: int = 1
    name: str
    root: Path
    layout: str  # name in dataset.layouts.LAYOUTS
    channels: tuple[str, ...]
    labels: Labels
    cases: tuple[Case, ...]
    test_cases: tuple[Case, ...] = ()  # never read by planning or selection
    file_ending: str
    notes: tuple[str, ...] = ()  # how the folder was read, for the user to confirm


class Problem(Record):
    """A finding about the dataset."""

    severity: Literal["error", "warning", "note"]
    kind: str  # short name, the same for the same fault: "missing-label"
    what: str
    remedy: str
    case: str | None = None
    file: Path | None = None


class Findings(Record):
    """findings.json: what was found when the dataset was last read to plan for it."""

    format: int = 1
    problems: tuple[Problem, ...]


class Fold(Record):
    """One split, in nnU-Net's format."""

    train: tuple[str, ...]
    val: tuple[str, ...]
