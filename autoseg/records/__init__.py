"""The frozen records that travel between the stages.

Legend of shapes, once for the whole project:

    B batch    C channels    K outputs (heads)    Z Y X space

Axis order is always (Z, Y, X), spacing in mm in the same order, channels first. A 2D image is a volume with Z = 1.
Records that are kept on disk are pydantic models that refuse unknown fields; records that hold arrays are plain
frozen dataclasses.
"""

from __future__ import annotations

from autoseg.records.audit import Audit, AuditedCase, AuditedLabel, AuditedPlace, ConfusedPair
from autoseg.records.base import (
    FLAT_SPACING_FACTOR,
    MOST_LABELS,
    OUTSIDE,
    Affine,
    Record,
    Shape,
    Spacing,
)
from autoseg.records.comparison import ComparedSide, Comparison, PairedDifference
from autoseg.records.dataset import (
    Case,
    Dataset,
    Findings,
    Fold,
    Geometry,
    LabelMap,
    Problem,
    Volume,
)
from autoseg.records.diagnosis import (
    Answer,
    CurvePoint,
    Diagnosis,
    DiagnosisDesign,
    Trial,
    TrialResult,
)
from autoseg.records.evaluation import (
    CaseScore,
    InstanceMeans,
    InstanceScore,
    LabelScore,
    LabelSummary,
    LesionBin,
    LesionScore,
    MatchCount,
    PanopticScore,
    Summary,
)
from autoseg.records.fingerprint import (
    CaseFingerprint,
    Fingerprint,
    IntensityStatistics,
)
from autoseg.records.labels import (
    Labels,
)
from autoseg.records.model import (
    EpochRecord,
    Member,
    ModelHeader,
)
from autoseg.records.objects import FoundObject
from autoseg.records.plan import (
    AccelerationTrial,
    Configuration,
    NetworkSpec,
    Plan,
    Preparation,
    Probe,
    Reason,
    StepProbe,
    TrainSettings,
)
from autoseg.records.prediction import BEST_PREDICTION, NO_LIMITS, PredictLimits, PredictSettings, SpeedMode
from autoseg.records.prepared import (
    Placement,
    PreparedCase,
)
from autoseg.records.receipt import Receipt
from autoseg.records.selection import (
    Calibration,
    Card,
    Compared,
    KeepLargest,
    LabelCard,
    Reliability,
    ReliabilityBin,
    Selection,
    Temperature,
    TriedStep,
)
from autoseg.records.suggestion import Suggested, Suggestions
from autoseg.records.training_data import ChannelRange, LabelRange, TrainingData
from autoseg.records.trust import (
    NO_MAPS,
    CaseCost,
    CaseCosts,
    CaseEvidence,
    CaseTrust,
    DiceRegression,
    Expectation,
    ExpectedDice,
    LabelEvidence,
    LabelVolume,
    MapKinds,
)

__all__ = [
    "BEST_PREDICTION",
    "FLAT_SPACING_FACTOR",
    "MOST_LABELS",
    "NO_LIMITS",
    "NO_MAPS",
    "OUTSIDE",
    "AccelerationTrial",
    "Affine",
    "Answer",
    "Audit",
    "AuditedCase",
    "AuditedLabel",
    "AuditedPlace",
    "Calibration",
    "Card",
    "Case",
    "CaseCost",
    "CaseCosts",
    "CaseEvidence",
    "CaseFingerprint",
    "CaseScore",
    "CaseTrust",
    "ChannelRange",
    "Compared",
    "ComparedSide",
    "Comparison",
    "Configuration",
    "ConfusedPair",
    "CurvePoint",
    "Dataset",
    "Diagnosis",
    "DiagnosisDesign",
    "DiceRegression",
    "EpochRecord",
    "Expectation",
    "ExpectedDice",
    "Findings",
    "Fingerprint",
    "Fold",
    "FoundObject",
    "Geometry",
    "InstanceMeans",
    "InstanceScore",
    "IntensityStatistics",
    "KeepLargest",
    "LabelCard",
    "LabelEvidence",
    "LabelMap",
    "LabelRange",
    "LabelScore",
    "LabelSummary",
    "LabelVolume",
    "Labels",
    "LesionBin",
    "LesionScore",
    "MapKinds",
    "MatchCount",
    "Member",
    "ModelHeader",
    "NetworkSpec",
    "PairedDifference",
    "PanopticScore",
    "Placement",
    "Plan",
    "PredictLimits",
    "PredictSettings",
    "Preparation",
    "PreparedCase",
    "Probe",
    "Problem",
    "Reason",
    "Receipt",
    "Record",
    "Reliability",
    "ReliabilityBin",
    "Selection",
    "Shape",
    "Spacing",
    "SpeedMode",
    "StepProbe",
    "Suggested",
    "Suggestions",
    "Summary",
    "Temperature",
    "TrainSettings",
    "TrainingData",
    "Trial",
    "TrialResult",
    "TriedStep",
    "Volume",
]
