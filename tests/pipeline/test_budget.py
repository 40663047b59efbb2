"""What scoring is expected to take of a budget."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoseg.pipeline.budget import middle
from autoseg.records import Case


def cases(count: int) -> list[Case]:
    return [Case(id=f"c{number}", images=(Path("x"),)) for number in range(count)]


@pytest.mark.parametrize(
    ("count", "wanted", "names"), [(5, 1, "c2"), (5, 3, "c1 c2 c3"), (4, 2, "c1 c2"), (2, 9, "c0 c1"), (1, 1, "c0")]
)
def test_cases_of_middling_size(count: int, wanted: int, names: str) -> None:
    assert [case.id for case in middle(cases(count), wanted)] == names.split()
