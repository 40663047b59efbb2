"""Networks by name under one rule: what the planner makes of each for data of many shapes."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from autoseg.errors import PlanError
from autoseg.networks.catalog import NETWORKS, find_network
from autoseg.networks.entry import NetworkEntry
from autoseg.planning.families import FEWEST_AT_BOTTOM, family_of
from autoseg.planning.presets import PRESETS, Architecture
from autoseg.planning.topology import derive_topology

PLAIN = Architecture("unet", blocks=(2,), decoder_blocks=2, base_features=32)


def test_nnunets_networks_follow_its_rules_without_being_counted() -> None:
    assert family_of(PLAIN, None).entry is None
    residual = family_of(PLAIN, "resenc")
    assert residual.entry is None
    assert residual.architecture == PRESETS["resenc-m"].accelerator.architecture
    assert residual.topology((3.0, 1.0, 1.0), (20, 128, 96)) == derive_topology((3.0, 1.0, 1.0), (20, 128, 96))


def test_blocks_are_counted_in_the_networks_own_kind() -> None:
    """Convolutions are not as many as the residual blocks of a preset."""
    residual = PRESETS["resenc-l"].accelerator.architecture
    for name in ("unet", "unetpp", "attention-unet"):
        found = family_of(residual, name).architecture
        assert found.blocks_per_stage(4) == (2, 2, 2, 2)
        assert (found.network, found.base_features) == (name, residual.base_features)
    assert family_of(residual, "unet").architecture == PLAIN
    assert family_of(residual, "deeplabv3plus").architecture.blocks == residual.blocks
    light = PRESETS["auto"].cpu.architecture
    assert family_of(light, "unetpp").architecture.blocks == light.blocks


def test_kernels_that_a_network_does_not_have_are_not_planned() -> None:
    spacing, size = (4.0, 1.0, 1.0), (16, 96, 96)
    even, uneven = (family_of(PLAIN, name).topology(spacing, size) for name in ("attention-unet", "unetpp"))
    assert (even.strides, even.patch_size) == (uneven.strides, uneven.patch_size)
    assert uneven.kernel_sizes[0] == (1, 3, 3)
    assert set(even.kernel_sizes) == {(3, 3, 3)}
    assert len(even.kernel_sizes) == even.stages


@settings(max_examples=40, deadline=None)
@example(name="segresnet", size=[16, 57], coarse=1.0)  # padded to 64, which is halved four times, not three
@given(
    name=st.sampled_from(list(NETWORKS)),
    size=st.lists(st.integers(16, 300), min_size=2, max_size=3),
    coarse=st.floats(1.0, 8.0),
)
def test_patches_hold_the_image_and_divide(name: str, size: list[int], coarse: float) -> None:
    family, entry = family_of(PLAIN, name), find_network(name)
    spacing = (coarse, *(1.0,) * (len(size) - 1))
    topology = family.topology(spacing, size)
    assert all(padded >= length for padded, length in zip(topology.patch_size, size, strict=True))
    assert all(padded % cell == 0 for padded, cell in zip(topology.patch_size, topology.divisor, strict=True))
    assert topology.divisor == tuple(math.prod(axis) for axis in zip(*topology.strides, strict=True))
    bottom = math.prod(topology.patch_size) // math.prod(topology.divisor)
    assert bottom >= FEWEST_AT_BOTTOM
    assert family.topology(spacing, topology.patch_size) == topology  # a patch that fits stays
    if not entry.uneven_strides:
        assert len(set(topology.divisor)) == 1
    if entry.divisor:
        assert set(topology.divisor) == {entry.divisor}
    for axis in range(len(size)):
        smaller = family.shorter(topology, spacing, axis)
        assert smaller is None or math.prod(smaller.patch_size) < math.prod(topology.patch_size)


def test_a_transformers_measure_grows_with_its_attention() -> None:
    family = family_of(PLAIN, "unetr")

    def per_voxel(edge: int) -> float:
        topology = family.topology((1.0, 1.0, 1.0), (edge,) * 3)
        return family.elements(topology, 320, 1, 3) / edge**3

    assert per_voxel(160) > 1.1 * per_voxel(64)  # a thousand tokens, each of which looks at all


def test_the_measure_is_nnunets() -> None:
    """Budgets are in nnU-Net's measure: of its own network a count and its closed form must agree."""
    closed = family_of(PLAIN, None)
    for edge in (64, 128):
        topology = closed.topology((1.0, 1.0, 1.0), (edge,) * 3)
        counted = type(closed)(PLAIN, NetworkEntry(find_network("unet").build))
        exact, found = (family.elements(topology, 320, 1, 3) for family in (closed, counted))
        assert found == pytest.approx(exact, rel=0.03)


def test_unknown_networks_are_refused_with_the_known() -> None:
    with pytest.raises(PlanError, match=r"unknown network 'unet3'.*swin-unetr"):
        family_of(PLAIN, "unet3")


def test_what_would_be_mostly_padding_is_refused() -> None:
    assert "multiples of 32" in family_of(PLAIN, "swin-unetr").refusal(3, (12, 200, 200))
    assert family_of(PLAIN, "swin-unetr").refusal(3, (20, 200, 200)) == ""
    assert family_of(PLAIN, "segresnet").refusal(3, (12, 200, 200)) == ""
