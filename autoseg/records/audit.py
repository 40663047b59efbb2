"""What an audit of the references found: cases and places to be looked at, the likeliest label errors first."""

from __future__ import annotations

from pydantic import Field

from autoseg.records.base import Record


class AuditedPlace(Record):
    """A connected place of one case at which networks that had not seen it surely say another label."""

    case: str
    label: str  # the label or region that it is the largest share of
    kind: str  # "missing" or "extra" in the reference, or "confused" with another label
    reference: str  # what the reference says there, for the most part
    model: str  # what the networks say there, for the most part
    suspicion: float  # of the place alone, on the scale of the case's
    margin: float  # mean probability of what the networks say less that of what the reference says
    voxels: int
    ml: float
    index: tuple[int, int, int]  # (i, j, k) of a voxel in the middle of it, counted from 0
    position: tuple[float, float, float]  # the same in RAS+ mm
    low: tuple[int, int, int]  # first and last (i, j, k) of its box
    high: tuple[int, int, int]


class AuditedLabel(Record):
    """How far reference and networks differ in one label of one case."""

    suspicion: float  # share and bias against what is usual for the label, in units of how much its cases differ
    share: float  # of the label in reference or mask that sure disagreement covers, weighted by its margin
    bias: float  # share of it that only the networks draw, less that which only the reference draws
    dice: float | None  # of reference and mask; None where both are empty


class AuditedCase(Record):
    """A case of the queue."""

    case: str
    fold: str  # whose networks had not seen it
    suspicion: float  # the largest of its labels', and what a correction gains against what is usual
    label: str  # whose the largest is; "all labels" of the foreground as a whole
    kind: str = ""  # the correction that brings reference and mask closest; "local" for none
    what: str = ""  # the same in words
    dice: float | None = None  # mean over labels of reference and mask
    dice_corrected: float | None = None  # the same after that correction of the reference
    labels: dict[str, AuditedLabel] = Field(default_factory=dict)
    places: tuple[AuditedPlace, ...] = ()  # the most suspicious first


class ConfusedPair(Record):
    """What references say where networks surely say another label, over all cases."""

    reference: str
    model: str
    voxels: int
    cases: int


class Audit(Record):
    """audit.json: the references of all held-out cases, the likeliest label errors first."""

    format: int = 1
    models: str  # the configurations that looked at cases they had not seen
    cases: tuple[AuditedCase, ...]
    thresholds: dict[str, float]  # from which probability on a label is sure: its mean where the reference has it
    pairs: tuple[ConfusedPair, ...] = ()
    not_held_out: int = 0  # labelled cases that no finished fold holds out
    failures: dict[str, str] = Field(default_factory=dict)

    @property
    def places(self) -> list[AuditedPlace]:
        """The places of all cases, the most suspicious first."""
        found = [place for case in self.cases for place in case.places]
        return sorted(found, key=lambda place: -place.suspicion)
