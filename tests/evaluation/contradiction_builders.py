"""Made-up references and what networks say of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoseg.evaluation.error_places import Place, places_of
from autoseg.evaluation.label_doubts import label_doubts, usual_doubts, usual_sizes, with_whole
from autoseg.evaluation.label_errors import Contradiction, contradiction, label_thresholds, sure_margins
from autoseg.records import Labels

PLAIN = Labels(names={"background": 0, "big": 1, "small": 2})
REGIONS = Labels(names={"background": 0, "whole": (1, 2), "core": 2})
SHAPE = (12, 14, 16)


def drawn() -> np.ndarray:
    """A big box, and apart from it a small one."""
    labels = np.zeros(SHAPE, np.int16)
    labels[2:8, 2:8, 2:8] = 1
    labels[9:11, 10:12, 11:13] = 2
    return labels


def said(
    truth: np.ndarray, found: np.ndarray, best: float | np.ndarray = 0.9, known: Sequence[bool] = (True, True, True)
) -> Contradiction:
    """A case whose networks are so sure of what they find; the rest goes to what the reference says."""
    sure = np.broadcast_to(np.asarray(best, np.float32), truth.shape)
    own = np.where(truth == found, sure, 1 - sure)
    return contradiction(truth, found, own, sure, np.array(known))


def ranked(cases: Sequence[Contradiction], labels: Labels = PLAIN) -> list[dict[str, float]]:
    """Suspicion by label, and of the whole foreground, of each case."""
    thresholds, membership = label_thresholds(cases), with_whole(labels.value_membership)
    sizes = usual_sizes(cases, membership)
    doubts = [label_doubts(case, sure_margins(case, thresholds), membership, sizes) for case in cases]
    usual = usual_doubts(doubts)
    names = [*labels.foreground, "all"]
    return [{names[key]: usual[key].suspicion(one) for key, one in case.items()} for case in doubts]


def places(cases: Sequence[Contradiction], number: int, labels: Labels = PLAIN) -> list[Place]:
    thresholds, membership = label_thresholds(cases), labels.value_membership
    sizes = usual_sizes(cases, membership)
    margins = [sure_margins(case, thresholds) for case in cases]
    doubts = [label_doubts(*pair, membership, sizes) for pair in zip(cases, margins, strict=True)]
    return places_of(cases[number], margins[number], membership, doubts[number], usual_doubts(doubts))
