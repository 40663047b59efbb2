from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from autoseg.dataset.folds import make_folds
from autoseg.errors import DatasetError, UsageError
from autoseg.pipeline.splits import SplitOptions, _traits, planned_splits
from autoseg.records import Case, CaseFingerprint, Dataset, Fingerprint, Fold, IntensityStatistics, Labels

LABELS = Labels(names={"background": 0, "organ": 1, "rare": 2})
STATISTICS = IntensityStatistics(mean=0, median=0, std=1, min=0, max=1, percentile_00_5=0, percentile_99_5=1)


def dataset(root: Path, ids: list[str]) -> Dataset:
    cases = tuple(Case(id=case_id, images=(root / case_id,)) for case_id in ids)
    return Dataset(
        name="d", root=root, layout="nnunet", channels=("CT",), labels=LABELS, cases=cases, file_ending=".nii.gz"
    )


def fingerprint(ids: list[str], rare: tuple[str, ...] = (), same: tuple[str, ...] = ()) -> Fingerprint:
    random = np.random.default_rng(0)
    cases = tuple(
        CaseFingerprint(
            case=case_id,
            shape=(9, 9, 9),
            spacing=(1, 1, 1),
            shape_after_crop=(9, 9, 9),
            orientation="RAS",
            voxels_per_label={"background": 500, "organ": int(random.lognormal(4)), "rare": 9 * (case_id in rare)},
            content="same" if case_id in same else f"of {case_id}",
        )
        for case_id in ids
    )
    return Fingerprint(
        dataset="d",
        channels=("CT",),
        labels=LABELS,
        cases=cases,
        intensities=(STATISTICS,),
        median_relative_size_after_cropping=1,
        labels_with_entries=3,
        cases_declared=len(ids),
    )


PLAIN = [f"case_{number:02d}" for number in range(20)]
VISITS = [f"P{patient:02d}_visit{visit}" for patient in range(10) for visit in (1, 2)]


def test_ordinary_cases_get_nnunets_folds_in_silence(tmp_path: Path) -> None:
    planned = planned_splits(dataset(tmp_path, PLAIN), fingerprint(PLAIN, rare=("case_00", "case_01")), SplitOptions())
    assert planned.folds == make_folds(PLAIN)
    assert planned.notes == ()


def test_patients_stay_in_one_part(tmp_path: Path) -> None:
    planned = planned_splits(dataset(tmp_path, VISITS), fingerprint(VISITS), SplitOptions())
    assert len(planned.folds) == 5
    for fold in planned.folds:
        assert not {case_id[:3] for case_id in fold.train} & {case_id[:3] for case_id in fold.val}
        assert len(fold.val) == 4
    (note,) = planned.notes
    assert "10 patients have several cases (20 of 20)" in note
    assert "P00_visit1, P00_visit2 are P00" in note
    assert "--no-groups" in note
    undone = planned_splits(dataset(tmp_path, VISITS), fingerprint(VISITS), SplitOptions(groups=False))
    assert undone.folds == make_folds(VISITS)
    assert undone.notes == ()


def test_declared_patients_stay_in_one_part(tmp_path: Path) -> None:
    (tmp_path / "groups.csv").write_text("case,patient\n" + "".join(f"{case},p{case[-1]}\n" for case in PLAIN))
    planned = planned_splits(dataset(tmp_path, PLAIN), fingerprint(PLAIN), SplitOptions())
    for fold in planned.folds:
        assert not {case_id[-1] for case_id in fold.train} & {case_id[-1] for case_id in fold.val}
    assert "told by groups.csv" in planned.notes[0]


def test_a_fold_that_would_lack_a_label_is_stratified(tmp_path: Path) -> None:
    rare = make_folds(PLAIN)[2].val[:2]
    planned = planned_splits(dataset(tmp_path, PLAIN), fingerprint(PLAIN, rare=rare), SplitOptions())
    assert planned.folds != make_folds(PLAIN)
    assert all(set(rare) & set(fold.train) for fold in planned.folds)
    assert [len(fold.val) for fold in planned.folds] == [4] * 5
    (note,) = planned.notes
    assert "fold 2 would train without rare" in note


def test_a_label_of_one_patient_changes_nothing(tmp_path: Path) -> None:
    planned = planned_splits(dataset(tmp_path, PLAIN), fingerprint(PLAIN, rare=("case_00",)), SplitOptions())
    assert planned.folds == make_folds(PLAIN)


def test_equal_images_stay_in_one_part(tmp_path: Path) -> None:
    folds = make_folds(PLAIN)
    same = (folds[0].val[0], folds[1].val[0])
    for options in (SplitOptions(), SplitOptions(groups=False), SplitOptions(stratify=True)):
        planned = planned_splits(dataset(tmp_path, PLAIN), fingerprint(PLAIN, same=same), options)
        assert all(set(same) <= set(fold.train) or set(same) <= set(fold.val) for fold in planned.folds)
        assert planned.notes[0].startswith("WARNING: 2 cases share their image")
        assert ", ".join(sorted(same)) in planned.notes[0]


def test_patients_are_joined_by_an_image(tmp_path: Path) -> None:
    same = ("P00_visit1", "P01_visit1")
    planned = planned_splits(dataset(tmp_path, VISITS), fingerprint(VISITS, same=same), SplitOptions())
    joined = {"P00_visit1", "P00_visit2", "P01_visit1", "P01_visit2"}
    assert sum(joined <= set(fold.val) for fold in planned.folds) == 1


def test_all_of_one_image_or_patient(tmp_path: Path) -> None:
    planned = planned_splits(dataset(tmp_path, PLAIN), fingerprint(PLAIN, same=tuple(PLAIN)), SplitOptions())
    assert planned.folds == make_folds(PLAIN)
    assert planned.notes[0].startswith("WARNING: these splits train and validate on the same image")


def test_pictures_are_of_the_size_of_their_pixels_not_of_slices_without_thickness() -> None:
    """A spacing of 999 pixels between slices would make 50 pixels of 1.3 mm more than 100 of 1 mm."""

    def picture(edge: float, pixels: int) -> CaseFingerprint:
        case = fingerprint(["one"]).cases[0]
        changed = {"spacing": (999 * edge, edge, edge), "orientation": "flat", "voxels_per_label": {"organ": pixels}}
        return case.model_copy(update=changed)

    assert _traits(picture(1.0, 100)).volume == pytest.approx(0.1)
    assert _traits(picture(1.3, 50)).volume < _traits(picture(1.0, 100)).volume


def test_asked_for(tmp_path: Path) -> None:
    data, found = dataset(tmp_path, PLAIN), fingerprint(PLAIN)
    assert planned_splits(data, found, SplitOptions(folds=3)).folds == make_folds(PLAIN, 3)
    stratified = planned_splits(data, found, SplitOptions(stratify=True))
    assert stratified.folds != make_folds(PLAIN)
    assert planned_splits(data, found, SplitOptions(stratify=True)) == stratified
    assert "stratified" in stratified.notes[0]
    for options in (SplitOptions(folds=1), SplitOptions(folds=21)):
        with pytest.raises(UsageError, match="folds"):
            planned_splits(data, found, options)
    with pytest.raises(UsageError, match="10"):
        planned_splits(dataset(tmp_path, VISITS), fingerprint(VISITS), SplitOptions(folds=11))


def test_a_fixed_list_is_taken_as_it_is_with_loud_warnings(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({case_id: number % 2 for number, case_id in enumerate(VISITS)}))
    found = fingerprint(VISITS, same=("P00_visit1", "P03_visit2"))
    planned = planned_splits(dataset(tmp_path, VISITS), found, SplitOptions(splits=path))
    assert [fold.val for fold in planned.folds] == [tuple(VISITS[::2]), tuple(VISITS[1::2])]
    warnings = [note for note in planned.notes if note.startswith("WARNING")]
    assert "the same image" in warnings[0]
    assert "P00_visit1, P03_visit2" in warnings[0]
    assert "same patient (10 patients" in warnings[1]
    with pytest.raises(UsageError, match="--splits"):
        planned_splits(dataset(tmp_path, VISITS), found, SplitOptions(splits=path, folds=3))
    with pytest.raises(DatasetError, match="P00_visit1"):
        planned_splits(dataset(tmp_path, VISITS[1:]), found, SplitOptions(splits=path))


def test_few_cases(tmp_path: Path) -> None:
    planned = planned_splits(dataset(tmp_path, PLAIN[:3]), fingerprint(PLAIN[:3]), SplitOptions())
    assert planned.folds == make_folds(PLAIN[:3])
    assert planned.notes == ("3 folds: there are only 3 cases",)
    alone = planned_splits(dataset(tmp_path, PLAIN[:1]), fingerprint(PLAIN[:1]), SplitOptions())
    assert alone.folds == (Fold(train=tuple(PLAIN[:1]), val=()),)
    assert alone.notes == ("a single case: nothing can be held out to score",)


def test_nnunets_folds_of_a_real_dataset(shared: Path) -> None:
    golden = json.loads((shared / "golden/fingerprints/Dataset004_Hippocampus_splits_final.json").read_text())
    ids = sorted(case_id for part in golden[0].values() for case_id in part)
    root = shared / "data" / "Task04_Hippocampus"
    planned = planned_splits(dataset(root, ids), fingerprint(ids), SplitOptions())
    assert [{"train": list(fold.train), "val": list(fold.val)} for fold in planned.folds] == golden
    assert planned.notes == ()
