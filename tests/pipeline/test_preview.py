from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from volume_builders import planned_quickly, write_volumes

from autoseg.errors import WorkspaceError
from autoseg.pipeline.preview import preview
from autoseg.progress import SilentProgress
from autoseg.workspace import Workspace


@pytest.fixture(autouse=True)
def small_sheets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes most of the time."""
    monkeypatch.setattr("autoseg.pipeline.preview.ROWS", 2)
    monkeypatch.setattr("autoseg.pipeline.preview.VERSIONS", 2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    labels = {"background": 0, "ball": 1, "dot": 2}
    return write_volumes(tmp_path_factory.mktemp("sheets") / "data", ["T1", "T2/FLAIR"], labels)


def test_a_sheet_per_channel_without_a_plan_and_nothing_else(data: Path, tmp_path: Path) -> None:
    work = Workspace(tmp_path / "work")
    report = preview(data, work, out=tmp_path / "sheets", progress=SilentProgress())
    assert [path.name for path in report.sheets] == ["3d_fullres-0-T1.png", "3d_fullres-1-T2_FLAIR.png"]
    for path in report.sheets:
        with Image.open(path) as sheet:
            assert min(sheet.size) > 250
    assert not work.root.exists()


def test_the_plan_of_the_work_folder_is_used_and_a_seed_fixes_the_sheet(data: Path, tmp_path: Path) -> None:
    work = planned_quickly(data, tmp_path / "work", patch_size=(8, 8, 8))
    sheets = []
    for seed in (1, 1, 2):
        report = preview(
            data, work, configuration="3d_fullres", seed=seed, overrides={"channel_dropout": "0.5"},
            progress=SilentProgress(),
        )  # fmt: skip
        assert report.configuration.patch_size == (8, 8, 8)
        assert report.sheets[0].parent == work.root / "preview"
        sheets.append(report.sheets[0].read_bytes())
    assert sheets[0] == sheets[1]
    assert sheets[0] != sheets[2]
    flat = preview(data, work, configuration="2d", progress=SilentProgress())
    assert flat.sheets[0].name == "2d-0-T1.png"


def test_a_work_folder_of_another_dataset_is_refused(data: Path, tmp_path: Path) -> None:
    work = planned_quickly(data, tmp_path / "work")
    other = write_volumes(tmp_path / "other", ["T1"], {"background": 0, "ball": 1})
    with pytest.raises(WorkspaceError, match="another dataset"):
        preview(other, work, progress=SilentProgress())
