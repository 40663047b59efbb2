"""Small volumes with two labels in them, datasets of such, and models of them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from numpy.typing import NDArray

from autoseg.files import read_record, write_record
from autoseg.model_file import write_model
from autoseg.networks.catalog import build_network
from autoseg.pipeline.plans import signed
from autoseg.records import Configuration, Labels, Member, ModelHeader, Plan
from autoseg.workspace import Workspace

AFFINE = np.diag([1.0, 1.0, 1.5, 1.0])
BALL, CORE = 1, 2
LABELS: Mapping[str, Any] = {"background": 0, "ball": BALL, "core": CORE}


@dataclass(frozen=True)
class Said:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """All of it, with single spaces, so that the width of the terminal does not matter."""
        return " ".join((self.out + " " + self.err).replace("|", " ").split())


Typed = Callable[..., Said]
Planned = Callable[..., Said]

#: Image and labels of a case, (i, j, k), and what changes them: (number of the case, image, labels) -> both.
Changed = tuple[NDArray[Any], NDArray[Any]]
Change = Callable[[int, NDArray[Any], NDArray[Any]], Changed]


def words(line: str, *more: object) -> list[str]:
    """A command as a user types it, cut into words; further words are taken as they are."""
    return [*shlex.split(line), *(str(word) for word in more)]


# ------------------------------------------------------------------------------------------------------- volumes


def a_ball(seed: int = 0, shape: Sequence[int] = (20, 22, 18)) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """A noisy image with a bright ball and a brighter core, and its labels: (i, j, k)."""
    rng = np.random.default_rng(seed)
    centre = np.array(shape) / 2 + rng.uniform(-1.5, 1.5, 3)
    distance = np.sqrt(((np.indices(shape) - centre[:, None, None, None]) ** 2).sum(0))
    labels = np.where(distance < 2.8, CORE, np.where(distance < 5.5, BALL, 0)).astype(np.uint8)
    image = 100.0 * labels + rng.normal(50, 8, shape)
    return image.astype(np.float32), labels


def save(path: Path, array: NDArray[Any], affine: NDArray[Any] = AFFINE) -> Path:
    """Write an array (i, j, k) as NIfTI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return path


def load(path: Path) -> NDArray[Any]:
    """The voxels of a NIfTI file, (i, j, k)."""
    return np.asarray(nibabel.load(path).dataobj)


def declare(root: Path, **changes: object) -> None:
    """Write dataset.json, or change fields of the one that is there."""
    path = root / "dataset.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**before, **changes}))


def a_dataset(
    root: Path,
    cases: int = 5,
    *,
    channels: Sequence[str] = ("MR",),
    labels: Mapping[str, Any] | None = None,
    change: Change | None = None,
    ending: str = ".nii.gz",
    declared: bool = True,
) -> Path:
    """A dataset in nnU-Net's layout: `change` alters the image and labels of a case before they are written."""
    for number in range(cases):
        image, found = a_ball(number)
        changed, drawn = (image, found) if change is None else change(number, image, found)
        for channel in range(len(channels)):
            save(root / "imagesTr" / f"case_{number}_{channel:04d}{ending}", changed + 10 * channel)
        save(root / "labelsTr" / f"case_{number}{ending}", drawn)
    if declared:
        declare(
            root,
            channel_names={str(place): name for place, name in enumerate(channels)},
            labels=dict(LABELS if labels is None else labels),
            numTraining=cases,
            file_ending=ending,
        )
    return root


def image_of(root: Path, number: int = 0, channel: int = 0, ending: str = ".nii.gz") -> Path:
    """The image file of a case of `a_dataset`."""
    return root / "imagesTr" / f"case_{number}_{channel:04d}{ending}"


def labels_of(root: Path, number: int = 0, ending: str = ".nii.gz") -> Path:
    """The label file of a case of `a_dataset`."""
    return root / "labelsTr" / f"case_{number}{ending}"


# -------------------------------------------------------------------------------------------------------- models


def untrained(
    work: Path,
    path: Path,
    *,
    configuration: str | None = None,
    seed: int = 0,
    change: Callable[[Configuration], Configuration] | None = None,
    labels: Labels | None = None,
    weights: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] | None = None,
    **header: object,
) -> Path:
    """A model file for the plan of a work folder, with seeded random weights: for tests that need no good masks."""
    plan = read_record(Workspace(work).plan(), Plan)
    entry = plan.configuration(configuration)
    known = plan.labels if labels is None else labels
    entry = entry.model_copy(update={"preparation": entry.preparation.model_copy(update={"labels": known})})
    entry = entry if change is None else change(entry)
    torch.manual_seed(seed)
    tensors = build_network(entry.network_spec(len(plan.channels), known.heads)).state_dict()
    member = Member(name=f"{entry.name}.fold_0", configuration=entry, mirror_axes=plan.mirror_axes)
    said = ModelHeader(channels=plan.channels, labels=known, members=(member,), **header)  # type: ignore[arg-type]
    write_model(path, said, {member.name: tensors if weights is None else weights(tensors)})
    return path


def quicken(work: Path, steps: int = 4) -> None:
    """Edit the plan of a work folder as a person may: a tiny network, so many steps an epoch."""
    path = Workspace(work).plan()
    plan = read_record(path, Plan)
    entries = {
        name: entry.model_copy(
            update={"steps_per_epoch": steps, "features_per_stage": tuple(4 * 2**k for k in range(len(entry.strides)))}
        )
        for name, entry in plan.configurations.items()
    }
    write_record(path, signed(plan.model_copy(update={"configurations": entries})))
