from __future__ import annotations

import math

import numpy as np
import pytest

from autoseg.evaluation.expected_dice import FEATURES, FEWEST_CASES, LEVEL, expect, expect_mean, fit_expected_dice
from autoseg.records import CaseEvidence, CaseScore, ExpectedDice, LabelEvidence, LabelScore, LabelVolume

Simulated = tuple[list[CaseScore], dict[str, CaseEvidence]]


def score(dice: float | None) -> LabelScore:
    return LabelScore(
        dice=dice,
        iou=None,
        true_positives=1,
        false_positives=1,
        false_negatives=1,
        volume_reference_ml=1.0,
        volume_prediction_ml=1.0,
    )


def simulated(count: int, seed: int = 0, noise: float = 0.4, skew: float = 0.7) -> Simulated:
    """Cases whose logit(Dice) is that of the confidence, less what a model believes too much of itself, and noise."""
    rng = np.random.default_rng(seed)
    scores, seen = [], {}
    for number in range(count):
        labels, evidence, volumes = {}, {}, {}
        for name in ("a", "b"):
            logit = rng.normal(2, 0.8)
            dice = 1 / (1 + math.exp(-(skew * logit + rng.normal(0, noise))))
            labels[name] = score(dice)
            sure = 1 / (1 + math.exp(-logit))
            evidence[name] = LabelEvidence(confidence=sure, boundary=0.5 + sure / 4)
            ml = float(rng.lognormal(2, 0.3))
            volumes[name] = LabelVolume(voxels=int(1000 * ml), ml=ml, components=int(rng.integers(1, 4)))
        case = f"case_{number}"
        scores.append(CaseScore(case=case, labels=labels))
        seen[case] = CaseEvidence(evidence=evidence, volumes=volumes)
    return scores, seen


def fitted(cases: Simulated) -> ExpectedDice:
    found = fit_expected_dice(*cases)
    assert found is not None
    return found


@pytest.mark.parametrize("count", [30, 100])
def test_intervals_hold_the_share_that_they_promise(count: int) -> None:
    """Over many datasets, on cases that the regression has not seen."""
    inside = total = 0
    for seed in range(20):
        model = fitted(simulated(count, seed))
        scores, seen = simulated(50, 1000 + seed)
        for case in scores:
            expected = expect(model, seen[case.case])
            for name, truth in case.labels.items():
                inside += expected[name].low <= truth.dice <= expected[name].high  # type: ignore[operator]
                total += 1
    assert abs(inside / total - LEVEL) < 0.04


def test_confidence_that_is_too_high_is_corrected() -> None:
    model = fitted(simulated(200))
    scores, seen = simulated(200, seed=1)
    errors = [expect(model, seen[case.case])["a"].dice - (case.labels["a"].dice or 0) for case in scores]
    believed = [(seen[case.case].evidence["a"].confidence or 0) - (case.labels["a"].dice or 0) for case in scores]
    assert abs(np.mean(errors)) < 0.02 < abs(np.mean(believed))
    regression = model.labels["a"]
    assert regression.mean_error == pytest.approx(np.abs(errors).mean(), rel=0.2)
    assert regression.mean_error < 0.8 * regression.mean_error_of_the_mean


def test_the_mean_over_labels_has_an_interval_of_its_own() -> None:
    model = fitted(simulated(100))
    scores, seen = simulated(200, seed=3)
    hits, widths = 0, []
    for case in scores:
        expected, of_one = expect_mean(model, seen[case.case]), expect(model, seen[case.case])["a"]
        assert expected is not None
        truth = np.mean([label.dice for label in case.labels.values()])
        hits += expected.low <= truth <= expected.high
        widths.append((expected.high - expected.low, of_one.high - of_one.low))
    assert abs(hits / len(scores) - LEVEL) < 0.06
    of_mean, of_label = np.mean(widths, axis=0)
    assert of_mean < 0.9 * of_label  # errors of two labels partly cancel


def test_too_few_cases_cannot_tell() -> None:
    assert fit_expected_dice(*simulated(FEWEST_CASES - 1)) is None
    assert fit_expected_dice(*simulated(FEWEST_CASES)) is not None
    assert expect(None, CaseEvidence()) == {}
    assert expect_mean(None, CaseEvidence()) is None


def test_labels_without_a_mask_say_nothing() -> None:
    scores, seen = simulated(40)
    empty = LabelVolume(voxels=0, ml=0.0, components=0)
    for number, (case, before) in enumerate(list(seen.items())):
        if number % 2:
            seen[case] = before.model_copy(
                update={
                    "volumes": {**before.volumes, "b": empty},
                    "evidence": {**before.evidence, "b": LabelEvidence()},
                }
            )
    model = fitted((scores, seen))
    assert model.labels["a"].cases == 40
    assert model.labels["b"].cases == 20
    assert set(expect(model, seen["case_1"])) == {"a"}


def test_undrawn_labels_do_not_enter() -> None:
    scores, seen = simulated(40)
    undrawn = [case.model_copy(update={"labels": {"a": case.labels["a"], "b": score(None)}}) for case in scores]
    assert set(fitted((undrawn, seen)).labels) == {"a"}


def test_nothing_is_promised_beyond_what_was_seen() -> None:
    model = fitted(simulated(60))
    regression = model.labels["a"]
    far = CaseEvidence(
        evidence={"a": LabelEvidence(confidence=1.0, boundary=1.0)},
        volumes={"a": LabelVolume(voxels=10**9, ml=1e6, components=5000)},
    )
    held = np.array([regression.high[0], regression.high[1], regression.high[2], regression.high[3]])
    logit = regression.intercept + float(
        (held - regression.centre) / np.array(regression.scale) @ np.array(regression.weights)
    )
    assert expect(model, far)["a"].dice == pytest.approx(1 / (1 + math.exp(-logit)))


def test_leaving_out_by_formula_is_leaving_out() -> None:
    """The shortcut through the leverage against fits without each case, features standardized once."""
    from autoseg.evaluation.expected_dice import _ridge

    rng = np.random.default_rng(0)
    table = rng.normal(size=(25, len(FEATURES)))
    table = (table - table.mean(0)) / table.std(0)
    target = table @ [1.0, 0.5, 0.0, -0.3] + rng.normal(0, 0.2, 25)
    # without a penalty the shortcut is exact; the mean of the features moves with the case that is left out
    _, misses = _ridge(table, target, 0.0)
    for left_out in range(25):
        keep = np.arange(25) != left_out
        design = np.column_stack([np.ones(24), table[keep]])
        weights = np.linalg.lstsq(design, target[keep], rcond=None)[0]
        assert misses[left_out] == pytest.approx(target[left_out] - np.r_[1, table[left_out]] @ weights)


def test_features_that_never_vary_do_no_harm() -> None:
    scores, seen = simulated(30)
    one = LabelVolume(voxels=1000, ml=1.0, components=1)
    same = {case: entry.model_copy(update={"volumes": {"a": one, "b": one}}) for case, entry in seen.items()}
    model = fitted((scores, same))
    assert model.labels["a"].weights[2:] == (0.0, 0.0)
    assert np.isfinite(expect(model, same["case_3"])["a"].dice)


def test_only_numbers_are_kept() -> None:
    assert "case_" not in fitted(simulated(30)).model_dump_json()
