"""`audit` on a small work folder: references made wrong stand first, with what is wrong, and no other thing is done."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from scipy import ndimage
from selection_builders import LABELS, Threshold, a_work, finished_folds, simple_networks  # noqa: F401
from volume_builders import Told

from autoseg.cli import main
from autoseg.errors import ModelError, UsageError
from autoseg.files import read_record
from autoseg.networks import catalog
from autoseg.pipeline.audit import AuditReport, audit
from autoseg.pipeline.audit_evidence import evidence_path, known_values, read_evidence
from autoseg.pipeline.audit_pages import audit_report
from autoseg.pipeline.report import report
from autoseg.progress import SilentProgress
from autoseg.records import Audit, AuditedCase, Labels
from autoseg.workspace import Workspace

CASES = 12
WRONG = {"case_01": "shifted", "case_04": "eroded", "case_07": "dropped", "case_10": "swapped"}


class Sure(Threshold):
    """The same with scores that leave no doubt: above 1 is grey, above 2 white."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first = image[:, :1]
        background, white = (30 * (1 - first)).clamp(-4, 4), (30 * (first - 2)).clamp(-4, 4)
        return torch.cat([background, first * 0 + self.bias, white], dim=1)


def labels_file(work: Workspace, case: str) -> Path:
    return work.root.parent / "data" / "labelsTr" / f"{case}.nii.gz"


def change(path: Path, kind: str) -> None:
    """Make a reference wrong."""
    stored = nibabel.load(path)
    before = np.asarray(stored.dataobj).astype(np.uint8)
    after = before.copy()
    if kind == "shifted":
        after[:] = 0
        after[:, 3:] = before[:, :-3]
    elif kind == "eroded":
        after[~ndimage.binary_erosion(before > 0)] = 0
    elif kind == "dropped":
        after[before == 4] = 0
    else:
        after[before == 1], after[before == 4] = 4, 1
    nibabel.save(nibabel.Nifti1Image(after, stored.affine), path)


def audited(work: Workspace, told: SilentProgress | None = None) -> AuditReport:
    return audit(work, device="cpu", progress=told or SilentProgress())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, simple_networks: None) -> Iterator[Workspace]:  # noqa: F811
    """All folds trained on good references, four of which were made wrong since; to be read only."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(catalog.NETWORKS, "threshold", Sure)
        work = a_work(tmp_path_factory.mktemp("audit"), cases=CASES, specks=False)
        finished_folds(work, {"3d_fullres": 0.0})
        for case, kind in WRONG.items():
            change(labels_file(work, case), kind)
        assert main(["audit", "--work", str(work.root), "--device", "cpu"]) == 0
        yield work


def queue(work: Workspace) -> tuple[AuditedCase, ...]:
    return read_record(work.audit / "audit.json", Audit).cases


def own_copy(work: Workspace, folder: Path) -> Workspace:
    """A copy that a test may change, whose dataset lies beside it."""
    shutil.copytree(work.root.parent, folder / "copy")
    copy = Workspace(folder / "copy" / "work")
    text = copy.dataset.read_text(encoding="utf-8")
    copy.dataset.write_text(text.replace(str(work.root.parent), str(folder / "copy")), encoding="utf-8")
    return copy


def test_wrong_references_stand_first_and_their_errors_are_named(trained: Workspace) -> None:
    cases = queue(trained)
    assert len(cases) == CASES
    assert {case.case: case.kind for case in cases[:4]} == WRONG
    assert all(case.suspicion > 3 for case in cases[:4])
    assert all(case.suspicion < 1 and case.kind == "local" for case in cases[4:])
    by_id = {case.case: case for case in cases}
    assert "j +3 voxels (3.0 mm)" in by_id["case_01"].what
    assert by_id["case_07"].what == "white is not drawn; most of its place is background"
    assert by_id["case_10"].what == "grey and white are exchanged"
    assert by_id["case_07"].label == "white"
    corrected = by_id["case_10"]
    assert corrected.dice is not None
    assert corrected.dice_corrected is not None
    assert corrected.dice < 0.1 < 0.9 < corrected.dice_corrected


def test_places_tell_where_in_voxels_and_millimetres(trained: Workspace) -> None:
    (dropped,) = (case for case in queue(trained) if case.case == "case_07")
    place = dropped.places[0]
    assert (place.kind, place.reference, place.model) == ("missing", "background", "white")
    stored = nibabel.load(trained.root.parent / "data" / "imagesTr" / "case_07_0000.nii.gz")
    assert np.asarray(stored.dataobj)[place.index] > 2  # nibabel's axes are (i, j, k)
    np.testing.assert_allclose(place.position, (stored.affine @ [*place.index, 1])[:3], atol=1e-3)
    white = np.argwhere(np.asarray(stored.dataobj) > 2.5)
    assert place.low == tuple(white.min(0))
    assert place.high == tuple(white.max(0))
    assert place.voxels == len(white)
    assert place.ml == pytest.approx(len(white) / 1000)


def test_the_tables_hold_the_queue(trained: Workspace) -> None:
    with open(trained.audit / "cases.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == [case.case for case in queue(trained)]
    assert [row["kind"] for row in rows[:4]] == [WRONG[row["case"]] for row in rows[:4]]
    with open(trained.audit / "places.csv", encoding="utf-8", newline="") as file:
        places = list(csv.DictReader(file))
    suspicion = [float(row["suspicion"]) for row in places]
    assert suspicion == sorted(suspicion, reverse=True)
    assert {row["case"] for row in places} >= set(WRONG)


def test_the_page_shows_the_wrong_ones_and_can_be_made_again(trained: Workspace) -> None:
    html = (trained.audit / "audit.html").read_text(encoding="utf-8")
    assert html.count("data:image/webp") >= 8
    assert "grey and white are exchanged" in html
    made = report(trained, progress=SilentProgress())
    assert "label audit" not in made.failures
    assert trained.audit / "audit.html" in made.pages
    anonymous = audit_report(trained, anonymous=True).read_text(encoding="utf-8")
    assert "case_10" not in anonymous
    assert anonymous.count("data:image/webp") == html.count("data:image/webp")


def test_json_is_the_whole_queue(trained: Workspace, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "--work", str(trained.root), "--json", "--device", "cpu"]) == 0
    told = Audit.model_validate_json(capfd.readouterr().out)
    assert told == read_record(trained.audit / "audit.json", Audit)


def test_after_a_correction_that_case_alone_is_looked_at_again(trained: Workspace, tmp_path: Path) -> None:
    work = own_copy(trained, tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in (work.audit / "evidence").iterdir()}
    change(labels_file(work, "case_10"), "swapped")  # back again
    told = Told()
    assert {case.case for case in audited(work, told).audit.cases[:3]} == set(WRONG) - {"case_10"}
    after = {path.name: path.stat().st_mtime_ns for path in (work.audit / "evidence").iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"case_10.npz"}
    assert f"{CASES - 1} cases were looked at before" in told.text


def test_damaged_evidence_is_made_again(trained: Workspace, tmp_path: Path) -> None:
    work = own_copy(trained, tmp_path)
    path = evidence_path(work, "case_01")
    path.write_bytes(path.read_bytes()[:200])
    assert read_evidence(path, "case_01", "0", None) is None
    assert queue(work) == audited(work).audit.cases
    assert read_evidence(path, "case_01", "0", None) is not None


def test_a_reference_that_cannot_be_read_is_told_and_the_others_are_ranked(trained: Workspace, tmp_path: Path) -> None:
    work = own_copy(trained, tmp_path)
    labels_file(work, "case_02").write_bytes(b"nothing")
    assert main(["audit", "--work", str(work.root), "--device", "cpu"]) == 2
    told = read_record(work.audit / "audit.json", Audit)
    assert set(told.failures) == {"case_02"}
    assert len(told.cases) == CASES - 1


def test_cases_that_no_finished_fold_holds_out_are_counted(trained: Workspace, tmp_path: Path) -> None:
    work = own_copy(trained, tmp_path)
    shutil.rmtree(work.run("default", "3d_fullres", 3).folder)
    made = audited(work)
    assert made.audit.not_held_out == CASES // 4
    assert len(made.audit.cases) == CASES - CASES // 4
    assert any("held out by no finished fold" in note for note in made.notes)


def test_of_few_cases_it_is_told_that_hardly_anything_is_usual(trained: Workspace, tmp_path: Path) -> None:
    work = own_copy(trained, tmp_path)
    for fold in (1, 2, 3):
        shutil.rmtree(work.run("default", "3d_fullres", fold).folder)
    assert any("hardly known what is usual" in note for note in audited(work).notes)
    assert not any("hardly known" in note for note in audited(trained).notes)


def test_a_table_of_another_is_left_alone(trained: Workspace, tmp_path: Path) -> None:
    work = own_copy(trained, tmp_path)
    (work.audit / "cases.csv").write_text("mine\n", encoding="utf-8")
    with pytest.raises(UsageError, match=r"cases\.csv: is not a table of autoseg's audit"):
        audited(work)
    assert (work.audit / "cases.csv").read_text(encoding="utf-8") == "mine\n"


def test_without_a_trained_fold_the_command_says_what_to_do(tmp_path: Path) -> None:
    work = a_work(tmp_path, cases=4, folds=2)
    with pytest.raises(ModelError, match="nothing is trained and scored here"):
        audited(work)


def test_labels_that_were_not_drawn_are_not_known() -> None:
    labels = Labels.model_validate({"names": list(LABELS.items())})
    assert known_values(labels, ("white",)).tolist() == [True, False, True]
    assert known_values(labels, None).tolist() == [True, True, True]
