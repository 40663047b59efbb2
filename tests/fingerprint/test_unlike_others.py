from __future__ import annotations

import numpy as np

from autoseg.arrays.quantiles import channel_quantiles
from autoseg.fingerprint.unlike_others import FEWEST_CASES, unlike_others
from autoseg.records import CaseFingerprint, Labels, Problem

LABELS = Labels(names={"background": 0, "liver": 1})
CHANNELS = ("T1", "FLAIR")


def quantiles(seed: int, skewed: bool = False) -> tuple[float, ...]:
    """Of one channel: T1 is symmetric around 300, FLAIR a skewed distribution around 1500."""
    random = np.random.default_rng(seed)
    values = 1000 + random.exponential(500, 5000) if skewed else random.normal(300, 40, 5000)
    return channel_quantiles(values.reshape(1, 50, 10, 10).astype(np.float32))[0]


def a_case(number: int, **changed: object) -> CaseFingerprint:
    offset = 0.01 * (number % 3)
    values = {
        "case": f"c{number}",
        "shape": (10, 20, 30),
        "spacing": (3.0, 1.0 + offset, 1.0),
        "shape_after_crop": (10, 20, 30),
        "orientation": "RAS",
        "voxels_per_label": {"background": 5000, "liver": 100},
        "quantiles": (quantiles(number), quantiles(100 + number, skewed=True)),
        "label_centres": {"liver": (0.5, 0.5, 0.7 + offset)},
        "label_extents": {"liver": (5, 5, 5)},
    }
    return CaseFingerprint.model_validate({**values, **changed})


USUAL = [a_case(number) for number in range(12)]


def found(*others: CaseFingerprint) -> list[tuple[str, str | None]]:
    return [(problem.kind, problem.case) for problem in unlike_others([*USUAL, *others], CHANNELS, LABELS)]


def only(case: CaseFingerprint) -> Problem:
    (problem,) = unlike_others([*USUAL, case], CHANNELS, LABELS)
    return problem


def test_cases_alike_have_no_findings() -> None:
    assert found() == []


def test_few_cases_have_no_habit() -> None:
    few = [*USUAL[: FEWEST_CASES - 2], a_case(20, orientation="LPS")]
    assert unlike_others(few, CHANNELS, LABELS) == ()


def test_another_orientation_is_a_note() -> None:
    problem = only(a_case(20, orientation="LPS"))
    assert (problem.severity, problem.kind) == ("note", "odd-orientation")
    assert "stored as LPS, those of 12 of 13 cases as RAS" in problem.what


def test_another_voxel_size_is_a_note() -> None:
    problem = only(a_case(20, spacing=(3.0, 4.0, 1.0)))
    assert (problem.severity, problem.kind) == ("note", "odd-spacing")
    assert "3 x 4 x 1 mm; the median of the cases is 3 x 1.01 x 1 mm" in problem.what


def test_swapped_channels_are_named_however_many_there_are() -> None:
    wrong = [a_case(number, quantiles=(quantiles(number, skewed=True), quantiles(number))) for number in (20, 21)]
    assert found(*wrong) == [("swapped-channels", "c20"), ("swapped-channels", "c21")]
    assert "T1 looks as FLAIR does" in only(wrong[0]).what


def test_intensities_that_spread_otherwise_are_a_note() -> None:
    mask = np.r_[np.ones(900), np.full(100, 60.0)].reshape(1, 10, 10, 10).astype(np.float32)
    problem = only(a_case(20, quantiles=(channel_quantiles(mask)[0], quantiles(7, skewed=True))))
    assert (problem.severity, problem.kind) == ("note", "odd-intensities")
    assert "channel 0 (T1)" in problem.what


def test_many_cases_unlike_the_others_are_another_kind() -> None:
    """One note, not one for each of them."""
    random = np.random.default_rng(0)
    others = [
        a_case(20 + seed, quantiles=(channel_quantiles(random.exponential(1, (1, 9, 9, 9)))[0], quantiles(7, True)))
        for seed in range(3)
    ]
    assert found(*others) == [("several-kinds", "c20")]
    assert "3 of 15 cases" in unlike_others([*USUAL, *others], CHANNELS, LABELS)[0].what


def test_brightness_and_contrast_are_the_scanners_choice() -> None:
    one, other = quantiles(7), quantiles(8, skewed=True)
    bright = (tuple(5 * value + 90 for value in one), tuple(0.1 * value for value in other))
    assert found(a_case(20, quantiles=bright)) == []


def test_a_label_at_the_place_of_its_mirror_image_is_a_warning() -> None:
    problem = only(a_case(20, label_centres={"liver": (0.5, 0.5, 0.3)}))
    assert (problem.severity, problem.kind) == ("warning", "side-unlike-others")
    assert found(a_case(20, label_centres={"liver": (0.5, 0.5, 0.52)})) == []


def test_a_label_without_a_side_says_nothing() -> None:
    either = [a_case(number, label_centres={"liver": (0.5, 0.5, 0.3 if number % 2 else 0.7)}) for number in range(12)]
    assert unlike_others(either, CHANNELS, LABELS) == ()
