"""MONAI's networks (Cardoso et al. 2022), built from our plan. MONAI is imported when one of them is built."""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from autoseg.errors import PlanError
from autoseg.networks.unet import checked
from autoseg.records import NetworkSpec

#: Voxels along each edge of what UNETR's transformer takes as one token, and what Swin UNETR's patches must divide by.
UNETR_TOKEN, SWIN_DIVISOR = 16, 32

#: Tokens along the edge of a window of the published Swin UNETR, and what is tried beside it.
SWIN_WINDOW, SWIN_WINDOWS = 7, (5, 6, 7, 8)

#: Features of one attention head of UNETR's transformer (ViT).
HEAD_FEATURES = 64


class MonaiNetwork(nn.Module):
    """A network of MONAI that gives one output."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = _instance_normalized(network)
        self.deep_supervision = False

    def forward(self, image: Tensor) -> Tensor:
        """Scores (B, K, *space) of an image (B, C, *space)."""
        with _exact_on_cpu(image):
            scores: Tensor = self.network(image)
        return scores


class DeeplySupervised(nn.Module):
    """MONAI's MedNeXt, whose outputs depend here on `deep_supervision` and not on the training mode."""

    def __init__(self, network: nn.Module, *, deep_supervision: bool) -> None:
        super().__init__()
        self.network = network
        self.deep_supervision = deep_supervision

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Scores (B, K, *space) of every resolution, finest first, or of the finest alone."""
        self.network.training = self.deep_supervision  # all that MedNeXt's own flag decides is what it gives
        with _exact_on_cpu(image):
            scores = self.network(image)
        return list(scores) if self.deep_supervision else scores


def _exact_on_cpu(image: Tensor) -> AbstractContextManager[Any]:
    """Float32 on a CPU, whatever autocast says: these convolutions are not guarded where its bfloat16 is not sound."""
    return torch.autocast("cpu", enabled=False) if image.device.type == "cpu" else nullcontext()


def attention_unet(spec: NetworkSpec) -> nn.Module:
    """Attention U-Net (Oktay et al. 2018), with the strides of the plan; two convolutions a stage, kernel 3."""
    checked(spec)
    network = _class("attentionunet", "AttentionUnet")(
        spatial_dims=spec.dimensions,
        in_channels=spec.channels,
        out_channels=spec.heads,
        channels=spec.features_per_stage,
        strides=spec.strides[1:],  # per axis, as its convolutions take them
    )
    return MonaiNetwork(network)


def segresnet(spec: NetworkSpec) -> nn.Module:
    """SegResNet (Myronenko 2018), without its autoencoder; group normalization."""
    checked(spec)
    _require_doubling(spec)
    groups = ("GROUP", {"num_groups": math.gcd(8, spec.features_per_stage[0])})
    network = _class("segresnet", "SegResNet")(
        spatial_dims=spec.dimensions,
        init_filters=spec.features_per_stage[0],
        in_channels=spec.channels,
        out_channels=spec.heads,
        norm=groups,
        blocks_down=spec.blocks_per_stage,
        blocks_up=spec.blocks_per_stage_decoder,
    )
    return MonaiNetwork(network)


def mednext(spec: NetworkSpec) -> nn.Module:
    """MedNeXt (Roy et al. 2023) with kernel 3 and expansion 2 (its size S)."""
    checked(spec)
    _require_doubling(spec)
    network = _class("mednext", "MedNeXt")(
        spatial_dims=spec.dimensions,
        init_filters=spec.features_per_stage[0],
        in_channels=spec.channels,
        out_channels=spec.heads,
        kernel_size=3,
        deep_supervision=True,
        use_residual_connection=True,
        blocks_down=spec.blocks_per_stage[:-1],
        blocks_bottleneck=spec.blocks_per_stage[-1],
        blocks_up=spec.blocks_per_stage_decoder[::-1],
    )
    return DeeplySupervised(network, deep_supervision=spec.deep_supervision)


def unetr(spec: NetworkSpec) -> nn.Module:
    """UNETR (Hatamizadeh et al. 2022): a transformer over blocks of 16 voxels an edge, then convolutions."""
    checked(spec)
    patch = _patch_of(spec, UNETR_TOKEN)
    hidden = spec.features_per_stage[-1]
    network = _class("unetr", "UNETR")(
        in_channels=spec.channels,
        out_channels=spec.heads,
        img_size=patch,
        feature_size=spec.features_per_stage[0],
        hidden_size=hidden,
        mlp_dim=4 * hidden,
        num_heads=max(1, hidden // HEAD_FEATURES),
        spatial_dims=spec.dimensions,
    )
    for module in network.modules():
        if getattr(module, "with_cross_attention", None) is False:
            # never computed, so never trained
            module.cross_attn = module.norm_cross_attn = nn.Identity()
    return MonaiNetwork(network)


def swin_unetr(spec: NetworkSpec) -> nn.Module:
    """Swin UNETR, version 2 (Hatamizadeh et al. 2022; He et al. 2023): attention in windows that shift."""
    checked(spec)
    patch = _patch_of(spec, SWIN_DIVISOR)
    with _NumbersOnCpu():
        network = _class("swin_unetr", "SwinUNETR")(
            in_channels=spec.channels,
            out_channels=spec.heads,
            feature_size=spec.features_per_stage[0],
            window_size=swin_windows(patch),
            depths=spec.blocks_per_stage[1:-1],
            spatial_dims=spec.dimensions,
            use_v2=True,
        )
    return MonaiNetwork(network)


# -------------------------------------------------------------------------------------------------- what they declare


def unbounded_widths(base: int, largest: int, stages: int) -> tuple[int, ...]:
    """Features that double at every stage: SegResNet and MedNeXt know no bound, and have few stages instead."""
    del largest
    return tuple(base * 2**stage for stage in range(stages))


def unetr_widths(base: int, largest: int, stages: int) -> tuple[int, ...]:
    """Feature size 16 and 768 hidden features (ViT-B) where the preset begins with 32, in proportion else (ViT-S)."""
    del largest
    feature_size = max(1, base // 2)
    hidden = max(1, round(24 * base / HEAD_FEATURES)) * HEAD_FEATURES
    return (*(feature_size * 2**stage for stage in range(stages - 1)), hidden)


def swin_widths(base: int, largest: int, stages: int) -> tuple[int, ...]:
    """Feature size 48 where the preset begins with 32, in proportion else, in steps of 12 as its heads need."""
    del largest
    feature_size = max(1, round(1.5 * base / 12)) * 12
    return (feature_size, *(feature_size * 2**stage for stage in range(stages - 1)))


def swin_windows(patch_size: Iterable[int]) -> tuple[int, ...]:
    """Edge of the attention windows in tokens, per axis: what pads the tokens of all stages least, else the paper's 7.

    Tokens are two voxels long; each of the four stages has half as many. A map no longer than a window is one window.
    """
    return tuple(_window(size // 2) for size in patch_size)


def _window(tokens: int) -> int:
    def padding(window: int) -> float:
        lengths = [tokens // 2**stage for stage in range(4)]
        return math.fsum(-(-n // window) * window / n for n in lengths if n > window)

    return min(SWIN_WINDOWS, key=lambda window: (padding(window), abs(window - SWIN_WINDOW), window))


def told_windows(spec: NetworkSpec) -> str:
    """The attention windows in a sentence."""
    windows = "x".join(map(str, swin_windows(spec.patch_size)))
    return f"Attention windows of {windows} tokens (two voxels each): of 5 to 8, what pads the patch least."


def told_tokens(spec: NetworkSpec) -> str:
    """The tokens of the transformer in a sentence."""
    tokens = math.prod(size // UNETR_TOKEN for size in spec.patch_size)
    hidden = spec.features_per_stage[-1]
    return f"{tokens} tokens of {hidden} features, {hidden // HEAD_FEATURES} heads, 12 layers."


# ------------------------------------------------------------------------------------------------------------- checks


def _class(module: str, name: str) -> Callable[..., nn.Module]:
    """A network of MONAI; importing it warns of what torch has deprecated, which is not ours to tell."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: Callable[..., nn.Module] = getattr(importlib.import_module(f"monai.networks.nets.{module}"), name)
    return found


def _require_doubling(spec: NetworkSpec) -> None:
    """Raise PlanError for a plan, edited by hand, that the network cannot follow."""
    if any(set(row) != {2} for row in spec.strides[1:]):
        raise PlanError(f"{spec.network} halves all axes at every stage, and nothing else", where="strides")
    if spec.features_per_stage != unbounded_widths(spec.features_per_stage[0], 0, len(spec.strides)):
        raise PlanError(f"the features of {spec.network} double at every stage", where="features_per_stage")


def _patch_of(spec: NetworkSpec, divisor: int) -> tuple[int, ...]:
    """The patch, which the network is made for. Raises PlanError for one that it cannot take."""
    if not spec.patch_size:
        raise PlanError(f"{spec.network} is made for one patch, and none is given", where="patch_size")
    if any(size % divisor for size in spec.patch_size):
        raise PlanError(f"{spec.network} needs multiples of {divisor} along every axis", where="patch_size")
    return spec.patch_size


class _NumbersOnCpu(TorchFunctionMode):
    """Lets Swin UNETR be built on the meta device too: it reads numbers out of a `linspace`."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func is torch.linspace:
            given["device"] = "cpu"
        return func(*args, **given)


def _instance_normalized(network: nn.Module) -> nn.Module:
    """The network with instance in place of batch normalization, and scale and shift learned in all of them.

    Batches here are of two samples, of which statistics tell little; and what a network makes of a patch is not to
    depend on its company. Scale and shift begin as one and zero; ONNX has no instance normalization without them.
    """
    flat, solid = (nn.BatchNorm2d, nn.InstanceNorm2d), (nn.BatchNorm3d, nn.InstanceNorm3d)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, (*flat, *solid)):
                build = nn.InstanceNorm2d if isinstance(child, flat) else nn.InstanceNorm3d
                setattr(module, name, build(child.num_features, eps=child.eps, affine=True))
    return network
