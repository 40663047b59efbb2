"""A model of ours as nnU-Net stores it: one trainer__plans__configuration folder per configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autoseg.errors import ModelError
from autoseg.files import write_json, written_aside
from autoseg.interop.nnunet_dataset import dataset_to_nnunet
from autoseg.interop.nnunet_plans import plans_from_configurations
from autoseg.interop.nnunet_weights import weights_to_nnunet
from autoseg.records import Configuration, Fingerprint, Member, ModelHeader

TRAINER = "nnUNetTrainer"

#: Endings of image files that nnU-Net reads; masks of others are PNG there too.
_PICTURES = {".jpg": ".png", ".jpeg": ".png"}


@dataclass(frozen=True)
class Origin:
    """What a model file does not say and nnU-Net's files do."""

    dataset: str
    plans_name: str
    cases: int
    file_ending: str  # of the images: it decides nnU-Net's reader
    flat: bool  # whether the images are single slices
    configurations: tuple[Configuration, ...] = ()  # all of the plan, where it is known
    fingerprint: Fingerprint | None = None


@dataclass(frozen=True, eq=False)
class ExportedFolder:
    """One folder for nnU-Net, ready to be written."""

    name: str  # "nnUNetTrainer__autosegPlans__3d_fullres"
    plans: dict[str, Any]
    dataset: dict[str, Any]
    fingerprint: dict[str, Any] | None
    checkpoints: dict[str, dict[str, Any]]  # fold folder -> content of its checkpoint
    notes: tuple[str, ...]


def folders_for_nnunet(
    header: ModelHeader, tensors: Mapping[str, Mapping[str, Tensor]], origin: Origin
) -> list[ExportedFolder]:
    """What nnU-Net's predict needs for the masks of this model: one folder per configuration, its folds within.

    Raises ModelError and PlanError for what nnU-Net cannot express.
    """
    groups: dict[str, list[Member]] = {}
    for member in header.members:
        groups.setdefault(member.configuration.name, []).append(member)
    return [_folder(header, members, tensors, origin) for members in groups.values()]


def write_folder(folder: ExportedFolder, path: Path) -> None:
    """Write one folder, aside and then renamed."""
    with written_aside(path) as aside:
        write_json(aside / "plans.json", folder.plans)
        write_json(aside / "dataset.json", folder.dataset)
        if folder.fingerprint is not None:
            write_json(aside / "dataset_fingerprint.json", folder.fingerprint)
        for fold, content in folder.checkpoints.items():
            (aside / fold).mkdir()
            torch.save(content, aside / fold / "checkpoint_final.pth")


def _folder(
    header: ModelHeader, members: list[Member], tensors: Mapping[str, Mapping[str, Tensor]], origin: Origin
) -> ExportedFolder:
    first = members[0]
    configuration = first.configuration
    for member in members[1:]:
        if (member.configuration, member.mirror_axes) != (configuration, first.mirror_axes):
            raise ModelError(
                f"its members {first.name} and {member.name} are of one name but of different plans",
                remedy="Export them one by one, with --model FILE and into a folder each.",
            )
    if first.previous_stage is not None or configuration.previous_stage is not None:
        raise ModelError(
            f"its member {first.name} is the second stage of a cascade, which cannot be exported yet",
            remedy="Export another configuration.",
        )
    ending = _PICTURES.get(origin.file_ending.lower(), origin.file_ending)
    dataset, notes = dataset_to_nnunet(header.channels, header.labels, origin.cases, ending)
    plans = plans_from_configurations(
        _together(configuration, origin.configurations),
        dataset=origin.dataset,
        plans_name=origin.plans_name,
        file_ending=ending,
        flat=origin.flat,
    )
    spec = configuration.network_spec(len(header.channels), header.labels.heads)
    checkpoints = {}
    for fold, member in zip(_fold_names(members), members, strict=True):
        checkpoints[f"fold_{fold}"] = {
            "network_weights": weights_to_nnunet(tensors[member.name], spec),
            "optimizer_state": None,
            "grad_scaler_state": None,
            "logging": {},
            "_best_ema": None,
            "current_epoch": configuration.epochs,
            "init_args": {
                "plans": plans,
                "configuration": configuration.name,
                "fold": int(fold) if fold.isdecimal() else fold,
                "dataset_json": dataset,
                "device": torch.device("cpu"),
            },
            "trainer_name": TRAINER,
            "inference_allowed_mirroring_axes": _their_axes(first),
        }
    return ExportedFolder(
        name=f"{TRAINER}__{origin.plans_name}__{configuration.name}",
        plans=plans,
        dataset=dataset,
        fingerprint=None if origin.fingerprint is None else _fingerprint(origin.fingerprint),
        checkpoints=checkpoints,
        notes=(*notes, *_differences(configuration, origin)),
    )


def _together(configuration: Configuration, planned: tuple[Configuration, ...]) -> list[Configuration]:
    """The whole plan, if the configuration is one of it, so that nnU-Net can train the others; else it alone."""
    return list(planned) if configuration in planned else [configuration]


def _fold_names(members: list[Member]) -> list[str]:
    """The folds of the members by their names; counted where these do not tell or tell twice."""
    found = [re.search(r"\.fold_(\d+|all)$", member.name) for member in members]
    names = [match[1] for match in found if match is not None]
    return names if len(set(names)) == len(members) else [str(number) for number in range(len(members))]


def _their_axes(member: Member) -> tuple[int, ...] | None:
    """Axes of the network's input; nnU-Net does without mirroring where there is None, and stumbles over ()."""
    dimensions = member.configuration.dimensions
    axes = tuple(axis - 3 + dimensions for axis in sorted(member.mirror_axes) if axis - 3 + dimensions >= 0)
    return axes or None


def _differences(configuration: Configuration, origin: Origin) -> list[str]:
    """Where nnU-Net does not prepare a case as this model does."""
    notes = []
    across = configuration.preparation.spacing[0]
    if configuration.dimensions == 2 and across is not None:
        notes.append(
            f"{configuration.name}: nnU-Net never resamples across slices; its masks equal ours for images with slices "
            f"{across:g} mm apart, as in training"
        )
    if origin.file_ending.lower() in _PICTURES:
        notes.append("nnU-Net reads no JPEG: convert the images to PNG")
    return notes


def _fingerprint(fingerprint: Fingerprint) -> dict[str, Any]:
    """dataset_fingerprint.json."""
    return {
        "foreground_intensity_properties_per_channel": {
            str(channel): statistics.model_dump() for channel, statistics in enumerate(fingerprint.intensities)
        },
        "median_relative_size_after_cropping": fingerprint.median_relative_size_after_cropping,
        "shapes_after_crop": [list(case.shape_after_crop) for case in fingerprint.cases],
        "spacings": [list(case.spacing) for case in fingerprint.cases],
    }
