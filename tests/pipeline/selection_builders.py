"""Work folders with finished trainings that nobody had to wait for: networks that tell labels by intensity alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from autoseg.dataset.folds import read_splits
from autoseg.files import read_record, write_record
from autoseg.fingerprint.training_data import training_data
from autoseg.inference.predict_files import predict_cases
from autoseg.inference.predictor import load_models
from autoseg.model_file import read_model, write_model
from autoseg.networks import catalog
from autoseg.pipeline.evaluate import ScoreTask, score_cases, write_summary
from autoseg.pipeline.plan import plan
from autoseg.pipeline.splits import SplitOptions
from autoseg.progress import SilentProgress
from autoseg.records import Dataset, Fingerprint, Member, ModelHeader, NetworkSpec, Receipt, TrainSettings
from autoseg.workspace import Run, Workspace

sys.path.insert(0, str(Path(__file__).parents[1] / "inference"))
try:
    from inference_builders import Threshold, make_configuration
finally:
    sys.path.pop(0)

LABELS = {"background": 0, "grey": 1, "white": 4}


@pytest.fixture(autouse=True, scope="module")
def simple_networks() -> Iterator[None]:
    """Networks that these work folders need, for the tests of one module."""
    with pytest.MonkeyPatch.context() as patch:
        for name, made in (("threshold", Threshold), ("threshold_regions", ThresholdRegions), ("repeat", Repeat)):
            patch.setitem(catalog.NETWORKS, name, made)
        yield


def write_volumes(root: Path, cases: int, specks: bool, labels_table: Mapping[str, object]) -> Path:
    """Boxes of grey around white; a rim that is a little brighter outside, a little darker inside the label.

    A network whose threshold is low takes the outer rim for grey, one whose threshold is high leaves the inner one out.
    A speck as bright as grey lies apart, and is none.
    """
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (root / folder).mkdir(parents=True)
    for number in range(cases + 1):
        rng = np.random.default_rng(number)
        shape = (20, 18, 16 + number % 3)
        image = np.full(shape, 0.3, dtype=np.float32)
        labels = np.zeros(shape, dtype=np.uint8)
        low, size = rng.integers(3, 5), rng.integers(6, 8)
        box = (slice(low, low + size),) * 3
        image[tuple(slice(part.start - 1, part.stop + 1) for part in box)] = 0.8
        image[box], labels[box] = 1.2, 1
        image[tuple(slice(part.start + 1, part.stop - 1) for part in box)] = 1.6
        inner = tuple(slice(part.start + 2, part.stop - 2) for part in box)
        image[inner], labels[inner] = 3.0, 4
        if specks:
            image[15:17, 14:16, 12:14] = 1.6
        image += rng.normal(0, 0.02, shape).astype(np.float32)
        part, name = ("imagesTr", f"case_{number:02d}") if number < cases else ("imagesTs", "new")
        affine = np.diag([1.0, 1.0, 1.0, 1.0])
        nibabel.save(nibabel.Nifti1Image(image, affine), root / part / f"{name}_0000.nii.gz")
        if number < cases:
            nibabel.save(nibabel.Nifti1Image(labels, affine), root / "labelsTr" / f"{name}.nii.gz")
    declaration = {
        "channel_names": {"0": "MR"},
        "labels": dict(labels_table),
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (root / "dataset.json").write_text(json.dumps(declaration))
    return root


def a_work(
    folder: Path, cases: int = 8, folds: int = 4, specks: bool = True, labels: Mapping[str, object] = LABELS
) -> Workspace:
    work = Workspace(folder / "work")
    data = write_volumes(folder / "data", cases, specks, labels)
    options = SplitOptions(folds=folds, stratify=False, groups=False, splits=None)
    plan(data, work, device="cpu", probe=False, splits=options, workers=0, progress=SilentProgress())
    return work


class ThresholdRegions(Threshold):
    """The same for the regions grey and white, and white alone."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first = 4 * (image[:, :1] - 1) + 4 * self.bias
        return torch.cat([first, 8 * (image[:, :1] - 2)], dim=1)


def finished(
    work: Workspace, configuration: str, fold: int | str, bias: float, plan_name: str = "default", **told: object
) -> Run:
    """A run that has ended: its model, held-out masks, scores and receipt."""
    run = work.run(plan_name, configuration, fold)
    dataset = read_record(work.dataset, Dataset)
    flat = configuration.startswith("2d")
    made = make_configuration(
        dimensions=2 if flat else 3,
        spacing=(None, 1.0, 1.0) if flat else (1.0, 1.0, 1.0),
        patch=(12, 10) if flat else (8, 12, 10),
        labels=dataset.labels,
        network="threshold_regions" if dataset.labels.has_regions else "threshold",
    )
    entry = made.model_copy(update={"name": configuration})
    header = ModelHeader(
        channels=dataset.channels,
        labels=dataset.labels,
        members=(Member(name=f"{configuration}.fold_{fold}", configuration=entry, mirror_axes=(0, 1, 2)),),
        fingerprint=training_data(read_record(work.fingerprint, Fingerprint)),
        **told,  # type: ignore[arg-type]
    )
    write_record(run.settings, TrainSettings(epochs=1, learning_rate=0.1, weight_decay=0.0))
    write_model(run.model, header, {header.members[0].name: {"bias": torch.tensor([bias])}})
    score(work, run)
    return run


class Repeat(torch.nn.Module):
    """A second stage that repeats what the first found: its scores are the maps of the first stage."""

    deep_supervision = True

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([image[:, :1] * 0 + 0.5, image[:, 1:]], dim=1) + self.bias


def finished_cascade(work: Workspace, fold: int) -> Run:
    """The second stage of the cascade whose first is `3d_lowres` of the same fold, which must be there."""
    first = work.run("default", "3d_lowres", fold)
    header, tensors = read_model(first.model)
    run = work.run("default", "3d_cascade_fullres", fold)
    below = header.members[0]
    entry = below.configuration.model_copy(
        update={"name": "3d_cascade_fullres", "network": "repeat", "previous_stage": "3d_lowres"}
    )
    above = Member(
        name=f"3d_cascade_fullres.fold_{fold}", configuration=entry, mirror_axes=(0, 1, 2), previous_stage=below.name
    )
    write_record(run.settings, TrainSettings(epochs=1, learning_rate=0.1, weight_decay=0.0))
    write_model(
        run.model,
        header.model_copy(update={"members": (above, below)}),
        {above.name: {"bias": torch.zeros(1)}, **tensors},
    )
    score(work, run)
    return run


def score(work: Workspace, run: Run) -> None:
    """Predict and score the held-out cases of a run, as a training does at its end."""
    dataset = read_record(work.dataset, Dataset)
    held_out = [case.id for case in dataset.cases] if run.fold == "all" else read_splits(work.splits)[int(run.fold)].val
    cases = [case for case in dataset.cases if case.id in held_out]
    model = load_models([run.model], torch.device("cpu"), "float32")
    masks = [outcome.unwrap() for outcome in predict_cases(model, cases, run.validation)]
    tasks = [ScoreTask(mask, case, dataset.labels, 1.0) for mask, case in zip(masks, cases, strict=True)]
    write_summary(run.summary, score_cases(tasks, {}, 1.0, 0, SilentProgress()), dataset.labels)
    seconds = {"score": 0.1 * len(cases)}
    told = Receipt(stage="train", versions={}, seconds=seconds, course={"scored_with_mirroring": True})
    write_record(run.receipt, told)


def finished_folds(work: Workspace, biases: Mapping[str, float], folds: int = 4) -> None:
    for configuration, bias in biases.items():
        for fold in range(folds):
            finished(work, configuration, fold, bias)
