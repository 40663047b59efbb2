"""What pydicom does for us leaves nothing behind in the program that asked."""

from __future__ import annotations

import logging
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from dicom_builders import pydicom, sample, write_series

from autoseg.dataset.dicom import find_series, is_series_folder, read_geometry, read_image
from autoseg.dataset.dicom_settings import own_settings
from autoseg.errors import ReadError
from autoseg.interop.mask_formats import MASK_FORMATS
from autoseg.records import Case, Labels


def state() -> tuple[object, ...]:
    settings = pydicom.config.settings
    return (
        settings._reading_validation_mode,
        settings._writing_validation_mode,
        list(warnings.filters),
        logging.getLogger("pydicom").level,
    )


@pytest.fixture(autouse=True, params=["as they come", "strict"])
def of_the_program(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "strict":
        monkeypatch.setattr(pydicom.config.settings, "_reading_validation_mode", pydicom.config.RAISE)
        monkeypatch.setattr(logging.getLogger("pydicom"), "level", logging.DEBUG)


def test_within_all_is_quiet_and_after_it_as_before() -> None:
    before = state()
    with own_settings():
        assert pydicom.config.settings.reading_validation_mode == pydicom.config.IGNORE
        assert logging.getLogger("pydicom").level == logging.ERROR
        with own_settings():
            pass
        assert pydicom.config.settings.reading_validation_mode == pydicom.config.IGNORE
    assert state() == before


def test_the_last_of_several_threads_gives_back(tmp_path: Path) -> None:
    """The first to come is the first to go: what the second found must not be what is put back."""
    before = state()
    second_is_in, first_is_out = threading.Event(), threading.Event()
    seen: list[object] = []

    def second() -> None:
        with own_settings():
            second_is_in.set()
            first_is_out.wait(10)
            seen.append(pydicom.config.settings.reading_validation_mode)

    with own_settings():
        thread = threading.Thread(target=second)
        thread.start()
        assert second_is_in.wait(10)
    first_is_out.set()
    thread.join()
    assert seen == [pydicom.config.IGNORE]
    assert state() == before


@pytest.mark.parametrize("name", ["dicom-seg", "rtstruct"])
def test_reading_and_writing_leave_the_settings_of_the_program(name: str, tmp_path: Path) -> None:
    before = state()
    folder = write_series(tmp_path / "CT", sample((3, 8, 9)))
    volume = read_image(folder)
    assert read_geometry(folder)[0] == volume.geometry
    assert is_series_folder(folder)
    assert len(find_series(tmp_path)) == 1
    assert state() == before
    mask = np.zeros((3, 8, 9), np.uint8)
    mask[1, 2:6, 3:7] = 1
    labels, writer = Labels(names={"background": 0, "organ": 1}), MASK_FORMATS[name]
    path = tmp_path / f"mask{writer.ending}"
    writer.write(path, mask, volume.geometry, Case(id="a", images=(folder,)), labels)
    assert state() == before
    found = list(named(path, volume.geometry, before))
    assert len(found) == 1
    assert state() == before


def named(path: Path, grid: object, before: tuple[object, ...]) -> list[str]:
    from autoseg.dataset.dicom_labels import read_named

    names = []
    for name, _ in read_named(path, ["organ"], grid):  # type: ignore[arg-type]
        assert state() == before  # also between two labels
        names.append(name)
    return names


def test_an_error_leaves_them_too(tmp_path: Path) -> None:
    before = state()
    (tmp_path / "a.dcm").write_bytes(bytes(128) + b"DICM" + b"nonsense" * 20)
    with pytest.raises(ReadError):
        read_image(tmp_path / "a.dcm")
    assert state() == before
