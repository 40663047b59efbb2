"""The networks by name. A new one is a function `(spec) -> nn.Module` and a line in `NETWORKS`."""

from __future__ import annotations

import torch
from torch import nn

from autoseg.errors import PlanError
from autoseg.networks import monai_networks as monai
from autoseg.networks.deeplab import MOST_STAGES, deeplab_v3_plus, told_rates
from autoseg.networks.entry import NetworkBuilder, NetworkEntry, require_packages
from autoseg.networks.normalization import InstanceNorm, lays_out_channels_last
from autoseg.networks.unet import residual_encoder_unet, unet
from autoseg.networks.unetpp import unet_plus_plus
from autoseg.records import NetworkSpec

#: What MONAI's networks need.
_MONAI = ("monai", "einops")

#: Residual blocks per stage (nnU-Net's, and ResNet's).
_RESIDUAL = (1, 3, 4, 6)

#: A bare builder counts as an entry that declares nothing: see `NetworkEntry` for what is then taken for granted.
NETWORKS: dict[str, NetworkEntry | NetworkBuilder] = {
    "unet": NetworkEntry(unet, "the plain U-Net, as nnU-Net plans it", half_on_cpu=True),
    "resenc": NetworkEntry(
        residual_encoder_unet,
        "the U-Net with a residual encoder, as nnU-Net plans it",
        blocks=_RESIDUAL,
        decoder_blocks=1,
        half_on_cpu=True,
    ),
    "unetpp": NetworkEntry(unet_plus_plus, "U-Net++: nested skips, a head per depth", half_on_cpu=True),
    "deeplabv3plus": NetworkEntry(
        deeplab_v3_plus,
        "DeepLab v3+: an atrous pyramid over a residual encoder",
        most_stages=MOST_STAGES,
        deep_supervision=False,
        sized=told_rates,
        blocks=_RESIDUAL,
        decoder_blocks=1,
        half_on_cpu=True,
    ),
    "attention-unet": NetworkEntry(
        monai.attention_unet,
        "Attention U-Net: gates on the skips",
        uneven_kernels=False,
        deep_supervision=False,
        blocks=(2,),
        decoder_blocks=1,
        packages=_MONAI,
        extra="monai",
    ),
    "segresnet": NetworkEntry(
        monai.segresnet,
        "SegResNet: residual blocks, interpolation on the way up",
        uneven_strides=False,
        uneven_kernels=False,
        most_stages=5,
        deep_supervision=False,
        widths=monai.unbounded_widths,
        blocks=(1, 2, 2, 4),
        decoder_blocks=1,
        packages=_MONAI,
        extra="monai",
    ),
    "mednext": NetworkEntry(
        monai.mednext,
        "MedNeXt: wide inverted bottlenecks, as ConvNeXt",
        uneven_strides=False,
        uneven_kernels=False,
        most_stages=5,
        widths=monai.unbounded_widths,
        blocks=(2,),
        decoder_blocks=2,
        packages=_MONAI,
        extra="monai",
    ),
    "unetr": NetworkEntry(
        monai.unetr,
        "UNETR: a transformer as encoder",
        divisor=monai.UNETR_TOKEN,
        uneven_strides=False,
        uneven_kernels=False,
        deep_supervision=False,
        widths=monai.unetr_widths,
        blocks=(1,),
        decoder_blocks=1,
        transformer=True,
        sized=monai.told_tokens,
        packages=_MONAI,
        extra="monai",
    ),
    "swin-unetr": NetworkEntry(
        monai.swin_unetr,
        "Swin UNETR v2: attention in shifted windows",
        divisor=monai.SWIN_DIVISOR,
        uneven_strides=False,
        uneven_kernels=False,
        deep_supervision=False,
        widths=monai.swin_widths,
        blocks=(2,),
        decoder_blocks=1,
        transformer=True,
        sized=monai.told_windows,
        packages=_MONAI,
        extra="monai",
    ),
}


def find_network(name: str) -> NetworkEntry:
    """What the network of that name declares. Raises PlanError for an unknown one, and where a package is missing."""
    if name not in NETWORKS:
        known = ", ".join(NETWORKS)
        raise PlanError(
            f"unknown network {name!r}",
            where="network",
            remedy=f"Known are: {known}; name the module that adds another with --use.",
        )
    found = NETWORKS[name]
    entry = found if isinstance(found, NetworkEntry) else NetworkEntry(found)
    require_packages(name, entry)
    return entry


def half_on_cpu(name: str) -> bool:
    """Whether a CPU may compute the network in bfloat16, whose convolutions are not sound everywhere (`blocks`)."""
    found = NETWORKS.get(name)
    return isinstance(found, NetworkEntry) and found.half_on_cpu


def build_network(spec: NetworkSpec) -> nn.Module:
    """The network of a plan, freshly initialized from torch's global random state.

    The module takes images (B, C, *space). While its attribute `deep_supervision` is true it returns a list of scores
    (B, K, *space / divisor), finest first; else the finest alone.

    Raises PlanError for an unknown name and for entries that do not fit one another.
    """
    return find_network(spec.network).build(spec)


def prepare_for_device(network: nn.Module, device: torch.device, *, channels_last: bool = False) -> nn.Module:
    """The network on the device; `channels_last` lays out the weights of its convolutions so, and its features follow.

    The networks here lay out features channels last on a CPU by themselves, whatever the layout of the weights: there
    it made no difference to the speed (measured). On a GPU whose kernels normalize in that layout, their weights are
    laid out so in any case.
    """
    network = network.to(device)
    ours = any(isinstance(module, InstanceNorm) for module in network.modules())
    if channels_last or (ours and device.type == "cuda" and lays_out_channels_last(device)):
        for parameter in network.parameters():
            if parameter.ndim in (4, 5):
                layout = torch.channels_last if parameter.ndim == 4 else torch.channels_last_3d
                parameter.data = parameter.data.contiguous(memory_format=layout)
    return network
