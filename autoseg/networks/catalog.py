"""The networks by name. A new one is a function `(spec) -> nn.Module` and a line in `NETWORKS`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from autoseg.errors import PlanError
from autoseg.networks.unet import residual_encoder_unet, unet
from autoseg.records import NetworkSpec

NetworkBuilder = Callable[[NetworkSpec], nn.Module]

NETWORKS: dict[str, NetworkBuilder] = {
    "unet": unet,
    "resenc": residual_encoder_unet,
}


def build_network(spec: NetworkSpec) -> nn.Module:
    """The network of a plan, freshly initialized from torch's global random state.

    The module takes images (B, C, *space). While its attribute `deep_supervision` is true it returns a list of scores
    (B, K, *space / divisor), finest first; else the finest alone.

    Raises PlanError for an unknown name and for entries that do not fit one another.
    """
    if spec.network not in NETWORKS:
        known = ", ".join(NETWORKS)
        raise PlanError(
            f"unknown network {spec.network!r}",
            where="network",
            remedy=f"Known are: {known}; name the module that adds another with --use.",
        )
    return NETWORKS[spec.network](spec)


def prepare_for_device(network: nn.Module, device: torch.device, *, channels_last: bool = False) -> nn.Module:
    """The network on the device; `channels_last` lays out the weights of its convolutions so, and its features follow.

    The networks here lay out features channels last on a CPU by themselves, whatever the layout of the weights: there
    it made no difference to the speed (measured).
    """
    network = network.to(device)
    if channels_last:
        for parameter in network.parameters():
            if parameter.ndim in (4, 5):
                layout = torch.channels_last if parameter.ndim == 4 else torch.channels_last_3d
                parameter.data = parameter.data.contiguous(memory_format=layout)
    return network
