"""Every kind of labels the whole way: read, prepared, stored, trained on, predicted, written, scored."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from step_builders import make_configuration, make_preparation

from autoseg.dataset.label_files import read_case_labels
from autoseg.dataset.layout_checks import check_layout
from autoseg.dataset.layouts import open_dataset
from autoseg.dataset.readers import read_image, read_labels
from autoseg.model_file import write_model
from autoseg.pipeline.check import check
from autoseg.pipeline.evaluate import evaluate
from autoseg.pipeline.predict import predict
from autoseg.preprocessing.case import to_image_space, to_network_space
from autoseg.preprocessing.store import is_current, write_case
from autoseg.progress import SilentProgress
from autoseg.records import (
    Configuration,
    Dataset,
    Labels,
    Member,
    ModelHeader,
    PredictSettings,
    TrainSettings,
)
from autoseg.training.cases import load_cases
from autoseg.training.learner import Learner
from autoseg.training.loop import Training
from autoseg.training.setup import TrainingSetup

QUIET = SilentProgress()
CPU = torch.device("cpu")
SHAPE = (10, 12, 14)


@dataclass(frozen=True)
class Kind:
    """Values that the label files hold, their type, and the table in dataset.json."""

    values: tuple[int, ...]
    table: dict[str, object]
    dtype: type = np.uint8
    annotated: dict[str, list[str]] | None = None


KINDS = {
    "gaps": Kind((0, 2, 5, 200), {"background": 0, "a": 2, "b": 5, "c": 200}),
    "255": Kind((0, 255), {"background": 0, "a": 255}),
    "whole floats": Kind((0, 12, 13), {"background": 0, "a": 12, "b": 13}, np.float32),
    "300 labels": Kind(
        (*range(300), 70_000), {"background": 0, **{f"l{v}": v for v in range(1, 300)}, "l": 70_000}, np.uint32
    ),
    "16 bit": Kind((0, 1, 65_535), {"background": 0, "a": 1, "b": 65_535}, np.uint16),
    "near 2**31": Kind((0, 7, 2**31 - 1), {"background": 0, "a": 7, "b": 2**31 - 1}, np.uint32),
    "ignore": Kind((0, 1, 2, 9), {"background": 0, "a": 1, "b": 2, "ignore": 9}),
    "ignore below 0": Kind((0, 1, 2, -1), {"background": 0, "a": 1, "b": 2, "ignore": -1}, np.int16),
    "regions": Kind((0, 1, 2, 4), {"background": 0, "necrosis": 1, "edema": 2, "tip": 4, "core": "tip + necrosis"}),
    "partly": Kind((0, 3), {"background": 0, "a": 3, "b": 4, "c": 6}, annotated={"x": ["a", "b"], "y": ["a"]}),
}


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.ascontiguousarray(array.T), np.eye(4)), path)


def image_of(labels: np.ndarray, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=SHAPE) + (labels > 0)).astype(np.float32)


def build(root: Path, kind: Kind) -> Dataset:
    for seed, case in enumerate(("x", "y")):
        labels = np.random.default_rng(seed).choice(kind.values, SHAPE).astype(kind.dtype)
        labels.flat[: len(kind.values)] = kind.values
        save(root / "imagesTr" / f"{case}.nii.gz", image_of(labels, seed))
        save(root / "labelsTr" / f"{case}.nii.gz", labels)
    record: dict[str, object] = {"channel_names": ["MR"], "labels": kind.table, "file_ending": ".nii.gz"}
    if kind.annotated is not None:
        record["annotated"] = kind.annotated
    (root / "dataset.json").write_text(json.dumps(record), encoding="utf-8")
    return open_dataset(root)


def configuration_of(labels: Labels) -> Configuration:
    return make_configuration(
        preparation=make_preparation(labels=labels),
        median_shape=SHAPE,
        patch_size=(8, 8, 8),
        steps_per_epoch=1,
        epochs=1,
    )


def perfect_scores(training: np.ndarray, labels: Labels) -> np.ndarray:
    members = list(labels.foreground.values()) if labels.has_regions else [(v,) for v in range(labels.heads)]
    return np.stack([np.where(np.isin(np.maximum(training, 0), values), 9, -9) for values in members]).astype(
        np.float32
    )


def trained(dataset: Dataset, store: Path, model: Path) -> Training:
    """One step on the prepared cases; the model is written."""
    configuration = configuration_of(dataset.labels)
    for case in dataset.cases:
        label_map = read_case_labels(case, dataset.labels)
        prepared = to_network_space(case.id, read_image(case.images), label_map, configuration.preparation)
        write_case(store, prepared, case, (8, 8, 8))
        assert prepared.labels is not None
        if dataset.labels.ignore is None:
            back = to_image_space(perfect_scores(prepared.labels, dataset.labels), prepared.placement, dataset.labels)
            np.testing.assert_array_equal(back, label_map.labels)
    cases = load_cases(store, [case.id for case in dataset.cases])
    setup = TrainingSetup(
        configuration=configuration,
        channels=1,
        labels=dataset.labels,
        mirror_axes=(0, 1, 2),
        settings=TrainSettings(epochs=1, learning_rate=0.01, weight_decay=0),
        train_cases=cases,
        validation_cases=cases,
        device=CPU,
        precision="float32",
        annotated={case.id: case.annotated for case in dataset.cases if case.annotated is not None},
    )
    training = Training(setup, store / "state.safetensors")
    (record,) = training.epochs()
    assert np.isfinite(record.train_loss)
    member = Member(name="m", configuration=configuration, mirror_axes=(0, 1, 2))
    write_model(
        model, ModelHeader(channels=("MR",), labels=dataset.labels, members=(member,)), {"m": training.weights()}
    )
    return training


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_whole_way(kind: str, tmp_path: Path) -> None:
    dataset = build(tmp_path / "data", KINDS[kind])
    assert check_layout(dataset) == []
    assert check(dataset.root, workers=0, progress=QUIET).cases_ok == 2
    model = tmp_path / "model.safetensors"
    trained(dataset, tmp_path / "store", model)
    masks = tmp_path / "masks"
    predict(
        list(dataset.cases),
        masks,
        models=(model,),
        device="cpu",
        settings=PredictSettings(mirror=False),
        progress=QUIET,
    )
    for case in dataset.cases:
        mask = read_labels(masks / f"{case.id}.nii.gz").labels
        assert set(np.unique(mask)) <= set(dataset.labels.values)
        assert mask.shape == SHAPE
    told = (
        json.loads((masks / "labels.json").read_text(encoding="utf-8"))["labels"]
        if not kind.startswith("ignore")
        else {}
    )
    for name, members in dataset.labels.foreground.items() if told else ():
        assert told[name] == [dataset.labels.values[member] for member in members]
    summary = evaluate(masks, dataset.root / "labelsTr", labels_from=dataset.root, workers=0, progress=QUIET).summary
    assert not summary.failures
    assert list(summary.labels) == list(dataset.labels.foreground)
    skipped = {name: entry.not_annotated for name, entry in summary.labels.items() if entry.not_annotated}
    assert skipped == ({"b": 1, "c": 2} if kind == "partly" else {})


def test_one_file_per_label_the_whole_way(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for seed, case in enumerate(("x", "y")):
        masks = np.random.default_rng(seed).random((3, *SHAPE)) > 0.5
        save(root / case / "ct.nii.gz", image_of(masks[0], seed))
        for name, mask in zip(("liver", "tumour", "vessel"), masks, strict=True):
            if (case, name) != ("y", "vessel"):
                save(root / case / "segmentations" / f"{name}.nii.gz", mask.astype(np.uint8))
    dataset = open_dataset(root)
    assert dataset.cases[1].annotated == ("liver", "tumour")
    assert check(root, workers=0, progress=QUIET).cases_ok == 2
    model, store, found = tmp_path / "model.safetensors", tmp_path / "store", tmp_path / "masks"
    trained(dataset, store, model)
    assert all(is_current(store, case) for case in dataset.cases)
    predict(
        list(dataset.cases),
        found,
        models=(model,),
        device="cpu",
        settings=PredictSettings(mirror=False),
        progress=QUIET,
    )
    assert (
        json.loads((found / "labels.json").read_text(encoding="utf-8"))["labels"].keys() == dataset.labels.names.keys()
    )
    references = tmp_path / "references"
    references.mkdir()
    for case in ("x", "y"):
        (root / case / "segmentations").rename(references / case)
    for named in (model, None):
        summary = evaluate(found, references, labels_from=named, workers=0, progress=QUIET).summary
        assert not summary.failures
        assert {name: entry.cases for name, entry in summary.labels.items()} == {"liver": 2, "tumour": 2, "vessel": 1}
        assert summary.labels["vessel"].not_annotated == 1
    single = evaluate(found / "x.nii.gz", references / "x", labels_from=model, workers=0, progress=QUIET).summary
    assert [case.case for case in single.cases] == ["x"]
    assert not is_current(store, dataset.cases[0])  # its label files have gone


def test_what_was_drawn_changes_nothing_that_was_prepared(tmp_path: Path) -> None:
    dataset = build(tmp_path / "data", KINDS["partly"])
    trained(dataset, tmp_path / "store", tmp_path / "model.safetensors")
    for case in dataset.cases:
        assert is_current(tmp_path / "store", case.model_copy(update={"annotated": None}))
    again = build(tmp_path / "other", Kind((0, 3), KINDS["partly"].table))
    assert configuration_of(again.labels).preparation == configuration_of(dataset.labels).preparation


def test_undrawn_labels_leave_their_outputs_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In training, a batch of cases without label c gives its region's output no gradient."""
    table = {"background": 0, "a": 3, "b": 4, "c": 6, "ab": "a + b"}
    kind = Kind((0, 3), table, annotated={"x": ["a", "b"], "y": ["a", "b"]})
    seen: list[torch.Tensor] = []
    update: Callable[[Learner, float | torch.Tensor], float | None] = Learner._update

    def kept(self: Learner, value: float | torch.Tensor) -> float | None:
        made = update(self, value)
        layers = [m for m in self.network.modules() if isinstance(m, torch.nn.Conv3d) and m.out_channels == 4]
        seen.extend(
            layer.weight.grad for layer in layers if layer.kernel_size == (1, 1, 1) and layer.weight.grad is not None
        )
        return made

    monkeypatch.setattr(Learner, "_update", kept)
    trained(build(tmp_path / "data", kind), tmp_path / "store", tmp_path / "model.safetensors")
    assert seen
    for gradient in seen:
        assert [bool(row.any()) for row in gradient] == [True, True, False, True]


def test_a_foreign_labels_file_among_masks_stays(tmp_path: Path) -> None:
    dataset = build(tmp_path / "data", KINDS["255"])
    trained(dataset, tmp_path / "store", tmp_path / "model.safetensors")
    masks = tmp_path / "masks"
    masks.mkdir()
    (masks / "labels.json").write_text('{"mine": 1}', encoding="utf-8")
    predict(
        list(dataset.cases),
        masks,
        models=(tmp_path / "model.safetensors",),
        device="cpu",
        settings=PredictSettings(mirror=False),
        progress=QUIET,
    )
    assert (masks / "labels.json").read_text(encoding="utf-8") == '{"mine": 1}'
