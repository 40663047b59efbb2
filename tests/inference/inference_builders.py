from __future__ import annotations

import numpy as np
import psutil
import step_builders
import torch
from torch import Tensor, nn

from autoseg.inference.predictor import LoadedModel, build_model
from autoseg.networks.catalog import build_network
from autoseg.records import (
    Configuration,
    Geometry,
    IntensityStatistics,
    Labels,
    Member,
    ModelHeader,
    NetworkSpec,
    Volume,
)

LABELS = Labels(names={"background": 0, "grey": 1, "white": 4})

STATISTICS = IntensityStatistics(mean=0, median=0, std=1, min=0, max=1, percentile_00_5=0, percentile_99_5=1)


class Threshold(nn.Module):
    """Scores by intensity alone: above 1 is the first label, above 2 the second. The bias shifts the first label."""

    deep_supervision = True

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))
        self.heads = spec.heads

    def forward(self, image: Tensor) -> Tensor:
        first = image[:, :1]
        return torch.cat([1 - first, first * 0 + self.bias, 2 * first - 4 + 0 * self.bias], dim=1)


def make_configuration(
    *,
    dimensions: int = 3,
    spacing: tuple[float | None, float, float] = (1.0, 1.0, 1.0),
    patch: tuple[int, ...] = (8, 12, 10),
    network: str = "threshold",
    labels: Labels = LABELS,
) -> Configuration:
    """Two stages that see intensities as they are, on these patches."""
    return step_builders.make_configuration(
        f"{dimensions}d",
        preparation=step_builders.make_preparation(
            spacing=spacing, normalization=("NoNormalization",), intensities=(STATISTICS,), labels=labels
        ),
        patch_size=patch,
        network=network,
        blocks_per_stage=(1, 1),
    )


def make_header(*configurations: Configuration, labels: Labels = LABELS) -> ModelHeader:
    members = tuple(
        Member(name=f"{entry.name}.fold_{index}", configuration=entry, mirror_axes=(0, 1, 2))
        for index, entry in enumerate(configurations)
    )
    return ModelHeader(channels=("MRI",), labels=labels, members=members)


def threshold_tensors(header: ModelHeader, *biases: float) -> dict[str, dict[str, Tensor]]:
    values = biases or (0.0,) * len(header.members)
    return {member.name: {"bias": torch.tensor([bias])} for member, bias in zip(header.members, values, strict=True)}


def phantom(shape: tuple[int, int, int] = (14, 20, 17)) -> np.ndarray:
    """Intensities (i, j, k): zero outside, a box above 1 and in it a box above 2."""
    array = np.zeros(shape, dtype=np.float32)
    array[2:, 3:-2, 1:-4] = 0.5
    array[4:11, 5:14, 3:12] = 1.5
    array[5:9, 7:11, 4:10] = 3.0
    return array


def expected_mask(array: np.ndarray) -> np.ndarray:
    return np.where(array > 2, 4, np.where(array > 1, 1, 0))


#: A reader whose images do to the process that reads them what their names say. For a module of its own: a process that
#: is started imports it too.
FATAL_READER = """
import os, signal, time
from dataclasses import replace
from autoseg.dataset.readers import NIFTI, READERS

def read_image(path):
    log = path.with_name("readings")
    log.write_text((log.read_text() if log.exists() else "") + f"{os.getpid()}\\n")
    what = path.name.split(".")[0]
    if what == "hangs":
        time.sleep(120)
    if what == "always" or (what == "once" and len(log.read_text().split()) == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    return NIFTI.read_image(path)

READERS[".fatal"] = replace(NIFTI, read_image=read_image, mask_ending=".nii.gz")
"""


def readers_of(process: psutil.Process) -> list[psutil.Process]:
    """The reading processes that a process has."""
    return [child for child in process.children() if "spawn_main" in " ".join(child.cmdline())]


def real_model(patch: tuple[int, int, int] = (16, 16, 16), classes: int = 3, features: int = 4) -> LoadedModel:
    """A U-Net with random weights."""
    labels = Labels(names={"background": 0, **{f"label_{value}": value for value in range(1, classes)}})
    entry = make_configuration(network="unet", patch=patch, labels=labels)
    entry = entry.model_copy(update={"features_per_stage": (features, 2 * features)})
    header = make_header(entry, labels=labels)
    torch.manual_seed(0)
    weights = build_network(entry.network_spec(1, labels.heads)).state_dict()
    return build_model(header, {header.members[0].name: weights}, torch.device("cpu"), "float32")


def a_volume(affine: np.ndarray) -> Volume:
    """The phantom as if it had been read from a file with this affine."""
    stored = np.ascontiguousarray(phantom().T)
    rows = tuple(tuple(float(value) for value in row) for row in affine)
    return Volume(stored[None], Geometry(shape=stored.shape, affine=rows))  # type: ignore[arg-type]


def a_model(groups: int) -> LoadedModel:
    """One configuration in 3D, or with it one in 2D."""
    entries = [make_configuration(), make_configuration(dimensions=2, spacing=(None, 1.0, 1.0), patch=(12, 10))]
    header = make_header(*entries[:groups])
    return build_model(header, threshold_tensors(header, *(0.2, -0.4)[:groups]), torch.device("cpu"), "float32")
