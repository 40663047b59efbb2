"""Beginning with the weights of another model: what fits by name and shape is copied, the rest stays random.

A network's inputs and outputs may differ in number from the source's. Which tensors depend on them, and along which
axis, is seen by building the network with one more of each on torch's meta device, so it holds for any architecture.
Channels and labels are matched by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autoseg.errors import TrainingError
from autoseg.networks.catalog import build_network
from autoseg.networks.misfits import misfits
from autoseg.records import Labels, NetworkSpec

Shapes = dict[str, tuple[int, ...]]

#: Place in the target -> place in the source, for channels or outputs.
Places = Mapping[int, int]


@dataclass(frozen=True)
class Copied:
    """How one tensor is filled from the source's of the same name."""

    inputs: int | None = None  # axis that counts input channels
    outputs: int | None = None  # axis that counts outputs


@dataclass(frozen=True, eq=False)
class InitialWeights:
    """The weights of another model, and which of them fit a network."""

    source: Mapping[str, Tensor]
    copied: Mapping[str, Copied]
    inputs: Places
    outputs: Places
    whole: int  # tensors that are copied completely
    partial: tuple[str, ...]  # copied for the channels or outputs in common
    new: tuple[str, ...]  # not copied at all
    unlike: tuple[str, ...] = ()  # lines on these that have another shape in the source, or are not there

    def copy_to(self, network: nn.Module) -> None:
        """Fill the network with what fits, in place."""
        with torch.no_grad():
            for name, tensor in network.state_dict().items():
                if name in self.copied:
                    self._fill(tensor, self.source[name].to(tensor.device, tensor.dtype), self.copied[name])

    def _fill(self, target: Tensor, source: Tensor, how: Copied) -> None:
        if how.inputs is None and how.outputs is None:
            target.copy_(source)
            return
        into: list[Tensor] = [torch.arange(size) for size in target.shape]
        from_: list[Tensor] = [torch.arange(size) for size in source.shape]
        for axis, places in ((how.inputs, self.inputs), (how.outputs, self.outputs)):
            if axis is not None:
                into[axis] = torch.tensor(list(places.keys()), dtype=torch.long)
                from_[axis] = torch.tensor(list(places.values()), dtype=torch.long)
        device = target.device
        target[_grid(into, device)] = source[_grid(from_, device)]


def fitting_weights(
    source: Mapping[str, Tensor], spec: NetworkSpec, channels: Places, outputs: Places, where: object = None
) -> InitialWeights:
    """What of a source's weights fits the network of `spec`.

    Args:
        source: tensors by name.
        spec: of the network to be filled.
        channels: channel of the network -> channel of the source that means the same.
        outputs: output of the network -> output of the source that means the same.
        where: the source, for the error.

    Raises TrainingError where nothing fits: it is another network.
    """
    shapes = network_shapes(spec)
    by_input = counted_axes(shapes, network_shapes(spec.model_copy(update={"channels": spec.channels + 1})))
    by_output = counted_axes(shapes, network_shapes(spec.model_copy(update={"heads": spec.heads + 1})))
    copied: dict[str, Copied] = {}
    whole, partial, new = 0, [], []
    for name, shape in shapes.items():
        how = Copied(by_input.get(name), by_output.get(name))
        free = {axis for axis in (how.inputs, how.outputs) if axis is not None}
        theirs = tuple(source[name].shape) if name in source else ()
        fits = len(theirs) == len(shape) and all(
            axis in free or mine == other for axis, (mine, other) in enumerate(zip(shape, theirs, strict=True))
        )
        complete = fits
        for axis, places in ((how.inputs, channels), (how.outputs, outputs)):
            if fits and axis is not None:
                fits = bool(places) and max(places.values()) < theirs[axis]
                complete = complete and len(places) == shape[axis]
        if not fits:
            new.append(name)
            continue
        copied[name] = how
        whole += complete
        if not complete:
            partial.append(name)
    if not any(len(shapes[name]) > 1 and how == Copied() for name, how in copied.items()):
        raise TrainingError(
            "none of its weights fits the network: it is of another architecture\n"
            + "\n".join(misfits(shapes, source)),
            where=where,
            remedy="\nUse a model that autoseg trained or imported, or train from the beginning.",
        )
    others = {name: shapes[name] for name in (*partial, *new)}
    unlike = misfits(others, {name: source[name] for name in others if name in source})
    return InitialWeights(
        source, copied, dict(channels), dict(outputs), whole, tuple(partial), tuple(new), tuple(unlike)
    )


def network_shapes(spec: NetworkSpec) -> Shapes:
    """Shape of every tensor of a network, without its memory."""
    with torch.device("meta"):
        network = build_network(spec)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def counted_axes(shapes: Shapes, with_one_more: Shapes) -> dict[str, int]:
    """Tensors that grow with what there is one more of, and the axis along which they do."""
    axes = {}
    for name, shape in shapes.items():
        larger = with_one_more.get(name, ())
        if len(larger) == len(shape):
            grown = [axis for axis, (mine, other) in enumerate(zip(shape, larger, strict=True)) if mine != other]
            if len(grown) == 1:
                axes[name] = grown[0]
    return axes


def same_channels(target: Sequence[str], source: Sequence[str]) -> dict[int, int]:
    """Channels that mean the same: of the same name, or in the same place where no name is shared and numbers agree."""
    places = {name.casefold(): place for place, name in enumerate(source)}
    named = {place: places[name.casefold()] for place, name in enumerate(target) if name.casefold() in places}
    if not named and len(target) == len(source):
        return {place: place for place in range(len(target))}
    return named


def same_outputs(target: Labels, source: Labels) -> dict[int, int]:
    """Outputs that mean the same: labels of the same name. None between plain labels and regions."""
    if target.has_regions != source.has_regions:
        return {}
    theirs = {name: place for place, name in enumerate(output_names(source))}
    return {place: theirs[name] for place, name in enumerate(output_names(target)) if name in theirs}


def output_names(labels: Labels) -> tuple[str, ...]:
    """What each output of the network is called."""
    if labels.has_regions:
        return tuple(labels.foreground)
    by_value = {members[0]: name for name, members in labels.foreground.items()}
    return tuple(by_value.get(place, "background") for place in range(labels.heads))


def _grid(places: Sequence[Tensor], device: torch.device) -> tuple[Tensor, ...]:
    """Indices that select the given places along every axis."""
    last = len(places) - 1
    return tuple(
        index.to(device).view([-1 if axis == number else 1 for axis in range(last + 1)])
        for number, index in enumerate(places)
    )
