from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from autoseg.dataset.label_files import read_case_labels
from autoseg.dataset.layouts import open_dataset
from autoseg.dataset.readers import read_image
from autoseg.fingerprint.case import measure_case
from autoseg.fingerprint.merge import merge
from autoseg.planning.mirroring import mirror_axes, side_doubts
from autoseg.records import CaseFingerprint, Fingerprint, Labels

MakeFingerprint = Callable[..., Fingerprint]
Place = tuple[float, float, float]

ORDER = (0, 1, 2)


def placed(
    make: MakeFingerprint,
    names: tuple[str, ...],
    places: list[dict[str, Place]],
    orientation: str = "RAS",
    volumes: tuple[int, ...] = (1000, 1000, 1000),
) -> Fingerprint:
    """A fingerprint of cases of 100³ voxels whose labels (10³ voxels) have these centres."""
    labels = Labels(names={"background": 0, **{name: value for value, name in enumerate(names, 1)}})
    fingerprint = make([(1.0, 1.0, 1.0)] * len(places), [(100, 100, 100)] * len(places), labels=labels)
    cases = tuple(
        case.model_copy(
            update={
                "orientation": orientation,
                "label_centres": centres,
                "label_extents": dict.fromkeys(centres, (10, 10, 10)),
                "voxels_per_label": {name: volumes[names.index(name)] for name in centres},
            }
        )
        for case, centres in zip(fingerprint.cases, places, strict=True)
    )
    return fingerprint.model_copy(update={"cases": cases})


def sided(cases: int, seed: int = 0, axis: int = 2, jitter: float = 0.03) -> list[dict[str, Place]]:
    """Centres of a, at 0.3 along the axis, of b, at 0.7, and of m between them."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(cases):
        centres = {}
        for name, place in (("a", 0.3), ("b", 0.7), ("m", 0.5)):
            centre = random.normal(0.5, jitter, 3)
            centre[axis] += place - 0.5
            centres[name] = tuple(centre.tolist())
        found.append(centres)
    return found


def swapped(centres: dict[str, Place]) -> dict[str, Place]:
    return {**centres, "a": centres["b"], "b": centres["a"]}


def test_names_decide_without_any_measurement(make_fingerprint: MakeFingerprint) -> None:
    labels = Labels(names={"background": 0, "kidney_left": 1, "kidney_right": 2})
    fingerprint = make_fingerprint([(1.0, 1.0, 1.0)] * 2, [(50, 50, 50)] * 2, labels=labels)
    decision = mirror_axes(fingerprint, ORDER)
    assert decision.value == (0, 1)
    assert "kidney_left / kidney_right" in decision.because
    assert "left-right (X)" in decision.because
    # the left-right axis comes first where slices are sagittal
    assert mirror_axes(fingerprint, (2, 0, 1)).value == (1, 2)
    assert mirror_axes(fingerprint, (1, 0, 2)).value == (0, 1)


@pytest.mark.parametrize("orientation", ["flat", "unknown"])
def test_names_decide_where_patients_axes_are_unknown(make_fingerprint: MakeFingerprint, orientation: str) -> None:
    named = placed(make_fingerprint, ("lung_l", "lung_r"), [{}] * 6, orientation)
    assert mirror_axes(named, ORDER).value == (0, 1)
    places = placed(make_fingerprint, ("a", "b", "m"), sided(10), orientation)
    assert mirror_axes(places, ORDER).value == (0, 1, 2)


def test_mirrored_places_decide(make_fingerprint: MakeFingerprint) -> None:
    decision = mirror_axes(placed(make_fingerprint, ("a", "b", "m"), sided(20)), ORDER)
    assert decision.value == (0, 1)
    assert "a / b in 20 cases" in decision.because
    few_missing = [centres if number % 5 else {"m": centres["m"]} for number, centres in enumerate(sided(20))]
    assert "a / b in 16 cases" in mirror_axes(placed(make_fingerprint, ("a", "b", "m"), few_missing), ORDER).because


def test_other_places_do_not(make_fingerprint: MakeFingerprint) -> None:
    def axes(places: list[dict[str, Place]], volumes: tuple[int, ...] = (1000, 1000, 1000)) -> tuple[int, ...]:
        return mirror_axes(placed(make_fingerprint, ("a", "b", "m"), places, volumes=volumes), ORDER).value

    everything = (0, 1, 2)
    assert axes(sided(4)) == everything  # too few cases
    assert axes(sided(20, axis=1)) == everything  # front and back
    assert axes(sided(20, axis=0)) == everything  # above and below
    mixed = [swapped(centres) if number % 2 else centres for number, centres in enumerate(sided(20))]
    assert axes(mixed) == everything  # sides of no meaning
    assert axes(sided(20), volumes=(1000, 3000, 1000)) == everything  # another thing on either side
    aside = [{name: (z, y, x - 0.25) for name, (z, y, x) in centres.items()} for centres in sided(20)]
    assert axes(aside) == everything  # no common middle
    assert axes(sided(20, jitter=0.15)) == everything  # anywhere


def test_pairs_lie_about_a_common_plane(make_fingerprint: MakeFingerprint) -> None:
    names = ("a", "b", "c", "d", "e", "f")
    centres = {"a": 0.3, "b": 0.7, "c": 0.4, "d": 0.6, "e": 0.55, "f": 0.75}
    places = [{name: (0.5 + 0.3 * (name in "cd") - 0.3 * (name in "ef"), 0.5, x) for name, x in centres.items()}] * 8
    fingerprint = placed(make_fingerprint, names, places, volumes=(1000,) * 6)
    because = mirror_axes(fingerprint, ORDER).because
    assert "a / b in 8 cases, c / d in 8 cases)" in because


def test_headers_that_contradict_the_names(make_fingerprint: MakeFingerprint) -> None:
    names = ("left", "right", "m")
    across = [{"left": each["a"], "right": each["b"], "m": each["m"]} for each in sided(10, axis=1)]
    fingerprint = placed(make_fingerprint, names, across)
    decision = mirror_axes(fingerprint, ORDER)
    assert decision.value == (0,)
    assert "posterior-anterior (Y) and left-right (X)" in decision.because
    (problem,) = side_doubts(fingerprint.cases, fingerprint.labels)
    assert (problem.severity, problem.kind) == ("warning", "sides-across-axis")
    assert "across the posterior-anterior axis" in problem.what


def kinds(cases: tuple[CaseFingerprint, ...], labels: Labels) -> list[str]:
    return [problem.kind for problem in side_doubts(cases, labels)]


def test_exchanged_sides_are_told(make_fingerprint: MakeFingerprint) -> None:
    names = ("left", "right")
    right = [{"left": each["a"], "right": each["b"]} for each in sided(20)]
    wrong = [{"left": each["right"], "right": each["left"]} for each in right]
    good, bad = placed(make_fingerprint, names, right), placed(make_fingerprint, names, wrong)
    assert mirror_axes(bad, ORDER).value == mirror_axes(good, ORDER).value == (0, 1)
    assert kinds(good.cases, good.labels) == []
    assert kinds(bad.cases, bad.labels) == ["sides-swapped"]
    one = placed(make_fingerprint, names, [*right[:7], wrong[7], *right[8:]])
    (problem,) = side_doubts(one.cases, one.labels)
    assert (problem.kind, problem.case) == ("sides-differ", "case_7")
    assert "in case_7, compared with 19 other cases" in problem.what


def measured(folder: Path, cases: int, names: dict[str, int] | None = None) -> Fingerprint:
    dataset = open_dataset(folder)
    if names is not None:
        dataset = dataset.model_copy(update={"labels": Labels(names=names)})
    chosen = dataset.cases[:cases]
    return merge(
        dataset.model_copy(update={"cases": chosen}),
        [
            measure_case(case.id, read_image(case.images), read_case_labels(case, dataset.labels), dataset.labels)
            for case in chosen
        ],
    )


def test_real_datasets(shared: Path) -> None:
    data = shared / "data"
    assert mirror_axes(measured(data / "Task04_Hippocampus", 60), ORDER).value == (0, 1, 2)
    atlas = measured(data / "Dataset501_FetalSpinaBifidaAtlas", 6)
    assert mirror_axes(atlas, ORDER).value == (0, 1, 2)
    assert mirror_axes(measured(data / "Dataset513_AxonSEM", 2), ORDER).value == (0, 1, 2)
    # left and right parotid; the headers call their direction posterior-anterior
    head = measured(data / "Dataset503_OpenKBP_HN_CT", 8)
    assert 2 not in mirror_axes(head, ORDER).value
    assert "sides-across-axis" in kinds(head.cases, head.labels)
