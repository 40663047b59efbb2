"""A seed gives the same bits, whatever the number of workers and the order of files; what differs is said."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from numpy.typing import NDArray

from autoseg.cli import main
from autoseg.files import file_hash, read_record, write_record
from autoseg.pipeline.mask_account import PREDICTIONS
from autoseg.pipeline.mask_folder import RECEIPTS
from autoseg.records import Plan, Receipt, TrainSettings
from autoseg.workspace import Workspace

from .builders import Typed, a_ball, a_dataset, image_of, load, quicken, save, words

RUN = "autoseg-work/runs/default/3d_fullres/fold_0"


@pytest.fixture(autouse=True)
def threads() -> Iterator[int]:
    """Tests set the number of threads; the next ones find it as it was."""
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


class _Listing:
    """What `os.scandir` gives, in another order."""

    def __init__(self, entries: list[Any]) -> None:
        self.entries = iter(entries)

    def __iter__(self) -> Iterator[Any]:
        return self.entries

    def __next__(self) -> Any:
        return next(self.entries)

    def __enter__(self) -> _Listing:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass


def shuffle_listings(patch: pytest.MonkeyPatch, seed: int) -> list[str]:
    """Let folders list their files in any order; gives the list of those that were listed so."""
    chance, shuffled = random.Random(seed), list[str]()
    listdir, scandir = os.listdir, os.scandir

    def listed(path: Any = ".") -> list[Any]:
        names = sorted(listdir(path))
        chance.shuffle(names)
        shuffled.append(str(path))
        return names

    def scanned(path: Any = ".") -> _Listing:
        with scandir(path) as found:
            entries = sorted(found, key=lambda entry: str(entry.name))
        chance.shuffle(entries)
        shuffled.append(str(path))
        return _Listing(entries)

    patch.setattr(os, "listdir", listed)
    patch.setattr(os, "scandir", scanned)
    return shuffled


def everything(folder: Path, workers: int, order: list[int]) -> None:
    """All stages in a folder of their own; the files of the dataset come into being in that order."""
    folder.mkdir()
    made = a_dataset(folder / "made", 5)
    for number in order:
        for name in ("imagesTr", "labelsTr"):
            for path in made.glob(f"{name}/case_{number}*"):
                (folder / "data" / name).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, folder / "data" / name)
    shutil.copy(made / "dataset.json", folder / "data")
    for number in order:
        save(folder / "images" / f"new_{number}_0000.nii.gz", a_ball(50 + number)[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(words(f"plan data --no-probe --device cpu --workers {workers}")) == 0
        quicken(folder / "autoseg-work")
        assert main(words(f"prepare --workers {workers}")) == 0
        line = f"train --epochs 2 --seed 7 --device cpu --threads 1 --workers {workers}"
        assert main(words(line)) == 0
        line = f"predict images masks --device cpu --threads 1 --workers {0 if workers == 1 else workers}"
        assert main(words(line)) == 0


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """The same twice: with one worker; and with three, other times of files, and listings in any order."""
    folder = tmp_path_factory.mktemp("both")
    everything(folder / "one", 1, [0, 1, 2, 3, 4])
    with pytest.MonkeyPatch.context() as patch:
        shuffled = shuffle_listings(patch, 3)
        everything(folder / "other", 3, [3, 1, 4, 0, 2])
    return folder / "one", folder / "other", shuffled


#: What has to be the same bits: stage -> files.
BITS = {
    "fingerprint": ("autoseg-work/fingerprint.json", 1),
    "plan": ("autoseg-work/plan.json", 1),
    "folds": ("autoseg-work/splits.json", 1),
    "prepared cases": ("autoseg-work/prepared/*/case_*/*.b2nd", 15),
    "what was prepared of them": ("autoseg-work/prepared/*.json", 1),
    "model": (f"{RUN}/model.safetensors", 1),
    "held-out masks": (f"{RUN}/validation/*.nii.gz", 1),
    "scores": (f"{RUN}/summary.json", 1),
    "masks": ("masks/*.nii.gz", 5),
}


@pytest.mark.parametrize("stage", BITS)
def test_a_seed_gives_the_same_bits(stage: str, both: tuple[Path, Path, list[str]]) -> None:
    pattern, least = BITS[stage]
    one, other = (
        {str(path.relative_to(folder)): file_hash(path) for path in folder.glob(pattern)} for folder in both[:2]
    )
    assert len(one) >= least
    assert one == other


def test_listings_were_shuffled(both: tuple[Path, Path, list[str]]) -> None:
    for name in ("imagesTr", "labelsTr", "images"):
        assert any(Path(path).name == name for path in both[2]), name


def test_another_seed_gives_another_network(both: tuple[Path, Path, list[str]], here: Path, typed: Typed) -> None:
    shutil.copytree(both[0] / "autoseg-work", here / "autoseg-work")
    shutil.rmtree(here / RUN)
    assert typed("train --epochs 2 --seed 8 --device cpu --threads 1 --workers 1").code == 0
    assert file_hash(here / RUN / "model.safetensors") != file_hash(both[0] / RUN / "model.safetensors")


#: Instructions of older machines, to which the libraries keep: their sums are made in another order.
OLDER_MACHINES = {
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "SSE4": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
}


def masks_of_a_machine(here: Path, name: str, instructions: Mapping[str, str]) -> list[NDArray[Any]]:
    """The masks that a process makes which keeps to some instructions."""
    line = f"predict images {name} --device cpu --precision float32 --workers 0 --model {RUN}/model.safetensors"
    command, variables = [sys.executable, "-m", "autoseg", *words(line)], {**os.environ, **instructions}
    done = subprocess.run(command, cwd=here, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [load(here / name / f"new_{number}.nii.gz") for number in range(5)]


@pytest.mark.slow
def test_older_machines_make_nearly_the_same_masks(both: tuple[Path, Path, list[str]]) -> None:
    own = masks_of_a_machine(both[0], "masks_of_this", {})
    assert sum(int((mask > 0).sum()) for mask in own) > 1000
    for machine, instructions in OLDER_MACHINES.items():
        for mask, there in zip(own, masks_of_a_machine(both[0], f"masks_{machine}", instructions), strict=True):
            for label in (1, 2):
                sizes = int((mask == label).sum()) + int((there == label).sum())
                assert 2 * int(((mask == label) & (there == label)).sum()) >= 0.999 * sizes


# -------------------------------------------------------------------------------------------------------- receipts


@pytest.fixture
def made(both: tuple[Path, Path, list[str]], here: Path) -> Path:
    """A copy of all that was made with one worker; its dataset lies where it lay."""
    return shutil.copytree(both[0], here, dirs_exist_ok=True)


RESULTS = {
    "run": RUN,
    "model": f"{RUN}/model.safetensors",
    "masks": "masks --data images",
    "scores": "masks/summary.json --data references",
}


def lines_of(typed: Typed, result: str, code: int) -> dict[str, dict[str, Any]]:
    said = typed(f"reproduce {result} --json" + ("" if "--threads" in result else " --threads 1"))
    assert said.code == code, said.text
    return {line["what"]: line for part in json.loads(said.out) for line in part["lines"]}


def differing(typed: Typed, result: str) -> dict[str, str]:
    """What differs, and whether it can change the result; of a folder of masks in any part of it."""
    said = typed(f"reproduce {result} --json" + ("" if "--threads" in result else " --threads 1"))
    assert said.code == 2, said.text
    lines = [line for part in json.loads(said.out) for line in part["lines"]]
    return {line["what"]: line["effect"] for line in lines if line["differs"]}


@pytest.fixture
def scored(made: Path, typed: Typed) -> Path:
    shutil.copytree(made / "masks", made / "references", ignore=shutil.ignore_patterns("*.json", "*.csv", "*.ctbl"))
    assert typed("evaluate masks references --workers 1").code == 0
    return made


@pytest.mark.parametrize("kind", RESULTS)
def test_what_is_as_it_was_agrees(kind: str, scored: Path, typed: Typed) -> None:
    lines = lines_of(typed, RESULTS[kind], 0)
    assert {"autoseg", "torch", "numpy", "SimpleITK", "python"} <= lines.keys()
    assert not [what for what, line in lines.items() if line["now"] is None]
    assert all(line["then"] == line["now"] for line in lines.values())


def test_plan_and_prepared_cases_agree_until_the_plan_is_edited(here: Path, typed: Typed) -> None:
    a_dataset(here / "data", 4)
    assert typed("plan data --no-probe --workers 1").code == 0
    assert typed("prepare --configuration 3d_fullres --workers 1").code == 0
    (folder,) = (path for path in (here / "autoseg-work" / "prepared").iterdir() if path.is_dir())
    for result in ("autoseg-work", "autoseg-work/plan.json", folder):
        said = typed("reproduce", result)
        assert said.code == 0, said.text
        assert "All is as it was." in said.text
    quicken(here / "autoseg-work")
    assert differing(typed, "autoseg-work") == {"plan": "yes"}
    save(image_of(here / "data", 2), a_ball(77)[0])
    assert differing(typed, "autoseg-work") == {"plan": "yes", "data": "yes"}
    assert differing(typed, str(folder)) == {"data": "yes"}
    shutil.copy(image_of(here / "data", 2), here / "data" / "imagesTr" / "more_0000.nii.gz")
    shutil.copy(here / "data" / "labelsTr" / "case_2.nii.gz", here / "data" / "labelsTr" / "more.nii.gz")
    assert differing(typed, "autoseg-work") == {"plan": "yes", "data": "yes", "cases": "yes"}
    shutil.rmtree(folder / "case_1")
    assert differing(typed, str(folder)) == {"data": "yes", "prepared cases": "yes"}
    shutil.rmtree(here / "data")
    assert lines_of(typed, "autoseg-work", 2)["data"]["now"] == "not there"


def change_receipt(path: Path, **fields: Any) -> None:
    write_record(path, read_record(path, Receipt).model_copy(update=fields))


def other_torch(made: Path) -> None:
    told = read_record(made / RUN / "receipt.json", Receipt).versions
    change_receipt(made / RUN / "receipt.json", versions={**told, "torch": "2.0.0"})


def other_python(made: Path) -> None:
    told = read_record(made / RUN / "receipt.json", Receipt).versions
    change_receipt(made / RUN / "receipt.json", versions={**told, "python": "3.9.0"})


def other_device(made: Path) -> None:
    change_receipt(made / RUN / "receipt.json", device="cpu, 96 cores, 500 GB", precision="float16")


def other_seed(made: Path) -> None:
    settings = read_record(made / RUN / "settings.json", TrainSettings)
    write_record(made / RUN / "settings.json", settings.model_copy(update={"seed": 8}))


def other_plan(made: Path) -> None:
    path = Workspace(made / "autoseg-work").plan()
    plan = read_record(path, Plan)
    write_record(path, plan.model_copy(update={"mirror_axes": ()}))


def other_folds(made: Path) -> None:
    path = made / "autoseg-work" / "splits.json"
    folds = json.loads(path.read_text())
    path.write_text(json.dumps(folds[1:] + folds[:1]))


def other_model(made: Path) -> None:
    path = made / RUN / "model.safetensors"
    path.write_bytes(path.read_bytes() + b"\0")


def a_lost_case(made: Path) -> None:
    for entry in (made / "autoseg-work" / "prepared").glob("*/case_0"):
        shutil.rmtree(entry)


CHANGES: dict[Callable[[Path], None], dict[str, str]] = {
    other_torch: {"torch": "by rounding"},
    other_python: {"python": "no"},
    other_device: {"device": "by rounding", "precision": "by rounding"},
    other_seed: {"seed": "yes"},
    other_plan: {"plan": "yes"},
    other_folds: {"folds": "yes"},
    other_model: {"model": "yes"},
    a_lost_case: {"prepared cases": "yes"},
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_run_says_what_differs(change: Callable[[Path], None], made: Path, typed: Typed) -> None:
    change(made)
    found = differing(typed, RUN)
    assert found == CHANGES[change]
    said = typed(f"reproduce {RUN} --threads 1")
    assert said.code == 2
    assert f"Different now: {', '.join(found)}." in said.text


def test_threads_are_recorded_and_compared(made: Path, typed: Typed) -> None:
    assert read_record(made / RUN / "receipt.json", Receipt).threads == 1
    assert differing(typed, f"{RUN} --threads 2") == {"threads": "by rounding"}
    assert typed("predict images others --device cpu --workers 0 --threads 2").code == 0
    assert {told["threads"] for told in json.loads((made / "others" / RECEIPTS).read_text())["receipts"].values()} == {
        2
    }


def test_masks_say_what_differs(made: Path, typed: Typed) -> None:
    save(made / "images" / "new_1_0000.nii.gz", a_ball(99)[0])
    shutil.copy(made / "masks" / "new_2.nii.gz", made / "masks" / "new_3.nii.gz")
    lines = lines_of(typed, RESULTS["masks"], 2)
    assert {what: (line["then"], line["now"]) for what, line in lines.items() if line["differs"]} == {
        "images": ("5", "4"),
        "masks": ("5", "4"),
    }
    other_model(made)
    assert set(differing(typed, RESULTS["masks"])) == {"masks", "model"}  # images are found by the model's channels


def test_what_is_not_named_is_not_looked_at(made: Path, typed: Typed) -> None:
    shutil.rmtree(made / "autoseg-work")
    said = typed("reproduce masks --threads 1")
    assert said.code == 0
    assert "Not looked at: precision, model, images." in said.text
    assert "All is as it was" not in said.text


def test_masks_are_left_alone_whatever_their_receipt(made: Path, typed: Typed) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in (made / "masks").glob("*.nii.gz")}
    said = typed("predict images masks --device cpu --workers 0 --threads 2")
    assert said.code == 0
    assert "5 were there already" in said.text
    assert {path.name: path.stat().st_mtime_ns for path in (made / "masks").glob("*.nii.gz")} == before
    (made / "masks" / "new_0.nii.gz").unlink()
    assert typed("predict images masks --device cpu --workers 0 --threads 2").code == 0
    told = json.loads((made / "masks" / PREDICTIONS).read_text())["masks"]
    receipts = json.loads((made / "masks" / RECEIPTS).read_text())["receipts"]
    assert {case: receipts[entry["receipt"]]["threads"] for case, entry in told.items()} == {
        "new_0": 2,
        **{f"new_{number}": 1 for number in range(1, 5)},
    }
    assert differing(typed, RESULTS["masks"]) == {"threads": "by rounding"}


def test_masks_of_an_earlier_version_are_known_and_have_no_receipt(made: Path, typed: Typed) -> None:
    path = made / "masks" / PREDICTIONS
    told = json.loads(path.read_text())
    for entry in told["masks"].values():
        del entry["receipt"]
    path.write_text(json.dumps(told))
    (made / "masks" / RECEIPTS).unlink()
    assert "5 were there already" in typed("predict images masks --device cpu --workers 0").text
    said = typed("reproduce masks")
    assert said.code == 1
    assert "has no receipt" in said.text


@pytest.mark.parametrize("result", ["nowhere", "data", "data/dataset.json", "images/new_0_0000.nii.gz", RUN])
def test_what_has_no_receipt_is_named(result: str, made: Path, typed: Typed) -> None:
    (made / RUN / "receipt.json").unlink()
    said = typed("reproduce", result)
    assert said.code == 1
    assert result in said.text
