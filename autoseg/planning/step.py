"""What one training step of a configuration needs: elements, weights, operations, bytes.

The probe measures; these figures tell beforehand whether measuring would be safe, and stand in where nothing could be
measured. nnU-Net's networks have closed forms; nothing is allocated for the others either (`networks.counting`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from autoseg.planning.families import CLOSED_FORM
from autoseg.records import Configuration, Labels, NetworkSpec, TrainSettings

#: Tensors that stay in memory for every feature map until its gradient: the convolution's output and what
#: normalization and rectifier make of it.
_KEPT_PER_FEATURE = 2.0

#: Copies of the largest feature map that are alive at once while its gradient is computed (this and the two numbers
#: below that say so measured on CPUs: 17 plans of 0.14 to 9.1 GB come out within 10 %).
_TRANSIENT_COPIES = 1.5

#: Float32 copies of the finest scores that the loss holds: log-probabilities, probabilities, gradient, and the rest.
_SCORE_COPIES = 4.0

#: Bytes per voxel of the patch beside all that: batches cropped ahead, larger than the patch, and what augmentation
#: makes of them (measured).
_BYTES_PER_VOXEL = 260.0

#: Float32 numbers per weight: the weight itself and its gradient; and what an optimizer adds.
_COPIES_OF_WEIGHTS = 2
_OPTIMIZER_STATE = {"sgd": 1, "adamw": 2}

#: The same for what half precision makes of weights: one in two bytes, and one in the order of the library.
_HALF_COPIES = 1

#: Passes over the network in one step, counted in forward passes: the gradients of inputs and weights cost one each.
_PASSES_PER_STEP = 3

#: Bytes that libraries need whatever the network (measured).
_FIXED_BYTES = 122e6


@dataclass(frozen=True)
class Layer:
    """One convolution, for one sample."""

    inputs: int  # feature maps
    outputs: int
    taps: int  # products per pair of feature maps for each output voxel
    weights: int  # per pair of feature maps
    voxels: int  # of the output
    normalized: bool  # whether normalization follows


def network_channels(configuration: Configuration, channels: int, labels: Labels) -> int:
    """Channels that the network reads: the image's, and for a later stage of a cascade a map per foreground label."""
    return channels if configuration.previous_stage is None else channels + len(labels.values) - 1


def layers(spec: NetworkSpec, patch_size: tuple[int, ...]) -> Iterator[Layer]:
    """All convolutions of a network on a patch, heads of deep supervision included."""
    voxels = [math.prod(patch_size)]
    for stride in spec.strides[1:]:
        voxels.append(voxels[-1] // math.prod(stride))
    before = spec.channels
    residual = spec.network == "resenc"
    if residual:
        taps = math.prod(spec.kernel_sizes[0])
        yield Layer(before, spec.features_per_stage[0], taps, taps, voxels[0], True)
        before = spec.features_per_stage[0]
    for stage, features in enumerate(spec.features_per_stage):
        taps = math.prod(spec.kernel_sizes[stage])
        for number in range(spec.blocks_per_stage[stage]):
            yield Layer(before, features, taps, taps, voxels[stage], True)
            if residual:
                yield Layer(features, features, taps, taps, voxels[stage], True)
                if before != features:
                    yield Layer(before, features, 1, 1, voxels[stage], True)
                elif number == 0 and max(spec.strides[stage]) > 1:
                    yield Layer(before, features, 0, 0, voxels[stage], True)  # the shortcut averages, and that is all
            before = features
    yield from _decoder(spec, voxels)


def _decoder(spec: NetworkSpec, voxels: list[int]) -> Iterator[Layer]:
    for stage in range(len(spec.strides) - 1):
        features, below = spec.features_per_stage[stage], spec.features_per_stage[stage + 1]
        # every output voxel of the transposed convolution comes from one input voxel: its kernel is its stride
        yield Layer(below, features, 1, math.prod(spec.strides[stage + 1]), voxels[stage], False)
        taps = math.prod(spec.kernel_sizes[stage])
        for number in range(spec.blocks_per_stage_decoder[stage]):
            yield Layer(2 * features if number == 0 else features, features, taps, taps, voxels[stage], True)
        yield Layer(features, spec.heads, 1, 1, voxels[stage], False)


def weights(spec: NetworkSpec) -> int:
    """Trained numbers of a network, without the biases that normalization subtracts again."""
    total = 0
    for layer in layers(spec, spec.strides[0]):
        if layer.weights:
            total += layer.inputs * layer.outputs * layer.weights + layer.outputs * (2 if layer.normalized else 1)
    return total


@dataclass(frozen=True)
class _Totals:
    """What a network's step is made of, for one sample."""

    kept: float  # elements that are kept for the backward pass
    largest: float  # of the largest feature map
    weights: int
    operations: float  # of a forward pass


def _totals(spec: NetworkSpec, patch_size: tuple[int, ...]) -> _Totals:
    """In closed form for nnU-Net's networks; any other is counted in itself."""
    if spec.network not in CLOSED_FORM:
        from autoseg.networks.counting import network_size  # loads torch

        size = network_size(spec, patch_size)
        return _Totals(size.kept, size.largest, size.weights, size.operations)
    found = list(layers(spec, patch_size))
    maps = [layer.outputs * layer.voxels for layer in found if layer.outputs != spec.heads or layer.normalized]
    operations = sum(2.0 * layer.inputs * layer.outputs * layer.taps * layer.voxels for layer in found)
    return _Totals(_KEPT_PER_FEATURE * sum(maps), max(maps), weights(spec), operations)


def weights_of(configuration: Configuration, channels: int, labels: Labels) -> int:
    """Trained numbers of a configuration's network, for so many image channels."""
    spec = configuration.network_spec(network_channels(configuration, channels, labels), labels.heads)
    return _totals(spec, configuration.patch_size).weights


def step_operations(configuration: Configuration, channels: int, labels: Labels) -> float:
    """Multiplications and additions of one training step with the whole batch."""
    spec = configuration.network_spec(network_channels(configuration, channels, labels), labels.heads)
    return _PASSES_PER_STEP * _totals(spec, configuration.patch_size).operations * configuration.batch_size


def step_bytes(
    configuration: Configuration, channels: int, labels: Labels, settings: TrainSettings, *, half_precision: bool
) -> int:
    """Memory that a training step takes at its peak, about: feature maps, scores, weights and their companions.

    The measure is nnU-Net's (elements of all convolution outputs), each kept as often as the training here keeps it;
    `half_precision` stores features in two bytes instead of four.
    """
    spec = configuration.network_spec(network_channels(configuration, channels, labels), labels.heads)
    size = 2 if half_precision else 4
    totals = _totals(spec, configuration.patch_size)
    kept = totals.kept + _TRANSIENT_COPIES * totals.largest
    beside = math.prod(configuration.patch_size) * (_SCORE_COPIES * 4 * spec.heads + _BYTES_PER_VOXEL)
    copies = _COPIES_OF_WEIGHTS + _OPTIMIZER_STATE.get(settings.optimizer, 2)
    copies += (settings.ema_decay > 0) + (_HALF_COPIES if half_precision else 0)
    return round(configuration.batch_size * (kept * size + beside) + 4 * copies * totals.weights + _FIXED_BYTES)
