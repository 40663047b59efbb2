from __future__ import annotations

from collections import Counter

from .catalog import FAULTS, GROUPS, PAGE, faults_of, page


def test_every_fault_is_tested_and_none_twice_over() -> None:
    counts = Counter(entry.number for module in GROUPS for entry in faults_of(module))
    assert sorted(counts) == list(range(1, FAULTS + 1))
    assert set(counts.values()) == {1}


def test_the_page_is_that_of_the_tests() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.faults.catalog"
