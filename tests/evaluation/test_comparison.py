from __future__ import annotations

import numpy as np
import pytest

from autoseg.errors import UsageError
from autoseg.evaluation.comparison import FEWEST_CASES, Entrant, Yardstick, choose
from autoseg.evaluation.instances import score_instances
from autoseg.records import CaseScore, LabelScore

LIVER = Yardstick(("liver",))


def label(dice: float | None, reference: int = 100) -> LabelScore:
    return LabelScore(
        dice=dice,
        iou=dice,
        true_positives=0 if dice is None else round(reference * dice),
        false_positives=0,
        false_negatives=0 if dice is None else reference - round(reference * dice),
        volume_reference_ml=1.0,
        volume_prediction_ml=1.0,
    )


def scored(case: str, liver: float | None, tumor: float | None = None) -> CaseScore:
    labels = {"liver": label(liver)} | ({} if tumor is None else {"tumor": label(tumor)})
    return CaseScore(case=case, labels=labels)


def entrant(name: str, networks: int, dice: list[float]) -> Entrant:
    return Entrant(
        name, networks, {f"c{place:02d}": scored(f"c{place:02d}", value) for place, value in enumerate(dice)}
    )


@pytest.mark.parametrize(
    ("gain", "cases", "chosen", "words"),
    [
        (0.02, 12, "2d + 3d", "worse"),
        (0.0005, 12, "3d", "better by less than 0.001: the simpler one is chosen"),
        (-0.02, 12, "3d", "worse"),
        (0.02, FEWEST_CASES - 1, "3d", "too few cases to tell (5 of 6): the simpler one is chosen"),
    ],
)
def test_more_networks_need_a_sure_gain(gain: float, cases: int, chosen: str, words: str) -> None:
    base = np.linspace(0.7, 0.9, cases)
    noise = 0.0001 * np.cos(np.arange(cases))
    found = choose([entrant("3d", 1, list(base)), entrant("2d + 3d", 2, list(base + gain + noise))], LIVER)
    assert found.chosen.name == chosen
    assert found.compared[0].name == chosen
    assert found.compared[0].verdict == "chosen"
    assert found.compared[1].verdict == words
    assert found.compared[1].shared_cases == cases


def test_a_gain_that_chance_explains_is_a_tie() -> None:
    rng = np.random.default_rng(3)
    base = rng.uniform(0.6, 0.9, 20)
    found = choose([entrant("3d", 1, list(base)), entrant("pair", 2, list(base + rng.normal(0.005, 0.05, 20)))], LIVER)
    assert found.chosen.name == "3d"
    row = found.compared[1]
    assert row.low is not None
    assert row.low < 0 < row.high
    assert row.verdict == "a tie: the simpler one is chosen"


def test_of_equally_simple_models_the_higher_mean_over_shared_cases_is_chosen() -> None:
    easy = {f"e{place}": scored(f"e{place}", 0.99) for place in range(5)}
    low, high = entrant("low", 1, [0.5, 0.6, 0.7]), entrant("high", 1, [0.6, 0.7, 0.8])
    with_easy = Entrant("low", 1, {**low.scores, **easy})  # cases that only one of them has decide nothing
    found = choose([with_easy, high], LIVER)
    assert found.chosen.name == "high"
    assert found.compared[1].gain == pytest.approx(-0.1)


def test_a_model_without_shared_cases_is_left_out_by_name() -> None:
    other = Entrant("other", 1, {"x": scored("x", 1.0)})
    found = choose([entrant("3d", 1, [0.5, 0.6]), other], LIVER)
    assert found.chosen.name == "3d"
    assert found.left_out == {"other": "no held-out case in common with 3d"}


def test_nothing_to_choose_from() -> None:
    with pytest.raises(UsageError, match="held-out"):
        choose([Entrant("3d", 1, {})], LIVER)


def counted(case: str, dice: float, found: int) -> CaseScore:
    """Four cells, so many of which are found as they are, in tissue of which half is found."""
    reference = np.zeros((1, 4, 8), dtype=np.uint32)
    reference[0, 1, ::2] = [1, 2, 3, 4]
    cells = label(dice).model_copy(
        update={"instances": score_instances(reference, np.where(reference <= found, reference, 0))}
    )
    return CaseScore(case=case, labels={"cell": cells, "tissue": label(0.5)})


def test_objects_are_compared_by_panoptic_quality_and_other_labels_by_dice() -> None:
    cases = [f"c{place}" for place in range(3)]
    merged = Entrant("merged", 1, {case: counted(case, 0.95, 2) for case in cases})
    apart = Entrant("apart", 1, {case: counted(case, 0.9, 4) for case in cases})
    found = choose([merged, apart], Yardstick(("cell", "tissue"), {"cell": "core"}))
    first, second = found.compared
    assert found.chosen.name == first.name == "apart"
    # panoptic quality of 2 of 4 cells, each as it is: 2 / (2 + 2 / 2)
    assert (first.mean_dice, first.mean_quality) == pytest.approx(((0.9 + 0.5) / 2, (1 + 0.5) / 2))
    assert (second.mean_dice, second.mean_quality) == pytest.approx(((0.95 + 0.5) / 2, (2 / 3 + 0.5) / 2))
    assert second.gain == pytest.approx((2 / 3 - 1) / 2)
    by_dice = choose([merged, apart], Yardstick(("cell", "tissue")))
    assert by_dice.chosen.name == "merged"
    assert by_dice.compared[0].mean_quality is None
