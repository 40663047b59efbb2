from __future__ import annotations

from pathlib import Path

import pytest

from autoseg.cli import main
from autoseg.errors import UsageError
from autoseg.pipeline.candidates import find_candidates
from autoseg.pipeline.plan import plan_from_fingerprint
from autoseg.plain_names import is_plain_name
from autoseg.progress import SilentProgress
from autoseg.records import Dataset, Labels
from autoseg.workspace import Workspace

PLAIN = ("default", "3d_fullres_bs4", "from-model-0a1b", "v1.2", "x", "7", "_mine")
DATASET = Dataset(
    name="x",
    root=Path(),
    layout="folders",
    channels=("CT",),
    labels=Labels(names={"background": 0, "a": 1}),
    cases=(),
    file_ending=".nii.gz",
)
ODD = ("a/b", "..", "../x", ".hidden", "a\\b", "my plan", "", "x.", "-x", "a\n", "größe", "a:b", "/tmp/x", "*")


@pytest.mark.parametrize("name", PLAIN)
def test_plain_names_are_found_again(name: str, tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    assert is_plain_name(name)
    work.plan(name).touch()
    assert work.plan_names() == [name]
    assert work.plan(name).parent == work.probe(name).parent == work.receipt(name).parent == tmp_path
    run = work.run(name, "2d", 0)
    run.folder.mkdir(parents=True)
    run.settings.touch()
    assert work.all_runs() == [run]


@pytest.mark.parametrize("name", ODD)
def test_names_that_no_file_could_have_are_refused(name: str, tmp_path: Path) -> None:
    work = Workspace(tmp_path)
    for asked in (work.plan, work.probe, work.receipt, work.require_plan, lambda name: work.run(name, "2d", 0)):
        with pytest.raises(UsageError, match=r"cannot be the name of a plan.*letters a to z, digits, -, _ and"):
            asked(name)
    with pytest.raises(UsageError, match="cannot be the name of a configuration"):
        work.run("default", name, 0)


def test_copies_with_other_names_are_left_alone(tmp_path: Path) -> None:
    for name in ("plan.json", "plan-b.json", "plan-b (copy).json"):
        (tmp_path / name).touch()
    assert Workspace(tmp_path).plan_names() == ["default", "b"]


@pytest.mark.parametrize("command", ["plan DATA", "train", "prepare", "diagnose", "preview DATA"])
@pytest.mark.parametrize("name", ["a/b", "../x"])
def test_every_command_with_a_plan_refuses_them_and_writes_nothing(
    command: str, name: str, tmp_path: Path, example_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command.replace("DATA", str(example_data)).split(" ")
    assert main([*words, "--work", str(tmp_path / "in" / "work"), "--plan", name]) == 1
    assert f"{name!r} cannot be the name of a plan" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


def test_a_program_is_refused_them_too(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a plan"):
        find_candidates(Workspace(tmp_path), DATASET, plans=("default", "a/b"))
    with pytest.raises(UsageError, match="cannot be the name of a plan"):
        plan_from_fingerprint(tmp_path / "absent.json", Workspace(tmp_path), name="a/b", progress=SilentProgress())
