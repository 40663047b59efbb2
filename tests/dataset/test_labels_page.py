"""The examples of docs/how-to/labels.md mean what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest

from autoseg.arrays.labels import region_round_trip
from autoseg.dataset.annotated import read_annotated
from autoseg.dataset.declaration import ALL_DRAWN, Declaration, read_declaration
from autoseg.dataset.layouts import open_dataset


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "how-to" / "labels.md").read_text(encoding="utf-8")


def sections(page: str) -> dict[str, str]:
    parts = re.split(r"^## (.*)$", page, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def declared(text: str, folder: Path, number: int = 0) -> Declaration:
    """The declaration of the numbered JSON block of a section."""
    block = re.findall(r"^```json\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[number]
    (folder / "dataset.json").write_text(block, encoding="utf-8")
    found = read_declaration(folder)
    assert found is not None
    return found


def test_every_example_is_read(page: str, tmp_path: Path) -> None:
    blocks = re.findall(r"^```json\n", page, re.MULTILINE)
    assert len(blocks) == 6
    for number in range(len(blocks)):
        labels = declared(page, tmp_path, number).labels
        assert labels is None or region_round_trip(labels) == ()


def test_values_and_regions(page: str, tmp_path: Path) -> None:
    text = sections(page)
    gaps = declared(text["Values with gaps"], tmp_path).labels
    assert gaps is not None
    assert gaps.values == (0, 2, 5, 200)
    by_name = declared(text["Regions that overlap"], tmp_path).labels
    by_value = declared(text["Regions that overlap"], tmp_path, 1).labels
    assert by_name is not None
    assert by_value is not None
    assert (by_name.heads, by_value.heads) == (5, 3)
    assert set(by_name.foreground["whole_tumor"]) == set(by_value.foreground["whole_tumor"]) == {1, 2, 3}
    assert set(by_name.foreground["tumor_core"]) == set(by_value.foreground["tumor_core"])
    assert by_value.regions_class_order == (2, 1, 4)
    ignoring = declared(text["Voxels that do not count"], tmp_path).labels
    assert ignoring is not None
    assert ignoring.ignore == 255


def test_what_was_drawn(page: str, tmp_path: Path) -> None:
    text = sections(page)
    assert declared(text["One file per label"], tmp_path).annotated is ALL_DRAWN
    drawn = text["Cases in which only some labels were drawn"]
    in_json = declared(drawn, tmp_path).annotated
    table = re.findall(r"^```text\n(case,.*?)^```$", drawn, re.MULTILINE | re.DOTALL)[0]
    (tmp_path / "annotated.csv").write_text(table, encoding="utf-8")
    assert read_annotated(tmp_path, None) == in_json
    assert in_json is not None
    assert in_json["patient_07"] == ("brainstem", "cord")


@pytest.mark.parametrize("number", [0, 1])
def test_the_folders_of_one_file_per_label(number: int, page: str, tmp_path: Path) -> None:
    text = sections(page)["One file per label"]
    (tree,) = re.findall(r"^```text\n(my-dataset/.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [re.split(r" {2,}", line.strip())[number] for line in tree.splitlines()][1:]
    root = tmp_path / "my-dataset"
    for line in lines:
        path = root / line.replace("CASE", "P1")
        path.parent.mkdir(parents=True, exist_ok=True)
        _volume(path)
    (case,) = open_dataset(root).cases
    assert (case.id, [name for name, _ in case.label_files]) == ("P1", ["liver", "tumour"])


def _volume(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 4, 5), np.uint8), np.eye(4)), path)
