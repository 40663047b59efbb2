from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from autoseg.errors import ModelError
from autoseg.interop.nnunet_results import find_results


def folder(root: Path, *files: str) -> Path:
    for name in ("plans.json", "dataset.json", *files):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return root


def zipped(source: Path, target: Path) -> Path:
    """As nnU-Net exports: paths relative to its results folder."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(source.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(source))
    return target


FULL, FLAT = "nnUNetTrainer__nnUNetPlans__3d_fullres", "nnUNetTrainer__nnUNetPlans__2d"


@pytest.mark.parametrize("depth", ["itself", "above", "zip"])
def test_the_model_is_found(tmp_path: Path, depth: str) -> None:
    results = tmp_path / "results"
    model = folder(results / "Dataset007_Small" / FULL, "fold_0/checkpoint_final.pth", "fold_0/validation/plans.json")
    folder(model / "fold_0" / "validation")  # masks lie beside a copy of plans.json
    source = {"itself": model, "above": results}.get(depth) or zipped(results, tmp_path / "model.zip")
    found = find_results(source)
    assert found.name == FULL
    assert found.read("plans.json") == b"plans.json"
    with found.open("fold_0/checkpoint_final.pth") as file:
        assert file.read() == b"fold_0/checkpoint_final.pth"


@pytest.mark.parametrize("pack", [False, True])
def test_several_models_need_a_choice(tmp_path: Path, pack: bool) -> None:
    results = tmp_path / "results"
    for name in (FULL, FLAT):
        folder(results / "Dataset007_Small" / name, "fold_0/checkpoint_final.pth")
    source = zipped(results, tmp_path / "model.zip") if pack else results
    with pytest.raises(ModelError, match=f"several models: {FLAT}, {FULL}.*--configuration"):
        find_results(source)
    assert find_results(source, "2d").name == FLAT
    assert find_results(source, FULL).name == FULL
    with pytest.raises(ModelError, match="no configuration '3d_lowres'"):
        find_results(source, "3d_lowres")


def test_folds_are_sorted_by_number(tmp_path: Path) -> None:
    names = [f"fold_{fold}/checkpoint_final.pth" for fold in ("10", "all", "2", "0")]
    found = find_results(folder(tmp_path / FULL, *names, "crossval/postprocessing.json", "fold_7/progress.png"))
    assert found.folds == ("0", "2", "10", "all")


def test_the_final_checkpoint_comes_first(tmp_path: Path) -> None:
    files = ["fold_0/checkpoint_final.pth", "fold_0/checkpoint_best.pth", "fold_1/checkpoint_latest.pth"]
    found = find_results(folder(tmp_path / FULL, *files))
    assert found.checkpoint("0", None) == ("fold_0/checkpoint_final.pth", None)
    assert found.checkpoint("0", "checkpoint_best.pth") == ("fold_0/checkpoint_best.pth", None)
    path, note = found.checkpoint("1", None)
    assert path == "fold_1/checkpoint_latest.pth"
    assert note is not None
    assert "fold 1 has no checkpoint_final.pth" in note
    with pytest.raises(ModelError, match=r"fold 1 has no checkpoint_best\.pth.*It has checkpoint_latest\.pth"):
        found.checkpoint("1", "checkpoint_best.pth")


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        find_results(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="holds no model of nnU-Net"):
        find_results(tmp_path / "empty")
    with pytest.raises(ModelError, match="holds no model of nnU-Net"):
        find_results(zipped(tmp_path / "empty", tmp_path / "empty.zip"))
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ModelError, match="neither a folder nor a zip"):
        find_results(broken)
    model = folder(tmp_path / FULL, "fold_0/checkpoint_final.pth")
    (model / "plans.json").unlink()
    found = find_results(model)
    with pytest.raises(ModelError, match=r"there is no plans\.json"):
        found.read("plans.json")


def test_archives_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    folder(tmp_path / "model" / FULL, "fold_0/checkpoint_final.pth")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("dataset.json", "fold_0/checkpoint_final.pth"):
            archive.writestr(f"{FULL}/{name}", name)
        with archive.open(f"{FULL}/plans.json", "w", force_zip64=True) as member:
            for _ in range(70):
                member.write(bytes(1 << 20))
    found = find_results(tmp_path / "bomb.zip")
    with pytest.raises(ModelError, match="it unpacks"):
        found.read("plans.json")
    assert found.read("dataset.json") == b"dataset.json"
