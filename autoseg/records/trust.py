"""What tells how far a mask can be trusted: measured while it is made, without a reference."""

from __future__ import annotations

from pydantic import Field

from autoseg.records.base import Record


class MapKinds(Record):
    """Which maps are written beside a mask. They do not alter it."""

    probabilities: bool = False
    uncertainty: bool = False  # entropy and disagreement
    object_masks: bool = False  # one binary mask per object that is counted


NO_MAPS = MapKinds()


class LabelEvidence(Record):
    """How sure the networks are of one label or region of one case, on the network's grid; see `inference.evidence`."""

    confidence: float | None = None  # Dice that the probabilities lead one to expect; None where nothing is found
    boundary: float | None = None  # mean probability of the label in its own outermost voxels


class LabelVolume(Record):
    """One label or region in a mask."""

    voxels: int
    ml: float
    components: int  # touching by a corner counts
    border: tuple[str, ...] = ()  # sides of the image that it touches


class CaseEvidence(Record):
    """All that was seen of one case, by label or region."""

    evidence: dict[str, LabelEvidence] = Field(default_factory=dict)
    volumes: dict[str, LabelVolume] = Field(default_factory=dict)

    def found(self, name: str) -> bool:
        """Whether the mask has any of a label."""
        volume = self.volumes.get(name)
        return volume is not None and volume.voxels > 0 and name in self.evidence

    @property
    def confidence(self) -> float | None:
        """Mean over the labels that were found; None where nothing was."""
        found = (self.evidence[name].confidence for name in self.volumes if self.found(name))
        sure = [value for value in found if value is not None]
        return sum(sure) / len(sure) if sure else None


class DiceRegression(Record):
    """Expected Dice of one label from what is seen without a reference; see `evaluation.expected_dice`.

    logit(Dice) = intercept + sum of weight * (feature - centre) / scale, each feature held within low..high.
    """

    cases: int  # held-out cases behind it
    features: tuple[str, ...]
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    low: tuple[float, ...]  # range of each feature in those cases
    high: tuple[float, ...]
    weights: tuple[float, ...]
    intercept: float
    error_low: float  # quantiles of what leaving each case out in turn missed its logit(Dice) by
    error_high: float
    mean_error: float  # mean distance in Dice of the left-out cases from what was expected
    mean_error_of_the_mean: float  # the same for who expects the mean of the other cases


class ExpectedDice(Record):
    """What a model knows of how its Dice follows from what it sees of itself: numbers only, of no single case."""

    level: float  # share of cases whose Dice the interval is to hold
    labels: dict[str, DiceRegression] = Field(default_factory=dict)
    mean: DiceRegression | None = None  # of the mean over the labels that a case has
    volume_ml: dict[str, float] = Field(default_factory=dict)  # median of each label in the masks of those cases


class Expectation(Record):
    """An expected Dice with its interval."""

    dice: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.dice:.2f} ({self.low:.2f} to {self.high:.2f})"


class CaseCost(Record):
    """What it took to make one mask."""

    seconds: dict[str, float] = Field(default_factory=dict)  # read, network, write
    peak_bytes: dict[str, int] = Field(default_factory=dict)  # main, device: while it was worked on, its neighbours too


class CaseCosts(Record):
    """costs.json: what it took to make the masks of a run's held-out cases."""

    format: int = 1
    cases: dict[str, CaseCost]


class CaseTrust(Record):
    """How far one mask can be trusted, as it was known when the mask was made."""

    seen: CaseEvidence  # of the labels that the mask holds
    unlike: tuple[str, ...] = ()  # what sets the image apart from those of the training
    expected: dict[str, Expectation] = Field(default_factory=dict)  # by label; without those of which nothing is known
    expected_mean: Expectation | None = None  # over the labels that were found
    reasons: tuple[str, ...] = ()  # why it may be worth a look, beside `unlike`
