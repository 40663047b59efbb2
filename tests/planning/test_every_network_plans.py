"""Plans with each network of the catalog: for volumes, thick slices, single slices, and budgets of both kinds."""

from __future__ import annotations

import math
from typing import Any

import pytest

from autoseg.errors import PlanError
from autoseg.networks.catalog import NETWORKS, find_network
from autoseg.networks.entry import NetworkEntry
from autoseg.planning.overrides import Overrides
from autoseg.planning.plan_doubts import plan_doubts
from autoseg.planning.planner import make_plan
from autoseg.planning.presets import DeviceBudget
from autoseg.planning.step import step_bytes

CPU, GPU = DeviceBudget("cpu", 2, 16), DeviceBudget("cuda", 8, 24)

#: Spacing, shape: cubes, thick slices, one slice.
DATA = {
    "cubes": ((1.0, 1.0, 1.0), (60, 70, 64)),
    "thick": ((4.0, 0.8, 0.8), (20, 120, 110)),
    "flat": ((999.0, 1.0, 1.0), (1, 300, 260)),
}


#: Of each kind one, so that it takes seconds; the others are slow.
QUICK = {
    *(("unet", data, device) for data in DATA for device in (CPU, GPU)),
    ("segresnet", "thick", CPU),
    ("unetpp", "flat", CPU),
    ("swin-unetr", "cubes", GPU),
}


@pytest.mark.parametrize(
    ("name", "data", "device"),
    [
        pytest.param(name, data, device, marks=() if (name, data, device) in QUICK else pytest.mark.slow)
        for name in NETWORKS
        for data, device in [("cubes", CPU), ("thick", CPU), ("flat", CPU), ("cubes", GPU)]
    ],
)
def test_every_size_follows(name: str, data: str, device: DeviceBudget, make_fingerprint: Any) -> None:
    spacing, shape = DATA[data]
    entry = find_network(name)
    plan = make_plan(make_fingerprint([spacing] * 20, [shape] * 20), "auto", device, overrides=Overrides(network=name))
    assert ("3d_fullres" in plan.configurations) == (data != "flat")
    for configuration in plan.configurations.values():
        assert configuration.network == name
        divisor = [math.prod(axis) for axis in zip(*configuration.strides, strict=True)]
        assert all(size % cell == 0 for size, cell in zip(configuration.patch_size, divisor, strict=True))
        assert entry.uneven_strides or len(set(divisor)) == 1
        needed = step_bytes(configuration, 1, plan.labels, plan.training, half_precision=device is GPU)
        assert needed < device.memory_gb * 2**30
        told = {reason.field: reason.because for reason in plan.reasons}
        assert told[f"{configuration.name}.network"].startswith(f"Given by --network {name}.")
        assert told[f"{configuration.name}.patch_size"]
    if data == "thick" and not entry.uneven_strides:
        assert "pads" in next(r.instead for r in plan.reasons if r.field == "3d_fullres.strides")


def test_volumes_that_would_be_mostly_padding_are_planned_in_2d_alone(make_fingerprint: Any) -> None:
    fingerprint = make_fingerprint([(4.0, 0.8, 0.8)] * 20, [(12, 200, 220)] * 20)
    plan = make_plan(fingerprint, "auto", CPU, overrides=Overrides(network="swin-unetr"))
    assert list(plan.configurations) == ["2d"]
    reason = next(reason for reason in plan.reasons if reason.field == "3d_fullres")
    assert reason.value == "not planned"
    assert "multiples of 32" in reason.because


@pytest.mark.parametrize(("name", "told"), [("attention-unet", "attention-unet has no others"), ("unetpp", "1 along")])
def test_kernels_are_told_as_they_are(name: str, told: str, make_fingerprint: Any) -> None:
    spacing, shape = DATA["thick"]
    asked = Overrides(network=name, patch_size_3d=(8, 64, 64))
    plan = make_plan(make_fingerprint([spacing] * 20, [shape] * 20), "auto", CPU, overrides=asked)
    reason = next(reason for reason in plan.reasons if reason.field == "3d_fullres.kernel_sizes")
    assert told in reason.because
    assert ("1x3x3" in reason.value) == (name == "unetpp")


def test_a_network_for_volumes_alone_plans_no_slices(make_fingerprint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "solid", NetworkEntry(find_network("unetpp").build, dimensions=(3,)))
    asked = Overrides(network="solid")
    spacing, shape = DATA["cubes"]
    plan = make_plan(make_fingerprint([spacing] * 20, [shape] * 20), "auto", CPU, overrides=asked)
    assert list(plan.configurations) == ["3d_fullres"]
    assert "not for 2D" in next(reason.because for reason in plan.reasons if reason.field == "2d")
    spacing, shape = DATA["flat"]
    with pytest.raises(PlanError, match=r"single slices.*not for 2D"):
        make_plan(make_fingerprint([spacing] * 20, [shape] * 20), "auto", CPU, overrides=asked)


def test_a_given_patch_is_held_to_the_networks_divisor(make_fingerprint: Any) -> None:
    spacing, shape = DATA["cubes"]
    asked = Overrides(network="unetr", patch_size_3d=(40, 48, 48))
    with pytest.raises(PlanError, match=r"Z by 16 .here 40.*32 × 48 × 48 and 48 × 48 × 48"):
        make_plan(make_fingerprint([spacing] * 20, [shape] * 20), "auto", CPU, overrides=asked)
    too_small = Overrides(network="swin-unetr", patch_size_3d=(32, 32, 32))
    with pytest.raises(PlanError, match="nearest that work: 32 × 64 × 64"):
        make_plan(make_fingerprint([spacing] * 20, [shape] * 20), "auto", CPU, overrides=too_small)


def test_what_no_budget_holds_is_refused_by_name(make_fingerprint: Any) -> None:
    spacing, shape = DATA["cubes"]
    asked = Overrides(network="swin-unetr", memory_gb=0.5)
    with pytest.raises(PlanError, match="network 'swin-unetr' is too large for this budget: its smallest patch"):
        make_plan(make_fingerprint([spacing] * 20, [shape] * 20), "nnunet", CPU, overrides=asked)


def test_transformers_are_warned_of(make_fingerprint: Any) -> None:
    spacing, shape = DATA["cubes"]
    measured = make_fingerprint([spacing] * 20, [shape] * 20)
    for name in ("unetr", "segresnet", None):
        plan = make_plan(measured, "auto", CPU, overrides=Overrides(network=name))
        found = plan_doubts(plan, measured)
        assert [problem.kind for problem in found] == (["transformer"] if name == "unetr" else [])
        assert all("million weights, and there are 20 cases" in problem.what for problem in found)
