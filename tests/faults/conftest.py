"""Commands typed in an empty folder, and one trained model that all tests share."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autoseg.cli import main

from .builders import Said, Typed, a_ball, a_dataset, quicken, save, words


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, in which the commands are typed."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def typed(here: Path, capsys: pytest.CaptureFixture[str]) -> Typed:
    """Runs a command as a user types it: `typed("plan data --no-probe")`."""

    def run(line: str, *more: object) -> Said:
        capsys.readouterr()
        code = main(words(line, *more))
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Said(code, said.out, said.err)

    return run


@pytest.fixture
def planned(here: Path, typed: Typed) -> Callable[..., Said]:
    """Plans `data` (or what is named) into `autoseg-work`, as a user does, for a quick training."""

    def run(line: str = "plan data --no-probe --workers 1") -> Said:
        said = typed(line)
        if said.code == 0:
            quicken(here / "autoseg-work")
        return said

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data` (six cases, images to predict in imagesTs) and `work`, in which fold 0 was trained."""
    folder = tmp_path_factory.mktemp("trained")
    data = a_dataset(folder / "data", 6)
    for number in range(2):
        save(data / "imagesTs" / f"test_{number}_0000.nii.gz", a_ball(100 + number)[0])
        save(data / "labelsTs" / f"test_{number}.nii.gz", a_ball(100 + number)[1])
    assert main(words("plan --no-probe --workers 1", data, "--work", folder / "work")) == 0
    quicken(folder / "work", steps=25)
    assert main(words("train --epochs 4 --seed 1 --workers 1 --device cpu --work", folder / "work")) == 0
    return folder


@pytest.fixture
def model(trained: Path) -> Path:
    """The trained model's file, which no test changes."""
    return trained / "work" / "runs" / "default" / "3d_fullres" / "fold_0" / "model.safetensors"


@pytest.fixture
def work(trained: Path, here: Path) -> Iterator[Path]:
    """A copy of the trained work folder, as `autoseg-work` of the folder in which commands are typed."""
    return shutil.copytree(trained / "work", here / "autoseg-work")
