"""Models that do not fit, and masks that cannot be scored."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from autoseg.arrays.crop import bounding_box
from autoseg.evaluation.summary import read_summary
from autoseg.model_file import HEADER_KEY, read_header

from .builders import Planned, Typed, a_ball, a_dataset, save
from .catalog import fault

PLAN = "plan data --no-probe --workers 1"


@fault(
    55,
    "weights of other shapes than those of the network, at the beginning of a training or in a model file",
    "a table of name, expected shape and found shape; what fits is loaded; a model file that does not fit is refused",
)
def test_shapes_that_differ_are_listed(here: Path, typed: Typed, planned: Planned, model: Path) -> None:
    a_dataset(here / "data", channels=("MR", "T2"))
    assert planned().code == 0
    said = typed("train --epochs 1 --workers 1 --init", model)
    assert said.code == 0
    assert "Loaded in part" in said.text
    assert "expected 4x2x3x3x3, found 4x1x3x3x3" in said.text

    broken = here / "broken.safetensors"
    tensors, header = load_file(model), read_header(model)
    name = next(name for name, tensor in tensors.items() if tensor.shape[1:] == (1, 3, 3, 3))
    tensors[name] = tensors[name][:, :, :1].clone()
    save_file(tensors, broken, metadata={HEADER_KEY: header.model_dump_json()})
    refused = typed("predict data/imagesTr masks --model", broken)
    assert refused.code == 1
    assert "broken.safetensors: the tensors of its member '3d_fullres.fold_0' do not fit the network" in refused.text
    assert "expected 4x1x3x3x3, found 4x1x1x3x3" in refused.text
    assert not (here / "masks").exists()


@fault(
    56,
    "a model file of another version or another program, a checkpoint of PyTorch, a bare dictionary of weights",
    "refused by what it is, with the version that wrote it, and no code in it is run",
)
def test_other_files_are_no_models(here: Path, typed: Typed, model: Path) -> None:
    image = save(here / "a.nii.gz", a_ball(1)[0])
    tensors, header = load_file(model), json.loads(read_header(model).model_dump_json())
    save_file(tensors, here / "bare.safetensors")
    newer = {**header, "format": 999, "versions": {"autoseg": "9.9.9"}}
    save_file(tensors, here / "newer.safetensors", metadata={HEADER_KEY: json.dumps(newer)})
    torch.save({"network": tensors}, here / "checkpoint.pth")
    (here / "words.safetensors").write_text("not a model")
    for name, words in {
        "bare.safetensors": "is a safetensors file, but not one of autoseg's",
        "newer.safetensors": "field format: it is of format 999, this version knows format 2; autoseg 9.9.9 wrote it",
        "checkpoint.pth": "is a checkpoint of PyTorch",
        "words.safetensors": "cannot be read as a model file, it is damaged or of another kind",
    }.items():
        said = typed("predict", image, "masks", "--model", name)
        assert said.code == 1
        assert f"{name}: {words}" in said.text
    assert "import-nnunet" in typed("predict", image, "masks", "--model", "checkpoint.pth").text
    assert not (here / "masks").exists()
    first = {**header, "format": 1, "fingerprint": {}}
    first.pop("post_processing", None)
    for added in set(first) - {
        *("format", "channels", "labels", "members", "combine", "precision", "fingerprint", "plugins"),
        *("channel_dropout", "ended_early", "versions"),
    }:
        first.pop(added)
    save_file(tensors, here / "older.safetensors", metadata={HEADER_KEY: json.dumps(first)})
    assert typed("predict", image, "masks", "--model", "older.safetensors").code == 0


@fault(
    57,
    "masks of another shape than their references, NaN in a reference, masks that are missing, files without a partner",
    "a line for each such case; the totals are over the others, and say over how many",
)
def test_cases_that_cannot_be_scored_are_listed(here: Path, typed: Typed) -> None:
    for number in range(5):
        save(here / "references" / f"case_{number}.nii.gz", a_ball(number)[1])
        save(here / "masks" / f"case_{number}.nii.gz", a_ball(number)[1])
    hollow = a_ball(4)[1].astype(np.float32)
    hollow[hollow == 1] = np.nan
    save(here / "references" / "case_4.nii.gz", hollow)
    save(here / "masks" / "case_1.nii.gz", a_ball(1, (20, 22, 17))[1])
    (here / "masks" / "case_2.nii.gz").unlink()
    save(here / "masks" / "extra.nii.gz", a_ball(9)[1])
    said = typed("evaluate masks references --workers 1")
    assert said.code == 2
    assert "4 cases failed" in said.text
    assert "the mask has shape (17, 22, 20), the reference (18, 22, 20)" in said.text
    assert "case_2: has no mask" in said.text
    assert "are not whole numbers (such as nan)" in said.text
    assert "extra: has no reference" in said.text
    assert "Mean Dice 1.000 over 2 cases" in said.text
    summary = read_summary(here / "masks" / "summary.json")
    assert summary.failures.keys() == {"case_1", "case_2", "case_4", "extra"}
    assert summary.labels["label_1"].cases == 2


@fault(
    58,
    "a label that is absent from the reference, or from both reference and mask",
    "counted by themselves, as false alarms and as rightly absent; never averaged in",
)
def test_empty_references_are_counted_apart(here: Path, typed: Typed) -> None:
    labels = a_ball(0)[1]
    for number, (reference, mask) in enumerate(
        [(labels, labels), (np.minimum(labels, 1), labels), (np.minimum(labels, 1), np.minimum(labels, 1))]
    ):
        save(here / "references" / f"case_{number}.nii.gz", reference)
        save(here / "masks" / f"case_{number}.nii.gz", mask)
    said = typed("evaluate masks references --workers 1")
    assert said.code == 0
    core = read_summary(here / "masks" / "summary.json").labels["label_2"]
    assert (core.dice, core.cases, core.empty_references, core.both_empty) == (1.0, 1, 1, 1)
    assert "false alarms: found although absent" in said.text


@fault(
    59,
    "the wrong label number in an evaluation: every Dice is 0",
    "it is said that the label never occurs in any reference",
)
def test_labels_that_never_occur_are_told_of(here: Path, typed: Typed) -> None:
    data = a_dataset(here / "data", labels={"background": 0, "ball": 1, "core": 2, "tumour": 7})
    said = typed("evaluate data/labelsTr data/labelsTr --labels-from data --workers 1")
    assert said.code == 0
    assert "tumour never occurs in any reference here: its scores say nothing" in said.text
    assert read_summary(data / "labelsTr" / "summary.json").labels["tumour"].dice is None


@fault(
    60,
    "the bounding box of a mask of gigabytes",
    "found by projections: it takes less than a tenth of the mask's own memory",
)
def test_bounding_boxes_take_no_memory() -> None:
    mask = np.zeros((300, 400, 500), np.bool_)
    mask[11:290, 300:310, 7] = True
    tracemalloc.start()
    box = bounding_box(mask)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert box == ((11, 290), (300, 310), (7, 8))
    assert peak < mask.nbytes / 10
