"""The frozen records that travel between the stages.

Legend of shapes, once for the whole project:

    B batch    C channels    K outputs (heads)    Z Y X space

Axis order is always (Z, Y, X), spacing in mm in the same order, channels first. A 2D image is a volume with Z = 1.
Records that are kept on disk are pydantic models that refuse unknown fields; records that hold arrays are plain
frozen dataclasses.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator, model_validator

from autoseg.errors import PlanError

Shape = tuple[int, int, int]  # (Z, Y, X) in voxels
Spacing = tuple[float, float, float]  # (Z, Y, X) in mm
Affine = tuple[
    tuple[float, float, float, float],
    tuple[float, float, float, float],
    tuple[float, float, float, float],
    tuple[float, float, float, float],
]

#: Label of voxels outside the nonzero mask in prepared label maps (nnU-Net's convention).
OUTSIDE = -1

#: Most label values of a dataset, background counted: training labels are int16, and one more may mean "ignore".
MOST_LABELS = 32767

#: Slice spacing given to 2D images, in multiples of their largest in-plane spacing (nnU-Net's convention).
FLAT_SPACING_FACTOR = 999.0


class Record(BaseModel):
    """Base of the persisted records: immutable, strict about field names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# --------------------------------------------------------------------------------------------------- 1 the dataset


class Geometry(Record):
    """Where the voxels of a file lie in the world.

    `shape` is the file's grid in array order (Z, Y, X) = (k, j, i), as stored. `affine` maps file indices (i, j, k) to
    RAS+ millimetres, NIfTI's convention, whatever the file format.
    """

    shape: Shape
    affine: Affine
    flat: bool = False  # a 2D image: one slice with no thickness of its own

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The 4x4 affine as an array."""
        return np.asarray(self.affine, dtype=np.float64)

    @property
    def spacing(self) -> Spacing:
        """Voxel size in mm as stored, (Z, Y, X); a 2D image gets FLAT_SPACING_FACTOR times its largest as Z."""
        i, j, k = (float(size) for size in np.linalg.norm(self.matrix[:3, :3], axis=0))
        return (FLAT_SPACING_FACTOR * max(i, j), j, i) if self.flat else (k, j, i)


@dataclass(frozen=True, eq=False)
class Volume:
    """An image as stored in its file(s)."""

    image: NDArray[np.float32]  # (C, Z, Y, X), axes as stored
    geometry: Geometry
    notes: tuple[str, ...] = ()  # what the reader found odd (sform and qform differ, for one)


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Labels as stored in a file: the file's own values, not yet mapped to 0..K-1."""

    labels: NDArray[np.generic]  # (Z, Y, X), axes as stored; integers, or floats if the file holds fractions
    geometry: Geometry
    notes: tuple[str, ...] = ()


class Labels(Record):
    """Names and values of the labels.

    `names` keeps the order of declaration; a region is a tuple of values. Values are those in the label files and
    need not be consecutive: inside the program they are indices into `values` (`encode` and `decode` in
    `arrays/labels.py` map between the two). The ignore label is not in `names`.

    `regions_class_order` says which value each region writes into a mask, later ones over earlier ones (nnU-Net's
    rule). With regions and without it, each voxel gets the value that is most likely by the scores of all regions:
    the one with the largest sum of the scores of the regions it belongs to, which is 0 for the background.
    """

    names: dict[str, int | tuple[int, ...]]
    ignore: int | None = None
    regions_class_order: tuple[int, ...] | None = None

    @field_validator("names", mode="before")
    @classmethod
    def _from_pairs(cls, names: object) -> object:
        return dict(names) if isinstance(names, (list, tuple)) else names

    @field_serializer("names", when_used="json")
    def _as_pairs(self, names: dict[str, int | tuple[int, ...]]) -> list[tuple[str, int | tuple[int, ...]]]:
        # a list, since their order is the order of the network's outputs, and sorting a JSON object must not change it
        return list(names.items())

    @model_validator(mode="after")
    def _consistent(self) -> Labels:
        if self.names.get("background") != 0:
            raise ValueError("labels need an entry background: 0")
        if self.ignore is not None and self.ignore in self.values:
            raise ValueError(f"the ignore label {self.ignore} is also the value of another label")
        if self.regions_class_order is not None and len(self.regions_class_order) != len(self.foreground):
            raise ValueError("regions_class_order needs exactly one value per region")
        if len(self.values) > MOST_LABELS:
            raise ValueError(
                f"{len(self.values)} values are more than the {MOST_LABELS} that training labels can count"
            )
        return self

    @property
    def has_regions(self) -> bool:
        """Whether any label is a list of more than one value (then outputs are sigmoids, one per region)."""
        return any(isinstance(value, tuple) and len(value) > 1 for value in self.names.values())

    @property
    def values(self) -> tuple[int, ...]:
        """All values in use except ignore, ascending, 0 first; their positions are the training labels."""
        found = {0}
        for value in self.names.values():
            found.update(value if isinstance(value, tuple) else (value,))
        return tuple(sorted(found, key=lambda value: (value != 0, value)))

    @property
    def ignore_index(self) -> int | None:
        """The training label of ignored voxels (one above all others), or None."""
        return None if self.ignore is None else len(self.values)

    @property
    def foreground(self) -> dict[str, tuple[int, ...]]:
        """Name to training labels (indices), of every label or region but the background, in order of declaration."""
        index = {value: position for position, value in enumerate(self.values)}
        entries = {}
        for name, value in self.names.items():
            members = value if isinstance(value, tuple) else (value,)
            if any(member != 0 for member in members):
                entries[name] = tuple(index[member] for member in members)
        return entries

    @property
    def heads(self) -> int:
        """Network outputs: one per region, or one per value including the background."""
        return len(self.foreground) if self.has_regions else len(self.values)

    @property
    def value_membership(self) -> NDArray[np.bool_]:
        """(V, R): whether each of `values` belongs to each label or region of `foreground`."""
        membership = np.zeros((len(self.values), len(self.foreground)), dtype=np.bool_)
        for region, members in enumerate(self.foreground.values()):
            membership[list(members), region] = True
        return membership

    def drawn_names(self, annotated: Collection[str] | None) -> tuple[str, ...]:
        """Names of `foreground` that are known in a case in which only the labels `annotated` were drawn; None is all.

        A region that is the union of drawn labels is known too.
        """
        entries = {name: set(members) for name, members in self.foreground.items()}
        if annotated is None:
            return tuple(entries)
        drawn = [entries[name] for name in entries if name in annotated]
        return tuple(
            name
            for name, members in entries.items()
            if members == {member for part in drawn if part <= members for member in part}
        )

    def drawn_outputs(self, annotated: Collection[str] | None) -> tuple[bool, ...]:
        """For each network output whether it is known in such a case; the background of plain labels always is."""
        known = self.drawn_names(annotated)
        if self.has_regions:
            return tuple(name in known for name in self.foreground)
        members = {0, *(member for name in known for member in self.foreground[name])}
        return tuple(head in members for head in range(self.heads))


class Case(Record):
    """One patient or image: its files. One path per channel, or one file that holds all channels.

    Its labels are one label map, or one binary file per label (`label_files`, in the order of the dataset's labels), or
    nothing. `images` are the files that there are, in the order of the channels. `annotated` names the labels that were
    drawn in this case; None means all of the dataset's.
    """

    id: str
    images: tuple[Path, ...]
    labels: Path | None = None
    label_files: tuple[tuple[str, Path], ...] = ()
    annotated: tuple[str, ...] | None = None
    missing: tuple[int, ...] = ()  # channels without a file: only for a model that has learned to do without

    @property
    def labelled(self) -> bool:
        """Whether any label file belongs to it."""
        return self.labels is not None or bool(self.label_files)


class Dataset(Record):
    """A dataset folder as it was understood."""

    format: int = 1
    name: str
    root: Path
    layout: str  # name in dataset.layouts.LAYOUTS
    channels: tuple[str, ...]
    labels: Labels
    cases: tuple[Case, ...]
    test_cases: tuple[Case, ...] = ()  # never read by planning or selection
    file_ending: str
    notes: tuple[str, ...] = ()  # how the folder was read, for the user to confirm


class Problem(Record):
    """A finding about the dataset."""

    severity: Literal["error", "warning", "note"]
    kind: str  # short name, the same for the same fault: "missing-label"
    what: str
    remedy: str
    case: str | None = None
    file: Path | None = None


class Fold(Record):
    """One split, in nnU-Net's format."""

    train: tuple[str, ...]
    val: tuple[str, ...]


# ---------------------------------------------------------------------------------------------- 2 the fingerprint


class IntensityStatistics(Record):
    """Foreground intensities of one channel, every case counting alike (nnU-Net, facts section 2)."""

    mean: float
    median: float
    std: float
    min: float
    max: float
    percentile_00_5: float
    percentile_99_5: float


class CaseFingerprint(Record):
    """What one case looks like, in the orientation that preparation will use."""

    case: str
    shape: Shape
    spacing: Spacing
    shape_after_crop: Shape
    orientation: str  # axes of the file as stored, nibabel's letters: "RAS", "LPS"; "flat" for 2D images
    voxels_per_label: dict[str, int]  # label name -> voxels
    intensity_range: tuple[tuple[float, float], ...] = ()  # (min, max) per channel, whole image
    label_centres: dict[str, tuple[float, float, float]] = Field(default_factory=dict)  # (Z, Y, X), 0..1 of the crop
    label_extents: dict[str, Shape] = Field(default_factory=dict)  # edges of the label's bounding box, in voxels
    annotated: tuple[str, ...] | None = None  # labels that were drawn; None: all
    content: str = ""  # hash of the voxels that no flip, transposition or change of header alters


class Fingerprint(Record):
    """What a dataset looks like: all that planning knows about it."""

    format: int = 1
    dataset: str
    channels: tuple[str, ...]
    labels: Labels
    cases: tuple[CaseFingerprint, ...]
    intensities: tuple[IntensityStatistics, ...]  # per channel
    median_relative_size_after_cropping: float
    labels_with_entries: int  # entries of the labels table, ignore and background counted: enters the memory estimate
    cases_declared: int  # numTraining: enters the batch cap


# ---------------------------------------------------------------------------------------------------- 3 the plan


class Reason(Record):
    """Why a derived number is what it is."""

    field: str  # "3d_fullres.patch_size"
    value: str
    because: str  # the rule and the numbers that entered it
    instead: str = ""  # the alternative that it beat, and why
    constant: bool = False  # the preset's own, whatever the data: tables need not show it


class Preparation(Record):
    """All that decides the bytes of a prepared case; the prepared folder is named by its hash.

    `spacing` is in prepared axis order; None keeps the case's own spacing along that axis (slices of 2D plans).
    """

    orientation: Literal["ras", "stored"] = "ras"
    axis_order: tuple[int, int, int] = (0, 1, 2)  # prepared axis a is axis axis_order[a] of the oriented array
    spacing: tuple[float | None, float, float]
    normalization: tuple[str, ...]  # per channel: names in arrays.normalize.NORMALIZATIONS
    use_mask_for_normalization: tuple[bool, ...]
    intensities: tuple[IntensityStatistics, ...]
    labels: Labels
    image_order: Literal[0, 1, 3] = 3  # spline order of image resampling
    label_order: Literal[0, 1] = 1


class NetworkSpec(Record):
    """What a builder of `networks.catalog.NETWORKS` needs. Per-axis entries have `dimensions` numbers."""

    network: str
    dimensions: Literal[2, 3]
    channels: int
    heads: int
    strides: tuple[tuple[int, ...], ...]  # per stage, the first all ones
    kernel_sizes: tuple[tuple[int, ...], ...]
    features_per_stage: tuple[int, ...]
    blocks_per_stage: tuple[int, ...]  # convolutions (unet) or residual blocks (resenc)
    blocks_per_stage_decoder: tuple[int, ...]
    deep_supervision: bool = True


class Configuration(Record):
    """One way to train on the data: complete, nothing inherited. 2D entries have two numbers per axis field."""

    name: str
    dimensions: Literal[2, 3]
    preparation: Preparation
    spacing: tuple[float, ...]
    median_shape: tuple[float, ...]  # median prepared shape, in voxels
    patch_size: tuple[int, ...]
    batch_size: int
    network: str
    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    features_per_stage: tuple[int, ...]
    blocks_per_stage: tuple[int, ...]
    blocks_per_stage_decoder: tuple[int, ...]
    batch_dice: bool
    steps_per_epoch: int
    epochs: int  # of a whole training, unless the run says otherwise
    previous_stage: str | None = None
    next_stage: str | None = None

    def network_spec(self, channels: int, heads: int, deep_supervision: bool = True) -> NetworkSpec:
        """The network of this configuration for so many input channels and outputs."""
        return NetworkSpec(
            network=self.network,
            dimensions=self.dimensions,
            channels=channels,
            heads=heads,
            strides=self.strides,
            kernel_sizes=self.kernel_sizes,
            features_per_stage=self.features_per_stage,
            blocks_per_stage=self.blocks_per_stage,
            blocks_per_stage_decoder=self.blocks_per_stage_decoder,
            deep_supervision=deep_supervision,
        )


class TrainSettings(Record):
    """How long, how fast, which loss: what may differ between two runs of one plan."""

    epochs: int = Field(ge=1)
    budget_seconds: float | None = Field(default=None, gt=0)  # wall time; the schedule then follows the clock
    patience: int = Field(default=0, ge=0)  # epochs without improvement after which the run is ended; 0 is off
    optimizer: str = "adamw"  # name in training.schedule.OPTIMIZERS
    learning_rate: float = Field(gt=0)
    momentum: float = 0.99
    weight_decay: float = Field(ge=0)
    warmup_steps: int = 0
    schedule: str = "poly"  # name in training.schedule.SCHEDULES
    decay_power: float = 0.9  # of poly
    loss: str = "dice_ce"  # name in training.losses.LOSSES
    foreground_share: float = Field(default=0.33, ge=0, le=1)
    augmentation: str = "nnunet"  # name in training.augmentation.AUGMENTATIONS
    gradient_clip: float = 12.0
    ema_decay: float = Field(default=0.0, ge=0, lt=1)  # 0 is off
    seed: int = 0
    sampling: Literal["foreground", "balanced", "small"] = "foreground"  # see training.focus
    channel_dropout: float = Field(default=0.0, ge=0, lt=1)  # chance of each channel of a sample to be zeros
    initial: str | None = None  # hash of the model file whose weights it begins with (--init)
    plugins: tuple[str, ...] | None = None  # modules given by --use, beside the plan's


class Plan(Record):
    """What to do about the data, with the reasons."""

    format: int = 1
    name: str = "default"
    dataset: str
    preset: str
    channels: tuple[str, ...]
    labels: Labels
    mirror_axes: tuple[int, ...]  # of the prepared (Z, Y, X); 2D configurations drop axis 0
    configurations: dict[str, Configuration]
    training: TrainSettings  # the defaults for runs of this plan
    device: str  # what it was planned for: "cpu, 2 cores, 23 GB"
    plugins: tuple[str, ...] = ()  # modules given by --use
    reasons: tuple[Reason, ...] = ()
    digest: str = ""  # hash of all other fields as the planner made them; an edit by hand breaks it

    def configuration(self, name: str | None) -> Configuration:
        """The named configuration; None gives 3d_fullres where planned, else 2d."""
        chosen = name or ("3d_fullres" if "3d_fullres" in self.configurations else "2d")
        if chosen not in self.configurations:
            known = ", ".join(self.configurations)
            raise PlanError(f"plan {self.name!r} has no configuration {chosen!r}", remedy=f"It has: {known}.")
        return self.configurations[chosen]


class StepProbe(Record):
    """One real training step of a configuration on a device, measured."""

    configuration: str
    fits: bool
    seconds_per_step: float | None = None  # None where it did not fit
    peak_bytes: int | None = None  # of the device; on a CPU what the process grew by
    limit_bytes: int  # what the device could have given
    why: str = ""  # what happened where it did not fit


class Probe(Record):
    """What belongs to the moment of planning: measured, written beside the plan, and part of no hash."""

    format: int = 1
    plan: str
    device: str
    precision: str
    free_bytes: int
    steps: tuple[StepProbe, ...]


# -------------------------------------------------------------------------------------------- 4 prepared cases


class Placement(Record):
    """All that undoing a preparation needs, in the order in which it was done.

    file (k, j, i) --axes, flips--> oriented --axis_order--> transposed --box--> cropped --resampled--> prepared
    """

    geometry: Geometry  # of the file
    orientation_axes: tuple[int, int, int]  # oriented axis a is stored axis orientation_axes[a]
    orientation_flips: tuple[bool, bool, bool]  # then flipped along oriented axis a
    axis_order: tuple[int, int, int]
    transposed_shape: Shape
    transposed_spacing: Spacing
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]  # half-open, in transposed axes
    prepared_shape: Shape
    prepared_spacing: Spacing

    @property
    def cropped_shape(self) -> Shape:
        """Shape of the crop box."""
        (z0, z1), (y0, y1), (x0, x1) = self.box
        return (z1 - z0, y1 - y0, x1 - x0)


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A case in network space."""

    case: str
    image: NDArray[np.float32]  # (C, Z, Y, X)
    labels: NDArray[np.int16] | None  # (Z, Y, X) training labels, OUTSIDE = -1, ignore = labels.ignore_index
    locations: Mapping[str, NDArray[np.int32]]  # foreground name (and "annotated" with an ignore label) -> (N, 3)
    placement: Placement


# ------------------------------------------------------------------------------------------------- 5, 6 the model


class Member(Record):
    """One trained network inside a model file; its tensors are called `<name>/<tensor>`."""

    name: str  # "3d_fullres.fold_0"
    configuration: Configuration
    mirror_axes: tuple[int, ...]
    previous_stage: str | None = None
    half_sums: bool = False  # tiles are summed in half precision, as nnU-Net does: for models trained there


class ModelHeader(Record):
    """What a model file says of itself, beside the tensors."""

    format: int = 1
    channels: tuple[str, ...]
    labels: Labels
    members: tuple[Member, ...]
    combine: Literal["scores", "probabilities"] = "scores"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # to predict in, unless asked otherwise
    fingerprint: dict[str, object] = Field(default_factory=dict)  # summary only: no case ids
    plugins: tuple[str, ...] = ()  # modules that its networks need
    channel_dropout: float = 0.0  # above 0: it has learned to do without a channel
    ended_early: str = ""  # "ended early at step 1200 by Ctrl-C": its training could have gone on
    versions: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class EpochRecord:
    """One line of metrics.jsonl."""

    epoch: int
    step: int
    seconds: float  # wall time of the run so far, resumed parts counted
    data_wait: float  # share of the epoch spent waiting for data, 0..1
    learning_rate: float
    train_loss: float
    patch_dice: float | None  # online Dice over patches: a proxy, not the full-volume figure
    patch_dice_per_label: Mapping[str, float | None] = field(default_factory=dict)
    steps_per_second: float = 0.0  # of this epoch, all included
    phase: Literal["train", "cool-down"] = "train"  # a cool-down is how a run is ended before its time


# --------------------------------------------------------------------------------------------------- 7 evaluation


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


class LabelScore(Record):
    """How well one label of one case was found. NaN-free: what does not exist is None."""

    dice: float | None  # None where reference and prediction are both empty
    iou: float | None
    true_positives: int
    false_positives: int
    false_negatives: int
    volume_reference_ml: float
    volume_prediction_ml: float
    nsd: float | None = None  # normalized surface Dice at the report's tolerance
    hd95_mm: float | None = None  # None where either is empty
    lesions: LesionScore | None = None  # where asked for


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
    lesions: LesionScore | None = None  # of all cases together, where asked for


class Summary(Record):
    """Scores of many cases."""

    format: int = 1
    tolerance_mm: float
    lesion_iou: float | None = None  # from which a lesion counts as found (0: any overlap); None: not asked for
    mean_dice: float | None  # mean over labels of the label means
    labels: dict[str, LabelSummary]
    cases: tuple[CaseScore, ...]
    failures: dict[str, str] = Field(default_factory=dict)  # case -> why it has no score
