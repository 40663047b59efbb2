"""The closed forms of a step's cost, against the planner's measure and against real networks."""

from __future__ import annotations

import pytest
from step_builders import LABELS, make_configuration

from autoseg.networks.catalog import build_network
from autoseg.planning.memory import feature_map_elements
from autoseg.planning.presets import Architecture
from autoseg.planning.step import layers, network_channels, step_bytes, step_operations, weights
from autoseg.planning.topology import derive_topology
from autoseg.records import Configuration, TrainSettings

ADAMW = TrainSettings(epochs=1, optimizer="adamw", learning_rate=1e-3, weight_decay=0.0)

ARCHITECTURES = {
    "unet": Architecture("unet", blocks=(2,), decoder_blocks=2, base_features=8),
    "light": Architecture("unet", blocks=(1, 2), decoder_blocks=1, base_features=4),
    "resenc": Architecture("resenc", blocks=(1, 3, 4, 6), decoder_blocks=1, base_features=8),
}


def planned(architecture: Architecture, spacing: tuple[float, ...], size: tuple[float, ...]) -> Configuration:
    topology = derive_topology(spacing, size)
    return make_configuration(
        "3d_fullres" if len(size) == 3 else "2d",
        network=architecture.network,
        patch_size=topology.patch_size,
        strides=topology.strides,
        kernel_sizes=topology.kernel_sizes,
        features_per_stage=tuple(min(64, architecture.base_features * 2**stage) for stage in range(topology.stages)),
        blocks_per_stage=architecture.blocks_per_stage(topology.stages),
        blocks_per_stage_decoder=(architecture.decoder_blocks,) * (topology.stages - 1),
    )


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("size", [(40, 56, 40), (20, 96, 96), (96, 128)])
def test_elements_are_those_of_the_planner(name: str, size: tuple[int, ...]) -> None:
    architecture, spacing = ARCHITECTURES[name], (3.0, 1.0, 1.0)[-len(size) :]
    configuration = planned(architecture, spacing, size)
    spec = configuration.network_spec(1, LABELS.heads)
    elements = sum(layer.outputs * layer.voxels for layer in layers(spec, configuration.patch_size))
    heads = [layer for layer in layers(spec, configuration.patch_size) if not layer.normalized][1::2]
    lower = sum(layer.outputs * layer.voxels for layer in heads[1:])  # the planner counts the finest head alone
    assert elements - lower == feature_map_elements(architecture, derive_topology(spacing, size), 64, LABELS.heads)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("size", [(40, 56, 40), (20, 96, 96), (96, 128)])
def test_weights_are_those_of_the_network(name: str, size: tuple[int, ...]) -> None:
    configuration = planned(ARCHITECTURES[name], (3.0, 1.0, 1.0)[-len(size) :], size)
    spec = configuration.network_spec(2, LABELS.heads)
    real = sum(parameter.numel() for parameter in build_network(spec).parameters() if parameter.requires_grad)
    assert weights(spec) == real


def test_operations_of_a_network_counted_by_hand() -> None:
    configuration = make_configuration()  # 16³ patch, 4 features; then 8³, 8 features
    fine, coarse = 16**3, 8**3
    encoder = 27 * (1 * 4 * fine + 4 * 8 * coarse + 8 * 8 * coarse)
    decoder = 8 * 4 * fine + 27 * 8 * 4 * fine + 4 * LABELS.heads * fine
    assert step_operations(configuration, 1, LABELS) == 2 * 3 * 2 * (encoder + decoder)


def test_memory_grows_with_batch_patch_labels_and_precision() -> None:
    def taken(half: bool = False, **changes: object) -> int:
        configuration = make_configuration(**({"patch_size": (64, 64, 64)} | changes))
        return step_bytes(configuration, 1, LABELS, ADAMW, half_precision=half)

    assert taken(batch_size=4) > 1.5 * taken(batch_size=2)
    assert taken(patch_size=(128, 64, 64)) > 1.5 * taken()
    assert taken(half=True) < taken()
    adamw = step_bytes(make_configuration(), 1, LABELS, ADAMW, half_precision=False)
    sgd = ADAMW.model_copy(update={"optimizer": "sgd"})
    assert step_bytes(make_configuration(), 1, LABELS, sgd, half_precision=False) < adamw
    averaged = ADAMW.model_copy(update={"ema_decay": 0.99})
    assert step_bytes(make_configuration(), 1, LABELS, averaged, half_precision=False) > adamw


def test_a_later_stage_reads_a_map_per_foreground_label() -> None:
    assert network_channels(make_configuration(), 2, LABELS) == 2
    assert network_channels(make_configuration(previous_stage="3d_lowres"), 2, LABELS) == 4
