from __future__ import annotations

from collections.abc import Callable

import pytest

from autoseg.planning.evidence import normalization_doubts
from autoseg.records import Fingerprint, IntensityStatistics, Problem

MakeFingerprint = Callable[..., Fingerprint]
CT = (-1024.0, 2500.0)


@pytest.fixture
def doubts(make_fingerprint: MakeFingerprint) -> Callable[..., tuple[Problem, ...]]:
    def doubt(name: str, ranges: list[tuple[float, float]], **statistics: float) -> tuple[Problem, ...]:
        count = max(len(ranges), 1)
        made = make_fingerprint([(1.0, 1.0, 1.0)] * count, [(9, 9, 9)] * count, channels=(name,))
        cases = tuple(
            case.model_copy(update={"intensity_range": (limits,)})
            for case, limits in zip(made.cases, ranges, strict=False)
        )
        values = {
            "mean": 40.0,
            "median": 40,
            "std": 90,
            "min": -900,
            "max": 1500,
            "percentile_00_5": -700,
            "percentile_99_5": 300,
        }
        return normalization_doubts(
            made.model_copy(
                update={"cases": cases or made.cases, "intensities": (IntensityStatistics(**{**values, **statistics}),)}
            )
        )  # fmt: skip

    return doubt


Doubts = Callable[..., tuple[Problem, ...]]


@pytest.mark.parametrize(
    ("name", "ranges"),
    [
        ("CT", [CT, (-1000.0, 1300.0), (-3024.0, 3071.0), (-2048.0, 15000.0), (-1024.0, 400.0)]),
        ("ct", [CT]),
        ("MRI", [(0.0, 800.0), (0.0, 3000.0), (-5.0, 1e6)]),
        ("T1", [(-1500.0, 200.0)] * 5),
        ("nonorm", [CT] * 10),
        ("MRI", [(0.0, 3000.0)] * 10),
        ("MRI", [CT] * 2),
    ],
)
def test_names_that_fit_raise_no_doubt(doubts: Doubts, name: str, ranges: list[tuple[float, float]]) -> None:
    assert doubts(name, ranges) == ()


@pytest.mark.parametrize(
    ("ranges", "because"),
    [
        ([(0.0, 255.0), (3.0, 240.0)], "within 0 and 255"),
        ([(-2.1, 9.0), (-1.5, 12.0)], "scaled before"),
        ([(0.0, 500.0), (0.0, 90_000.0), (0.0, 3000.0)], "differ widely from case to case"),
        ([(-200.0, 300.0), (-160.0, 240.0)], "no value is below -500"),
        ([(-60_000.0, 2e5), (-10.0, 1e6), (-700.0, 90_000.0)], "differs from case to case"),
    ],
)
def test_a_channel_wrongly_called_ct(doubts: Doubts, ranges: list[tuple[float, float]], because: str) -> None:
    (problem,) = doubts("CT", ranges)
    assert (problem.severity, problem.kind) == ("warning", "not-like-ct")
    assert because in problem.what
    assert '"channel_names": {"0": "MRI"}' in problem.remedy


def test_single_cases_in_other_units(doubts: Doubts) -> None:
    (problem,) = doubts("CT", [CT] * 8 + [(0.0, 4095.0)])
    assert (problem.severity, problem.kind) == ("warning", "mixed-intensities")
    assert "1 of 9 cases" in problem.what
    assert "case_8 (0 to 4095)" in problem.what


def test_shifted_ct(doubts: Doubts) -> None:
    shifted = [(0.0, 3000.0), (24.0, 4095.0), (0.0, 2600.0)]
    (problem,) = doubts("CT", shifted)
    assert (problem.severity, problem.kind) == ("note", "shifted-ct")
    (problem,) = doubts("abdominal_ct", shifted)
    assert (problem.severity, problem.kind) == ("note", "shifted-ct")
    assert '"channel_names": {"0": "CT"}' in problem.remedy
    assert doubts("section", shifted) == ()


def test_ct_under_another_name(doubts: Doubts) -> None:
    (problem,) = doubts("channel_0", [CT, (-1000.0, 1900.0), (-3024.0, 2976.0), (-2048.0, 4000.0)])
    assert (problem.severity, problem.kind) == ("note", "like-ct")
    assert '"channel_names": {"0": "CT"}' in problem.remedy


def test_statistics_alone_say_less(doubts: Doubts) -> None:
    assert doubts("CT", []) == ()
    (problem,) = doubts("CT", [], min=0, max=1)
    assert (problem.severity, problem.kind) == ("warning", "not-like-ct")
    assert "scaled before" in problem.what
    (problem,) = doubts("CT", [], min=0, max=250)
    assert "picture" in problem.what
    assert doubts("MRI", [], min=0, max=1) == ()
