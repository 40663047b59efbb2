"""What stands beside exported networks: every step from an image file to its mask, for whoever has to write them anew.

docs/reference/exported-steps.md tells what each step does, precisely.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from autoseg.records.base import Record
from autoseg.records.labels import Labels


class Orient(Record):
    """Turn the array to an anatomical orientation, or leave it as stored."""

    step: Literal["orient"] = "orient"
    to: Literal["ras", "stored"]


class Transpose(Record):
    """Axis a of the result is axis `order[a]` of the array."""

    step: Literal["transpose"] = "transpose"
    order: tuple[int, int, int]


class CropToNonzero(Record):
    """Cut out the box around what is not zero in any channel."""

    step: Literal["crop_to_nonzero"] = "crop_to_nonzero"


class Normalize(Record):
    """value = (clip(value) - subtract) / divide, of one channel."""

    step: Literal["normalize"] = "normalize"
    channel: int
    name: str  # of the channel
    clip: tuple[float, float] | None
    subtract: float | Literal["mean", "minimum"]  # a number, or one of the image at hand
    divide: float | Literal["deviation", "range"]
    smallest_divisor: float
    nonzero_only: bool  # statistics from voxels that are not zero, and all others left as they are


class Resample(Record):
    """Interpolate the image to a grid."""

    step: Literal["resample"] = "resample"
    spacing: tuple[float | None, float, float]  # mm, (Z, Y, X); None: the image's own
    order: Literal[0, 1, 3]
    apart_above: float  # an axis so many times coarser than another is interpolated apart, with order 0
    keep_range: bool  # values outside those before are clipped


class AddFirstStage(Record):
    """Add a channel per label with what another group found, 1 where the label is and 0 elsewhere."""

    step: Literal["add_first_stage"] = "add_first_stage"
    group: str
    labels: int  # training labels 1 to this number


class Pad(Record):
    """Add zeros around the image until it is as large as a patch; of an odd number one more after it."""

    step: Literal["pad"] = "pad"
    to: tuple[int, int, int]


class Tile(Record):
    """Cut the image into overlapping patches, spread evenly."""

    step: Literal["tile"] = "tile"
    patch: tuple[int, int, int]
    largest_step: float  # distance of neighbouring patches, as a share of the patch


class Mirror(Record):
    """Run every patch also mirrored along each subset of these axes of (Z, Y, X); mirror back, and average."""

    step: Literal["mirror"] = "mirror"
    axes: tuple[int, ...]
    optional: bool = True  # without it masks are a little worse, and several times quicker


class RunNetworks(Record):
    """Run the group's networks, and average their scores."""

    step: Literal["run_networks"] = "run_networks"
    squeeze: bool  # the networks see slices: axis Z of a patch, of length 1, is taken away before and put back after


class AddUp(Record):
    """Sum the scores of all patches, weighted, and divide by the sum of the weights."""

    step: Literal["add_up"] = "add_up"
    sigma: float  # of the Gaussian of weights, as a share of the patch
    half_precision: bool  # sums in float16, with weights up to 10: as nnU-Net does


class Unpad(Record):
    """Take away what `pad` added."""

    step: Literal["unpad"] = "unpad"


class ResampleScores(Record):
    """Interpolate scores to the grid before `resample`."""

    step: Literal["resample_scores"] = "resample_scores"
    order: Literal[0, 1]
    apart_order: Literal[0, 1]  # along an axis that is interpolated apart
    apart_above: float


class Probabilities(Record):
    """Scores to probabilities; those of all groups are averaged."""

    step: Literal["probabilities"] = "probabilities"
    function: Literal["softmax", "sigmoid"]


class Decide(Record):
    """Scores (or averaged probabilities) to label values."""

    step: Literal["decide"] = "decide"
    rule: Literal["highest", "write_in_order", "highest_sum"]
    values: tuple[int, ...]  # that outputs, or sums of outputs, stand for
    above: float | None = None  # of write_in_order: what an output has to exceed
    sums: tuple[tuple[int, ...], ...] = ()  # of highest_sum: outputs that are added up for each value
    log_odds: bool = False  # of highest_sum: probabilities are turned back into log-odds before


class Uncrop(Record):
    """Put the mask into the grid before `crop_to_nonzero`, zeros around it."""

    step: Literal["uncrop"] = "uncrop"


class TransposeBack(Record):
    """Undo `transpose`."""

    step: Literal["transpose_back"] = "transpose_back"


class OrientBack(Record):
    """Undo `orient`."""

    step: Literal["orient_back"] = "orient_back"


class KeepLargestPart(Record):
    """Of voxels with these values keep the largest component that hangs together; all others become 0."""

    step: Literal["keep_largest"] = "keep_largest"
    values: tuple[int, ...]
    connectivity: int


Step = Annotated[
    Orient
    | Transpose
    | CropToNonzero
    | Normalize
    | Resample
    | AddFirstStage
    | Pad
    | Tile
    | Mirror
    | RunNetworks
    | AddUp
    | Unpad
    | ResampleScores
    | Probabilities
    | Decide
    | Uncrop
    | TransposeBack
    | OrientBack
    | KeepLargestPart,
    Field(discriminator="step"),
]


class ExportedNetwork(Record):
    """One ONNX file."""

    file: str
    sha256: str
    input: str  # name of the input, (batch, channels, *patch) float32
    output: str  # name of the output, (batch, outputs, *patch) float32
    channels: int
    outputs: int
    patch: tuple[int, ...]
    opset: int


class ExportedGroup(Record):
    """Networks that see the same patches, and all steps until their scores are on the grid of the cropped image."""

    name: str
    networks: tuple[ExportedNetwork, ...]
    steps: tuple[Step, ...]
    first_stage: bool = False  # its labels are input of another group, not part of the mask


#: Where the image is from on which exported networks were tried.
TrialImage = Literal["held-out case", "case of the dataset", "given image", "made-up image"]


class Verification(Record):
    """What came of running the files beside the model they were made of."""

    image: TrialImage
    engine: str  # that ran the files
    reference: str  # what they were compared with
    dice: dict[str, float | None]  # mask against mask, per label; None where neither has the label
    voxels: int
    different_voxels: int


class Exported(Record):
    """steps.json: all that is needed to segment with exported networks."""

    format: int = 1
    program: str
    channels: tuple[str, ...]
    labels: Labels
    groups: tuple[ExportedGroup, ...]
    after: tuple[Step, ...]  # once all groups are done
    missing_channels: bool = False  # a channel that has no file may be zeros, after `normalize`
    verification: Verification
