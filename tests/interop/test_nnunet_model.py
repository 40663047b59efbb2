from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunet_builders import (
    FOLDER,
    checkpoint,
    configuration,
    dataset_json,
    plans,
    random_tensors,
    spec,
    write_results,
)

from autoseg.errors import ModelError, PlanError
from autoseg.interop.nnunet_export import Origin, folders_for_nnunet, write_folder
from autoseg.interop.nnunet_model import read_nnunet_model
from autoseg.records import TrainingData

ORIGIN = Origin(dataset="Small", plans_name="autosegPlans", cases=5, file_ending=".nii.gz", flat=False)


def test_plans_labels_and_weights_arrive(tmp_path: Path) -> None:
    model = read_nnunet_model(write_results(tmp_path / FOLDER, folds=("1", "0")))
    header = model.header
    assert [member.name for member in header.members] == ["3d_fullres.fold_0", "3d_fullres.fold_1"]
    assert header.channels == ("MRI",)
    assert header.labels.names == {"background": 0, "organ": 1, "tumor": 2}
    assert header.precision == "float32"
    assert header.fingerprint == TrainingData(cases=5, file_ending=".nii.gz")
    member = header.members[0]
    assert member.mirror_axes == (0, 1, 2)
    assert member.configuration.patch_size == (8, 16, 12)
    assert member.configuration.preparation.orientation == "stored"
    assert model.notes == ()
    # the builder gave fold_1 the seed 0
    for name, seed in (("3d_fullres.fold_1", 0), ("3d_fullres.fold_0", 1)):
        expected = random_tensors(spec(), seed)
        assert all(torch.equal(model.tensors[name][tensor], expected[tensor]) for tensor in expected)


def test_a_zip_holds_the_same(tmp_path: Path) -> None:
    root = write_results(tmp_path / "Dataset007_Small" / FOLDER)
    with zipfile.ZipFile(tmp_path / "model.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(root.rglob("*.*")):
            archive.write(path, path.relative_to(tmp_path))
    one, other = read_nnunet_model(root), read_nnunet_model(tmp_path / "model.zip")
    assert one.header == other.header
    assert one.source == other.source == FOLDER


@pytest.mark.parametrize(
    ("reader", "orientation"),
    [("NibabelIOWithReorient", "ras"), ("SimpleITKIOWithReorient", "ras"), ("NibabelIO", "stored")],
)
def test_axes_are_turned_where_the_reader_turns_them(tmp_path: Path, reader: str, orientation: str) -> None:
    root = write_results(tmp_path / FOLDER, plans_json=plans() | {"image_reader_writer": reader})
    assert read_nnunet_model(root).header.members[0].configuration.preparation.orientation == orientation


@pytest.mark.parametrize(("stored", "ours"), [((0, 1), (1, 2)), ((1,), (2,)), (None, ()), ((), ())])
def test_mirror_axes_of_slices_are_counted_in_the_volume(tmp_path: Path, stored: Any, ours: tuple[int, ...]) -> None:
    root = write_results(
        tmp_path / FOLDER,
        plans_json=plans(**{"2d": configuration(2, residual=True)}),
        network=spec(2, residual=True),
        configuration_name="2d",
        inference_allowed_mirroring_axes=stored,
    )
    assert read_nnunet_model(root).header.members[0].mirror_axes == ours


def test_folds_are_chosen(tmp_path: Path) -> None:
    root = write_results(tmp_path / FOLDER, folds=("0", "1", "all"))
    everything = read_nnunet_model(root)
    assert [member.name for member in everything.header.members] == ["3d_fullres.fold_0", "3d_fullres.fold_1"]
    assert "fold all is left out" in everything.notes[0]
    assert [member.name for member in read_nnunet_model(root, folds=["all"]).header.members] == ["3d_fullres.fold_all"]
    assert [member.name for member in read_nnunet_model(root, folds=["1"]).header.members] == ["3d_fullres.fold_1"]
    with pytest.raises(ModelError, match=r"no fold 3.*There are: 0, 1, all"):
        read_nnunet_model(root, folds=["0", "3"])


def test_fold_all_alone_is_taken(tmp_path: Path) -> None:
    model = read_nnunet_model(write_results(tmp_path / FOLDER, folds=("all",)))
    assert [member.name for member in model.header.members] == ["3d_fullres.fold_all"]


def test_a_training_that_did_not_end_is_told(tmp_path: Path) -> None:
    root = write_results(tmp_path / FOLDER)
    (root / "fold_0" / "checkpoint_final.pth").rename(root / "fold_0" / "checkpoint_best.pth")
    model = read_nnunet_model(root)
    assert "checkpoint_best.pth is taken" in model.notes[0]
    assert model.checkpoints == ("fold_0/checkpoint_best.pth",)


def test_dropout_is_left_out_with_a_note(tmp_path: Path) -> None:
    entry = configuration()
    entry["architecture"]["arch_kwargs"] |= {"dropout_op": "torch.nn.Dropout3d", "dropout_op_kwargs": {"p": 0.1}}
    model = read_nnunet_model(write_results(tmp_path / FOLDER, plans_json=plans(**{"3d_fullres": entry})))
    assert "dropout" in model.notes[0]


def test_folds_of_other_mirroring_follow_the_first(tmp_path: Path) -> None:
    root = write_results(tmp_path / FOLDER, folds=("0", "1"))
    path = root / "fold_1" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    torch.save(content | {"inference_allowed_mirroring_axes": (0,)}, path)
    model = read_nnunet_model(root)
    assert model.header.members[1].mirror_axes == (0, 1, 2)
    assert "fold 1 may be mirrored along (0,)" in model.notes[0]
    content["init_args"]["configuration"] = "2d"
    torch.save(content, path)
    with pytest.raises(ModelError, match=r"fold_1.*init_args\.configuration is '2d'"):
        read_nnunet_model(root)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network_weights": None}, "has no network_weights"),
        ({"init_args": {}}, r"has no init_args\.configuration"),
        ({"inference_allowed_mirroring_axes": (0, 3)}, r"inference_allowed_mirroring_axes \(0, 3\)"),
        ({"inference_allowed_mirroring_axes": "all"}, "inference_allowed_mirroring_axes: 'all'"),
    ],
)
def test_broken_checkpoints_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    root = write_results(tmp_path / FOLDER)
    path = root / "fold_0" / "checkpoint_final.pth"
    torch.save(checkpoint({}) | changes, path)
    with pytest.raises(ModelError, match=message) as caught:
        read_nnunet_model(root)
    assert str(caught.value.where).endswith("fold_0/checkpoint_final.pth")


def test_a_checkpoint_of_another_plan_is_named(tmp_path: Path) -> None:
    root = write_results(tmp_path / FOLDER, configuration_name="3d_lowres")
    with pytest.raises(PlanError, match=r"plans\.json: field configurations: there is no '3d_lowres'.*fold_0"):
        read_nnunet_model(root)
    other = write_results(tmp_path / "other" / FOLDER, network=spec(residual=True))
    with pytest.raises(ModelError, match=r"fold_0/checkpoint_final\.pth: network_weights are not those"):
        read_nnunet_model(other)


def test_the_second_stage_of_a_cascade_is_refused(tmp_path: Path) -> None:
    cascade = configuration() | {"previous_stage": "3d_lowres"}
    root = write_results(tmp_path / FOLDER, plans_json=plans(**{"3d_fullres": cascade}))
    with pytest.raises(PlanError, match="previous_stage: 3d_fullres is the second stage of a cascade"):
        read_nnunet_model(root)


def test_broken_json_is_named(tmp_path: Path) -> None:
    root = write_results(tmp_path / FOLDER)
    (root / "plans.json").write_text("{")
    with pytest.raises(PlanError, match=r"plans\.json: is not valid JSON"):
        read_nnunet_model(root)
    (root / "dataset.json").write_text("[]")
    with pytest.raises(PlanError, match=r"dataset\.json: does not hold a JSON object"):
        read_nnunet_model(root)


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    root = write_results(tmp_path / FOLDER, surprise=Trap(tmp_path / "trap"))
    with pytest.raises(ModelError, match=r"fold_0/checkpoint_final\.pth: wants to call .*mkdir"):
        read_nnunet_model(root)
    assert not (tmp_path / "trap").exists()


# --------------------------------------------------------------------------------------------------- and back again


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("residual", [False, True])
def test_what_is_exported_is_imported_as_it_was(tmp_path: Path, dimensions: int, residual: bool) -> None:
    name = "2d" if dimensions == 2 else "3d_fullres"
    order = {"transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0]}
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    root = write_results(
        tmp_path / FOLDER,
        plans_json=plans(**{name: configuration(dimensions, residual)}) | order,
        dataset=dataset_json(labels=labels, regions_class_order=[1, 2]),
        folds=("0", "3"),
        network=spec(dimensions, residual, heads=2),
        configuration_name=name,
        inference_allowed_mirroring_axes=(0, 1),
    )
    model = read_nnunet_model(root)
    (folder,) = folders_for_nnunet(model.header, model.tensors, ORIGIN)
    write_folder(folder, tmp_path / "out" / folder.name)
    again = read_nnunet_model(tmp_path / "out")
    assert again.header == model.header
    for member, tensors in model.tensors.items():
        assert again.tensors[member].keys() == tensors.keys()
        assert all(torch.equal(again.tensors[member][tensor], tensors[tensor]) for tensor in tensors)
    # and nnU-Net would find what it wrote itself
    before = torch.load(root / "fold_3" / "checkpoint_final.pth", weights_only=False)
    after = torch.load(tmp_path / "out" / folder.name / "fold_3" / "checkpoint_final.pth", weights_only=False)
    assert after["network_weights"].keys() == before["network_weights"].keys()
    assert after.keys() >= before.keys()
    assert after["inference_allowed_mirroring_axes"] == (0, 1)
    written = json.loads((tmp_path / "out" / folder.name / "plans.json").read_text())
    for key, value in plans()["configurations"]["3d_fullres"].items():
        if key not in ("data_identifier", "architecture") and dimensions == 3:
            assert written["configurations"][name][key] == value


def test_mirroring_that_is_off_is_none(tmp_path: Path) -> None:
    model = read_nnunet_model(write_results(tmp_path / FOLDER, inference_allowed_mirroring_axes=None))
    (folder,) = folders_for_nnunet(model.header, model.tensors, ORIGIN)
    assert folder.checkpoints["fold_0"]["inference_allowed_mirroring_axes"] is None


def test_members_of_two_plans_are_not_mixed(tmp_path: Path) -> None:
    model = read_nnunet_model(write_results(tmp_path / FOLDER, folds=("0", "1")))
    first, second = model.header.members
    other = second.model_copy(update={"mirror_axes": (2,)})
    with pytest.raises(ModelError, match="of one name but of different plans"):
        folders_for_nnunet(model.header.model_copy(update={"members": (first, other)}), model.tensors, ORIGIN)


def test_numpy_numbers_of_any_kind_are_read(tmp_path: Path) -> None:
    numbers = [kind(1) for kind in (np.float32, np.float64, np.float16, np.int64, np.int32, np.uint8, np.bool_)]
    root = write_results(tmp_path / FOLDER, logging={"numbers": numbers})
    assert len(read_nnunet_model(root).header.members) == 1
