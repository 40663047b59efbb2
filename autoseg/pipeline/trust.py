"""How far the masks of a folder can be trusted: `volumes.csv`, `review.csv`, and the words for why.

Both files are views of predictions.json, which keeps what was known of every mask when it was made: so cases of earlier
runs stay in them, each as its own model judged it.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.errors import PredictionError
from autoseg.evaluation.expected_dice import expect, expect_mean
from autoseg.files import write_text
from autoseg.records import (
    CaseEvidence,
    CaseTrust,
    Expectation,
    ExpectedDice,
    Labels,
    ModelHeader,
    PredictSettings,
    TrainingData,
)

VOLUMES = "volumes.csv"
REVIEW = "review.csv"

VOLUME_COLUMNS = (
    "case",
    "label",
    "voxels",
    "ml",
    "components",
    "border",
    "confidence",
    "boundary_confidence",
    "expected_dice",
    "expected_dice_low",
    "expected_dice_high",
)
REVIEW_COLUMNS = ("case", "expected_dice", "expected_dice_low", "expected_dice_high", "confidence", "reasons")

#: Mean probability in a label's outermost voxels below which that is worth a look.
LOW_BOUNDARY = 0.7

#: A volume may be so many times smaller or larger than any in training.
VOLUME_FACTOR = 1.25

#: A label that so large a share of the training cases has is missed where it is not found.
NEARLY_EVERY = 0.95

#: Writing may take so small a share of the time: the files of a folder of thousands of masks are not small.
_WRITING_SHARE = 0.05


@dataclass(frozen=True)
class ReviewRow:
    """One case of the review queue."""

    case: str
    expected: Expectation | None  # mean Dice over the labels that were found; None where the model cannot tell
    confidence: float | None  # mean over the labels that were found; None where nothing was
    reasons: tuple[str, ...]
    unlike: bool  # unlike the training cases: then expected Dice holds for nothing

    @property
    def order(self) -> tuple[int, float, str]:
        """Worst first: what no figure can be believed of, then what has a reason to look, then the others by figure."""
        if self.confidence is None:
            return (0, 0.0, self.case)
        likely = self.confidence if self.expected is None else self.expected.dice
        return (0 if self.unlike else 1 if self.reasons else 2, likely, self.case)


@dataclass(frozen=True)
class Knowledge:
    """What the model knows that the figures are held against."""

    labels: Labels
    chosen: tuple[str, ...]  # labels that masks hold; () is all
    expected: ExpectedDice | None
    training: TrainingData

    @property
    def names(self) -> tuple[str, ...]:
        """The labels and regions that masks hold."""
        return tuple(name for name in self.labels.classes if not self.chosen or name in self.chosen)


def knowledge_of(header: ModelHeader, settings: PredictSettings) -> Knowledge:
    """What a model file knows, of the labels that are asked for."""
    return Knowledge(header.labels, settings.labels, header.expected_dice, header.fingerprint)


def case_trust(seen: CaseEvidence, unlike: Sequence[str], knowledge: Knowledge) -> CaseTrust:
    """What the model can say of a mask of its own."""
    names = knowledge.names
    kept = CaseEvidence(
        evidence={name: seen.evidence[name] for name in names if name in seen.evidence},
        volumes={name: seen.volumes[name] for name in names if name in seen.volumes},
    )
    found = [name for name in names if kept.found(name)]
    return CaseTrust(
        seen=kept,
        unlike=tuple(unlike),
        expected=expect(knowledge.expected, kept),
        expected_mean=expect_mean(knowledge.expected, kept),
        reasons=tuple(_reasons(kept, found, knowledge)),
    )


def review_rows(cases: Mapping[str, CaseTrust]) -> tuple[ReviewRow, ...]:
    """The review queue: every case, those with a reason to look first, the worst of them before the others."""
    return tuple(sorted((_review_row(case, trust) for case, trust in cases.items()), key=lambda row: row.order))


def _review_row(case: str, trust: CaseTrust) -> ReviewRow:
    return ReviewRow(
        case=case,
        expected=trust.expected_mean,
        confidence=trust.seen.confidence,
        reasons=(*trust.unlike, *trust.reasons),
        unlike=bool(trust.unlike),
    )


def _reasons(seen: CaseEvidence, found: Sequence[str], knowledge: Knowledge) -> Iterator[str]:
    """Why a mask may be worth a look, in words."""
    if not found:
        yield "nothing was found"
    for name in knowledge.names:
        known = knowledge.training.labels.get(name)
        usual = known is not None and known.drawn > 0 and known.cases / known.drawn >= NEARLY_EVERY
        if found and name not in found and usual:
            yield f"{name} was not found, which nearly every training case has"
    doubtful = {
        name: edge for name in found if (edge := seen.evidence[name].boundary) is not None and edge < LOW_BOUNDARY
    }
    for name in sorted(doubtful, key=lambda name: doubtful[name])[:3]:
        yield f"low confidence at the boundary of {name} ({doubtful[name]:.2f})"
    for name in found:
        known = knowledge.training.labels.get(name)
        if known is not None and known.cases:
            low, _, high = known.volume_ml
            if not low / VOLUME_FACTOR <= seen.volumes[name].ml <= high * VOLUME_FACTOR:
                yield f"{name} has {seen.volumes[name].ml:.3g} ml, in training {low:.3g} to {high:.3g} ml"
    for name in found:
        if seen.volumes[name].border:
            yield f"{name} touches the border ({', '.join(seen.volumes[name].border)})"


class TrustFiles:
    """volumes.csv and review.csv of a folder, kept up to date as masks are made."""

    def __init__(self, masks: Path) -> None:
        self._masks = masks
        self._due = 0.0  # on the clock of `time.monotonic`

    def write(self, cases: Mapping[str, CaseTrust], *, last: bool = False) -> tuple[ReviewRow, ...]:
        """Write both files, unless writing would take too much of the time and this is not the last time."""
        began = time.monotonic()
        if not last and began < self._due:
            return ()
        rows = review_rows(cases)
        write_text(self._masks / VOLUMES, _table(VOLUME_COLUMNS, _volume_rows(cases)))
        write_text(self._masks / REVIEW, _table(REVIEW_COLUMNS, map(_cells, rows)))
        self._due = time.monotonic() + (time.monotonic() - began) / _WRITING_SHARE
        return rows


def require_own_tables(masks: Path) -> None:
    """Raise PredictionError where a file of the same name as one of ours is not ours: it is kept."""
    for name, columns in ((VOLUMES, VOLUME_COLUMNS), (REVIEW, REVIEW_COLUMNS)):
        path = masks / name
        first = _first_line(path) if path.exists() else None
        if first is not None and first.strip() != ",".join(columns):
            raise PredictionError(
                "was not written by this version of autoseg, and would be replaced",
                where=path,
                remedy="Move it elsewhere, or choose another folder for the masks.",
            )


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline()
    except (OSError, UnicodeDecodeError):
        return ""


def _volume_rows(cases: Mapping[str, CaseTrust]) -> Iterator[tuple[str, ...]]:
    for case, trust in cases.items():
        for name, volume in trust.seen.volumes.items():
            evidence = trust.seen.evidence.get(name) if volume.voxels else None
            yield (
                case,
                name,
                str(volume.voxels),
                f"{volume.ml:.6g}",
                str(volume.components),
                " ".join(side.replace(" ", "-") for side in volume.border),
                _number(None if evidence is None else evidence.confidence),
                _number(None if evidence is None else evidence.boundary),
                *_expectation(trust.expected.get(name)),
            )


def _cells(row: ReviewRow) -> tuple[str, ...]:
    return (row.case, *_expectation(row.expected), _number(row.confidence), "; ".join(row.reasons))


def _expectation(expected: Expectation | None) -> tuple[str, str, str]:
    """Three cells, empty where nothing can be told."""
    if expected is None:
        return "", "", ""
    return _number(expected.dice), _number(expected.low), _number(expected.high)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _table(columns: Sequence[str], rows: Iterator[tuple[str, ...]] | map[tuple[str, ...]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()
