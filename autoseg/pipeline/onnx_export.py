"""`export --onnx`: networks as ONNX files with every step around them, tried beside the model before they are kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from autoseg import __version__
from autoseg.arrays.components import mask_of
from autoseg.errors import ModelError, UsageError
from autoseg.evaluation.metrics import overlap
from autoseg.files import file_hash, write_record, written_aside
from autoseg.inference.engines import engine_version, require_installed, with_engine
from autoseg.inference.forecast import works
from autoseg.inference.predictor import LoadedModel, MemberGroup, load_models
from autoseg.inference.volume import mask_of_prepared, prepare_volume
from autoseg.interop.exported_steps import group_steps, steps_after
from autoseg.model_file import read_header
from autoseg.networks.onnx_graph import IMAGE, OPSET, SCORES, network_graph
from autoseg.pipeline.choosing_model import choose_models, known_plugins, load_needed
from autoseg.pipeline.trial_case import Trial, trial
from autoseg.plugins import load_plugins
from autoseg.progress import Progress
from autoseg.records import Labels, PredictSettings
from autoseg.records.exported import Exported, ExportedGroup, ExportedNetwork, Verification
from autoseg.workspace import Workspace

#: Least Dice of the masks by the files with those by the model, for every label.
LEAST_DICE = 0.999

#: The record beside the networks.
STEPS = "steps.json"

#: How masks are compared: mirroring would only take longer, and post-processing hide differences.
COMPARED = PredictSettings(mirror=False, post_process=False)

CPU = torch.device("cpu")

#: (network, channels, patch size) -> bytes of an ONNX file.
Exporter = Callable[[nn.Module, int, Sequence[int]], bytes]


@dataclass(frozen=True)
class OnnxReport:
    """What was written, and how it compares."""

    description: str  # of the model
    folder: Path
    files: tuple[str, ...]
    verification: Verification
    seconds: Mapping[str, float]  # for the trial, by engine
    notes: tuple[str, ...]


def export_onnx(
    target: Path | None = None,
    *,
    models: tuple[Path, ...] = (),
    work: Workspace | None = None,
    images: Sequence[Path] = (),
    use: Sequence[str] = (),
    exporter: Exporter = network_graph,
    progress: Progress,
) -> OnnxReport:
    """Write a folder with an ONNX file per network and `steps.json`, if the files give the model's masks.

    Args:
        target: folder to make; None makes one beside the model file. One that exists is kept.
        models, work, use: as in `predict`.
        images: one file per channel of the image to try the files on; without, see `trial_case.trial`.
        exporter: what makes a graph of a network.

    Raises:
        ModelError: a mask by the files differs by more than LEAST_DICE allows, or a network or a step cannot be
            expressed. Nothing is written then.
        UsageError: the folder exists, or a package is missing.
    """
    require_installed("onnx")
    load_plugins(use)
    files, description = choose_models(models, work)
    folder = target or _beside(files, models, work)
    if folder.exists():
        raise UsageError("exists already, and is kept", where=folder, remedy="Name another folder with --out.")
    own = known_plugins(work) if not models and work is not None else ()
    for file in files:
        load_needed(read_header(file), (*use, *own), file, progress)
    model = load_models(files, CPU, "float32")
    _require_one_crop(model)
    image = trial(model.header, work, images, progress)
    with written_aside(folder) as aside:
        aside.mkdir()
        written = _write_networks(model, aside, exporter, progress)
        verification, seconds = _verified(model, written, aside, image, progress)
        write_record(aside / STEPS, _described(model, written, verification))
    notes = _notes(verification, model.labels)
    return OnnxReport(
        description, folder, tuple(entry.file for entry in written.values()), verification, seconds, notes
    )


def _beside(files: Sequence[Path], models: Sequence[Path], work: Workspace | None) -> Path:
    if len(files) == 1:
        return files[0].with_name(f"{files[0].stem}-onnx")
    if models or work is None:
        raise UsageError("there are several model files", remedy="Name the folder to make with --out.")
    return work.root / "model-onnx"


def _require_one_crop(model: LoadedModel) -> None:
    ways = {
        (group.configuration.preparation.orientation, group.configuration.preparation.axis_order)
        for group in model.preparing
    }
    if len(ways) > 1:
        raise ModelError(
            "its configurations turn images differently, so that their scores have no grid in common",
            remedy="Export them one by one, with --model FILE and into a folder each.",
        )


def _stages(model: LoadedModel) -> dict[str, MemberGroup]:
    """All groups by a name of their own, first stages before those that need them."""
    found: dict[str, MemberGroup] = {}
    firsts = [group.first_stage for group in model.groups if group.first_stage is not None]
    for group in (*firsts, *model.groups):
        name = group.configuration.name
        found[name if name not in found else f"{name}#{len(found)}"] = group
    return found


# --------------------------------------------------------------------------------------------------------- networks


def _write_networks(
    model: LoadedModel, folder: Path, exporter: Exporter, progress: Progress
) -> dict[str, ExportedNetwork]:
    """An ONNX file per member, and what is told of each, by the members' names."""
    groups = _stages(model).values()
    written: dict[str, ExportedNetwork] = {}
    with progress.stage("Writing networks", sum(len(group.networks) for group in groups)) as advance:
        for group in groups:
            channels = len(model.header.channels)
            channels += 0 if group.first_stage is None else len(model.labels.values) - 1
            for name, network in zip(group.names, group.networks, strict=True):
                path = folder / f"{name.replace('#', '-')}.onnx"
                path.write_bytes(exporter(network, channels, group.configuration.patch_size))
                written[name] = ExportedNetwork(
                    file=path.name,
                    sha256=file_hash(path),
                    input=IMAGE,
                    output=SCORES,
                    channels=channels,
                    outputs=model.labels.heads,
                    patch=group.configuration.patch_size,
                    opset=OPSET,
                )
                advance(1)
    return written


def _described(model: LoadedModel, written: Mapping[str, ExportedNetwork], verification: Verification) -> Exported:
    """steps.json."""
    header, stages = model.header, _stages(model)
    several = len(model.groups) > 1
    groups = []
    for name, group in stages.items():
        is_first = not any(group is other for other in model.groups)
        before = [other for other, stage in stages.items() if stage is group.first_stage]
        groups.append(
            ExportedGroup(
                name=name,
                networks=tuple(written[member] for member in group.names),
                steps=group_steps(
                    group.configuration,
                    header,
                    mirror_axes=group.mirror_axes,
                    half_sums=group.half_sums,
                    ends_in="labels" if is_first else "probabilities" if several else "scores",
                    after_stage=before[0] if before else None,
                ),
                first_stage=is_first,
            )
        )
    return Exported(
        program=f"autoseg {__version__}",
        channels=header.channels,
        labels=header.labels,
        groups=tuple(groups),
        after=steps_after(header, of_probabilities=several),
        missing_channels=header.channel_dropout > 0,
        verification=verification,
    )


# ----------------------------------------------------------------------------------------------------- verification


def _verified(
    model: LoadedModel, written: Mapping[str, ExportedNetwork], folder: Path, image: Trial, progress: Progress
) -> tuple[Verification, dict[str, float]]:
    """Masks by the files on disk against masks by the model. Raises ModelError where a label differs."""
    graphs = {name: (folder / entry.file).read_bytes() for name, entry in written.items()}
    reference, other = engine_version("torch"), engine_version("onnx")
    masks, seconds = [], {}
    tiles = sum(work.tiles for work in works(model, image.volume.geometry, COMPARED))
    prepared = prepare_volume(model, "image", image.volume, image.missing)
    for name, one in ((reference, model), (other, with_engine(model, "onnx", graphs))):
        began = time.perf_counter()
        with progress.stage(f"Trying the {image.origin} by {name}", tiles) as advance:
            masks.append(mask_of_prepared(one, prepared, settings=COMPARED, on_tile=advance))
        seconds[name] = time.perf_counter() - began
    dice = label_dice(model, *masks)
    changed = {name: score for name, score in dice.items() if score is not None and score < LEAST_DICE}
    different = int(np.count_nonzero(masks[0] != masks[1]))
    if changed:
        told = ", ".join(f"{name} {score:.4f}" for name, score in changed.items())
        raise ModelError(
            f"its ONNX files do not give its masks: on the {image.origin} {different} of {masks[0].size} voxels differ "
            f"(Dice with the model's own mask: {told}; at least {LEAST_DICE} is asked for). Nothing was written",
            remedy="A network that decides by the values in an image cannot be exported; for others, report it.",
        )
    verification = Verification(
        image=image.origin,
        engine=other,
        reference=f"{reference}, float32",
        dice=dice,
        voxels=masks[0].size,
        different_voxels=different,
    )
    return verification, seconds


def label_dice(
    model: LoadedModel, reference: NDArray[np.integer], mask: NDArray[np.integer]
) -> dict[str, float | None]:
    """Dice of every label or region of two masks with the file's values; None where neither has it."""
    return {
        name: overlap(mask_of(reference, name, model.labels), mask_of(mask, name, model.labels)).dice
        for name in model.labels.foreground
    }


def _notes(verification: Verification, labels: Labels) -> tuple[str, ...]:
    notes = []
    if labels.things:
        notes.append(
            f"objects are counted ({', '.join(labels.things)}): masks by the files have borders and cores, and "
            "docs/reference/exported-steps.md tells how objects are found in them"
        )
    if verification.image == "made-up image":
        notes.append(
            "no image was at hand, so the files were tried on a made-up one; --image FILE tries them on one of yours"
        )
    unseen = [name for name, score in verification.dice.items() if score is None]
    if unseen:
        notes.append(f"neither the model nor the files found {', '.join(unseen)} in it, so nothing is known of that")
    return tuple(notes)
