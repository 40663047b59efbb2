"""The network in a configuration of nnU-Net's plans, both ways, in the present format and in that of older plans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autoseg.errors import PlanError
from autoseg.interop.nnunet_fields import Fields
from autoseg.records import Configuration

#: Our networks by the names of nnU-Net's classes.
NETWORKS = {"PlainConvUNet": "unet", "ResidualEncoderUNet": "resenc"}

#: Where nnU-Net's own network classes live; a class of the same name elsewhere is another network.
_PACKAGE = "dynamic_network_architectures.architectures."

#: What the encoder's stages are counted in.
_BLOCKS = {"unet": "n_conv_per_stage", "resenc": "n_blocks_per_stage"}

#: Arguments of the classes that change the network: accepted where they say what they say when left out.
_LEFT_OUT = {
    "nonlin_first": (False,),
    "bottleneck_channels": (None,),
    "stem_channels": (None,),
    "block": (None, "dynamic_network_architectures.building_blocks.residual.BasicBlockD"),
    "squeeze_excitation": (False,),
    "stochastic_depth_p": (0, 0.0),
    "deep_supervision": (True, False),
}

_KNOWN = {
    "n_stages",
    "features_per_stage",
    "conv_op",
    "kernel_sizes",
    "strides",
    "n_conv_per_stage",
    "n_blocks_per_stage",
    "n_conv_per_stage_decoder",
    "conv_bias",
    "norm_op",
    "norm_op_kwargs",
    "dropout_op",
    "dropout_op_kwargs",
    "nonlin",
    "nonlin_kwargs",
    *_LEFT_OUT,
}


@dataclass(frozen=True)
class Architecture:
    """A network of nnU-Net in our terms; the decoder's levels finest first."""

    network: str  # name in networks.catalog.NETWORKS
    strides: tuple[tuple[int, ...], ...]
    kernel_sizes: tuple[tuple[int, ...], ...]
    features_per_stage: tuple[int, ...]
    blocks_per_stage: tuple[int, ...]
    blocks_per_stage_decoder: tuple[int, ...]
    biases: bool  # whether its convolutions have them
    dropout: bool  # does nothing when predicting


def architecture_from_nnunet(configuration: Fields, dimensions: int) -> Architecture:
    """The network of a configuration.

    Raises PlanError, naming the field, for whatever our networks do not do: other classes, norms or activations.
    """
    if "architecture" not in configuration.values and "UNet_class_name" in configuration.values:
        return _from_old_plans(configuration, dimensions)
    architecture = configuration.table("architecture")
    network = _network_named(architecture, "network_class_name")
    arguments = architecture.table("arch_kwargs")
    _refuse_unknown(arguments)
    _check_operations(arguments, dimensions)
    stages = arguments.whole("n_stages", least=2)
    return _checked(
        arguments,
        Architecture(
            network=network,
            strides=arguments.rows("strides", stages, dimensions),
            kernel_sizes=arguments.rows("kernel_sizes", stages, dimensions),
            features_per_stage=arguments.per_stage("features_per_stage", stages),
            blocks_per_stage=arguments.per_stage(_BLOCKS[network], stages),
            # nnU-Net counts the decoder's stages from the bottom up
            blocks_per_stage_decoder=arguments.per_stage("n_conv_per_stage_decoder", stages - 1)[::-1],
            biases=arguments.flag("conv_bias") if arguments.has("conv_bias") else False,
            dropout=arguments.has("dropout_op"),
        ),
        "kernel_sizes",
        "strides",
    )


def _from_old_plans(configuration: Fields, dimensions: int) -> Architecture:
    """The network in plans from before nnU-Net 2.4, which spread its arguments over the configuration."""
    network = _network_named(configuration, "UNet_class_name")
    blocks = configuration.get("n_conv_per_stage_encoder")
    stages = len(blocks) if isinstance(blocks, list) else 0
    if stages < 2:
        raise configuration.error("n_conv_per_stage_encoder", f"{blocks!r} is not a list of at least two")
    base, largest = configuration.whole("UNet_base_num_features"), configuration.whole("unet_max_num_features")
    return _checked(
        configuration,
        Architecture(
            network=network,
            strides=configuration.rows("pool_op_kernel_sizes", stages, dimensions),
            kernel_sizes=configuration.rows("conv_kernel_sizes", stages, dimensions),
            features_per_stage=tuple(min(base * 2**stage, largest) for stage in range(stages)),
            blocks_per_stage=configuration.per_stage("n_conv_per_stage_encoder", stages),
            blocks_per_stage_decoder=configuration.per_stage("n_conv_per_stage_decoder", stages - 1)[::-1],
            biases=True,
            dropout=False,
        ),
        "conv_kernel_sizes",
        "pool_op_kernel_sizes",
    )


def _network_named(fields: Fields, name: str) -> str:
    class_name = fields.text(name)
    package, _, short = class_name.rpartition(".")
    if short not in NETWORKS or (package and not class_name.startswith(_PACKAGE)):
        raise fields.error(
            name,
            f"the network {class_name!r} is not known here",
            f"Known are nnU-Net's {' and '.join(NETWORKS)}.",
        )
    return NETWORKS[short]


def _refuse_unknown(arguments: Fields) -> None:
    for name, value in arguments.values.items():
        if name not in _KNOWN:
            raise arguments.error(name, f"this argument of the network ({value!r}) is not known here", None)
        if name in _LEFT_OUT and value not in _LEFT_OUT[name]:
            raise arguments.error(name, f"{value!r} makes another network than those known here", None)


def _check_operations(arguments: Fields, dimensions: int) -> None:
    """Refuse other convolutions, norms and activations than our networks have."""
    _require(arguments, "conv_op", f"Conv{dimensions}d", "torch.nn.")
    _require(arguments, "norm_op", f"InstanceNorm{dimensions}d", "torch.nn.")
    _require(arguments, "nonlin", "LeakyReLU", "torch.nn.")
    expected = {"eps": 1e-5, "affine": True, "track_running_stats": False, "momentum": 0.1}
    norm = arguments.table("norm_op_kwargs") if arguments.has("norm_op_kwargs") else Fields({}, source=arguments.source)
    for name, value in norm.values.items():
        if name != "momentum" and (name not in expected or value != expected[name]):
            raise norm.error(name, f"{value!r} is not supported, the norms here have {expected.get(name)!r}", None)
    if norm.values.get("affine") is not True:
        raise arguments.error("norm_op_kwargs", "the norms need affine: true", None)
    slope = arguments.table("nonlin_kwargs").values if arguments.has("nonlin_kwargs") else {}
    if slope.get("negative_slope", 0.01) != 0.01:
        raise arguments.error("nonlin_kwargs", f"a slope of {slope['negative_slope']!r} is not supported, only 0.01")
    if arguments.has("dropout_op") and not arguments.text("dropout_op").startswith("torch.nn."):
        raise arguments.error("dropout_op", f"{arguments.get('dropout_op')!r} is not known here", None)


def _require(arguments: Fields, name: str, wanted: str, package: str) -> None:
    found = arguments.get(name)
    if not isinstance(found, str) or found.rpartition(".")[2] != wanted or not found.startswith(package):
        raise arguments.error(name, f"{found!r} is not supported, only torch's {wanted}", None)


def _checked(fields: Fields, architecture: Architecture, kernels: str, strides: str) -> Architecture:
    if any(size % 2 == 0 for row in architecture.kernel_sizes for size in row):
        raise fields.error(kernels, "kernel sizes must be odd")
    if any(step != 1 for step in architecture.strides[0]):
        raise fields.error(strides, f"the first stage must keep the resolution, not stride {architecture.strides[0]}")
    return architecture


def architecture_to_nnunet(configuration: Configuration) -> dict[str, Any]:
    """`architecture` of a configuration in nnU-Net's plans. Raises PlanError for networks that it does not have."""
    classes = {ours: theirs for theirs, ours in NETWORKS.items()}
    if configuration.network not in classes:
        raise PlanError(
            f"nnU-Net has no network {configuration.network!r}",
            where=f"{configuration.name}.network",
            remedy=f"Only {' and '.join(classes)} can be exported to it.",
        )
    dimensions = configuration.dimensions
    return {
        "network_class_name": f"{_PACKAGE}unet.{classes[configuration.network]}",
        "arch_kwargs": {
            "n_stages": len(configuration.strides),
            "features_per_stage": list(configuration.features_per_stage),
            "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
            "kernel_sizes": [list(row) for row in configuration.kernel_sizes],
            "strides": [list(row) for row in configuration.strides],
            _BLOCKS[configuration.network]: list(configuration.blocks_per_stage),
            "n_conv_per_stage_decoder": list(configuration.blocks_per_stage_decoder)[::-1],
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
