"""Small model files of the current format, for tests that load those of every past one.

`python tests/data_formats/make_model_files.py` writes them beside this script, with the masks that they made when they
were written. Run it once when `ModelHeader.format` has changed; files of earlier formats stay as they are.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from autoseg.inference.predictor import load_models
from autoseg.inference.volume import predict_volume
from autoseg.model_file import write_model
from autoseg.networks.catalog import build_network
from autoseg.records import (
    Configuration,
    Geometry,
    IntensityStatistics,
    Labels,
    Member,
    ModelHeader,
    Preparation,
    Volume,
)

HERE = Path(__file__).resolve().parent
LABELS = Labels(names={"background": 0, "head": 1, "tail": 4})
STATISTICS = IntensityStatistics(mean=0, median=0, std=1, min=-3, max=3, percentile_00_5=-2, percentile_99_5=2)


def volume() -> Volume:
    """What all of them segment: a seeded blob in noise."""
    rng = np.random.default_rng(5)
    z, y, x = np.indices((10, 12, 9))
    blob = ((z - 5) ** 2 + (y - 6) ** 2 + (x - 4) ** 2 < 14).astype(np.float32)
    image = 3 * blob + rng.normal(0, 0.3, blob.shape).astype(np.float32)
    rows = tuple(tuple(float(value) for value in row) for row in np.diag([1.0, 1.0, 1.5, 1.0]))
    return Volume(image[None].astype(np.float32), Geometry(shape=(10, 12, 9), affine=rows))  # type: ignore[arg-type]


def configuration(name: str, spacing: tuple[float, float, float], **changes: object) -> Configuration:
    preparation = Preparation(
        spacing=spacing,
        normalization=("ZScoreNormalization",),
        use_mask_for_normalization=(False,),
        intensities=(STATISTICS,),
        labels=LABELS,
    )
    made = Configuration(
        name=name,
        dimensions=3,
        preparation=preparation,
        spacing=spacing,
        median_shape=(10.0, 12.0, 9.0),
        patch_size=(8, 8, 8),
        batch_size=2,
        network="unet",
        strides=((1, 1, 1), (2, 2, 2)),
        kernel_sizes=((3, 3, 3), (3, 3, 3)),
        features_per_stage=(2, 4),
        blocks_per_stage=(1, 1),
        blocks_per_stage_decoder=(1,),
        batch_dice=False,
        steps_per_epoch=1,
        epochs=1,
    )
    return made.model_copy(update=changes)


def weights(header: ModelHeader) -> dict[str, dict[str, Tensor]]:
    tensors = {}
    for number, member in enumerate(header.members):
        torch.manual_seed(number)
        channels = 1 if member.previous_stage is None else 1 + len(LABELS.values) - 1
        network = build_network(member.configuration.network_spec(channels, LABELS.heads))
        tensors[member.name] = dict(network.state_dict())
    return tensors


def folds() -> ModelHeader:
    entry = configuration("3d_fullres", (1.5, 1.0, 1.0))
    return header(*(Member(name=f"3d_fullres.fold_{fold}", configuration=entry, mirror_axes=(0, 1)) for fold in (0, 1)))


def cascade() -> ModelHeader:
    low = configuration("3d_lowres", (3.0, 2.0, 2.0), next_stage="3d_cascade_fullres", patch_size=(4, 6, 4))
    high = configuration("3d_cascade_fullres", (1.5, 1.0, 1.0), previous_stage="3d_lowres")
    return header(
        Member(
            name="3d_cascade_fullres.fold_0",
            configuration=high,
            mirror_axes=(0, 1),
            previous_stage="3d_lowres.fold_0",
        ),
        Member(name="3d_lowres.fold_0", configuration=low, mirror_axes=(0, 1)),
    )


def header(*members: Member) -> ModelHeader:
    return ModelHeader(
        channels=("MR",),
        labels=LABELS,
        members=members,
        fingerprint={"cases": 2, "orientations": ["RAS"]},
        versions={"autoseg": "0.1.0"},
    )


def mask_of(path: Path) -> np.ndarray:
    return predict_volume(load_models([path], torch.device("cpu"), "float32"), volume())


def main() -> None:
    number = ModelHeader.model_fields["format"].default
    for what, made in (("folds", folds()), ("cascade", cascade())):
        path = HERE / f"format_{number}_{what}.safetensors"
        write_model(path, made, weights(made))
        rows = ["".join(map(str, row)) for plane in mask_of(path) for row in plane]
        path.with_suffix(".json").write_text(json.dumps(rows, indent=0) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
