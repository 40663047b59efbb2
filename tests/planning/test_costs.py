"""The preview of what a plan costs."""

from __future__ import annotations

import math

import pytest
from step_builders import make_configuration, make_plan_of, make_preparation

from autoseg.planning import costs
from autoseg.planning.costs import compression, prepared_bytes, prepared_shape, preparing_bytes, preview
from autoseg.records import Fingerprint, Probe, StepProbe


@pytest.fixture
def fingerprint(make_fingerprint) -> Fingerprint:
    return make_fingerprint([(3.0, 1.0, 0.5), (1.0, 1.0, 1.0)], [(10, 40, 80), (30, 40, 50)])


def make_probe(*steps: StepProbe, device: str = "cpu, 2 cores, 8 GB", free: int = 2**33) -> Probe:
    return Probe(plan="default", device=device, precision="float32", free_bytes=free, steps=steps)


def test_prepared_sizes_follow_spacing_and_axis_order(fingerprint: Fingerprint) -> None:
    first, second = fingerprint.cases
    assert prepared_shape(first, make_preparation()) == (30, 40, 40)
    assert prepared_shape(second, make_preparation()) == (30, 40, 50)
    turned = make_preparation(axis_order=(2, 0, 1), spacing=(None, 1.5, 2.0))
    assert prepared_shape(first, turned) == (80, 20, 20)
    voxels = 30 * 40 * 40 + 30 * 40 * 50
    assert prepared_bytes(fingerprint, make_preparation()) == voxels * 6


def test_time_comes_from_the_probe(fingerprint: Fingerprint) -> None:
    plan = make_plan_of(make_configuration(), make_configuration("2d", steps_per_epoch=100, epochs=7))
    step = StepProbe(configuration="2d", fits=True, seconds_per_step=0.5, peak_bytes=10**9, limit_bytes=2**33)
    full, flat = preview(plan, fingerprint, make_probe(step))
    assert (full.configuration, full.seconds_per_epoch, full.hours) == ("3d_fullres", None, None)
    assert flat.seconds_per_epoch == pytest.approx(50 * (1 + costs.VALIDATION_SHARE))
    assert flat.hours == pytest.approx(7 * flat.seconds_per_epoch / 3600)


def test_a_budget_is_the_time_it_takes(fingerprint: Fingerprint) -> None:
    plan = make_plan_of(make_configuration())
    plan = plan.model_copy(update={"training": plan.training.model_copy(update={"budget_seconds": 1800.0})})
    step = StepProbe(configuration="3d_fullres", fits=True, seconds_per_step=0.5, peak_bytes=1, limit_bytes=2)
    assert preview(plan, fingerprint, make_probe(step))[0].hours == 0.5


def test_disk_is_the_compressed_share_of_the_prepared_cases(fingerprint: Fingerprint) -> None:
    (cost,) = preview(make_plan_of(make_configuration()), fingerprint, None)
    assert cost.disk_bytes == round(costs.COMPRESSION * prepared_bytes(fingerprint, make_preparation()))
    both = make_preparation(normalization=("CTNormalization", "ZScoreNormalization"))
    assert compression(both) == pytest.approx((costs.COMPRESSION_CT + costs.COMPRESSION) / 2)


def test_memory_is_that_of_the_step_on_a_cpu_alone(fingerprint: Fingerprint) -> None:
    plan = make_plan_of(make_configuration())
    step = StepProbe(configuration="3d_fullres", fits=True, seconds_per_step=1.0, peak_bytes=5 * 10**9, limit_bytes=9)
    held = prepared_bytes(fingerprint, make_preparation())
    (on_cpu,) = preview(plan, fingerprint, make_probe(step))
    assert on_cpu.peak_bytes == round(costs.PROGRAM_BYTES + held + 5e9)
    (on_gpu,) = preview(plan, fingerprint, make_probe(step, device="NVIDIA H200, 139 GB"))
    assert on_gpu.peak_bytes == round(costs.PROGRAM_BYTES + held)
    (crowded,) = preview(plan, fingerprint, make_probe(step, free=held))
    assert crowded.peak_bytes == round(costs.PROGRAM_BYTES + 5e9)  # then cases are read from disk
    (foreseen,) = preview(plan, fingerprint, None)
    assert foreseen.peak_bytes is not None
    assert foreseen.peak_bytes > costs.PROGRAM_BYTES + held


def test_preparing_needs_what_the_largest_case_needs(make_fingerprint) -> None:
    small = make_fingerprint([(1.0, 1.0, 1.0)], [(50, 50, 50)])
    large = make_fingerprint([(1.0, 1.0, 1.0)] * 2, [(50, 50, 50), (200, 300, 300)])
    preparation = make_preparation()
    assert preparing_bytes(large, preparation) > preparing_bytes(small, preparation) > costs.PREPARING_BYTES
    assert preparing_bytes(large, preparation) > costs.PREPARING_BYTES + 6 * math.prod((200, 300, 300))
