"""What `autoseg diagnose` tries and finds: short trainings, and what they say of cases, networks and references."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from autoseg.records.base import Record
from autoseg.records.dataset import Fold

#: What a training tries: numbers of cases, a network of another size, or the cases without suspicious ones.
Kind = Literal["cases", "network", "set aside"]


class Trial(Record):
    """One of the trainings of a diagnosis; its place in the list is the number of its fold."""

    kind: Kind
    part: str  # in words: "25 % of the cases", "larger network"
    plan: str  # in the diagnosis's folder
    seed: int
    split: Fold


class DiagnosisDesign(Record):
    """design.json: what is tried. Trials are added, never changed, so that what was trained stays what it was."""

    format: int = 1
    trials: tuple[Trial, ...]
    data: str = ""  # hash of the prepared cases that it began with


class TrialResult(Record):
    """How one training went."""

    kind: Kind
    part: str
    seed: int
    cases: int  # it was trained with
    mean_dice: float | None  # of the held-out cases
    steps: int | None = None
    seconds: float | None = None
    run: str  # its folder, as seen from the diagnosis's


class Answer(Record):
    """What the trials say about one question."""

    question: str  # "20 more cases (104 to 124)"
    gain: float | None  # in Dice
    low: float | None  # bootstrap interval over held-out cases and seeds, 95 %
    high: float | None
    verdict: Literal["gain", "none", "loss", "unclear"]
    words: str


class CurvePoint(Record):
    """What the fitted curve expects of a number of training cases."""

    cases: float
    dice: float
    low: float | None
    high: float | None


class Diagnosis(Record):
    """diagnosis.json: what would help, as far as short trainings can tell."""

    format: int = 1
    plan: str
    configuration: str
    fold: str
    length: str  # of every training, in words
    training_cases: int  # of the fold
    held_out: int  # cases that all trainings are scored with
    answers: tuple[Answer, ...]
    results: tuple[TrialResult, ...]
    curve: tuple[CurvePoint, ...] = ()  # by number of cases; empty where too little is trained
    exponent: float | None = None  # of the fitted curve
    set_aside: tuple[str, ...] = ()  # the suspicious cases of one of the trials
    notes: tuple[str, ...] = ()
    failures: dict[str, str] = Field(default_factory=dict)  # trial -> why it has no score
