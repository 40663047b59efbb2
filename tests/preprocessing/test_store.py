from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from autoseg.errors import AutosegError, DiskFullError
from autoseg.preprocessing import store
from autoseg.preprocessing.case import to_network_space
from autoseg.preprocessing.entry import StoreError
from autoseg.preprocessing.store import is_current, open_case, read_case, remove_case, write_case
from autoseg.records import Case, Labels

PATCH = (8, 8, 8)


@pytest.fixture
def source(tmp_path):
    """A case with files whose content does not matter here: the store looks at size and time alone."""
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "case_a.nii.gz").write_bytes(b"image")
    (folder / "labels.nii.gz").write_bytes(b"labels")
    return Case(id="case_a", images=(folder / "case_a.nii.gz",), labels=folder / "labels.nii.gz")


@pytest.fixture
def prepared(geometry, preparation, case):
    volume, label_map = case(geometry((30, 34, 38), (1.5, 1.0, 0.8)), channels=2)
    names = Labels(names={"background": 0, "shell": 5, "core": 200, "absent": 7})
    twice = preparation(
        labels=names,
        normalization=("ZScoreNormalization", "NoNormalization"),
        use_mask_for_normalization=(True, False),
        intensities=preparation().intensities * 2,
    )
    return to_network_space("case_a", volume, label_map, twice)


@pytest.fixture
def filled(tmp_path, prepared, source):
    folder = tmp_path / "prepared" / "abc"
    write_case(folder, prepared, source, PATCH)
    return folder


def assert_equal(found, prepared):
    assert found.case == prepared.case
    assert found.placement == prepared.placement
    assert list(found.locations) == list(prepared.locations)
    for name, voxels in prepared.locations.items():
        assert found.locations[name].dtype == np.int32
        np.testing.assert_array_equal(found.locations[name], voxels)


def test_read_gives_what_was_written(filled, prepared):
    found = read_case(filled, "case_a")
    assert_equal(found, prepared)
    assert found.image.dtype == np.float32
    assert found.labels.dtype == np.int16
    np.testing.assert_array_equal(found.image, prepared.image)
    np.testing.assert_array_equal(found.labels, prepared.labels)


@pytest.mark.parametrize("box", [((0, 5), (3, 17), (8, 9)), ((2, 30), (0, 20), (5, 25)), ((3, 3), (0, 1), (0, 1))])
def test_patches_equal_the_whole(filled, prepared, box):
    case = open_case(filled, "case_a")
    assert_equal(case, prepared)
    assert case.shape == prepared.image.shape[1:]
    assert case.channels == 2
    slices = tuple(slice(*limits) for limits in box)
    image, labels = case.read_patch(slices)
    np.testing.assert_array_equal(image, prepared.image[(slice(None), *slices)])
    np.testing.assert_array_equal(labels, prepared.labels[slices])


def test_threads_may_read_the_same_case(filled, prepared):
    case = open_case(filled, "case_a")
    starts = np.random.default_rng(0).integers(0, 15, size=(80, 3))
    boxes = [tuple(slice(int(s), int(s) + 12) for s in start) for start in starts]
    with ThreadPoolExecutor(4) as pool:
        for box, (image, labels) in zip(boxes, pool.map(case.read_patch, boxes), strict=True):
            np.testing.assert_array_equal(image, prepared.image[(slice(None), *box)])
            np.testing.assert_array_equal(labels, prepared.labels[box])


def test_a_case_without_labels(tmp_path, geometry, preparation, case, source):
    volume, _ = case(geometry((9, 10, 11)))
    prepared = to_network_space("case_a", volume, None, preparation())
    unlabelled = source.model_copy(update={"labels": None})
    write_case(tmp_path / "p", prepared, unlabelled, PATCH)
    assert read_case(tmp_path / "p", "case_a").labels is None
    assert read_case(tmp_path / "p", "case_a").locations == {}
    with pytest.raises(StoreError, match="without labels"):
        open_case(tmp_path / "p", "case_a").read_patch((slice(0, 1),) * 3)


def test_current_until_a_source_file_changes(filled, source):
    assert is_current(filled, source)
    status = source.images[0].stat()
    os.utime(source.images[0], ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    assert not is_current(filled, source)
    os.utime(source.images[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert is_current(filled, source)
    source.labels.write_bytes(b"other labels")
    assert not is_current(filled, source)
    source.labels.unlink()
    assert not is_current(filled, source)
    assert not is_current(filled, source.model_copy(update={"id": "case_b"}))


def test_a_stale_entry_is_replaced_and_a_current_one_is_left(filled, prepared, source):
    record = filled / "case_a" / "case.json"
    before = record.stat().st_mtime_ns
    write_case(filled, prepared, source, PATCH)
    assert record.stat().st_mtime_ns == before
    source.images[0].write_bytes(b"another image")
    write_case(filled, prepared, source, PATCH)
    assert is_current(filled, source)
    assert [entry.name for entry in filled.iterdir()] == ["case_a"]


@pytest.mark.parametrize("name", ["image.b2nd", "labels.b2nd", "locations.b2nd"])
def test_a_flipped_byte_is_found(filled, name):
    path = filled / "case_a" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(StoreError, match=f"{name}: the prepared file is damaged: its checksum does not fit"):
        read_case(filled, "case_a")
    with pytest.raises(StoreError, match="checksum"):
        open_case(filled, "case_a", check=True)


@pytest.mark.parametrize("name", ["image.b2nd", "labels.b2nd", "locations.b2nd"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_missing_or_short_file_is_found_without_reading_it(filled, source, name, damage):
    path = filled / "case_a" / name
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    assert not is_current(filled, source)
    with pytest.raises(StoreError, match="damaged"):
        open_case(filled, "case_a")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}'])
def test_a_broken_record_is_found(filled, source, text):
    (filled / "case_a" / "case.json").write_text(text, encoding="utf-8")
    assert not is_current(filled, source)
    with pytest.raises(StoreError, match=r"case\.json"):
        open_case(filled, "case_a")


def test_a_damaged_entry_is_made_anew(filled, prepared, source):
    (filled / "case_a" / "image.b2nd").write_bytes(b"")
    write_case(filled, prepared, source, PATCH)
    np.testing.assert_array_equal(read_case(filled, "case_a").image, prepared.image)


def test_removing(filled, source):
    remove_case(filled, "case_a")
    remove_case(filled, "case_a")
    assert list(filled.iterdir()) == []
    with pytest.raises(StoreError, match="does not exist"):
        read_case(filled, "case_a")


def test_a_crash_while_writing_leaves_nothing_under_the_final_name(tmp_path, prepared, source, monkeypatch):
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "file_hash", crash)
    with pytest.raises(KeyboardInterrupt):
        write_case(tmp_path / "p", prepared, source, PATCH)
    assert list((tmp_path / "p").iterdir()) == []


def test_no_room_on_the_disk(tmp_path, prepared, source):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(DiskFullError, match="no room"):
            write_case(tmp_path / "p", prepared, source, PATCH)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list((tmp_path / "p").iterdir()) == []


def test_another_process_was_first(tmp_path, prepared, source, monkeypatch):
    folder = tmp_path / "p"
    write_first = store._fill

    def overtaken(aside, *rest):
        write_first(aside, *rest)
        monkeypatch.setattr(store, "_fill", write_first)
        write_case(folder, prepared, source, PATCH)

    monkeypatch.setattr(store, "_fill", overtaken)
    write_case(folder, prepared, source, PATCH)
    assert is_current(folder, source)
    assert [entry.name for entry in folder.iterdir()] == ["case_a"]


@pytest.mark.parametrize("case_id", ["", ".", "..", "a/b", "..\\a", "c:d"])
def test_names_cannot_lead_outside(tmp_path, case_id):
    with pytest.raises(AutosegError, match="cannot be the name of a folder"):
        read_case(tmp_path, case_id)


def test_the_record_holds_no_paths(filled, tmp_path):
    text = (filled / "case_a" / "case.json").read_text(encoding="utf-8")
    assert str(tmp_path) not in text
    assert {entry["name"] for entry in json.loads(text)["sources"]} == {"case_a.nii.gz", "labels.nii.gz"}
