from __future__ import annotations

from collections.abc import Sequence

import pytest

from autoseg.evaluation.keep_largest import Trial, decide
from autoseg.records import Labels

PLAIN = Labels(names={"background": 0, "liver": 1, "tumor": 5}, ignore=9)
REGIONS = Labels(names={"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=(1, 2))


def measured(table: dict[tuple[str | None, ...], Sequence[dict[str, float]]]):  # type: ignore[no-untyped-def]
    """Trials looked up by the steps that were done."""

    def measure(steps: Sequence[str | None], options: Sequence[str | None]) -> list[Trial]:
        before = table[tuple(steps)]
        after = [table[(*steps, option)] for option in options]
        return [Trial(case, tuple(done[place] for done in after)) for place, case in enumerate(before)]

    return measure


def kept(labels: Labels, table: dict[tuple[str | None, ...], Sequence[dict[str, float]]]) -> list[str | None]:
    return [entry.step.label for entry in decide(labels, measured(table)) if entry.kept]


BEFORE = [{"liver": 0.8, "tumor": 0.5}, {"liver": 0.9}]


def test_each_label_is_kept_where_its_own_dice_rises() -> None:
    table = {
        (): BEFORE,
        (None,): [{"liver": 0.8, "tumor": 0.4}, {"liver": 1.0}],  # the mean rises, but one label falls
        ("liver",): [{"liver": 0.85, "tumor": 0.5}, {"liver": 0.89}],
        ("tumor",): [{"liver": 0.8, "tumor": 0.5}, {"liver": 0.9}],  # no gain is no reason
    }
    tried = decide(PLAIN, measured(table))
    assert [entry.kept for entry in tried] == [False, True, False]
    liver = tried[1].step
    assert (liver.label, liver.cases, liver.better, liver.worse) == ("liver", 2, 1, 1)
    assert (liver.dice_before, liver.dice_after) == pytest.approx((0.85, 0.87))


def test_labels_are_tried_on_top_of_all_foreground() -> None:
    table = {
        (): BEFORE,
        (None,): [{"liver": 0.85, "tumor": 0.5}, {"liver": 0.9}],
        (None, "liver"): [{"liver": 0.85, "tumor": 0.5}, {"liver": 0.9}],
        (None, "tumor"): [{"liver": 0.85, "tumor": 0.6}, {"liver": 0.9}],
    }
    assert kept(PLAIN, table) == [None, "tumor"]


def test_a_region_is_not_kept_where_another_falls() -> None:
    before = [{"whole": 0.8, "core": 0.5}]
    table = {
        (): before,
        (None,): before,
        ("whole",): before,
        ("core",): [{"whole": 0.7, "core": 0.6}],  # what the core loses leaves a hole in the whole
    }
    assert kept(REGIONS, table) == []


def test_one_label_is_tried_once() -> None:
    one = Labels(names={"background": 0, "liver": 1})
    table = {(): [{"liver": 0.5}], (None,): [{"liver": 0.6}]}
    assert kept(one, table) == [None]
