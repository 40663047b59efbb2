"""How good it is."""

from __future__ import annotations

from pydantic import Field

from autoseg.records.base import Record


class LesionBin(Record):
    """Lesions of one range of sizes: of the reference by its own size, false alarms by theirs."""

    found: int
    missed: int
    false_alarms: int


class LesionScore(Record):
    """How many lesions (connected components) of one label were found; see `evaluation.lesions`."""

    true_positives: int
    false_positives: int
    false_negatives: int
    f1: float | None  # None where neither reference nor mask has any
    sensitivity: float | None
    precision: float | None
    by_size: tuple[LesionBin, ...]  # see evaluation.lesions.SIZE_EDGES_ML


class MatchCount(Record):
    """Objects of reference and prediction, matched where their IoU reaches a threshold; see `evaluation.instances`."""

    iou: float
    true_positives: int
    false_positives: int
    false_negatives: int
    average_precision: float | None  # TP / (TP + FP + FN), as StarDist has it; None where neither has any object
    f1: float | None  # 2 TP / (2 TP + FP + FN)


class InstanceScore(Record):
    """How well the objects of one label were found one by one, in one case or in several together.

    The three qualities are those of pairs with an IoU above a half (Kirillov et al. 2019); None where neither
    reference nor prediction has any object, and the segmentation quality where there is no pair.
    """

    reference: int  # objects
    prediction: int  # objects, but for those that lie mostly in ignored voxels
    matched: int
    iou_sum: float  # over the pairs
    panoptic_quality: float | None
    segmentation_quality: float | None  # mean IoU of the pairs
    recognition_quality: float | None  # F1 of the pairs
    counts: tuple[MatchCount, ...]  # by threshold of IoU, ascending


class InstanceMeans(Record):
    """Means of the scores of cases, each of which counts alike, however many objects it has."""

    cases: int  # N of the means: cases that have objects in the reference or the prediction
    panoptic_quality: float | None
    segmentation_quality: float | None
    recognition_quality: float | None
    average_precision: tuple[float | None, ...]  # by threshold, as `evaluation.instances.IOU_THRESHOLDS`
    f1: tuple[float | None, ...]


class PanopticScore(Record):
    """Mean panoptic quality over the labels that occur: counted ones, uncounted ones, and all; None without any."""

    things: float | None
    stuff: float | None
    all: float | None


class LabelScore(Record):
    """How well one label of one case was found. NaN-free: what does not exist is None."""

    dice: float | None  # None where reference and prediction are both empty
    iou: float | None
    true_positives: int
    false_positives: int
    false_negatives: int
    volume_reference_ml: float
    volume_prediction_ml: float
    volume_error_ml: float | None = None  # prediction less reference: above 0 is too much; None in older files
    relative_volume_error: float | None = None  # the same as a share of the reference; None where that is empty
    nsd: float | None = None  # normalized surface Dice at the report's tolerance
    hd95_mm: float | None = None  # robust Hausdorff distance; None where either is empty
    assd_mm: float | None = None  # average symmetric surface distance; None where either is empty
    lesions: LesionScore | None = None  # where asked for
    instances: InstanceScore | None = None  # where objects are counted


class CaseScore(Record):
    """Scores of one case, by label name."""

    case: str
    labels: dict[str, LabelScore]
    prediction_file: str = ""
    reference_file: str = ""


class LabelSummary(Record):
    """Mean of one label over the cases that have it, with the bookkeeping of those that do not."""

    dice: float | None  # mean over cases whose reference has the label (a missed one counts 0)
    iou: float | None
    nsd: float | None
    hd95_mm: float | None
    cases: int  # N of the means: references that have the label
    empty_references: int  # predicted although the reference has none (false alarms)
    both_empty: int  # rightly found to be absent
    not_annotated: int = 0  # nobody drew it there: the case is skipped for this label
    assd_mm: float | None = None
    volume_error_ml: float | None = None  # mean of the sizes of the errors, whichever way they go
    relative_volume_error: float | None = None  # the same of the errors as shares of the reference
    volume_bias_ml: float | None = None  # mean error: above 0 is too much on the whole
    lesions: LesionScore | None = None  # of all cases together, where asked for
    instances: InstanceScore | None = None  # the objects of all cases together, where they are counted
    instance_means: InstanceMeans | None = None  # means over cases of the same


class Summary(Record):
    """Scores of many cases."""

    format: int = 1
    tolerance_mm: float
    lesion_iou: float | None = None  # from which a lesion counts as found (0: any overlap); None: not asked for
    mean_dice: float | None  # mean over labels of the label means
    labels: dict[str, LabelSummary]
    panoptic: PanopticScore | None = None  # over labels, from the objects of all cases together
    cases: tuple[CaseScore, ...]
    failures: dict[str, str] = Field(default_factory=dict)  # case -> why it has no score
