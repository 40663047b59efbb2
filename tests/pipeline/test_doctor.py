"""`check` as a doctor: copies that are corrected, findings as JSON, pictures, patients in several folds."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from autoseg.cli import main
from autoseg.errors import UsageError
from autoseg.files import aside_name, file_hash
from autoseg.locks import locked
from autoseg.pipeline.check import check
from autoseg.pipeline.reports import CheckReport
from autoseg.progress import SilentProgress

QUIET = SilentProgress()
SHAPE = (8, 7, 6)  # (i, j, k)


def save(path: Path, array: np.ndarray, shift: float = 0.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.eye(4)
    affine[0, 3] = shift
    nibabel.save(nibabel.Nifti1Image(array, affine), path)


def drawn(number: int) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:6, 2:6, 2:5] = 1
    labels[2, 2, 2 + number % 3] = 0
    labels[5, 2 + number // 3, 2] = 0
    return labels


def faulty(root: Path) -> Path:
    """Eight cases, of which only p5_a and p5_b have no fault."""
    random = np.random.default_rng(0)
    images = [random.normal(100, 20, SHAPE).astype(np.float32) for _ in range(8)]
    labels: list[np.ndarray] = [drawn(number) for number in range(8)]
    names = ["shifted", "white", "rounded", "nan", "far", "mixed", "p5_a", "p5_b"]
    labels[1] = labels[1] * np.uint8(255)
    labels[2] = labels[2].astype(np.float32) * np.float32(0.999)
    images[3][0, 0, :2] = np.nan, np.inf
    labels[5] = labels[5].astype(np.float32) * np.float32(0.4)
    shifts = {"shifted": 0.3, "far": 4.0}
    for name, image, found in zip(names, images, labels, strict=True):
        save(root / f"imagesTr/{name}_0000.nii.gz", image)
        save(root / f"labelsTr/{name}.nii.gz", found, shifts.get(name, 0.0))
    record = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "x": 1}, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps({**record, "numTraining": 8}))
    return root


def kinds(report: CheckReport) -> dict[str | None, str]:
    return {problem.case: problem.kind for problem in report.problems}


def hashes(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): file_hash(path) for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_copy_is_corrected_where_that_is_safe(tmp_path: Path) -> None:
    root, out = faulty(tmp_path / "data"), tmp_path / "out"
    before = hashes(root)
    report = check(root, fix=out, workers=0, progress=QUIET)
    assert kinds(report) == {
        "shifted": "geometry-mismatch",
        "white": "white-labels",
        "rounded": "fractional-labels",
        "nan": "not-finite",
        "far": "geometry-mismatch",
        "mixed": "fractional-labels",
    }
    assert {repair.problem for repair in report.repairs} == set(report.problems)
    told = {repair.problem.case: repair.why for repair in report.repairs if not repair.fixed}
    assert set(told) == {"far", "mixed"}
    assert "which of the two headers is right" in told["far"]
    assert "interpolated" in told["mixed"]
    assert hashes(root) == before
    # the copy is a whole dataset, in which only what was not fixed is found
    assert kinds(check(out, workers=0, progress=QUIET)) == {"far": "geometry-mismatch", "mixed": "fractional-labels"}
    changed = {name for name, digest in hashes(out).items() if before[name] != digest}
    assert changed == {
        "labelsTr/shifted.nii.gz",
        "labelsTr/white.nii.gz",
        "labelsTr/rounded.nii.gz",
        "imagesTr/nan_0000.nii.gz",
    }
    image = np.asarray(nibabel.load(out / "imagesTr/nan_0000.nii.gz").dataobj)
    original = np.asarray(nibabel.load(root / "imagesTr/nan_0000.nii.gz").dataobj)
    finite = np.isfinite(original)
    np.testing.assert_array_equal(image[finite], original[finite])
    assert (image[~finite] == original[finite].min()).all()


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    root, out = faulty(tmp_path / "data"), tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    for place in (out, root / "inside", tmp_path):
        with pytest.raises(UsageError, match=r"not empty|within the dataset"):
            check(root, fix=place, workers=0, progress=QUIET)
    with pytest.raises(UsageError, match="not empty"):
        check(root, pictures=out, workers=0, progress=QUIET)
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_two_commands_make_no_copy_at_once(tmp_path: Path) -> None:
    root, out = faulty(tmp_path / "data"), tmp_path / "copies" / "out"
    out.parent.mkdir()
    with locked(out.with_name(".out.lock")), pytest.raises(UsageError, match="is writing"):
        check(root, fix=out, workers=0, progress=QUIET)
    assert not list(out.parent.iterdir())


def test_what_a_killed_command_left_of_its_copy_goes(tmp_path: Path) -> None:
    root, out = faulty(tmp_path / "data"), tmp_path / "out"
    left, others = aside_name(out), aside_name(tmp_path / "their-out")
    for folder in (left, others):
        (folder / "imagesTr").mkdir(parents=True)
    check(root, fix=out, workers=0, progress=QUIET)
    assert {path.name for path in tmp_path.iterdir()} == {"data", "out", others.name}


def test_json_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = faulty(tmp_path / "data")
    words = ["check", str(root), "--json", "--work", str(tmp_path / "work"), "--workers", "1"]
    assert main([*words, "--pictures", str(tmp_path / "pictures"), "--fix", str(tmp_path / "out")]) == 2
    record = json.loads(capsys.readouterr().out)
    assert record["format"] == 1
    assert record["cases"] == 8
    assert record["usable_cases"] == 4
    assert record["counts"] == {"error": 4, "warning": 1, "note": 1}
    first = record["findings"][0]
    assert (first["severity"], first["count"]) == ("error", 2)
    assert sum(group["count"] for group in record["findings"]) == 6
    (nan,) = next(group for group in record["findings"] if group["kind"] == "not-finite")["occurrences"]
    assert nan["file"] == "imagesTr/nan_0000.nii.gz"
    assert nan["fixed"] is True
    names = [Path(path).name for path in record["pictures"]]
    assert len(names) == 6
    assert names[0].startswith("01-")
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in record["pictures"])


def test_patients_in_several_folds(tmp_path: Path) -> None:
    root = faulty(tmp_path / "data")
    (root / "groups.csv").write_text("case,patient\np5_a,p5\np5_b,p5\n")
    ids = ["shifted", "white", "rounded", "nan", "far", "mixed"]
    fold = {"train": ["p5_a", *ids], "val": ["p5_b"]}
    (root / "splits_final.json").write_text(json.dumps([fold]))
    found = [problem for problem in check(root, workers=0, progress=QUIET).problems if "fold" in problem.kind]
    assert [problem.kind for problem in found] == ["patient-in-several-folds"]
    (root / "splits_final.json").write_text(json.dumps([{"train": ["stranger"], "val": ["p5_b"]}]))
    assert "unusable-splits" in {problem.kind for problem in check(root, workers=0, progress=QUIET).problems}
