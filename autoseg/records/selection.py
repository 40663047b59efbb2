"""What `autoseg select` finds out about a model, and keeps in its file: nothing that tells of a case or a machine."""

from __future__ import annotations

from pydantic import Field

from autoseg.records.base import Record


class KeepLargest(Record):
    """A step of post-processing: of a label all but the largest connected component is removed from a mask.

    Kept with what it gained in cross-validation, on masks after the steps before it.
    """

    label: str | None  # a label or region; None is all foreground taken together
    dice_before: float  # mean over the cases that have the label; for all foreground the mean over labels
    dice_after: float
    cases: int  # that were looked at
    better: int  # cases whose Dice rose
    worse: int


class ReliabilityBin(Record):
    """Voxels of like confidence: how sure the model was, and how often it was right."""

    confidence: float  # mean
    accuracy: float
    voxels: int


class Reliability(Record):
    """Whether probabilities mean what they say, near the foreground of cases that no temperature was fitted on.

    Of a softmax the confidence is the highest probability, and right is who names the reference's label. Of a region it
    is the region's probability, and right is who lies inside.
    """

    ece: float  # expected calibration error: mean over voxels of |confidence - accuracy| of their bin
    nll: float  # mean negative log-likelihood, in nats
    bins: tuple[ReliabilityBin, ...]  # of equal numbers of voxels, least confident first


class Temperature(Record):
    """One temperature and what it does; its scores (log-odds) are divided by it."""

    name: str  # "all labels" of a softmax, or the region
    value: float
    before: Reliability
    after: Reliability


class Calibration(Record):
    """How the probabilities of a model are made to mean what they say (Guo et al. 2017).

    Applied to probabilities on the image's grid, after averaging; masks are never made from them.
    """

    temperatures: tuple[Temperature, ...]  # one of a softmax, one per region of sigmoids
    fitted_on: int  # cases
    reported_on: int  # other cases: those of `before` and `after`
    voxels: int  # that entered the fit


class LabelCard(Record):
    """What cross-validation says of one label."""

    name: str
    dice: float | None  # mean over the cases whose reference has it
    low: float | None  # bootstrap interval of the mean, 95 %
    high: float | None
    hd95_mm: float | None
    nsd: float | None
    cases: int  # N of the means
    false_alarms: int  # cases where it was found though the reference has none
    rightly_absent: int
    panoptic_quality: float | None = None  # mean over cases, where objects are counted
    average_precision_50: float | None = None  # at an IoU of 0.5, mean over cases, where objects are counted


class Compared(Record):
    """A model that was compared with the chosen one on the cases that both predicted unseen."""

    name: str  # configurations, joined by " + "
    networks: int  # that run one after the other for one fold
    mean_dice: float | None  # over its own cases, before post-processing
    mean_quality: float | None = None  # where objects are counted: of these panoptic quality, of other labels Dice
    cases: int
    gain: float | None = None  # mean quality (Dice) over the shared cases less the chosen model's; None for that one
    low: float | None = None  # paired bootstrap interval of the gain, 95 %
    high: float | None = None
    shared_cases: int | None = None
    verdict: str  # in words


class Card(Record):
    """What is known of a model, measured on cases that its networks had not seen."""

    cases: int  # held-out cases behind the scores
    folds: int  # networks of each configuration, each on other cases
    tolerance_mm: float  # of the normalized surface Dice
    mean_dice: float | None  # mean over labels, post-processing done
    low: float | None
    high: float | None
    labels: tuple[LabelCard, ...]
    compared: tuple[Compared, ...]  # the chosen one first
    ended_early: tuple[str, ...] = Field(default=())  # trainings that could have gone on, in words


class TriedStep(Record):
    """A step of post-processing that was tried."""

    step: KeepLargest
    kept: bool


class Selection(Record):
    """selection.json: how the bundle of a work folder came about; stays there, so it may name runs and cases."""

    format: int = 1
    bundle: str  # hash of the model file that was written
    replaces: str = ""  # hash of the one that was there before
    chosen: str
    members: dict[str, str]  # run in the work folder -> hash of its model, those in the bundle
    known: dict[str, str]  # the same of all runs that were looked at
    compared: tuple[Compared, ...]
    left_out: dict[str, str]  # model -> why it was not compared
    post_processing: tuple[TriedStep, ...]
    failures: dict[str, str] = Field(default_factory=dict)  # case -> why it has no mask
    seconds: dict[str, float] = Field(default_factory=dict)
