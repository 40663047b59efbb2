"""What to say of a paired difference: which side is better, or that it is a tie, in words that can be defended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from autoseg.evaluation.comparison import FEWEST_CASES, SMALLEST_GAIN, is_sure
from autoseg.evaluation.paired import DECIMALS, Interval
from autoseg.records import PairedDifference

Verdict = Literal["first", "second", "tie", "unclear"]

#: A p value below this, after correction, is no chance.
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Metric:
    """A figure that can be compared, by its name for `evaluation.paired.values_of`."""

    field: str
    title: str
    smallest: float  # a difference below this is none that anybody would report
    wide: float  # an interval that reaches further leaves room for a difference that matters
    digits: int = 3
    unit: str = ""
    higher_is_better: bool = True

    def told(self, value: float) -> str:
        """A value with its sign and unit; a small one in two figures."""
        small = value != 0 and abs(value) < 10**-self.digits
        return (f"{value:+.2g}" if small else f"{value:+.{self.digits}f}") + self.unit

    def size(self, value: float) -> str:
        """A value without its sign."""
        return self.told(abs(value)).removeprefix("+")


#: Metrics by the word that names them.
METRICS = {
    "dice": Metric("dice", "Dice", SMALLEST_GAIN, 0.02),
    "iou": Metric("iou", "IoU", SMALLEST_GAIN, 0.02),
    "nsd": Metric("nsd", "normalized surface Dice", SMALLEST_GAIN, 0.02),
    "hd95": Metric("hd95_mm", "95 % Hausdorff distance", 0.01, 1.0, 2, " mm", higher_is_better=False),
    "assd": Metric("assd_mm", "average surface distance", 0.01, 1.0, 2, " mm", higher_is_better=False),
    "pq": Metric("panoptic_quality", "panoptic quality", SMALLEST_GAIN, 0.02),
    "ap50": Metric("average_precision_50", "average precision at an IoU of 0.5", SMALLEST_GAIN, 0.02),
}


def judge(row: PairedDifference, metric: Metric) -> tuple[Verdict, str]:
    """Which side is better, and why, as a sentence.

    One is better where everything agrees: on FEWEST_CASES or more the interval of the difference leaves out 0, the
    corrected p is below SIGNIFICANT, the difference is one that anybody would report, and it is larger than it varies
    from fold to fold, where that is known. All else is a tie, or too few cases to tell.
    """
    if row.difference is None:
        return "unclear", "cannot tell: no case has a value of both"
    if not row.higher and not row.lower and round(row.difference, DECIMALS) == 0:
        return "tie", f"a tie: every case has the same {'mean ' if row.label is None else ''}{metric.title}"
    noise = "unknown" if row.fold_noise is None else metric.size(row.fold_noise)
    if row.cases < FEWEST_CASES or row.low is None or row.high is None:
        return "unclear", (
            f"cannot tell from {row.cases} of at least {FEWEST_CASES} cases: difference "
            f"{metric.told(row.difference)}, fold noise {noise}"
        )
    span = f"95 % interval {metric.told(row.low)} to {metric.told(row.high)}"
    doubts = _doubts(row, metric)
    if doubts is None:
        better: Verdict = "second" if (row.difference > 0) == metric.higher_is_better else "first"
        name = row.second if better == "second" else row.first
        p = "unknown" if row.p_holm is None else f"{row.p_holm:.2g}"
        return better, f"{name} is better: difference {metric.told(row.difference)} ({span}, p {p}), fold noise {noise}"
    return "tie", f"a tie: difference {metric.told(row.difference)}, fold noise {noise} ({span}{doubts})"


def short_verdict(row: PairedDifference) -> str:
    """The verdict in a word or two, for tables that give the figures beside it."""
    names = {"first": f"{row.first} better", "second": f"{row.second} better", "tie": "a tie"}
    return names.get(row.verdict, "cannot tell")


def _doubts(row: PairedDifference, metric: Metric) -> str | None:
    """Why a difference is none to rely on, to be said behind its interval; None where nothing speaks against it."""
    gain = Interval(row.difference, row.low, row.high)
    sides = (gain, gain.negated)
    size = abs(row.difference or 0.0)
    if not any(is_sure(side, row.cases, 0.0) for side in sides):
        reach = max(abs(row.low or 0.0), abs(row.high or 0.0))
        return f"; one of up to {metric.size(reach)} is not excluded" if reach > metric.wide else ""
    if row.p_holm is None or row.p_holm >= SIGNIFICANT:
        return "" if row.p_holm is None else f"; p {row.p_holm:.2g}"
    if size < metric.smallest:
        return f"; less than {metric.smallest:g}{metric.unit}"
    if row.fold_noise is not None and size <= row.fold_noise:
        return "; it varies more than that from fold to fold"
    return None
