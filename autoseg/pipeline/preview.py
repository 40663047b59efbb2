"""`preview`: sheets of augmented training patches, to look at before hours of training."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from autoseg.dataset.label_files import read_case_labels
from autoseg.dataset.layouts import open_dataset
from autoseg.dataset.readers import read_image
from autoseg.errors import DatasetError, UsageError
from autoseg.pipeline.kept import require_same_dataset
from autoseg.pipeline.looks import turn_of
from autoseg.pipeline.plan import plan as make_plan
from autoseg.pipeline.plans import read_dataset, read_plan
from autoseg.planning.overrides import require_settable, settings_with
from autoseg.plugins import load_plugins
from autoseg.preprocessing.case import to_network_space
from autoseg.progress import Progress
from autoseg.records import Case, Configuration, Dataset, Plan, TrainSettings
from autoseg.report.patches import PatchRow, draw_patches
from autoseg.report.slices import Turn
from autoseg.training.augmentation import find_augmentation, initial_patch_size
from autoseg.training.cases import CaseInMemory
from autoseg.training.intensity import drop_channels
from autoseg.training.patches import TrainingCase, make_batch
from autoseg.training.setup import TrainingSetup
from autoseg.workspace import DEFAULT_PLAN, Workspace

#: Cases that are read, samples (rows) that are drawn of them, and augmented versions of each.
CASES, ROWS, VERSIONS = 4, 5, 6

#: Name of the folder of sheets in the work folder, unless another is given.
FOLDER = "preview"


@dataclass(frozen=True)
class PreviewReport:
    """The sheets that were drawn."""

    sheets: tuple[Path, ...]
    configuration: Configuration
    settings: TrainSettings


def preview(
    dataset: Path,
    work: Workspace,
    *,
    out: Path | None = None,
    plan: str = DEFAULT_PLAN,
    configuration: str | None = None,
    seed: int | None = None,
    overrides: Mapping[str, str] | None = None,
    use: Sequence[str] = (),
    progress: Progress,
) -> PreviewReport:
    """Draw patches of a few cases as a training would see them: a sheet per channel.

    The plan is that of the work folder; where there is none, one is made for this and thrown away. Samples are drawn
    by the training's own rules; of each the same crop is augmented several times.
    """
    load_plugins(use)
    chosen, found = planned(dataset, work, plan, tuple(use), progress)
    entry = chosen.configuration(configuration)
    if entry.previous_stage is not None:
        raise UsageError(
            f"{entry.name} also sees what a first stage found, which a preview has not",
            remedy="Look at 3d_fullres: its patches are the same.",
        )
    require_settable(*(overrides or {}))
    asked: dict[str, object] = dict(overrides or {})
    settings = settings_with(chosen.training, asked if seed is None else {**asked, "seed": seed})
    cases = prepared_cases(found, entry, settings.seed, progress)
    turns = {case.case: turn_of(case.prepared.placement) for case in cases}
    rows = augmented_rows(chosen, entry, settings, cases, turns)
    folder = work.root / FOLDER if out is None else out
    sheets = []
    for channel, name in enumerate(chosen.channels):
        path = folder / f"{entry.name}-{channel}-{_file_name(name)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        title = f"{chosen.dataset}, {entry.name}, {name}: augmentation {settings.augmentation!r}"
        draw_patches(path, title, rows, channel, chosen.labels.foreground)
        sheets.append(path)
    return PreviewReport(tuple(sheets), entry, settings)


def planned(
    dataset: Path, work: Workspace, name: str, use: tuple[str, ...], progress: Progress
) -> tuple[Plan, Dataset]:
    """The plan of the work folder and its dataset, or a plan that leaves nothing on disk."""
    if work.plan(name).exists() or name != DEFAULT_PLAN:
        require_same_dataset(work, open_dataset(dataset))
        return read_plan(work, name), read_dataset(work)
    progress.say("There is no plan yet: one is made for this preview, and not kept")
    with tempfile.TemporaryDirectory() as folder:
        report = make_plan(dataset, Workspace(Path(folder)), probe=False, skip_bad=True, use=use, progress=progress)
    if report.dataset is None:
        raise DatasetError("no case can be used", where=dataset)
    return report.plan, report.dataset


def prepared_cases(dataset: Dataset, entry: Configuration, seed: int, progress: Progress) -> list[CaseInMemory]:
    """A few cases in network space, in memory: nothing is kept."""
    labelled = [case for case in dataset.cases if case.labelled]
    picked = np.random.default_rng(seed).permutation(len(labelled))[:CASES]
    if not len(picked):
        raise DatasetError("no case has labels", where=dataset.root)
    cases: list[CaseInMemory] = []
    with progress.stage("Preparing cases to look at", len(picked)) as advance:
        for index in sorted(picked):
            cases.append(_prepared(labelled[index], entry))
            advance(1)
    return cases


def _prepared(case: Case, entry: Configuration) -> CaseInMemory:
    labels = read_case_labels(case, entry.preparation.labels)
    return CaseInMemory(to_network_space(case.id, read_image(case.images), labels, entry.preparation))


def augmented_rows(
    plan: Plan,
    entry: Configuration,
    settings: TrainSettings,
    cases: Sequence[TrainingCase],
    turns: Mapping[str, Turn | None],
    *,
    rows: int = ROWS,
    versions: int = VERSIONS,
) -> list[PatchRow]:
    """So many samples as a training draws them, each as cropped and in so many augmented versions.

    `turns` tell how the slices of each case are brought to the radiological convention (`looks.turn_of`).
    """
    device = torch.device("cpu")
    # a batch of one sample per row, half of them centred on a label
    wide = entry.model_copy(update={"batch_size": rows})
    shown = settings.model_copy(update={"foreground_share": max(settings.foreground_share, 0.6)})
    setup = TrainingSetup(
        wide, len(plan.channels), plan.labels, plan.mirror_axes, shown, cases, [], device, precision="float32"
    )
    augmentation = find_augmentation(settings.augmentation)
    sampling = setup.sampling(initial_patch_size(entry.patch_size, augmentation))
    batch = make_batch(cases, sampling, 0)
    images, labels = torch.as_tensor(batch.images), torch.as_tensor(batch.labels)
    shown_versions = [_as_cropped(images, labels, setup)]
    for version in range(versions):
        generators = [_generator(settings.seed, row, version) for row in range(rows)]
        made, places = augmentation.apply(
            images, labels, generators, entry.patch_size, setup.patch_mirror_axes, setup.masked_channels
        )
        drop_channels(made, generators, settings.channel_dropout, setup.image_channels)
        shown_versions.append((made.numpy(), places.numpy()))
    spacing = entry.spacing[-2:]
    return [
        PatchRow(
            batch.cases[row],
            [made[row] for made, _ in shown_versions],
            [places[row] for _, places in shown_versions],
            spacing[0] / spacing[1],
            turns[batch.cases[row]],
        )
        for row in range(rows)
    ]


def _as_cropped(
    images: torch.Tensor, labels: torch.Tensor, setup: TrainingSetup
) -> tuple[NDArray[np.float32], NDArray[np.integer]]:
    """The middle of the larger crops: what a sample is when nothing is drawn."""
    patch = setup.configuration.patch_size
    starts = [big // 2 - small // 2 for big, small in zip(labels.shape[1:], patch, strict=True)]
    centre = tuple(slice(start, start + size) for start, size in zip(starts, patch, strict=True))
    return images[(slice(None), slice(None), *centre)].numpy(), labels[(slice(None), *centre)].clamp(min=0).numpy()


def _generator(seed: int, row: int, version: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, 0, row, version))))


def _file_name(channel: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in channel)
