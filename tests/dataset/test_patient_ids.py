from __future__ import annotations

import pytest

from autoseg.dataset.patient_ids import patients_in_ids

FRAMES = [f"patient{patient:03d}_frame{frame:02d}" for patient in range(1, 6) for frame in (1, 9 + patient)]
SLICES = [f"TCGA_CS_{patient}_19960909_{number}" for patient in (4941, 4942, 4943) for number in range(1, 6)]


@pytest.mark.parametrize(
    ("ids", "patients"),
    [
        (["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"], {"sub-01": 2, "sub-02": 1}),
        (["sub-rat3_sample-data10", "sub-rat3_sample-data11", "sub-rat4_sample-data1"], {"sub-rat3": 2, "sub-rat4": 1}),
        (["a_sub-01_T1w", "a_sub-01_T2w", "b_sub-01_T1w"], {"a_sub-01": 2, "b_sub-01": 1}),
        (["P12_visit1", "P12_visit2", "P13_visit1"], {"P12": 2, "P13": 1}),
        (["case3_t0", "case3_t1", "case4_t0"], {"case3": 2, "case4": 1}),
        (["X_baseline", "X_followup", "Y_baseline", "Y_followup"], {"X": 2, "Y": 2}),
        (["001-baseline", "001-fu1", "001-fu2", "002-baseline"], {"001": 3, "002": 1}),
        (["P1_visit2_left", "P1_visit2_right", "P1_visit1_left", "P2_visit1_left"], {"P1": 3, "P2": 1}),
        (["OAS30001_d0129", "OAS30001_d0757", "OAS30002_d0653"], {"OAS30001": 2, "OAS30002": 1}),
        (["P1_20190101", "P1_20200101", "P2_2018-05-05"], {"P1": 2, "P2": 1}),
        (["P01_ct", "P01_mr", "P02_ct", "P02_mr"], {"P01": 2, "P02": 2}),
        (FRAMES, {f"patient{patient:03d}": 2 for patient in range(1, 6)}),
        (["P1_1", "P1_2", "P2_1", "P2_2", "P3_1"], {"P1": 2, "P2": 2, "P3": 1}),
        (["BraTS-GLI-00005-000", "BraTS-GLI-00006-000", "BraTS-GLI-00006-001"], None),
        (SLICES, {f"TCGA_CS_{patient}_19960909": 5 for patient in (4941, 4942, 4943)}),
        (["12a", "12b", "13a", "13b", "14a"], {"12": 2, "13": 2, "14": 1}),
    ],
)  # fmt: skip
def test_scans_of_patients_are_seen(ids: list[str], patients: dict[str, int] | None) -> None:
    found = patients_in_ids(reversed(ids))
    assert found is not None
    counts: dict[str, int] = {}
    for case_id in ids:
        counts[found.patient_of[case_id]] = counts.get(found.patient_of[case_id], 0) + 1
    assert counts == (patients or {"BraTS-GLI-00005": 1, "BraTS-GLI-00006": 2})


@pytest.mark.parametrize(
    "ids",
    [
        [f"hippocampus_{number:03d}" for number in range(260)],
        ["pt_020", "pt_021", "pt_022"],
        [f"BraTS20_Training_{number:03d}" for number in range(1, 370)],
        ["IXI012-Guys-0706", "IXI013-HH-1212", "IXI014-HH-1236", "IXI015-HH-1258"],
        ["TCGA-02-0006", "TCGA-02-0033", "TCGA-06-0119", "TCGA-06-0122", "TCGA-08-0350"],
        ["SB_atlas_GA25_notoperated", "SB_atlas_GA25_operated", "SB_atlas_GA26_notoperated", "SB_atlas_GA26_operated"],
        [f"liver_scan_{number}" for number in range(131)],
        ["train_scan_1", "train_scan_2", "val_scan_1", "val_scan_2"],
        ["mr_train_1001", "mr_train_1002", "ct_train_1001", "ct_train_1002"],
        [f"site{site}_{number:02d}" for site in range(1, 5) for number in range(1, 6)],
        [f"{year}_{number}" for year in (2018, 2019, 2020) for number in (1, 2, 3)],
        [f"BraTS{year}_{number:03d}" for year in (2020, 2021, 2023) for number in range(4)],
        ["example_ct", "example_ct_dicom", "example_ct_sm"],
        [f"case_{number}" for number in range(10)],
        [f"s{number:04d}" for number in range(20)],
        [f"brain_s{number:02d}" for number in range(20)],
        ["00071198d059", "01d44a26f668", "04acab7636c4"],
        [f"sub-verse{number}" for number in range(500, 510)],
        [f"sub-{number:02d}_T1w" for number in range(10)],
        ["a", "b", "c"],
        [],
    ],
    ids=lambda ids: ids[0] if ids else "nothing",
)
def test_ordinary_ids_are_no_scans_of_patients(ids: list[str]) -> None:
    assert patients_in_ids(ids) is None


def test_cases_without_the_pattern_are_patients_of_their_own() -> None:
    found = patients_in_ids(["P1_visit1", "P1_visit2", "P2_visit1", "phantom"])
    assert found is not None
    assert found.patient_of["phantom"] == "phantom"
    assert "visit" in found.rule
