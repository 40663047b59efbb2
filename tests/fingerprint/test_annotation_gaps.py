from __future__ import annotations

from autoseg.dataset.counted import with_cores
from autoseg.fingerprint.annotation_gaps import annotation_gaps
from autoseg.records import CaseFingerprint, Labels

LABELS = Labels(names={"background": 0, "liver": 1, "tumor": 2})


def case(number: int, liver: int, tumor: int, annotated: tuple[str, ...] | None = None) -> CaseFingerprint:
    return CaseFingerprint(
        case=f"c{number:02d}",
        shape=(9, 9, 9),
        spacing=(1, 1, 1),
        shape_after_crop=(9, 9, 9),
        orientation="RAS",
        voxels_per_label={"background": 700, "liver": liver, "tumor": tumor},
        annotated=annotated,
    )


def test_a_label_that_few_cases_lack_is_named_with_them() -> None:
    cases = [case(number, liver=0 if number in (3, 7) else 50, tumor=number % 2) for number in range(20)]
    (note,) = annotation_gaps(cases, LABELS)
    assert (note.severity, note.kind, note.case) == ("note", "label-not-drawn", "c03")
    assert note.what == "liver is in 18 of 20 cases, and not in c03, c07"
    assert '{"annotated": {"case": ["label", …]}}' in note.remedy
    assert "annotated.csv" in note.remedy


def test_complete_rare_and_declared_labels_are_no_gaps() -> None:
    complete = [case(number, liver=5, tumor=number % 3) for number in range(20)]
    assert annotation_gaps(complete, LABELS) == ()
    declared = [case(number, liver=5, tumor=0 if number == 1 else 4) for number in range(20)]
    declared[1] = case(1, liver=5, tumor=0, annotated=("liver",))
    assert annotation_gaps(declared, LABELS) == ()
    assert annotation_gaps([case(0, 0, 1), case(1, 5, 1), case(2, 5, 1), case(3, 5, 1)], LABELS) == ()


def test_a_region_counts_as_drawn_with_its_parts() -> None:
    regions = Labels(names={"background": 0, "all": (1, 2), "liver": 1, "tumor": 2}, regions_class_order=(1, 1, 2))
    cases = [case(number, liver=5, tumor=5) for number in range(10)]
    cases = [each.model_copy(update={"voxels_per_label": {**each.voxels_per_label, "all": 10}}) for each in cases]
    cases[4] = case(4, 5, 0, annotated=("liver",))  # "all" is not known there
    assert annotation_gaps(cases, regions) == ()
    cases[4] = case(4, 5, 0)
    assert {problem.what.split(" ")[0] for problem in annotation_gaps(cases, regions)} == {"all", "tumor"}


def test_cores_of_objects_are_no_labels_of_a_user() -> None:
    counted = with_cores(LABELS, ["liver"], 1.0)
    cases = [case(number, liver=0 if number == 4 else 5, tumor=5) for number in range(10)]
    cores = [{**each.voxels_per_label, "liver core": each.voxels_per_label["liver"] // 2} for each in cases]
    cases = [each.model_copy(update={"voxels_per_label": own}) for each, own in zip(cases, cores, strict=True)]
    (note,) = annotation_gaps(cases, counted)
    assert note.what.startswith("liver is in 9 of 10 cases")
