"""Small volumes of several channels, with a ball and a dot in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np

from autoseg.files import read_record, write_record
from autoseg.pipeline.plan import plan
from autoseg.pipeline.plans import signed
from autoseg.progress import SilentProgress
from autoseg.records import Plan
from autoseg.workspace import Workspace


class Told(SilentProgress):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.lines.append(text)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def write_volumes(
    root: Path, channels: Sequence[str], labels: dict[str, int], cases: int = 5, tests: int = 1, ending: str = ".nii.gz"
) -> Path:
    """A dataset in nnU-Net's layout; the last label is the dot in the middle of the ball."""
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (root / folder).mkdir(parents=True)
    values = sorted(labels.values())
    for number in range(cases + tests):
        rng = np.random.default_rng(number)
        shape = (20 + number % 2, 18, 16)
        centre = np.array(shape) / 2 + rng.uniform(-1.5, 1.5, 3)
        distance = np.sqrt(((np.indices(shape) - centre[:, None, None, None]) ** 2).sum(0))
        found = np.where(distance < 5.5, values[1], 0).astype(np.uint8)
        if len(values) > 2:
            found[distance < 2.5] = values[2]
        affine = np.diag([1.0, 1.0, 1.5, 1.0])
        part = "imagesTr" if number < cases else "imagesTs"
        for channel in range(len(channels)):
            image = (100 * (found > channel % 2) + rng.normal(50, 10, shape)).astype(np.float32)
            nibabel.save(nibabel.Nifti1Image(image, affine), root / part / f"case_{number:02d}_{channel:04d}.nii.gz")
        if number < cases:
            nibabel.save(nibabel.Nifti1Image(found, affine), root / "labelsTr" / f"case_{number:02d}.nii.gz")
    declaration = {
        "channel_names": {str(place): name for place, name in enumerate(channels)},
        "labels": labels,
        "numTraining": cases,
        "file_ending": ending,
    }
    (root / "dataset.json").write_text(json.dumps(declaration))
    return root


def planned_quickly(data: Path, folder: Path, **changes: object) -> Workspace:
    """A work folder whose plan has five steps an epoch, narrow networks, and other values of the 3D configurations."""
    work = Workspace(folder)
    plan(data, work, device="cpu", probe=False, workers=0, progress=SilentProgress())
    quicken(work, 5, **changes)
    return work


def quicken(work: Workspace, steps: int, **changes: object) -> None:
    """Edit the plan: so many steps an epoch, narrow networks, and other values of the 3D configurations."""
    made = read_record(work.plan(), Plan)
    configurations = {
        name: entry.model_copy(
            update={
                "steps_per_epoch": steps,
                "features_per_stage": tuple(4 * 2**stage for stage in range(len(entry.strides))),
                **(changes if entry.dimensions == 3 else {}),
            }
        )
        for name, entry in made.configurations.items()
    }
    write_record(work.plan(), signed(made.model_copy(update={"configurations": configurations})))
