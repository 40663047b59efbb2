"""Planning without images, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autoseg.cli import main
from autoseg.files import read_record
from autoseg.records import Fingerprint, Plan
from autoseg.workspace import Workspace

PRESETS = {"default": "nnunet", "resenc_m": "resenc-m", "resenc_l": "resenc-l", "resenc_xl": "resenc-xl"}
FIELDS = ("spacing", "patch_size", "batch_size", "batch_dice")
NETWORK_FIELDS = ("strides", "kernel_sizes", "features_per_stage")


def a_record() -> dict[str, Any]:
    statistics = {"mean": 1, "median": 1, "std": 1, "min": 0, "max": 9, "percentile_00_5": 0, "percentile_99_5": 8}
    return {
        "dataset_json": {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "organ": 1}, "numTraining": 2},
        "fingerprint": {
            "spacings": [[1.0, 1.0, 1.0]] * 2,
            "shapes_after_crop": [[36, 50, 35], [40, 52, 33]],
            "foreground_intensity_properties_per_channel": {"0": statistics},
            "median_relative_size_after_cropping": 1.0,
        },
    }


@pytest.fixture
def record(tmp_path: Path) -> Path:
    path = tmp_path / "record.json"
    path.write_text(json.dumps(a_record()))
    return path


def planned(record: Path, work: Path, *words: str) -> int:
    return main(["plan", "--from-fingerprint", str(record), "--work", str(work), *words])


@pytest.mark.parametrize("planner", PRESETS)
@pytest.mark.parametrize("name", ["msd10_colon", "retina2d", "aniso_y"])
def test_plans_equal_the_recorded_ones(shared: Path, tmp_path: Path, name: str, planner: str) -> None:
    records = json.loads((shared / "golden" / "plans.json").read_text(encoding="utf-8"))
    recorded = next(record for record in records if record["name"] == name)
    file = tmp_path / "record.json"
    file.write_text(json.dumps({key: recorded[key] for key in ("dataset_json", "fingerprint")}))
    assert planned(file, tmp_path / "work", "--preset", PRESETS[planner]) == 0
    found = json.loads((tmp_path / "work" / "plan.json").read_text(encoding="utf-8"))["configurations"]
    theirs = recorded["plans"][planner]["configurations"]
    assert list(found) == list(theirs)
    for configuration, entry in theirs.items():
        complete = {**theirs.get(entry.get("inherits_from", ""), {}), **entry}
        ours = found[configuration]
        assert {field: ours[field] for field in FIELDS} == {field: complete[field] for field in FIELDS}
        for field in (*NETWORK_FIELDS, "blocks_per_stage"):
            if field in complete:
                assert ours[field] == complete[field], field


def test_the_work_folder_has_plan_fingerprint_page_and_receipt_alone(record: Path, tmp_path: Path) -> None:
    assert planned(record, tmp_path / "work") == 0
    found = sorted(path.relative_to(tmp_path / "work").as_posix() for path in (tmp_path / "work").rglob("*.*"))
    assert found == ["fingerprint.json", "plan.json", "receipt.json", "report/plan.html"]
    made = read_record(tmp_path / "work" / "plan.json", Plan)
    assert made.dataset == "record"
    # nothing inherited: a cascade or second configuration is complete as well
    for entry in json.loads((tmp_path / "work" / "plan.json").read_text())["configurations"].values():
        assert {"spacing", "patch_size", "batch_size", "strides", "kernel_sizes"} <= set(entry)
        assert {"features_per_stage", "blocks_per_stage", "epochs"} <= set(entry)


def test_our_own_fingerprint_gives_the_same_plan(record: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert planned(record, one) == 0
    assert planned(one / "fingerprint.json", two) == 0
    assert (one / "plan.json").read_bytes() == (two / "plan.json").read_bytes()


@pytest.mark.parametrize("command", [["prepare"], ["train", "--fold", "0"]])
def test_other_commands_say_what_is_missing(
    record: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    work = tmp_path / "work"
    assert planned(record, work) == 0
    capsys.readouterr()
    assert main([*command, "--work", str(work)]) == 1
    shown = capsys.readouterr().err
    assert "from a fingerprint alone" in shown
    assert f"autoseg plan DATASET --work {work}" in shown


def test_status_names_the_next_command(record: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = tmp_path / "work"
    assert planned(record, work) == 0
    capsys.readouterr()
    assert main(["status", "--work", str(work)]) == 0
    shown = capsys.readouterr().out
    assert "without images" in shown
    assert f"Next: autoseg plan DATASET --work {work}" in shown


def test_several_plans_of_one_fingerprint_stand_side_by_side(record: Path, tmp_path: Path) -> None:
    work = Workspace(tmp_path / "work")
    assert planned(record, work.root) == 0
    assert planned(record, work.root, "--preset", "resenc-l", "--name", "large") == 0
    assert work.plan_names() == ["default", "large"]
    other = a_record()
    other["fingerprint"]["spacings"] = [[2.0, 1.0, 1.0]] * 2
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(other))
    before = read_record(work.fingerprint, Fingerprint)
    assert planned(changed, work.root) == 1
    assert read_record(work.fingerprint, Fingerprint) == before


def test_a_folder_with_images_is_left_alone(
    planned_work: Path, record: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert planned(record, planned_work) == 1
    assert "belongs to a dataset with images" in capsys.readouterr().err


@pytest.fixture
def planned_work(request: pytest.FixtureRequest) -> Path:
    workspace = request.getfixturevalue("planned")
    assert isinstance(workspace, Workspace)
    return workspace.root


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[{}, {}]", "holds a list of 2"),
        ("{", "is not valid JSON"),
        ("3", "holds no JSON object"),
        ('{"dataset_json": {}}', "fingerprint"),
        ('{"format": 1}', "not a valid Fingerprint"),
    ],
)
def test_files_that_are_no_fingerprint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, told: str
) -> None:
    file = tmp_path / "odd.json"
    file.write_text(content)
    assert planned(file, tmp_path / "work") == 1
    shown = capsys.readouterr().err
    assert told in shown
    assert "odd.json" in shown
    assert not (tmp_path / "work").exists()


def test_one_thing_to_plan_from(record: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan"]) == 1
    assert "nothing to plan from" in capsys.readouterr().err
    assert main(["plan", str(tmp_path), "--from-fingerprint", str(record)]) == 1
    assert "exclude each other" in capsys.readouterr().err
    assert planned(record, tmp_path / "work", "--memory-gb", "0") == 1
    assert "--memory-gb 0" in capsys.readouterr().err


def test_values_given_on_the_command_line(record: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    words = ("--set", "patch_size=32,32,32", "--set", "patch_size=48,32", "--set", "epochs=9", "--memory-gb", "4")
    assert planned(record, work, "--preset", "resenc-m", *words) == 0
    made = read_record(work / "plan.json", Plan)
    assert made.configuration("3d_fullres").patch_size == (32, 32, 32)
    assert made.configuration("2d").patch_size == (48, 32)
    assert made.training.epochs == 9
