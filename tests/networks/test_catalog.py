from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch

from autoseg.errors import PlanError
from autoseg.networks.catalog import build_network, prepare_for_device
from autoseg.records import NetworkSpec

SIX = (32, 64, 128, 256, 320, 320)
TWO_D = (32, 64, 128, 256, 512, 512, 512, 512)


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [
        ({"features": SIX}, 31_196_399),
        (
            {"features": SIX, "network": "resenc", "blocks": (1, 3, 4, 6, 6, 6), "decoder_blocks": 1},
            102_350_575,
        ),
        ({"features": TWO_D, "dimensions": 2}, 46_326_581),
        (
            {
                "features": TWO_D[:7],
                "dimensions": 2,
                "network": "resenc",
                "blocks": (1, 3, 4, 6, 6, 6, 6),
                "decoder_blocks": 1,
            },
            105_918_322,
        ),
    ],
)
def test_parameter_counts_are_nnunets(
    make_spec: Callable[..., NetworkSpec], changes: dict[str, object], parameters: int
) -> None:
    with torch.device("meta"):
        network = build_network(make_spec(**changes))
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_the_encoder_of_the_plain_network_has_nnunets_size(make_spec: Callable[..., NetworkSpec]) -> None:
    with torch.device("meta"):
        network = build_network(make_spec(features=SIX))
    assert sum(parameter.numel() for parameter in network.encoder.parameters()) == 14_025_120


@pytest.mark.parametrize("network", ["unet", "resenc"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_outputs_go_from_fine_to_coarse(make_spec: Callable[..., NetworkSpec], network: str, dimensions: int) -> None:
    built = build_network(make_spec(network=network, dimensions=dimensions, channels=2))
    image = torch.randn(2, 2, *(8, 12, 16)[:dimensions])
    scores = built(image)
    assert [tuple(level.shape) for level in scores] == [
        (2, 3, *(size // divisor for size in image.shape[2:])) for divisor in (1, 2)
    ]
    built.deep_supervision = False
    torch.testing.assert_close(built(image), scores[0])


def test_uneven_strides_and_kernels(make_spec: Callable[..., NetworkSpec]) -> None:
    spec = make_spec(
        strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)), kernel_sizes=((1, 3, 3), (3, 3, 3), (3, 3, 3)), channels=3
    )
    scores = build_network(spec)(torch.randn(1, 3, 4, 8, 8))
    assert [tuple(level.shape[2:]) for level in scores] == [(4, 8, 8), (4, 4, 4)]


def test_weights_begin_as_nnunets_do(make_spec: Callable[..., NetworkSpec]) -> None:
    torch.manual_seed(0)
    network = build_network(make_spec(network="resenc", features=(16, 32, 32)))
    second = network.encoder.stages[1][0].second
    assert float(second.convolution.weight.detach().std()) == pytest.approx(
        (2 / (1 + 1e-4) / (32 * 27)) ** 0.5, rel=0.03
    )
    assert not second.norm.weight.any()
    assert not second.norm.bias.any()
    upsample = network.decoder.levels[0].upsample
    # torch's fan-in of a transposed convolution is its outputs times the kernel
    assert float(upsample.weight.detach().std()) == pytest.approx((2 / (1 + 1e-4) / (16 * 8)) ** 0.5, rel=0.05)
    assert not upsample.bias.any()


def test_the_same_seed_gives_the_same_network(make_spec: Callable[..., NetworkSpec]) -> None:
    networks = []
    for _ in range(2):
        torch.manual_seed(5)
        networks.append(build_network(make_spec()))
    image = torch.randn(1, 1, 8, 8, 8)
    assert torch.equal(networks[0](image)[0], networks[1](image)[0])


@pytest.mark.parametrize("network", ["unet", "resenc"])
def test_fast_path_equals_standard_operations(make_spec: Callable[..., NetworkSpec], network: str) -> None:
    torch.manual_seed(3)
    built = prepare_for_device(build_network(make_spec(network=network)), torch.device("cpu")).double()
    built.deep_supervision = False
    image = torch.randn(1, 1, 8, 8, 12, dtype=torch.float64)
    exported = torch.export.export(copy.deepcopy(built).eval(), (image,))  # standard operations alone
    names = {str(node.target) for node in exported.graph.nodes if node.op == "call_function"}
    assert any("instance_norm" in name for name in names)
    torch.testing.assert_close(built(image), exported.module()(image))


def test_inference_mode_gives_the_same_scores(make_spec: Callable[..., NetworkSpec]) -> None:
    built = build_network(make_spec())
    image = torch.randn(1, 1, 8, 8, 8)
    with torch.inference_mode():
        found = built(image)
    assert torch.equal(found[0], built(image)[0])


def test_bfloat16_autocast(make_spec: Callable[..., NetworkSpec]) -> None:
    torch.manual_seed(4)
    built = build_network(make_spec(network="resenc", features=(8, 8)))
    image = torch.randn(2, 1, 8, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = built(image)[0]
    torch.testing.assert_close(scores.float(), built(image)[0], atol=0.2, rtol=0.1)
    scores.float().square().mean().backward()
    trained = [parameter for parameter in built.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trained)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"network": "no such"}, "network"),
        ({"features": (8,)}, "strides"),
        ({"kernel_sizes": ((3, 3, 3),) * 2}, "kernel_sizes"),
        ({"kernel_sizes": ((2, 3, 3),) * 3}, "kernel_sizes"),
        ({"strides": ((1, 1), (2, 2), (2, 2))}, "strides"),
        ({"blocks_per_stage_decoder": (2, 2, 2)}, "blocks_per_stage_decoder"),
        ({"heads": 0}, "heads"),
        ({"features_per_stage": (8, 0, 8)}, "features_per_stage"),
    ],
)
def test_what_does_not_fit_is_refused_by_field(
    make_spec: Callable[..., NetworkSpec], changes: dict[str, object], where: str
) -> None:
    with pytest.raises(PlanError) as caught:
        build_network(make_spec(**changes))
    assert caught.value.where == where
