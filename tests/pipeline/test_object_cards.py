"""The card of a model whose objects are counted."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from autoseg.cli.cards import show_card, show_compared
from autoseg.evaluation.instances import score_instances
from autoseg.evaluation.summary import summarize
from autoseg.pipeline.bundle import make_card
from autoseg.records import CaseScore, Compared, LabelScore


def plain(dice: float) -> LabelScore:
    return LabelScore(
        dice=dice, iou=dice, true_positives=5, false_positives=1, false_negatives=1,
        volume_reference_ml=1.0, volume_prediction_ml=1.0,
    )  # fmt: skip


def told(**objects: Any) -> tuple[Any, str]:
    scores = [CaseScore(case=case, labels={"cell": plain(0.9).model_copy(update=objects)}) for case in "ab"]
    chosen: Any = SimpleNamespace(parts=(SimpleNamespace(name="2d", folds={}),))
    quality = 0.667 if objects else None
    compared = [Compared(name="2d", networks=1, mean_dice=0.9, mean_quality=quality, cases=2, verdict="chosen")]
    card = make_card(chosen, summarize(scores, 1.0, names=["cell"], things=list(objects and ["cell"])), compared)
    shown = io.StringIO()
    console = Console(file=shown, width=200)
    show_card(console, card)
    show_compared(console, compared, "Compared")
    return card.labels[0], shown.getvalue()


def test_it_tells_how_well_objects_are_found() -> None:
    reference = np.zeros((1, 4, 8), dtype=np.uint32)
    reference[0, 1, ::2] = [1, 2, 3, 4]
    label, text = told(instances=score_instances(reference, np.where(reference <= 2, reference, 0)))
    assert (label.panoptic_quality, label.average_precision_50) == pytest.approx((2 / 3, 0.5))
    assert all(word in text for word in ("PQ", "AP50", "quality", "0.667", "0.500"))


def test_other_cards_are_as_they_were() -> None:
    label, text = told()
    assert (label.panoptic_quality, label.average_precision_50) == (None, None)
    assert not any(word in text for word in ("PQ", "AP50", "quality"))
