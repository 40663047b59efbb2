"""Our plans equal nnU-Net's, number by number, for every recorded fingerprint, planner and configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autoseg.interop.nnunet_fingerprint import fingerprint_from_nnunet
from autoseg.planning.memory import feature_map_elements
from autoseg.planning.planner import make_plan
from autoseg.planning.presets import DeviceBudget
from autoseg.planning.topology import stages_of
from autoseg.records import Configuration

RECORDED = Path(__file__).resolve().parents[2].parent / "shared" / "golden" / "plans.json"
RECORDS: list[dict[str, Any]] = json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.is_file() else []
PRESET_OF = {"default": "nnunet", "resenc_m": "resenc-m", "resenc_l": "resenc-l", "resenc_xl": "resenc-xl"}
#: Patch sizes that are worked out for all configurations of a plan at most: 451 for the costliest of the records.
MOST_SIZES = 1000
NETWORKS = {"PlainConvUNet": "unet", "ResidualEncoderUNet": "resenc"}


def expected_configurations(recorded: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The recorded configurations with inheritance resolved."""
    complete = {}
    for name, entry in recorded["configurations"].items():
        parent = recorded["configurations"][entry["inherits_from"]] if "inherits_from" in entry else {}
        complete[name] = {**parent, **entry}
        complete[name].pop("inherits_from", None)
    return complete


def ours(configuration: Configuration) -> dict[str, Any]:
    """A configuration in nnU-Net's words."""
    entry: dict[str, Any] = {
        "spacing": configuration.spacing,
        "patch_size": configuration.patch_size,
        "batch_size": configuration.batch_size,
        "median_image_size_in_voxels": configuration.median_shape,
        "normalization_schemes": configuration.preparation.normalization,
        "use_mask_for_norm": configuration.preparation.use_mask_for_normalization,
        "batch_dice": configuration.batch_dice,
        "network": {ours: theirs for theirs, ours in NETWORKS.items()}[configuration.network],
        "features_per_stage": configuration.features_per_stage,
        "kernel_sizes": configuration.kernel_sizes,
        "strides": configuration.strides,
        "blocks_per_stage": configuration.blocks_per_stage,
        "convs_per_stage_decoder": configuration.blocks_per_stage_decoder,
    }
    for stage in ("previous_stage", "next_stage"):
        if getattr(configuration, stage) is not None:
            entry[stage] = getattr(configuration, stage)
    return json.loads(json.dumps(entry))


@pytest.mark.skipif(not RECORDS, reason="recorded plans (../shared/golden/plans.json) are not on this machine")
@pytest.mark.parametrize("planner", PRESET_OF)
@pytest.mark.parametrize("record", RECORDS, ids=[record["name"] for record in RECORDS])
def test_plan_equals_nnunets(record: dict[str, Any], planner: str) -> None:
    fingerprint = fingerprint_from_nnunet(record)
    plan = make_plan(fingerprint, PRESET_OF[planner], DeviceBudget("cpu", 2, 16))
    recorded = record["plans"][planner]
    expected = expected_configurations(recorded)
    assert list(plan.configurations) == list(expected)
    for name, configuration in plan.configurations.items():
        # exact: the same doubles, not merely close ones
        assert ours(configuration) == expected[name], name
        assert list(configuration.preparation.axis_order) == recorded["transpose_forward"]
        if configuration.dimensions == 3:
            assert configuration.preparation.spacing == configuration.spacing


@pytest.mark.parametrize(
    ("recorded", "channel", "labels"), [("Dataset004_Hippocampus", "MRI", 2), ("Dataset503_OpenKBP_HN_CT", "CT", 7)]
)
def test_plans_of_the_real_datasets(shared: Path, recorded: str, channel: str, labels: int) -> None:
    folder = shared / "golden" / "fingerprints"
    measured = json.loads((folder / f"{recorded}.json").read_text(encoding="utf-8"))
    theirs = json.loads((folder / f"{recorded}_nnUNetPlans.json").read_text(encoding="utf-8"))
    table = {"background": 0, **{f"label_{value}": value for value in range(1, labels + 1)}}
    dataset = {"channel_names": {"0": channel}, "labels": table, "numTraining": len(measured["spacings"])}
    fingerprint = fingerprint_from_nnunet({"dataset_json": dataset, "fingerprint": measured})
    plan = make_plan(fingerprint, "nnunet", DeviceBudget("cuda", 8, 8))
    assert list(plan.configurations) == list(theirs["configurations"])
    for name, expected in theirs["configurations"].items():
        found = ours(plan.configurations[name])
        network = expected["architecture"]["arch_kwargs"]
        assert found["strides"] == network["strides"]
        assert found["kernel_sizes"] == network["kernel_sizes"]
        assert found["features_per_stage"] == network["features_per_stage"]
        for field in set(found) & set(expected):
            assert found[field] == expected[field], field


@pytest.mark.skipif(not RECORDS, reason="recorded plans (../shared/golden/plans.json) are not on this machine")
@pytest.mark.parametrize("preset", ["auto", *PRESET_OF.values()])
def test_few_sizes_are_tried_for_a_plan(preset: str) -> None:
    """What planning spends its milliseconds on is counted: no clock tells the same on every machine."""
    for record in RECORDS:
        fingerprint = fingerprint_from_nnunet(record)
        stages_of.cache_clear()
        feature_map_elements.cache_clear()
        make_plan(fingerprint, preset, DeviceBudget("cpu", 2, 16))
        tried = (stages_of.cache_info().misses, feature_map_elements.cache_info().misses)
        assert 0 < min(tried) <= max(tried) < MOST_SIZES, record["name"]
