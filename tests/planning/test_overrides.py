"""What a person gives holds, and everything else follows from it anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from autoseg.errors import PlanError, UsageError
from autoseg.interop.nnunet_fingerprint import fingerprint_from_nnunet
from autoseg.planning.divisibility import nearest_patches
from autoseg.planning.overrides import Overrides, parse_overrides
from autoseg.planning.planner import make_plan
from autoseg.planning.presets import OPTIMIZER_DEFAULTS, PRESETS, DeviceBudget
from autoseg.planning.topology import derive_topology
from autoseg.planning.validity import require_possible
from autoseg.records import Fingerprint, Plan
from autoseg.training.schedule import OPTIMIZERS

Make = Callable[..., Fingerprint]
CPU = DeviceBudget("cpu", 2, 15)
GPU = DeviceBudget("cuda", 16, 8)


def ct(make: Make) -> Fingerprint:
    return make([(1.0, 0.767578125, 0.767578125)], [(432, 512, 512)], channels=("CT",), cases_declared=131)


def reason(plan: Plan, field: str) -> str:
    return next(entry.because for entry in plan.reasons if entry.field == field)


def recorded(shared: Path, name: str) -> Fingerprint:
    records = json.loads((shared / "golden" / "plans.json").read_text(encoding="utf-8"))
    return fingerprint_from_nnunet(next(record for record in records if record["name"] == name))


# ------------------------------------------------------------------------------------------------------- the words


def test_words_are_read() -> None:
    found = parse_overrides(
        [("spacing", "2,0.5, 0.5"), ("patch_size", "64x96x96"), ("patch_size", "128,160"), ("batch_size", "4")]
    )
    assert found == Overrides((2.0, 0.5, 0.5), (128, 160), (64, 96, 96), 4)
    assert parse_overrides({"epochs": "50", "optimizer": "sgd"}).training == {"epochs": "50", "optimizer": "sgd"}


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("pach_size", "64,64,64", "patch_size, batch_size, .*epochs, "),
        ("patch_size", "64", "three numbers"),
        ("patch_size", "64,-8,64", "whole numbers above 0"),
        ("patch_size", "64,64.5,64", "whole numbers above 0"),
        ("spacing", "1,1", "three positive numbers"),
        ("spacing", "1,0,1", "three positive numbers"),
        ("spacing", "1,nan,1", "three positive numbers"),
        ("spacing", "fine", "three positive numbers"),
        ("batch_size", "2,3", "one whole number"),
        ("batch_size", "0", "whole numbers above 0"),
    ],
)
def test_words_that_say_nothing_are_refused(name: str, value: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parse_overrides({name: value})


# ------------------------------------------------------------------------------------- as nnU-Net's planners recorded


@pytest.mark.parametrize(
    ("task", "preset", "overrides", "expected"),
    [
        (
            "msd10_colon",
            "nnunet",
            Overrides(memory_gb=16),
            {"2d": ((640, 512), 20), "3d_lowres": ((80, 224, 224), 2), "3d_fullres": ((64, 256, 224), 2)},
        ),
        (
            "msd02_heart",
            "resenc-l",
            Overrides(memory_gb=11),
            {"2d": ((384, 256), 43), "3d_fullres": ((80, 256, 160), 2)},
        ),
        (
            "msd02_heart",
            "nnunet",
            Overrides(spacing=(2.5, 1.0, 0.7)),
            {"2d": ((448, 448), 16), "3d_fullres": ((32, 256, 224), 2)},
        ),
        (
            "aniso_y",
            "nnunet",
            Overrides(spacing=(1.0, 2.0, 4.5), memory_gb=5),
            {"2d": ((224, 80), 77), "3d_fullres": ((48, 192, 80), 2)},
        ),
    ],
)
def test_memory_and_spacing_as_in_nnunet(
    shared: Path, task: str, preset: str, overrides: Overrides, expected: dict[str, tuple[tuple[int, ...], int]]
) -> None:
    """Recorded from nnU-Net 2.8.1 with -gpu_memory_target and -overwrite_target_spacing."""
    plan = make_plan(recorded(shared, task), preset, CPU, overrides=overrides)
    found = {name: (entry.patch_size, entry.batch_size) for name, entry in plan.configurations.items()}
    assert found.pop("3d_cascade_fullres", None) == (found["3d_fullres"] if "3d_lowres" in found else None)
    assert found == expected


def test_a_given_spacing_decides_the_order_of_axes(shared: Path) -> None:
    plan = make_plan(recorded(shared, "aniso_y"), "nnunet", CPU, overrides=Overrides(spacing=(1.0, 2.0, 4.5)))
    full = plan.configuration("3d_fullres")
    assert full.preparation.axis_order == (2, 0, 1)
    assert full.spacing == (4.5, 1.0, 2.0)
    assert plan.configuration("2d").spacing == (1.0, 2.0)
    assert "instead of what the rule gives: " in reason(plan, "spacing")


# ---------------------------------------------------------------------------------------------------- given patches


def test_everything_follows_from_a_given_patch(make_fingerprint: Make) -> None:
    ruled = make_plan(ct(make_fingerprint), "auto", GPU)
    plan = make_plan(ct(make_fingerprint), "auto", GPU, overrides=Overrides(patch_size_3d=(48, 64, 64)))
    full = plan.configuration("3d_fullres")
    assert full.patch_size == (48, 64, 64)
    topology = derive_topology(full.spacing, full.patch_size)
    assert (full.strides, full.kernel_sizes) == (topology.strides, topology.kernel_sizes)
    assert len(full.features_per_stage) == topology.stages
    assert full.batch_size == 9
    assert "Given by --set patch_size=48,64,64 instead of what the rule gives: 128 × 128 × 128" in reason(
        plan, "3d_fullres.patch_size"
    )
    assert plan.configuration("2d") == ruled.configuration("2d")
    require_possible(plan, "plan")


def test_patches_for_2d_and_3d_may_both_be_given(make_fingerprint: Make) -> None:
    given = Overrides(patch_size_2d=(256, 256), patch_size_3d=(64, 64, 64), batch_size=3)
    plan = make_plan(ct(make_fingerprint), "nnunet", GPU, overrides=given)
    for entry in plan.configurations.values():
        assert entry.patch_size == ((256, 256) if entry.dimensions == 2 else (64, 64, 64))
        assert entry.batch_size == 3


def test_a_patch_that_the_strides_do_not_divide_is_refused_with_the_rule(make_fingerprint: Make) -> None:
    with pytest.raises(PlanError) as caught:
        make_plan(ct(make_fingerprint), "auto", GPU, overrides=Overrides(patch_size_3d=(50, 64, 100)))
    words = str(caught.value)
    assert "Z by 8 (here 50), Y by 16 (here 64), X by 16 (here 100)" in words
    assert "48 × 64 × 96 and 56 × 64 × 112" in words


@pytest.mark.parametrize("patch", [(50, 64, 100), (9, 9, 9), (3, 200, 200), (97, 33, 15)])
def test_the_nearest_patches_work(patch: tuple[int, ...]) -> None:
    for spacing in ((1.0, 1.0, 1.0), (5.0, 0.7, 0.7)):
        for size in nearest_patches(spacing, patch):
            assert derive_topology(spacing, size).patch_size == size
        assert all(large >= given for large, given in zip(nearest_patches(spacing, patch)[-1], patch, strict=True))


def test_flat_images_have_no_third_axis_to_give(make_fingerprint: Make) -> None:
    flat = make_fingerprint([(999.0, 1.0, 1.0)] * 3, [(1, 300, 200)] * 3)
    with pytest.raises(PlanError, match="single slices"):
        make_plan(flat, "auto", GPU, overrides=Overrides(patch_size_3d=(8, 64, 64)))
    plan = make_plan(flat, "auto", GPU, overrides=Overrides(patch_size_2d=(128, 128)))
    assert plan.configuration("2d").patch_size == (128, 128)


# ----------------------------------------------------------------------------------------------------------- memory


def test_given_memory_stands_for_the_devices(make_fingerprint: Make) -> None:
    for device in (GPU, DeviceBudget("cuda", 4, 24)):
        plan = make_plan(ct(make_fingerprint), "auto", device, overrides=Overrides(memory_gb=12))
        assert (
            plan.configurations == make_plan(ct(make_fingerprint), "auto", DeviceBudget("cuda", 1, 12)).configurations
        )
        assert plan.device == "cuda, 12 GB"


def test_a_smaller_share_of_the_budget_gives_smaller_steps_and_says_so(make_fingerprint: Make) -> None:
    for preset in PRESETS:
        whole = make_plan(ct(make_fingerprint), preset, GPU).configuration("3d_fullres")
        plan = make_plan(ct(make_fingerprint), preset, GPU, overrides=Overrides(budget_scale=0.5))
        half = plan.configuration("3d_fullres")
        assert (half.patch_size, half.batch_size) < (whole.patch_size, whole.batch_size)
        assert "50% of that, since a real step with more did not fit" in reason(plan, "3d_fullres.patch_size")


# --------------------------------------------------------------------------------------------------------- training


def test_training_settings_can_be_given(make_fingerprint: Make) -> None:
    given = Overrides(training={"epochs": "12", "foreground_share": "0.5"})
    plan = make_plan(ct(make_fingerprint), "auto", GPU, overrides=given)
    assert {entry.epochs for entry in plan.configurations.values()} == {12}
    assert (plan.training.epochs, plan.training.foreground_share) == (12, 0.5)
    assert reason(plan, "training.foreground_share") == (
        "Given by --set foreground_share=0.5 instead of what the preset has: 0.33."
    )
    assert "Given by --set epochs=12" in reason(plan, "3d_fullres.epochs")


def test_another_optimizer_brings_its_own_settings(make_fingerprint: Make) -> None:
    given = Overrides(training={"optimizer": "sgd", "weight_decay": "1e-4"})
    training = make_plan(ct(make_fingerprint), "auto", GPU, overrides=given).training
    assert (training.optimizer, training.learning_rate, training.momentum) == ("sgd", 0.01, 0.99)
    assert (training.warmup_steps, training.weight_decay) == (0, 1e-4)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"optimizer": "lion"}, "sgd, adamw"),
        ({"learning_rate": "-1"}, "learning_rate"),
        ({"seed": "-1"}, "setting seed"),
        ({"seed": "9223372036854775808"}, "setting seed"),
    ],
)
def test_impossible_training_settings_are_refused(make_fingerprint: Make, settings: dict[str, str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        make_plan(ct(make_fingerprint), "auto", GPU, overrides=Overrides(training=settings))


def test_every_optimizer_has_defaults() -> None:
    assert set(OPTIMIZER_DEFAULTS) == set(OPTIMIZERS)
