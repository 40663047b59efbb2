"""How large any network is on a patch, counted in the network itself: on torch's meta device nothing is computed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from autoseg.errors import AutosegError, PlanError
from autoseg.networks.catalog import build_network
from autoseg.records import NetworkSpec


@dataclass(frozen=True)
class NetworkSize:
    """A network on a patch, for one sample."""

    kept: int  # elements that training keeps for the backward pass, weights not counted
    largest: int  # elements of the largest tensor among them
    weights: int  # trained numbers
    operations: int  # multiplications and additions of a forward pass


@lru_cache(maxsize=4096)
def network_size(spec: NetworkSpec, patch_size: tuple[int, ...]) -> NetworkSize:
    """The network's size on a patch: what autograd saves is asked of autograd, attention and all.

    Raises PlanError where the network takes no such patch, or decides by the values of its input: then it cannot be
    counted.
    """
    weights: dict[int, Tensor] = {}
    saved: dict[int, tuple[Tensor, int]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            # kept alive here, or the next one might get its place and be taken for it
            saved[storage._cdata] = (tensor, storage.nbytes() // tensor.element_size())
        return tensor

    with _on_meta(spec, patch_size):
        network = build_network(spec)
        weights = {parameter.untyped_storage()._cdata: parameter for parameter in network.parameters()}
        image = torch.empty(1, spec.channels, *patch_size)
        counter = FlopCounterMode(display=False)
        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), counter:
            outputs = network(image)
    del outputs
    elements = [count for _, count in saved.values()]
    trained = sum(parameter.numel() for parameter in weights.values() if parameter.requires_grad)
    return NetworkSize(sum(elements), max(elements, default=0), trained, counter.get_total_flops())


@lru_cache(maxsize=256)
def passing_elements(spec: NetworkSpec, patch_size: tuple[int, ...]) -> int:
    """Elements that one sample holds at most at one time on its way through, where nothing is kept for a gradient.

    The image itself is not counted. Raises PlanError as `network_size` does.
    """
    with _on_meta(spec, patch_size):
        network: nn.Module = build_network(spec).eval()
        image = torch.empty(1, spec.channels, *patch_size)
        living = _Living([image, *network.parameters(), *network.buffers()])
        with torch.no_grad(), living:
            network(image)
    return living.most


class _Living(TorchDispatchMode):
    """Adds up the elements of all tensors that operations make and that still live, and keeps the largest sum."""

    def __init__(self, given: Sequence[Tensor]) -> None:
        super().__init__()
        self.given = {tensor.untyped_storage()._cdata for tensor in given}
        self.living: dict[int, tuple[StorageWeakRef, int]] = {}
        self.most = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.living = {key: entry for key, entry in self.living.items() if not entry[0].expired()}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.given:
                    count = storage.nbytes() // tensor.element_size()
                    self.living[storage._cdata] = (StorageWeakRef(storage), count)
        self.most = max(self.most, sum(count for _, count in self.living.values()))
        return result


@contextmanager
def _on_meta(spec: NetworkSpec, patch_size: tuple[int, ...]) -> Iterator[None]:
    """On torch's meta device for the `with` block. Raises PlanError for what fails there."""
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of initializations that do nothing here
            yield
    except AutosegError:
        raise
    except Exception as error:
        raise PlanError(
            f"network {spec.network!r} cannot be counted on a patch of {'x'.join(map(str, patch_size))} "
            f"({type(error).__name__}: {str(error).strip().splitlines()[0][:200] if str(error).strip() else ''})",
            where="network",
            remedy="Its forward pass must work on torch's meta device: it may not decide by values.",
        ) from error
