from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nnunet_builders import STATISTICS, configuration, old_configuration, plans

from autoseg.errors import PlanError
from autoseg.interop.nnunet_plans import plan_from_nnunet, plans_from_configurations, plans_name_of
from autoseg.planning.planner import make_plan
from autoseg.planning.presets import DeviceBudget
from autoseg.records import CaseFingerprint, Fingerprint, IntensityStatistics, Labels, Plan


def fingerprint(orientation: str = "RAS", channels: tuple[str, ...] = ("MRI",)) -> Fingerprint:
    case = CaseFingerprint(
        case="one",
        shape=(40, 200, 180),
        spacing=(3.0, 1.0, 1.5),
        shape_after_crop=(40, 200, 180),
        orientation=orientation,
        voxels_per_label={},
    )
    return Fingerprint(
        dataset="small",
        channels=channels,
        labels=Labels(names={"background": 0, "organ": 1, "tumor": 2}),
        cases=(case, case),
        intensities=(IntensityStatistics(**{**STATISTICS, "mean": -1.0}),) * len(channels),
        median_relative_size_after_cropping=1.0,
        labels_with_entries=3,
        cases_declared=2,
    )


def test_a_configuration_arrives_whole() -> None:
    plan = plan_from_nnunet(plans(), fingerprint(), "theirs")
    found = plan.configuration("3d_fullres")
    assert (plan.name, plan.dataset, plan.preset) == ("theirs", "small", "nnunet")
    assert (found.dimensions, found.patch_size, found.batch_size, found.spacing) == (3, (8, 16, 12), 2, (3.0, 1.0, 1.5))
    assert (found.network, found.features_per_stage, found.blocks_per_stage) == ("unet", (4, 6, 6), (1, 2, 3))
    assert found.blocks_per_stage_decoder == (1, 2)  # finest first, nnU-Net's come from the bottom
    assert found.strides == ((1, 1, 1), (1, 2, 2), (2, 2, 2))
    assert found.kernel_sizes[0] == (1, 3, 3)
    assert found.median_shape == (10.0, 20.5, 18.0)
    assert not found.batch_dice
    assert (found.steps_per_epoch, found.epochs, plan.training.epochs) == (250, 1000, 1000)
    assert plan.training.optimizer == "sgd"
    assert plan.mirror_axes == (0, 1, 2)
    preparation = found.preparation
    assert preparation.intensities[0].mean == STATISTICS["mean"]
    assert preparation.spacing == (3.0, 1.0, 1.5)
    assert (preparation.image_order, preparation.label_order) == (3, 1)


def test_names_of_configurations_are_names_of_folders() -> None:
    theirs = plans()
    theirs["configurations"]["3d_fullres_bs4"] = theirs["configurations"]["3d_fullres"]
    assert "3d_fullres_bs4" in plan_from_nnunet(theirs, fingerprint(), "theirs").configurations
    theirs["configurations"]["../3d"] = theirs["configurations"]["3d_fullres"]
    with pytest.raises(PlanError, match=r"configurations\.\.\./3d: a configuration's name may be made of letters"):
        plan_from_nnunet(theirs, fingerprint(), "theirs")


def test_old_plans_say_the_same() -> None:
    new = plan_from_nnunet(plans(), fingerprint(), "plan")
    old = plan_from_nnunet(plans(**{"3d_fullres": old_configuration()}), fingerprint(), "plan")
    assert old.configurations == new.configurations


def test_slices_keep_their_own_spacing() -> None:
    plan = plan_from_nnunet(plans(**{"2d": configuration(2, residual=True)}), fingerprint(), "flat")
    found = plan.configuration("2d")
    assert (found.dimensions, found.network, found.spacing) == (2, "resenc", (1.0, 1.5))
    assert found.preparation.spacing == (None, 1.0, 1.5)
    assert found.batch_dice


def test_what_is_inherited_is_filled_in() -> None:
    edited = plans(
        **{
            "3d_fullres": configuration(),
            "3d_lowres": {"inherits_from": "3d_fullres", "spacing": [6.0, 2.0, 3.0], "next_stage": ["cascade"]},
            "wide": {"inherits_from": "3d_lowres", "batch_size": 7},
            "cascade": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        }
    )
    plan = plan_from_nnunet(edited, fingerprint(), "plan")
    assert plan.configuration("wide").batch_size == 7
    assert plan.configuration("wide").spacing == (6.0, 2.0, 3.0)
    assert plan.configuration("wide").preparation.spacing == (6.0, 2.0, 3.0)
    assert plan.configuration("3d_lowres").next_stage == "cascade"
    assert plan.configuration("cascade").previous_stage == "3d_lowres"
    assert plan.configuration("3d_fullres").previous_stage is None


def test_every_number_says_where_it_comes_from() -> None:
    plan = plan_from_nnunet(plans(), fingerprint(), "plan", source="edited.json")
    reasons = {reason.field: reason for reason in plan.reasons}
    for field in ("spacing", "patch_size", "batch_size", "strides", "kernel_sizes", "features_per_stage"):
        assert reasons[f"3d_fullres.{field}"].because == "As in edited.json."
    assert reasons["3d_fullres.patch_size"].value == "8 × 16 × 12"
    assert "trainer" in reasons["training.epochs"].because


@pytest.mark.parametrize(
    ("reader", "letters", "orientation"),
    [
        ("SimpleITKIO", "RAS", "ras"),
        ("SimpleITKIO", "LPS", "ras"),  # flips do not change which spacing is whose
        ("SimpleITKIO", "PIR", "stored"),
        ("NibabelIOWithReorient", "PIR", "ras"),
        ("NaturalImage2DIO", "flat", "ras"),
        ("SimpleITKIO", "unknown", "ras"),
    ],
)
def test_axes_are_those_that_the_plan_speaks_of(reader: str, letters: str, orientation: str) -> None:
    edited = plans() | {"image_reader_writer": reader}
    plan = plan_from_nnunet(edited, fingerprint(letters), "plan")
    assert plan.configuration("3d_fullres").preparation.orientation == orientation


def test_axes_are_transposed() -> None:
    edited = plans() | {"transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0]}
    assert plan_from_nnunet(edited, fingerprint(), "plan").configuration(None).preparation.axis_order == (2, 0, 1)


@pytest.mark.parametrize(
    ("letters", "forward", "kept"),
    [
        ("RAS", [0, 1, 2], (0, 1)),
        ("RAS", [2, 0, 1], (1, 2)),
        ("PIR", [0, 1, 2], (1, 2)),  # stored (k, j, i) runs along R, I, P
        ("ILA", [0, 1, 2], (0, 2)),
    ],
)
def test_sides_are_not_mirrored_however_files_are_stored(
    letters: str, forward: list[int], kept: tuple[int, ...]
) -> None:
    edited = plans() | {"transpose_forward": forward, "transpose_backward": [forward.index(axis) for axis in range(3)]}
    sides = Labels(names={"background": 0, "left_lung": 1, "right_lung": 2})
    plan = plan_from_nnunet(edited, fingerprint(letters).model_copy(update={"labels": sides}), "plan")
    assert plan.mirror_axes == kept


def test_intensities_missing_in_the_file_are_those_measured() -> None:
    bare = plans()
    del bare["foreground_intensity_properties_per_channel"]
    found = plan_from_nnunet(bare, fingerprint(), "plan").configuration(None)
    assert found.preparation.intensities[0].mean == -1.0


Change = Callable[[dict[str, Any]], None]


def setting(*path: str, to: Any) -> Change:
    def change(table: dict[str, Any]) -> None:
        for key in path[:-1]:
            table = table[key]
        table[path[-1]] = to

    return change


def in_configuration(*path: str, to: Any) -> Change:
    return setting("configurations", "3d_fullres", *path, to=to)


def in_network(*path: str, to: Any) -> Change:
    return in_configuration("architecture", "arch_kwargs", *path, to=to)


def without(name: str) -> Change:
    def change(table: dict[str, Any]) -> None:
        del table["configurations"]["3d_fullres"][name]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("patch_size"), r"configurations\.3d_fullres\.patch_size: is missing"),
        (without("batch_dice"), r"configurations\.3d_fullres\.batch_dice: is missing"),
        (in_configuration("patch_size", to=[8, 15, 12]), r"patch_size: 15 along axis 1 is not divisible by 4"),
        (in_configuration("patch_size", to=[8]), "patch_size"),
        (in_configuration("spacing", to=[1.0, 1.0]), r"3d_fullres\.spacing: \[1\.0, 1\.0\] is not a list of 3"),
        (in_configuration("spacing", to=[1.0, 0.0, 1.0]), "spacing"),
        (in_configuration("batch_size", to=0), "batch_size: 0"),
        (in_configuration("batch_size", to=True), "batch_size: True"),
        (in_configuration("normalization_schemes", to=["Mine"]), "normalization_schemes: 'Mine' is not known"),
        (in_configuration("normalization_schemes", to=["CTNormalization"] * 2), "not a list of 1"),
        (in_configuration("use_mask_for_norm", to=[0]), "use_mask_for_norm"),
        (in_configuration("preprocessor_name", to="Mine"), "preprocessor_name: 'Mine'"),
        (in_configuration("resampling_fn_data", to="resample_torch_fornnunet"), "resampling_fn_data: 'resample_torch"),
        (in_configuration("resampling_fn_data_kwargs", "order", to=2), r"resampling_fn_data_kwargs\.order: 2"),
        (in_configuration("resampling_fn_seg_kwargs", "force_separate_z", to=False), "force_separate_z: False"),
        (in_configuration("resampling_fn_data_kwargs", "order_z", to=1), "order_z: 1"),
        (in_configuration("resampling_fn_probabilities_kwargs", "order_z", to=3), "order_z: 3"),
        (in_configuration("previous_stage", to="3d_lowres"), "previous_stage: there is no configuration '3d_lowres'"),
        (in_configuration("inherits_from", to="nothing"), "inherits_from: there is no configuration 'nothing'"),
        (in_configuration("inherits_from", to="3d_fullres"), "inherits_from: goes in a circle"),
        (in_configuration("architecture", "network_class_name", to="mine.PlainConvUNet"), "'mine.PlainConvUNet'"),
        (
            in_configuration(
                "architecture",
                "network_class_name",
                to="dynamic_network_architectures.architectures.primus.Primus",
            ),
            r"architecture\.network_class_name: the network .*Primus' is not known",
        ),
        (in_network("strides", to=[[1, 1, 1], [2, 2, 2]]), "arch_kwargs.strides: needs 3 entries"),
        (in_network("strides", to=[[2, 2, 2], [1, 1, 1], [2, 2, 2]]), "strides: the first stage"),
        (in_network("kernel_sizes", to=[[3, 3, 3], [3, 3], [3, 3, 3]]), "kernel_sizes"),
        (in_network("kernel_sizes", to=2), "kernel_sizes: kernel sizes must be odd"),
        (in_network("features_per_stage", to=[4, 6]), "features_per_stage"),
        (in_network("n_conv_per_stage_decoder", to=[1, 1, 1]), "n_conv_per_stage_decoder"),
        (in_network("conv_op", to="torch.nn.modules.conv.Conv2d"), r"conv_op: .*Conv2d' is not supported"),
        (in_network("norm_op", to="torch.nn.modules.batchnorm.BatchNorm3d"), "norm_op: .*BatchNorm3d"),
        (in_network("norm_op_kwargs", "eps", to=1e-3), r"norm_op_kwargs\.eps: 0\.001"),
        (in_network("norm_op_kwargs", to={"eps": 1e-5}), "affine"),
        (in_network("nonlin", to="torch.nn.ReLU"), "nonlin: 'torch.nn.ReLU'"),
        (in_network("nonlin_kwargs", to={"negative_slope": 0.2}), "nonlin_kwargs: a slope of 0.2"),
        (in_network("nonlin_first", to=True), "nonlin_first: True"),
        (in_network("squeeze_excitation", to=True), "squeeze_excitation"),
        (in_network("attention", to=True), "attention: this argument"),
        (setting("transpose_forward", to=[0, 1, 1]), "transpose_forward"),
        (setting("transpose_backward", to=[1, 2, 0]), "transpose_backward: .* does not undo"),
        (setting("image_reader_writer", to="MyReader"), "image_reader_writer: 'MyReader'"),
        (setting("label_manager", to="MyLabels"), "label_manager: 'MyLabels'"),
        (setting("configurations", to={}), "configurations: names none"),
        (setting("foreground_intensity_properties_per_channel", to={}), "has 0 entries, but there are 1 channels"),
        (setting("foreground_intensity_properties_per_channel", "0", "std", to=None), r"channel\.0\.std: None"),
    ],
)
def test_contradictions_are_refused_by_field(change: Change, message: str) -> None:
    edited = json.loads(json.dumps(plans()))
    change(edited)
    with pytest.raises(PlanError, match=message) as caught:
        plan_from_nnunet(edited, fingerprint(), "plan", source="edited.json")
    assert caught.value.where == "edited.json"


def test_other_channels_than_the_dataset_has_are_refused() -> None:
    with pytest.raises(PlanError, match="2 channels"):
        plan_from_nnunet(plans(), fingerprint(channels=("MRI", "PET")), "plan")


# ------------------------------------------------------------------------------------------------------ to nnU-Net


def plans_from_plan(plan: Plan, file_ending: str = ".nii.gz", flat: bool = False) -> dict[str, Any]:
    """nnU-Net's plans with all configurations of a plan."""
    return plans_from_configurations(
        list(plan.configurations.values()),
        dataset=plan.dataset,
        plans_name=plans_name_of(plan.name),
        file_ending=file_ending,
        flat=flat,
    )


@pytest.mark.parametrize("preset", ["nnunet", "resenc-m", "auto"])
def test_plans_come_back_as_they_were(preset: str) -> None:
    """A large image, so that all four configurations are planned."""
    whole = fingerprint()
    large = whole.cases[0].model_copy(update={"shape_after_crop": (400, 512, 512), "shape": (400, 512, 512)})
    plan = make_plan(whole.model_copy(update={"cases": (large, large)}), preset, DeviceBudget("cuda", 8, 24))
    written = json.loads(json.dumps(plans_from_plan(plan)))
    back = plan_from_nnunet(written, whole, plan.name)
    assert back.configurations.keys() == plan.configurations.keys()
    for name, before in plan.configurations.items():
        after = back.configurations[name]
        taken_over = {"steps_per_epoch": before.steps_per_epoch, "epochs": before.epochs}
        if name == "2d":  # nnU-Net's slices never share a prepared copy with volumes
            preparation = before.preparation.model_copy(update={"spacing": (None, *before.preparation.spacing[1:])})
            taken_over["preparation"] = before.preparation
            assert after.preparation == preparation
        assert after.model_copy(update=taken_over) == before
    assert set(written) == set(plans())
    assert set(written["configurations"]["3d_fullres"]) >= set(configuration())


@pytest.mark.parametrize(
    ("ending", "flat", "reorients", "reader"),
    [
        (".nii.gz", False, True, "NibabelIOWithReorient"),
        (".nii.gz", False, False, "SimpleITKIO"),
        (".mha", False, True, "SimpleITKIOWithReorient"),
        (".nrrd", False, False, "SimpleITKIO"),
        (".nii.gz", True, True, "SimpleITKIO"),
        (".png", True, True, "NaturalImage2DIO"),
        (".tif", True, True, "NaturalImage2DIO"),
        (".tif", False, True, "Tiff3DIO"),
    ],
)
def test_nnunet_reads_files_as_we_do(ending: str, flat: bool, reorients: bool, reader: str) -> None:
    theirs = plans() | {"image_reader_writer": "NibabelIOWithReorient" if reorients else "SimpleITKIO"}
    plan = plan_from_nnunet(theirs, fingerprint("PIR"), "plan")
    assert plans_from_plan(plan, file_ending=ending, flat=flat)["image_reader_writer"] == reader


def test_networks_that_nnunet_does_not_have_are_refused() -> None:
    plan = plan_from_nnunet(plans(), fingerprint(), "plan")
    other = plan.configuration(None).model_copy(update={"network": "mine"})
    with pytest.raises(PlanError, match="no network 'mine'"):
        plans_from_plan(plan.model_copy(update={"configurations": {"3d_fullres": other}}))


def test_names_of_plans_keep_folder_names_apart() -> None:
    assert plans_name_of("default") == "autosegPlans"
    assert plans_name_of("my__own_") == "autosegPlans_my_own"


def test_plans_of_a_trained_model_are_read(shared: Path) -> None:
    folder = shared / "golden" / "nnunet_model" / "results" / "Dataset004_Hippocampus"
    theirs = json.loads((folder / "nnUNetTrainer_tiny__tinyPlans__3d_fullres" / "plans.json").read_text())
    found = plan_from_nnunet(theirs, fingerprint(), "plan").configuration("3d_fullres")
    assert (found.patch_size, found.features_per_stage) == ((40, 56, 40), (8, 16, 32, 64))
