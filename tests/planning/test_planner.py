from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest

from autoseg.errors import PlanError
from autoseg.planning.planner import make_plan
from autoseg.planning.presets import PRESETS, DeviceBudget
from autoseg.records import Configuration, Fingerprint, Labels, Plan, TrainSettings

Make = Callable[..., Fingerprint]
CPU = DeviceBudget("cpu", 2, 15)
GPU = DeviceBudget("cuda", 16, 24)


def hippocampus(make: Make) -> Fingerprint:
    return make([(1.0, 1.0, 1.0)], [(36, 50, 35)], cases_declared=260)


def ct(make: Make) -> Fingerprint:
    return make([(1.0, 0.767578125, 0.767578125)], [(432, 512, 512)], channels=("CT",), cases_declared=131)


@pytest.mark.parametrize(("preset", "batch"), [("nnunet", 9), ("resenc-m", 58), ("resenc-l", 178), ("resenc-xl", 183)])
def test_recorded_hippocampus_batches(make_fingerprint: Make, preset: str, batch: int) -> None:
    full = make_plan(hippocampus(make_fingerprint), preset, GPU).configuration("3d_fullres")
    assert full.patch_size == (40, 56, 40)
    assert full.batch_size == batch


def test_recorded_ct_with_low_resolution_stage(make_fingerprint: Make) -> None:
    plan = make_plan(ct(make_fingerprint), "nnunet", GPU)
    low, cascade = plan.configuration("3d_lowres"), plan.configuration("3d_cascade_fullres")
    assert low.median_shape == (178, 211, 211)
    assert low.spacing == pytest.approx((2.427262, 1.863114, 1.863114), abs=1e-6)
    assert low.next_stage == cascade.name
    assert not low.batch_dice
    assert cascade.previous_stage == low.name
    full = plan.configuration("3d_fullres")
    assert full.batch_dice
    assert cascade == full.model_copy(update={"name": cascade.name, "previous_stage": "3d_lowres"})


def test_auto_plans_the_cascade_by_nnunets_rule_where_steps_are_cheap(make_fingerprint: Make) -> None:
    theirs = make_plan(ct(make_fingerprint), "nnunet", GPU)
    ours = make_plan(ct(make_fingerprint), "auto", GPU)
    assert list(ours.configurations) == list(theirs.configurations)
    assert ours.configuration("3d_cascade_fullres").previous_stage == "3d_lowres"
    slow = make_plan(ct(make_fingerprint), "auto", CPU)
    assert list(slow.configurations) == ["2d", "3d_fullres"]
    reason = {reason.field: reason for reason in slow.reasons}["3d_lowres"]
    assert reason.value == "not planned"
    assert "for a CPU" in reason.because


def test_nnunet_presets_plan_alike_for_every_device(make_fingerprint: Make) -> None:
    for preset in PRESETS:
        on_cpu = make_plan(ct(make_fingerprint), preset, CPU).configurations
        on_gpu = make_plan(ct(make_fingerprint), preset, GPU).configurations
        assert (on_cpu == on_gpu) == (preset != "auto")


def test_nnunet_training_defaults(make_fingerprint: Make) -> None:
    plan = make_plan(hippocampus(make_fingerprint), "nnunet", GPU)
    training = plan.training
    assert (training.optimizer, training.learning_rate, training.momentum) == ("sgd", 0.01, 0.99)
    assert (training.weight_decay, training.decay_power, training.epochs) == (3e-5, 0.9, 1000)
    assert {entry.steps_per_epoch for entry in plan.configurations.values()} == {250}


def test_same_input_same_bytes(make_fingerprint: Make) -> None:
    first, second = (make_plan(ct(make_fingerprint), "auto", CPU).model_dump_json() for _ in range(2))
    assert first == second
    assert Plan.model_validate_json(first).model_dump_json() == first


#: Fields of a configuration that say what it is, and need no reason.
NAMES = {"name", "dimensions", "previous_stage", "next_stage"}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_derived_value_has_a_reason(make_fingerprint: Make, preset: str) -> None:
    plan = make_plan(ct(make_fingerprint), preset, CPU)
    fields = [reason.field for reason in plan.reasons]
    assert len(fields) == len(set(fields))
    expected = {"spacing", "axis_order", "normalization", "use_mask_for_normalization", "mirror_axes"}
    for name, entry in plan.configurations.items():
        expected |= {f"{name}.{field}" for field in Configuration.model_fields if field not in NAMES}
        stages = {"previous_stage": entry.previous_stage, "next_stage": entry.next_stage}
        expected |= {f"{name}.{field}" for field, stage in stages.items() if stage is not None}
    settings = [name for name in TrainSettings.model_fields if getattr(plan.training, name) is not None]
    expected |= {f"training.{name}" for name in settings}
    if not PRESETS[preset].cpu.lowres:
        expected.add("3d_lowres")
    assert set(fields) == expected


@pytest.mark.parametrize("preset", PRESETS)
def test_every_reason_tells_rule_and_alternative(make_fingerprint: Make, preset: str) -> None:
    for fingerprint in (ct(make_fingerprint), hippocampus(make_fingerprint)):
        for device in (CPU, GPU):
            for reason in make_plan(fingerprint, preset, device).reasons:
                assert reason.value, reason.field
                assert reason.because.endswith("."), reason.field
                assert reason.instead.endswith("."), reason.field


def test_the_next_larger_patch_and_batch_are_told(make_fingerprint: Make) -> None:
    reasons = {reason.field: reason for reason in make_plan(ct(make_fingerprint), "nnunet", GPU).reasons}
    patch = reasons["3d_fullres.patch_size"]
    assert "560.0 million fit" in patch.because
    assert patch.instead == "128 × 160 × 128, the next larger, needs 566.0 million."
    assert reasons["2d.batch_size"].instead == "13 samples would hold 1,077.5 million of 1,020.0 million."


def test_absent_configurations_are_explained(make_fingerprint: Make) -> None:
    small = {reason.field: reason for reason in make_plan(hippocampus(make_fingerprint), "nnunet", GPU).reasons}
    assert small["3d_lowres"].value == "not planned"
    flat = make_fingerprint([(999.0, 1.0, 1.0)] * 3, [(1, 300, 200)] * 3)
    plan = make_plan(flat, "nnunet", GPU)
    assert list(plan.configurations) == ["2d"]
    assert {reason.field: reason for reason in plan.reasons}["3d_fullres"].value == "not planned"
    assert plan.configuration("2d").preparation.spacing == (None, 1.0, 1.0)
    assert plan.configuration(None).name == "2d"


def test_flat_images_of_uneven_spacing_stay_flat(make_fingerprint: Make) -> None:
    sizes = [0.5] * 3 + [1.0] * 8
    uneven = make_fingerprint([(999 * size, size, size) for size in sizes], [(1, 300, 200)] * 11)
    cases = tuple(case.model_copy(update={"orientation": "flat"}) for case in uneven.cases)
    assert list(make_plan(uneven.model_copy(update={"cases": cases}), "auto", CPU).configurations) == ["2d"]


def test_slices_share_the_volumes_preparation_where_they_are_the_same(make_fingerprint: Make) -> None:
    plan = make_plan(hippocampus(make_fingerprint), "auto", CPU)
    assert plan.configuration("2d").preparation == plan.configuration("3d_fullres").preparation
    # spacings that differ by less than a thousandth, but enough for one slice more in a long image
    long = make_fingerprint([(1.0, 1.0, 1.0)] * 2 + [(1.0009, 1.0, 1.0)], [(800, 64, 64)] * 3)
    assert make_plan(long, "auto", CPU).configuration("2d").preparation.spacing[0] is None
    mixed = make_fingerprint([(1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (3.0, 1.0, 1.0)], [(64, 64, 64)] * 3)
    plan = make_plan(mixed, "auto", CPU)
    assert plan.configuration("2d").preparation.spacing == (None, *plan.configuration("3d_fullres").spacing[1:])


def test_masks_only_for_z_scores_of_cropped_images(make_fingerprint: Make) -> None:
    cropped = make_fingerprint([(1.0, 1.0, 1.0)], [(64, 64, 64)], channels=("T1", "CT"), relative_size=0.74)
    preparation = make_plan(cropped, "nnunet", GPU).configuration("2d").preparation
    assert preparation.normalization == ("ZScoreNormalization", "CTNormalization")
    assert preparation.use_mask_for_normalization == (True, False)


def test_coarsest_axis_comes_first(make_fingerprint: Make) -> None:
    sagittal = make_fingerprint([(0.5, 0.6, 4.0)], [(300, 280, 20)])
    full = make_plan(sagittal, "nnunet", GPU).configuration("3d_fullres")
    assert full.preparation.axis_order == (2, 0, 1)
    assert full.spacing == (4.0, 0.5, 0.6)
    assert full.median_shape == (20, 300, 280)


@pytest.mark.parametrize("memory_gb", [4, 8, 16, 24, 40, 80])
def test_auto_never_inflates_the_batch_of_small_images(make_fingerprint: Make, memory_gb: int) -> None:
    def planned(gb: int) -> dict[str, Configuration]:
        return make_plan(hippocampus(make_fingerprint), "auto", DeviceBudget("cuda", 8, gb)).configurations

    assert planned(memory_gb) == planned(2 * memory_gb)


def test_more_memory_gives_larger_patches_of_large_images(make_fingerprint: Make) -> None:
    def full(gb: int) -> Configuration:
        return make_plan(ct(make_fingerprint), "auto", DeviceBudget("cuda", 8, gb)).configuration("3d_fullres")

    voxels = [math.prod(full(gb).patch_size) for gb in (4, 8, 16, 24, 40)]
    assert voxels == sorted(set(voxels))
    assert {full(gb).batch_size for gb in (4, 8, 16, 24, 40, 80)} == {2}
    # no published result used more
    assert full(80) == full(40)


def test_memory_beyond_the_reference_goes_to_patches_alone(make_fingerprint: Make) -> None:
    """Images that fit a patch with room for several samples: the batch is what 8 GB hold."""
    middling = make_fingerprint([(1.0, 1.0, 1.0)], [(90, 100, 90)], cases_declared=500)
    entries = {
        gb: make_plan(middling, "auto", DeviceBudget("cuda", 8, gb)).configuration("3d_fullres") for gb in (8, 16, 80)
    }
    assert len({entry.batch_size for entry in entries.values()}) == 1
    assert len({entry.patch_size for entry in entries.values()}) == 1


def test_auto_is_lighter_on_a_cpu_and_grows_with_its_cores(make_fingerprint: Make) -> None:
    def voxels(cores: int, memory_gb: int = 64) -> int:
        plan = make_plan(ct(make_fingerprint), "auto", DeviceBudget("cpu", cores, memory_gb))
        full = plan.configuration("3d_fullres")
        assert full.features_per_stage[0] == 16
        assert max(full.features_per_stage) <= 256
        assert full.batch_size == 2
        return math.prod(full.patch_size)

    assert voxels(1) < voxels(4) < voxels(16)
    assert voxels(16) == voxels(64)
    assert voxels(16, memory_gb=1) < voxels(16)


def test_steps_per_epoch_follow_the_data(make_fingerprint: Make) -> None:
    few = make_fingerprint([(2.0, 2.0, 2.0)] * 3, [(25, 26, 20)] * 3)
    assert make_plan(few, "auto", CPU).configuration("3d_fullres").steps_per_epoch == 25
    assert make_plan(ct(make_fingerprint), "auto", CPU).configuration("3d_fullres").steps_per_epoch == 250
    between = make_plan(hippocampus(make_fingerprint), "auto", CPU).configuration("3d_fullres").steps_per_epoch
    assert 25 < between < 250


def test_unknown_preset_and_empty_fingerprint_are_refused(make_fingerprint: Make) -> None:
    with pytest.raises(PlanError, match="resenc-xl"):
        make_plan(hippocampus(make_fingerprint), "fastest", CPU)
    with pytest.raises(PlanError, match="no cases"):
        make_plan(hippocampus(make_fingerprint).model_copy(update={"cases": ()}), "auto", CPU)
    with pytest.raises(PlanError, match="positive"):
        make_plan(make_fingerprint([(0.0, 1.0, 1.0)], [(64, 64, 64)]), "auto", CPU)


def test_a_budget_that_nothing_fits_is_refused(make_fingerprint: Make) -> None:
    many = Labels(names={"background": 0, **{f"label_{number}": number for number in range(1, 3)}})
    huge = make_fingerprint([(1.0, 1.0, 1.0)], [(64, 64, 64)], labels=many).model_copy(
        update={"labels_with_entries": 10**10}
    )
    with pytest.raises(PlanError, match="no patch is small enough"):
        make_plan(huge, "nnunet", GPU)


def test_regions_and_ignore_label_pass_through(make_fingerprint: Make) -> None:
    labels = Labels(names={"background": 0, "whole": (1, 2), "core": 2}, ignore=3, regions_class_order=(1, 2))
    plan = make_plan(make_fingerprint([(1.0, 1.0, 1.0)], [(64, 64, 64)], labels=labels), "auto", CPU)
    assert plan.labels == labels
    assert plan.configuration("2d").preparation.labels == labels


def test_the_plan_is_json_with_the_fields_names(make_fingerprint: Make) -> None:
    record = json.loads(make_plan(hippocampus(make_fingerprint), "nnunet", GPU).model_dump_json())
    entry = record["configurations"]["3d_fullres"]
    assert entry["patch_size"] == [40, 56, 40]
    assert entry["strides"] == [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]]
    assert {"spacing", "batch_size", "kernel_sizes", "features_per_stage", "blocks_per_stage"} <= set(entry)
