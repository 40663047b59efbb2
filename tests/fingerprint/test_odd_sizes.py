from __future__ import annotations

from autoseg.fingerprint.odd_sizes import odd_sizes
from autoseg.records import CaseFingerprint


def a_case(name: str, spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> CaseFingerprint:
    return CaseFingerprint(
        case=name, shape=shape, spacing=spacing, shape_after_crop=shape, orientation="RAS", voxels_per_label={}
    )


USUAL = [a_case(f"c{number}", (3.0, 0.8, 0.8), (100 + number, 512, 512)) for number in range(4)]


def test_a_unit_taken_for_another_and_a_placeholder_are_found() -> None:
    wrong = [
        a_case("metres", (0.003, 0.0008, 0.0008), (90, 512, 512)),
        a_case("one", (20.0, 20.0, 20.0), (100, 512, 512)),
    ]
    found = odd_sizes([*USUAL, *wrong])
    assert [problem.case for problem in found] == ["metres", "one"]
    assert "its voxels are 0.003 x 0.0008 x 0.0008 mm" in found[0].what
    assert "the median of the cases is 3 x 0.8 x 0.8 mm" in found[0].what


def test_a_long_scan_and_thin_slices_are_not() -> None:
    usual = [a_case("long", (3.0, 0.8, 0.8), (900, 512, 512)), a_case("thin", (0.6, 0.8, 0.8), (500, 512, 512))]
    assert odd_sizes([*USUAL, *usual]) == ()


def test_two_cases_show_no_habit() -> None:
    assert odd_sizes([USUAL[0], a_case("odd", (3000.0, 800.0, 800.0), (100, 512, 512))]) == ()
