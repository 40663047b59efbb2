"""Files that are damaged, misnamed, missing or not what they seem."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from .builders import LABELS, Typed, a_ball, a_dataset, declare, image_of, labels_of, load, save
from .catalog import fault

PLAN = "plan data --no-probe --workers 1"


def cut(path: Path, share: float) -> None:
    """Keep the beginning of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


@fault(
    1,
    "a `.nii.gz` that ends too early, or whose checksum is wrong",
    "`plan` checks all files and refuses once, with the complete list; `--skip-bad` goes on without them; `predict` "
    "names the case in `failures.json` and does the others",
)
def test_damaged_files_are_listed_together(here: Path, typed: Typed, model: Path) -> None:
    data = a_dataset(here / "data")
    cut(image_of(data, 1), 0.5)
    content = bytearray(image_of(data, 3).read_bytes())
    content[-6] ^= 255  # of the checksum
    image_of(data, 3).write_bytes(content)
    cut(labels_of(data, 4), 0.8)
    refused = typed(PLAN)
    assert refused.code == 1
    assert "3 of 5 cases cannot be used" in refused.text
    for name in ("case_1_0000.nii.gz", "case_3_0000.nii.gz", "case_4.nii.gz"):
        assert name in refused.text
    assert "truncated" in refused.text
    assert "--skip-bad" in refused.text
    assert not (here / "autoseg-work" / "plan.json").exists()
    skipped = typed(f"{PLAN} --skip-bad")
    assert skipped.code == 2
    assert (here / "autoseg-work" / "plan.json").exists()

    said = typed("predict data/imagesTr masks --model", model)
    assert said.code == 2
    assert sorted(path.name for path in here.glob("masks/*.nii.gz")) == [f"case_{k}.nii.gz" for k in (0, 2, 4)]
    assert sorted(json.loads((here / "masks" / "failures.json").read_text())) == ["case_1", "case_3"]


@fault(
    2,
    "a plain NIfTI named `.nii.gz`, or a compressed one named `.nii`",
    "it is read by its content; a note says that the name is wrong",
)
def test_content_counts_not_the_name(here: Path, typed: Typed, model: Path) -> None:
    data = a_dataset(here / "data")
    packed = image_of(data, 1)
    packed.write_bytes(gzip.decompress(packed.read_bytes()))
    checked = typed("check data --workers 1")
    assert checked.code == 0
    assert "case_1" in checked.text
    assert "it is not compressed, although its name ends in .gz" in checked.text
    shutil.copy(image_of(data, 0), here / "other.nii")
    said = typed("predict other.nii masks --model", model)
    assert said.code == 0
    assert "it is compressed, although its name does not end in .gz" in said.text
    shutil.copy(image_of(data, 0), here / "same.nii.gz")
    assert typed("predict same.nii.gz masks --model", model).code == 0
    assert np.array_equal(load(here / "masks" / "other.nii"), load(here / "masks" / "same.nii.gz"))


@fault(
    3,
    "a file of 0 bytes, or one of which only the beginning was downloaded",
    "the message says how many bytes there are and how many the header tells of",
)
def test_short_files_are_measured(here: Path, typed: Typed) -> None:
    data = a_dataset(here / "data", 6)
    image_of(data, 0).write_bytes(b"")
    whole = gzip.decompress(image_of(data, 1).read_bytes())
    image_of(data, 1).write_bytes(whole[: len(whole) // 2])
    image_of(data, 2).write_bytes(whole[:200])
    cut(image_of(data, 3), 0.3)
    said = typed("check data --workers 1")
    assert said.code == 2
    assert "is empty (0 bytes)" in said.text
    assert f"the header tells of {len(whole)} bytes, {len(whole) // 2} are there" in said.text
    assert "has 200 bytes, fewer than the header of a NIfTI file" in said.text
    packed = image_of(data, 3).stat().st_size
    assert f"the header tells of {len(whole)} bytes, its {packed} compressed bytes end too early" in said.text


@fault(
    4,
    "`._case.nii.gz`, `.DS_Store` and the like in the folders",
    "ignored without a word",
)
def test_hidden_files_are_ignored(here: Path, typed: Typed, model: Path) -> None:
    data = a_dataset(here / "data")
    for folder in (data, data / "imagesTr", data / "labelsTr"):
        (folder / ".DS_Store").write_bytes(b"\0\1")
        (folder / "._case_0_0000.nii.gz").write_bytes(b"\0\5\x16\7")
    checked = typed("check data --workers 1")
    said = typed("predict data/imagesTr masks --model", model)
    assert (checked.code, said.code) == (0, 0)
    assert "DS_Store" not in checked.text + said.text
    assert "._case" not in checked.text + said.text
    assert len(list(here.glob("masks/*.nii.gz"))) == 5


@fault(
    5,
    "`.nii` where the training had `.nii.gz`; both in one folder",
    "read alike; a mask has the ending of its image",
)
def test_endings_may_be_mixed(here: Path, typed: Typed, model: Path) -> None:
    data = a_dataset(here / "data")
    for path in (image_of(data, 0), labels_of(data, 1)):
        save(path.with_suffix(""), load(path))
        path.unlink()
    assert typed("check data --workers 1").code == 0
    assert typed(PLAN).code == 0
    assert typed("predict data/imagesTr masks --model", model).code == 0
    assert sorted(path.name for path in here.glob("masks/case_*")) == [
        "case_0.nii",
        *(f"case_{k}.nii.gz" for k in range(1, 5)),
    ]


@fault(
    6,
    "a file that is no image in the folder or the list of inputs",
    "skipped with a note; in a list its case fails by name, and the others are done",
)
def test_what_is_no_image_is_skipped(here: Path, typed: Typed, model: Path) -> None:
    images = here / "images"
    save(images / "a.nii.gz", a_ball(1)[0])
    (images / "report.docx").write_bytes(b"PK")
    (images / "notes.nii.gz").write_text("not an image")
    said = typed("predict images masks --model", model)
    assert said.code == 2
    assert "report.docx: no reader knows this ending; the file is skipped" in said.text
    assert json.loads((here / "masks" / "failures.json").read_text()).keys() == {"notes"}
    assert (here / "masks" / "a.nii.gz").exists()

    (here / "list.csv").write_text("case,channel,path\na,0,images/a.nii.gz\nb,0,images/report.docx\n")
    listed = typed("predict list.csv others --model", model)
    assert listed.code == 2
    assert "report.docx: has an ending that no reader knows" in listed.text
    assert (here / "others" / "a.nii.gz").exists()
    alone = typed("predict images/report.docx more --model", model)
    assert alone.code == 1
    assert "has an ending that no reader knows" in alone.text


@fault(
    7,
    "two files that make the same case, or a second dataset for one work folder",
    "refused, both paths shown; of the cases to predict only the ambiguous one fails",
)
def test_what_is_there_twice_is_refused(here: Path, typed: Typed, model: Path) -> None:
    data = a_dataset(here / "data")
    twin = save(image_of(data, 2, ending=".nii"), a_ball(9)[0])
    refused = typed(PLAN)
    assert refused.code == 1
    assert str(image_of(data, 2)) in refused.text
    assert str(twin) in refused.text
    said = typed("predict data/imagesTr masks --model", model)
    assert said.code == 2
    assert "case_2_0000.nii.gz" in said.text
    assert "case_2_0000.nii " in said.text
    assert sorted(path.name for path in here.glob("masks/case_*")) == [f"case_{k}.nii.gz" for k in (0, 1, 3, 4)]

    twin.unlink()
    assert typed(PLAN).code == 0
    before = (here / "autoseg-work" / "plan.json").read_bytes()
    other = a_dataset(here / "other data")
    refused = typed('plan "other data" --no-probe --workers 1')
    assert refused.code == 1
    assert str(data) in refused.text
    assert str(other) in refused.text
    assert (here / "autoseg-work" / "plan.json").read_bytes() == before


@fault(
    8,
    "names without `_0000`, with it twice, cases numbered `_0000` to `_0004`",
    "paired by the names of the labels; the reading is told, and where the names can be read in two ways both are "
    "shown and the folder is refused",
)
def test_names_are_read_as_they_are_meant(here: Path, typed: Typed, model: Path) -> None:
    for number in range(5):
        image, labels = a_ball(number)
        save(here / "plain" / "images" / f"case_{number}.nii.gz", image)
        save(here / "plain" / "labels" / f"case_{number}.nii.gz", labels)
        save(here / "twice" / "imagesTr" / f"case_{number}_0000_0000.nii.gz", image)
        save(here / "twice" / "labelsTr" / f"case_{number}_0000.nii.gz", labels)
        save(here / "numbered" / "images" / f"scan_{number:04d}.nii.gz", image)
        save(here / "numbered" / "labels" / f"scan_{number:04d}.nii.gz", labels)
    for name in ("plain", "twice", "numbered"):
        said = typed(f"plan {name} --no-probe --workers 1 --work work-{name}")
        assert said.code == 0
        assert len(json.loads((here / f"work-{name}" / "dataset.json").read_text())["cases"]) == 5
    assert typed("predict numbered/images masks --model", model).code == 0
    assert len(list(here.glob("masks/scan_*.nii.gz"))) == 5


def test_names_that_can_be_read_in_two_ways_are_shown_in_both(here: Path, typed: Typed) -> None:
    for number in range(4):
        image, labels = a_ball(number)
        save(here / "both" / "images" / f"scan_{number:04d}.nii.gz", image)
        save(here / "both" / "labels" / ("scan.nii.gz" if number == 3 else f"scan_{number:04d}.nii.gz"), labels)
    (here / "both" / "labels" / "scan_0001.nii.gz").unlink()
    (here / "both" / "labels" / "scan_0002.nii.gz").unlink()
    said = typed("plan both --no-probe --workers 1")
    assert said.code == 1
    assert "can be read in two ways" in said.text
    assert "1 case of 4 channels" in said.text
    assert "4 cases of 1 channel" in said.text
    assert "scan_0000.nii.gz" in said.text
    assert not (here / "autoseg-work").exists()


@fault(9, "some images have no labels", "they are listed; `--skip-bad` uses the rest")
def test_images_without_labels_are_listed(here: Path, typed: Typed) -> None:
    data = a_dataset(here / "data")
    labels_of(data, 1).unlink()
    labels_of(data, 4).unlink()
    refused = typed(PLAN)
    assert refused.code == 1
    assert "case_1: this case has no label file" in refused.text
    assert "case_4: this case has no label file" in refused.text
    used = typed(f"{PLAN} --skip-bad")
    assert used.code == 2
    planned = json.loads((here / "autoseg-work" / "dataset.json").read_text())
    assert [case["id"] for case in planned["cases"]] == ["case_0", "case_2", "case_3"]


@fault(
    10,
    "a `dataset.json` with a trailing comma or comments; of nnU-Net's first version; with a wrong `numTraining`, more "
    "than ten labels, or none",
    "an error with line and column, or read as it was meant, with a note",
)
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('{\n "channel_names": {"0": "MR"},\n "labels": {"background": 0, "ball": 1},\n}', r"line [34], column \d+"),
        ('{\n "channel_names": {"0": "MR"}, // the modality\n "labels": {"background": 0}\n}', r"line 2, column 32"),
    ],
    ids=["trailing comma", "comment"],
)
def test_broken_json_is_located(here: Path, typed: Typed, text: str, place: str) -> None:
    data = a_dataset(here / "data")
    (data / "dataset.json").write_text(text)
    said = typed(PLAN)
    assert said.code == 1
    assert "dataset.json: is not valid JSON" in said.text
    assert re.search(place, said.text)


def test_dialects_of_the_declaration_are_understood(here: Path, typed: Typed) -> None:
    data = a_dataset(here / "data")
    many = {str(value): f"label {value}" for value in range(12)}
    (data / "dataset.json").write_text(json.dumps({"modality": {"0": "MRI"}, "labels": many, "numTraining": 77}))
    said = typed(PLAN)
    assert said.code == 0
    assert "dataset.json declares 77 training cases, 5 were found" in said.text
    planned = json.loads((here / "autoseg-work" / "dataset.json").read_text())
    assert planned["channels"] == ["MRI"]
    assert planned["labels"]["names"] == [["background", 0], *([f"label {value}", value] for value in range(1, 12))]
    declare(data, labels={})
    said = typed("plan data --no-probe --workers 1 --work other")
    assert said.code == 0
    assert "labels are not declared; the files hold the values 0, 1, 2" in said.text


@fault(11, "spaces, quotes, brackets and letters of other scripts in paths", "they work")
def test_odd_paths_work(here: Path, typed: Typed) -> None:
    root = here / "M\u00fcller's \u201cset\u201d [a] \u6570\u636e"
    root.mkdir()
    data = a_dataset(root / "data folder", 3)
    for path in (image_of(data, 0), labels_of(data, 0)):
        path.rename(path.with_name(path.name.replace("case_0", "case 0 \u00e9")))
    work = ("--work", root / "the work")
    assert typed("plan --no-probe --workers 1", data, *work).code == 0
    assert typed("train --epochs 1 --workers 1", *work).code == 0
    said = typed("predict", data / "imagesTr", root / "my masks", *work)
    assert said.code == 0
    assert len(list((root / "my masks").glob("*.nii.gz"))) == 3
    assert (root / "my masks" / "case 0 \u00e9.nii.gz").exists()
    scored = typed("evaluate", root / "my masks", data / "labelsTr", *work)
    assert scored.code == 0


def test_labels_of_the_builders_are_what_the_tests_expect() -> None:
    assert set(np.unique(a_ball()[1])) == set(LABELS.values())
