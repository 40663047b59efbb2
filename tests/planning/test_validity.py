"""A plan edited into something impossible is refused with the name of the field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from autoseg.errors import PlanError
from autoseg.planning.planner import make_plan
from autoseg.planning.presets import PRESETS, DeviceBudget
from autoseg.planning.validity import require_possible
from autoseg.records import Fingerprint, Labels, Plan

Make = Callable[..., Fingerprint]


@pytest.fixture(scope="module")
def plan(make_fingerprint: Make) -> Plan:
    fingerprint = make_fingerprint([(1.0, 0.767578125, 0.767578125)], [(432, 512, 512)], channels=("CT",))
    return make_plan(fingerprint, "nnunet", DeviceBudget("cuda", 8, 8))


def edited(plan: Plan, **update: Any) -> Plan:
    """The plan with other values in its 3d_fullres; those named preparation__… go into its preparation."""
    full = plan.configurations["3d_fullres"]
    inner = {name.removeprefix("preparation__"): update.pop(name) for name in list(update) if "__" in name}
    if inner:
        update["preparation"] = full.preparation.model_copy(update=inner)
    configurations = {**plan.configurations, "3d_fullres": full.model_copy(update=update)}
    return plan.model_copy(update={"configurations": configurations})


def test_what_the_planner_makes_is_possible(make_fingerprint: Make) -> None:
    for preset in PRESETS:
        for fingerprint in (
            make_fingerprint([(1.0, 0.7, 0.7)], [(432, 512, 512)]),
            make_fingerprint([(999.0, 1.0, 1.0)] * 3, [(1, 300, 200)] * 3),
            make_fingerprint([(3.0, 1.0, 1.0), (5.0, 1.0, 1.0)], [(20, 100, 90)] * 2, channels=("T1", "CT")),
        ):
            made = make_plan(fingerprint, preset, DeviceBudget("cuda", 8, 8))
            require_possible(made, "plan.json")
            for name, entry in made.configurations.items():  # each of them was looked at
                others = {**made.configurations, name: entry.model_copy(update={"batch_size": 0})}
                with pytest.raises(PlanError, match=rf"configurations\.{name}\.batch_size"):
                    require_possible(made.model_copy(update={"configurations": others}), "plan.json")


@pytest.mark.parametrize(
    ("update", "field"),
    [
        ({"patch_size": (128, 120, 128)}, "patch_size: 128 × 120 × 128 is not divisible"),
        ({"patch_size": (128, 128)}, "patch_size"),
        ({"patch_size": (0, 128, 128)}, "patch_size"),
        ({"batch_size": 0}, "batch_size"),
        ({"epochs": 0}, "epochs"),
        ({"features_per_stage": (32, 64)}, "features_per_stage: it has 2 entries"),
        ({"features_per_stage": (32, 64, 128, 256, 320, 0)}, "features_per_stage"),
        ({"blocks_per_stage": (2,)}, "blocks_per_stage"),
        ({"blocks_per_stage_decoder": (2,) * 6}, "blocks_per_stage_decoder: it has 6 entries"),
        ({"kernel_sizes": ((3, 3, 3),) * 5}, "kernel_sizes"),
        ({"kernel_sizes": ((2, 3, 3),) * 6}, "kernel_sizes.0"),
        ({"strides": ((1, 1),) * 6}, "strides.0"),
        ({"strides": ((1, 1, 1),)}, "strides: 1 stages"),
        ({"strides": ()}, "strides"),
        ({"previous_stage": "3d_lowers"}, "previous_stage: there is no other configuration '3d_lowers'"),
        ({"spacing": (2.0, 1.0, 1.0)}, "spacing"),
        ({"name": "3d"}, "name"),
        ({"preparation__normalization": ("CTNormalisation",)}, "normalization: 'CTNormalisation' is unknown"),
        ({"preparation__normalization": ("CTNormalization",) * 2}, "normalization: it has 2 entries for 1 channels"),
        ({"preparation__intensities": ()}, "intensities: it has 0 entries for 1 channels"),
        ({"preparation__use_mask_for_normalization": ()}, "use_mask_for_normalization"),
        ({"preparation__axis_order": (0, 0, 1)}, "axis_order"),
        ({"preparation__labels": Labels(names={"background": 0})}, "labels"),
    ],
)
def test_the_field_is_named(plan: Plan, update: dict[str, Any], field: str) -> None:
    with pytest.raises(PlanError) as caught:
        require_possible(edited(plan, **update), "work/plan.json")
    words = str(caught.value)
    assert words.startswith("work/plan.json: field configurations.3d_fullres.")
    assert field in words


@pytest.mark.parametrize(
    ("update", "field"),
    [
        ({"mirror_axes": (0, 3)}, "mirror_axes"),
        ({"mirror_axes": (1, 1)}, "mirror_axes"),
        ({"channels": ("CT", "PET")}, "normalization: it has 1 entries for 2 channels (CT, PET)"),
        ({"configurations": {}}, "configurations"),
    ],
)
def test_fields_of_the_whole_plan(plan: Plan, update: dict[str, Any], field: str) -> None:
    with pytest.raises(PlanError) as caught:
        require_possible(plan.model_copy(update=update), "plan.json")
    assert field in str(caught.value)


def test_names_that_no_folder_could_have_are_named(plan: Plan) -> None:
    full = plan.configurations["3d_fullres"]
    odd = {**plan.configurations, "../x": full.model_copy(update={"name": "../x"})}
    for update, field in (
        ({"configurations": odd}, r"field configurations\.\.\./x: '\.\./x' can be no configuration's name"),
        ({"name": "a/b"}, "field name: 'a/b' can be no plan's name"),
    ):
        with pytest.raises(PlanError, match=field):
            require_possible(plan.model_copy(update=update), "plan.json")
    theirs = {**plan.configurations, "3d_fullres_bs4": full.model_copy(update={"name": "3d_fullres_bs4"})}
    require_possible(plan.model_copy(update={"configurations": theirs}), "plan.json")


def test_an_unknown_optimizer_is_named(plan: Plan) -> None:
    training = plan.training.model_copy(update={"optimizer": "lion"})
    with pytest.raises(PlanError, match=r"training\.optimizer: 'lion' is unknown \(known: sgd, adamw\)"):
        require_possible(plan.model_copy(update={"training": training}), "plan.json")
