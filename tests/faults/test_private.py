"""Names that are planted and looked for: none in a model file, none of a patient in any file, message or log."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest

from autoseg.cli import main
from autoseg.dataset.dicom import read_image
from autoseg.records import Case, Labels

from .builders import quicken, words

sys.path.insert(0, str(Path(__file__).parents[1]))
try:
    from dicom_builders import SECRETS, write_series
finally:
    sys.path.pop(0)

USER, HOST = "planted_user_q7", "planted-host-q7"
FOLDER, CASE, PLAN = "planted_folder_q7", "planted_case_q7", "planted-plan-q7"

#: Of the patient, as a header holds it and as a message may spell it.
PATIENT = (*SECRETS.values(), "Johanna", "Doe, ", "ID-4711")

#: DICOM files, which name the patient as they must: what was given, and what was asked for.
DICOM = (".dcm",)

SHAPE = (8, 24, 24)


def a_patient(folder: Path, number: int) -> Path:
    """A series with a patient's name in it, and a mask of it as DICOM-SEG."""
    from autoseg.interop.mask_formats import MASK_FORMATS

    grid = np.indices(SHAPE)
    centre = np.array([4, 11 + number % 3, 12])
    ball = ((grid - centre[:, None, None, None]) ** 2).sum(0) < 12
    noise = np.random.default_rng(number).integers(0, 20, SHAPE)
    image = write_series(
        folder / f"{CASE}_{number}" / "CT", (ball * 300 + 1000 + noise).astype(np.int16), name=str(number)
    )
    path = folder / f"{CASE}_{number}" / "labels.dcm"
    labels = Labels(names={"background": 0, "organ": 1})
    geometry = read_image(image).geometry
    MASK_FORMATS["dicom-seg"].write(path, ball.astype(np.uint8), geometry, Case(id="x", images=(image,)), labels)
    return image


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which all was done on data with names in them, and all that was said meanwhile."""
    pytest.importorskip("highdicom", reason="the extra 'dicom' is not installed")
    folder = tmp_path_factory.mktemp("private") / FOLDER
    for number in range(5):
        a_patient(folder / "data", number)
    shutil.copytree(folder / "data" / f"{CASE}_0" / "CT", folder / "new" / f"{CASE}_9")
    (folder / "broken" / f"{CASE}_8").mkdir(parents=True)
    for path in sorted((folder / "new" / f"{CASE}_9").iterdir())[::2]:  # a series with gaps is refused, in words
        shutil.copy(path, folder / "broken" / f"{CASE}_8")
    said = StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(said):
        for name in ("USER", "LOGNAME", "USERNAME"):
            patch.setenv(name, USER)
        for name in ("HOSTNAME", "COMPUTERNAME"):
            patch.setenv(name, HOST)
        patch.setattr(socket, "gethostname", lambda: HOST)
        patch.setattr(platform, "node", lambda: HOST)
        patch.chdir(folder)
        assert main(words("check data --workers 1")) == 0
        assert main(words(f"plan data --no-probe --workers 1 --device cpu --name {PLAN}")) == 0
        os.rename("autoseg-work/plan-planted-plan-q7.json", "autoseg-work/plan.json")
        quicken(folder / "autoseg-work")
        os.rename("autoseg-work/plan.json", "autoseg-work/plan-planted-plan-q7.json")
        assert main(words(f"train --epochs 2 --seed 1 --workers 1 --device cpu --plan {PLAN}")) == 0
        assert main(words("select --workers 1 --device cpu --cases-per-fold 1")) == 0
        assert main(words("predict new masks --device cpu --workers 0")) == 0
        assert main(words("predict new slices --device cpu --workers 0 --format dicom-seg")) == 0
        assert main(words("predict broken none --device cpu --workers 0")) == 1
        assert main(words("evaluate masks masks --workers 1")) == 0
        for line in ("status", "info", "reproduce masks --data new", "reproduce autoseg-work/model.safetensors"):
            assert main(words(line)) == 0
    return folder, said.getvalue()


def spelled(names: tuple[str, ...], content: bytes) -> list[str]:
    """The names that occur, in any case, and in whichever of two encodings."""
    low = content.lower()
    return [name for name in names if any(name.lower().encode(code) in low for code in ("utf-8", "utf-16-le"))]


def written(folder: Path) -> list[Path]:
    """Every file that a command wrote, but those that were given."""
    given = ("data", "new", "broken")
    found = [path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).parts[0] not in given]
    return [path for path in found if path.suffix not in DICOM]


def test_the_names_were_planted(done: tuple[Path, str]) -> None:
    """What is looked for below is there to be found."""
    folder, said = done
    series = b"".join(path.read_bytes() for path in (folder / "data" / f"{CASE}_0" / "CT").iterdir())
    assert set(spelled(PATIENT, series)) >= set(SECRETS.values())
    assert not set(spelled((CASE, FOLDER), (folder / "autoseg-work" / "dataset.json").read_bytes())) ^ {CASE, FOLDER}
    assert CASE in said
    assert list((folder / "slices").glob("*.dcm"))


def test_models_name_nothing(done: tuple[Path, str]) -> None:
    folder, _ = done
    models = [path for path in written(folder) if path.suffix == ".safetensors" and path.name == "model.safetensors"]
    assert len(models) == 2
    for path in models:
        content = path.read_bytes()
        assert b"receipt" in content
        assert spelled((USER, HOST, FOLDER, CASE, PLAN, "/tmp", *PATIENT), content) == [], path


def test_receipts_name_nothing(done: tuple[Path, str]) -> None:
    folder, _ = done
    receipts = [path for path in written(folder) if "receipt" in path.name or path.parent.name == "prepared"]
    assert len(receipts) >= 5
    for path in receipts:
        assert spelled((USER, HOST, FOLDER, CASE, PLAN, "/tmp", *PATIENT), path.read_bytes()) == [], path


def test_no_file_names_a_patient_a_user_or_a_machine(done: tuple[Path, str]) -> None:
    folder, _ = done
    found = written(folder)
    assert len(found) > 20
    told = {str(path.relative_to(folder)): spelled((USER, HOST, *PATIENT), path.read_bytes()) for path in found}
    assert {name: names for name, names in told.items() if names} == {}


def test_nothing_that_is_said_names_a_patient_a_user_or_a_machine(done: tuple[Path, str]) -> None:
    assert spelled((USER, HOST, *PATIENT), done[1].encode()) == []
