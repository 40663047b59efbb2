"""Pages of made-up records, for tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from autoseg.evaluation.differences import CaseValues, ScoredSide, compare_sides
from autoseg.evaluation.verdicts import METRICS
from autoseg.planning.planner import make_plan
from autoseg.planning.presets import DeviceBudget
from autoseg.records import (
    Answer,
    Audit,
    AuditedCase,
    AuditedLabel,
    AuditedPlace,
    CaseCost,
    CaseFingerprint,
    CaseScore,
    CaseTrust,
    Comparison,
    ConfusedPair,
    CurvePoint,
    Diagnosis,
    EpochRecord,
    Fingerprint,
    IntensityStatistics,
    Labels,
    LabelScore,
    LabelSummary,
    LabelVolume,
    Plan,
    Problem,
    Suggested,
    Suggestions,
    Summary,
    TrainSettings,
    TrialResult,
)
from autoseg.records.trust import CaseEvidence
from autoseg.report.audit_page import audit_page
from autoseg.report.comparison_page import comparison_page
from autoseg.report.dataset_page import Sample, dataset_page
from autoseg.report.diagnosis_page import diagnosis_page
from autoseg.report.page import Names, Page, Picture, names_for
from autoseg.report.pictures import comparison, thumbnail
from autoseg.report.plan_page import plan_page
from autoseg.report.predictions_page import predictions_page
from autoseg.report.results_page import Confusion, results_page
from autoseg.report.slices import Look
from autoseg.report.suggest_page import suggest_page
from autoseg.report.training_page import training_page

EVIL = '<img src=x onerror="alert(1)">'
LABELS = Labels(names={"background": 0, "liver": 1, "kidney": 2})
CASES = tuple(f"patient-{number:02d}-Smith" for number in range(12))


def fingerprint(cases: tuple[str, ...] = CASES) -> Fingerprint:
    made = tuple(
        CaseFingerprint(
            case=case,
            shape=(40 + number % 3, 64, 60),
            spacing=(2.0, 1.0, 1.0),
            shape_after_crop=(40, 64, 60),
            orientation="RAS",
            voxels_per_label={"liver": 5000 * (400 if number == 3 else 1) + 90 * number, "kidney": 300 + number},
            intensity_range=((0.0, 100.0),),
        )
        for number, case in enumerate(cases)
    )
    statistics = IntensityStatistics(mean=10, median=9, std=3, min=0, max=100, percentile_00_5=1, percentile_99_5=60)
    return Fingerprint(
        dataset="Dataset of Smith",
        channels=("CT",),
        labels=LABELS,
        cases=made,
        intensities=(statistics,),
        median_relative_size_after_cropping=1.0,
        labels_with_entries=3,
        cases_declared=len(made),
    )


def plan() -> Plan:
    return make_plan(fingerprint(), "auto", DeviceBudget("cpu", 2, 16))


def score(dice: float) -> LabelScore:
    return LabelScore(
        dice=dice, iou=dice / (2 - dice), true_positives=100, false_positives=10, false_negatives=12,
        volume_reference_ml=11.0, volume_prediction_ml=10.5 + dice, nsd=dice, hd95_mm=3 - dice, assd_mm=1 - dice / 2,
    )  # fmt: skip


def summary(cases: tuple[str, ...] = CASES, labels: tuple[str, ...] = ("liver", "kidney")) -> Summary:
    scores = tuple(
        CaseScore(case=case, labels={label: score(0.4 + 0.5 * number / len(cases)) for label in labels})
        for number, case in enumerate(cases)
    )
    mean = LabelSummary(dice=0.7, iou=0.6, nsd=0.7, hd95_mm=2.5, cases=len(cases), empty_references=1, both_empty=0)
    return Summary(
        tolerance_mm=1.0, mean_dice=0.7, labels=dict.fromkeys(labels, mean), cases=scores,
        failures={"lost-Smith": "/home/smith/lost.nii.gz: cannot be read"},
    )  # fmt: skip


def look(name: str) -> Look:
    image = np.zeros((8, 20, 16), np.float32)
    image[2:6, 5:15, 4:12] = 100
    mask, reference = np.zeros(image.shape, np.int32), np.zeros(image.shape, np.int32)
    mask[2:6, 5:15, 4:12] = 1
    reference[2:6, 5:12, 4:12], reference[2:6, 12:16, 4:12] = 1, 2
    return Look(name, image, mask, (2.0, 1.0, 1.0), reference)


def pictures(names: Names) -> tuple[Picture, ...]:
    return tuple(comparison(look(names(case)), {"liver": (1,), "kidney": (2,)}, "mean Dice 0.5") for case in CASES[:2])


def epochs(count: int = 5) -> list[EpochRecord]:
    return [
        EpochRecord(
            epoch, 25 * (epoch + 1), 10.0 * (epoch + 1), 0.02, 0.01 / (epoch + 1), 1.0 / (epoch + 1), 0.5,
            {"liver": 0.6, "kidney": None}, 2.5,
        )
        for epoch in range(count)
    ]  # fmt: skip


def three_sides() -> Comparison:
    """Three sides of two labels, in folds; the last is better, and one of its cases is not scored."""
    gains = {"unet": 0.0, "resenc": 0.001, "large": 0.05}
    sides = [
        ScoredSide(
            name,
            {
                case: CaseValues(
                    {
                        label: {"dice": 0.6 + 0.01 * number + gain * (1 + 0.1 * (number % 3))}
                        for label in ("liver", EVIL)
                    },
                    fold=str(number % 5),
                )
                for number, case in enumerate(CASES)
            },
        )
        for name, gain in gains.items()
    ]
    return compare_sides(sides, METRICS["dice"], ["large has no score of lost-Smith: /home/smith"])


def audit() -> Audit:
    place = AuditedPlace(
        case=CASES[0], label="kidney", kind="missing", reference="background", model="kidney", suspicion=7.5,
        margin=0.8, voxels=40, ml=0.08, index=(5, 12, 3), position=(5.0, 12.0, 6.0), low=(4, 11, 2), high=(6, 13, 4),
    )  # fmt: skip
    label = AuditedLabel(suspicion=7.5, share=0.6, bias=1.0, dice=0.0)
    first = AuditedCase(
        case=CASES[0], fold="0", suspicion=7.5, label="kidney", kind="dropped", what="kidney is not drawn", dice=0.45,
        dice_corrected=0.9, labels={"kidney": label}, places=(place,),
    )  # fmt: skip
    others = tuple(AuditedCase(case=case, fold="1", suspicion=0.1, label="liver") for case in CASES[1:])
    return Audit(
        models="3d_fullres (plan of Smith)", cases=(first, *others), thresholds={"background": 0.9, "liver": 0.8},
        pairs=(ConfusedPair(reference="background", model="kidney", voxels=40, cases=1),), not_held_out=3,
        failures={"lost-Smith": "/home/smith/lost.nii.gz: cannot be read"},
    )  # fmt: skip


def suggestions() -> Suggestions:
    first = Suggested(
        case=CASES[0], axis="k", slice=3, gain=0.4, loss=0.3, likeness=0.1, index=(5, 12, 3), position=(5.0, 12.0, 6.0)
    )
    others = tuple(first.model_copy(update={"case": case, "gain": 0.01}) for case in CASES[1:])
    return Suggestions(
        models="3d_fullres (plan of Smith)", unit="slice", suggested=(first, *others), candidates=500, labelled=20,
        labels=Labels(names={"background": 0, "liver": 1, "kidney": 2}),
        failures={"lost-Smith": "/home/smith/lost.nii.gz: cannot be read"},
    )  # fmt: skip


def diagnosis() -> Diagnosis:
    """A curve with a band, an answer of each verdict, and one training that failed."""
    results = tuple(
        TrialResult(
            kind="cases", part=f"{cases} cases", seed=seed, cases=cases, mean_dice=0.9 - cases**-0.5 + 0.01 * seed,
            steps=100, seconds=60.0, run=f"runs/default/3d_fullres/fold_{seed}",
        )
        for cases in (10, 20, 40)
        for seed in range(3)
    )  # fmt: skip
    answers = tuple(
        Answer(question=f"{name} network", gain=gain, low=gain - 0.01, high=gain + 0.01, verdict=verdict, words=EVIL)
        for name, gain, verdict in (("larger", 0.02, "gain"), ("smaller", -0.02, "loss"), ("other", 0.0, "unclear"))
    )
    curve = tuple(
        CurvePoint(cases=cases, dice=0.9 - cases**-0.5, low=0.85 - cases**-0.5, high=0.95 - cases**-0.5)
        for cases in (10.0, 20.0, 40.0, 80.0)
    )
    return Diagnosis(
        plan="of-Smith", configuration="3d_fullres", fold="0", length="10 min", training_cases=40, held_out=10,
        answers=answers, results=results, curve=curve, exponent=0.5, set_aside=CASES[:2],
        notes=("`autoseg audit --work /home/smith`",), failures={"larger network, seed 2": "/home/smith is full"},
    )  # fmt: skip


@cache
def all_pages(anonymous: bool = False) -> dict[str, Page]:
    """One page of each kind."""
    names = names_for([*CASES, "lost-Smith"], anonymous)
    problems = (
        Problem(
            severity="error", kind="missing-label", what=f"/home/smith/{EVIL}", remedy="Restore.", case="lost-Smith"
        ),
        Problem(
            severity="warning", kind="label-without-image", what="has no image", remedy="Look at it.",
            file=Path("/home/smith/data/labelsTr/one-Smith.nii.gz"),
        ),
    )  # fmt: skip
    thumbnails = tuple(thumbnail(look(names(case)), {"liver": (1,), "kidney": (2,)}) for case in CASES[:3])
    histograms = {"CT": {"liver": ([0.0, 1.0, 2.0], [0.2, 0.5, 0.3]), "kidney": ([0.0, 1.0, 2.0], [0.1, 0.1, 0.8])}}
    volumes = {"liver": LabelVolume(voxels=900, ml=1.8, components=1, border=("superior",))}
    trusts = {case: CaseTrust(seen=CaseEvidence(volumes=volumes), reasons=("low confidence",)) for case in CASES}
    costs = {
        case: CaseCost(
            seconds={"read": 1.0, "network": 2.0 + number, "write": 0.25}, peak_bytes={"main": 1_500_000_000}
        )
        for number, case in enumerate(CASES)
    }
    confusion = Confusion(("background", "liver", "kidney"), np.array([[90, 5, 5], [1, 8, 1], [2, 2, 6]]), 12)
    settings = TrainSettings(epochs=5, learning_rate=0.01, weight_decay=0.0)
    receipt = {"seconds": {"train": 12.0}, "device": "cpu", "versions": {"torch": "2.6"}, "skipped_steps": 2}
    return {
        "audit": audit_page(audit(), ("liver", "kidney"), pictures(names), pictures(names), names),
        "suggest": suggest_page(suggestions(), ("liver", "kidney"), pictures(names), names),
        "plan": plan_page(plan(), None, (), names),
        "dataset": dataset_page(
            "Data of Smith", fingerprint(), problems, Sample(thumbnails, histograms), names, Path("/home/smith/data")
        ),
        "training": training_page(
            "Training of Smith", epochs(), settings, receipt, summary(), None, None, ("liver", "kidney"), names
        ),
        "results": results_page(
            "Results of /home/smith/x", summary(), pictures(names), pictures(names), confusion, None, costs, names
        ),
        "comparison": comparison_page(three_sides(), names),
        "diagnosis": diagnosis_page(diagnosis(), names),
        "masks": predictions_page(
            "Masks of Smith", trusts, {"lost-Smith": "/home/smith"}, pictures(names), ("liver",), costs, names
        ),
    }
