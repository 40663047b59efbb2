from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.interop.nnunet_fingerprint import fingerprint_from_nnunet
from autoseg.planning.exposure import BACKGROUND, Exposure
from autoseg.planning.planner import make_plan
from autoseg.planning.presets import PRESETS, DeviceBudget, Length
from autoseg.planning.schedule import epochs, steps_per_epoch

LENGTH = Length(steps_per_epoch=(25, 250), epochs=(50, 1000), visits=200, label_patches=4_000, fewest_samples=40_000)
FIXED = Length(steps_per_epoch=(250, 250), epochs=(1000, 1000))

#: nnU-Net's epochs of 250 steps until its patch Dice is within 0.005 of its peak, averaged over five folds.
NEEDED = {
    "msd01_brain": 388,
    "msd02_heart": 93,
    "msd04_hippocampus": 20,
    "msd05_prostate": 386,
    "msd07_pancreas": 801,
    "msd08_hepaticvessel": 947,
    "msd10_colon": 889,
}


def seen(background: float, label: float = 1.0, share: float = 1.0) -> tuple[Exposure, ...]:
    return Exposure(BACKGROUND, background, 1.0), Exposure("organ", label, share)


@given(chance=st.floats(1e-9, 1), share=st.floats(1e-6, 1), batch=st.integers(2, 5000), parts=st.floats(1, 1e9))
@settings(max_examples=100, deadline=None)
def test_bounds_hold(chance: float, share: float, batch: int, parts: float) -> None:
    steps = steps_per_epoch(LENGTH, parts, batch).value
    assert 25 <= steps <= 250
    assert 50 <= epochs(LENGTH, seen(chance, share=share), batch, steps).value <= 1000
    assert steps_per_epoch(FIXED, parts, batch).value == 250
    assert epochs(FIXED, seen(chance), batch, 250).value == 1000


def test_one_epoch_visits_every_part_once() -> None:
    assert steps_per_epoch(LENGTH, parts=300, batch=2).value == 150


def test_each_voxel_is_in_as_many_patches_as_the_preset_says() -> None:
    decision = epochs(LENGTH, seen(1 / 300), batch=2, steps=150)
    assert decision.value == 200 * 300 / (2 * 150)
    assert "200 patches with each voxel (background" in decision.because
    assert "nnU-Net's 1000 epochs" in decision.instead


def test_few_small_images_still_get_enough_patches() -> None:
    decision = epochs(LENGTH, seen(0.5), batch=2, steps=25)
    assert decision.value == 800
    assert "the least for any dataset" in decision.because


def test_a_rare_label_makes_a_training_longer() -> None:
    """A label in one case of a hundred: 4000 patches that show it are 400 000 patches where each shows it if it can."""
    decision = epochs(LENGTH, seen(0.5, share=0.01), batch=2, steps=250)
    assert decision.value == 800
    assert "'organ'" in decision.because


def test_patches_centred_on_foreground_alone_ask_nothing_for_the_background() -> None:
    assert epochs(LENGTH, seen(0.0, label=1 / 300), batch=2, steps=150).value == 200


@pytest.mark.parametrize("task", NEEDED)
def test_planned_lengths_go_with_published_ones(shared: Path, task: str) -> None:
    records = json.loads((shared / "golden" / "plans.json").read_text(encoding="utf-8"))
    fingerprint = fingerprint_from_nnunet(next(record for record in records if record["name"] == task))
    planned = make_plan(fingerprint, "auto", DeviceBudget("cuda", 8, 8)).configuration("3d_fullres")
    reference = make_plan(fingerprint, "nnunet", DeviceBudget("cuda", 8, 8)).configuration("3d_fullres")
    assert planned.patch_size == reference.patch_size
    needed = NEEDED[task] * 250 * reference.batch_size
    patches = planned.epochs * planned.steps_per_epoch * planned.batch_size
    assert needed / 2 < patches < 1000 * 250 * reference.batch_size + 1
    # a training is never longer than it must be by more than what the least for any dataset asks
    least = PRESETS["auto"].accelerator.length.fewest_samples
    assert patches < max(1.3 * needed, 1.1 * least)


def test_every_configuration_has_its_own_length(shared: Path) -> None:
    records = json.loads((shared / "golden" / "plans.json").read_text(encoding="utf-8"))
    fingerprint = fingerprint_from_nnunet(next(record for record in records if record["name"] == "msd01_brain"))
    plan = make_plan(fingerprint, "auto", DeviceBudget("cuda", 8, 8))
    flat, full = plan.configuration("2d"), plan.configuration("3d_fullres")
    assert flat.epochs * flat.steps_per_epoch != full.epochs * full.steps_per_epoch
    assert plan.training.epochs == full.epochs
