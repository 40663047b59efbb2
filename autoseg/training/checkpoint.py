"""The state of a run on disk, for resuming: one safetensors file, written aside and renamed.

Weights, optimizer state and averaged weights are tensors; counters stand in the header. One file, so that a kill at
any moment leaves a state that fits together: the earlier one or the new one. (Random numbers need no state: they are
a function of seed, step and place in the batch.)
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import nn

from autoseg.errors import TrainingError
from autoseg.files import disk_full, written_aside
from autoseg.records import Record
from autoseg.seals import sealed, unsealed, why_not_intact

_HEADER = "autoseg"

_REMEDY = "Restore the file, or rename the folder of the run to begin anew."


class RunState(Record):
    """The counters of a run."""

    format: int = 1
    epoch: int = 0  # epochs finished
    step: int = 0  # steps made
    seconds: float = 0.0  # training time so far, over all starts
    loss_sum: float = 0.0  # of the epoch under way
    loss_steps: int = 0
    wait_seconds: float = 0.0  # for data, in the epoch under way
    epoch_began: float = 0.0  # seconds of the run when the epoch under way began
    skipped_steps: int = 0
    rollbacks: int = 0  # times that training went back to an earlier state because the loss was not finite
    rollbacks_in_a_row: int = 0  # of these since the last epoch without a skipped step
    rate_factor: float = 1.0  # of the schedule's learning rate: halved by each of them
    smoothed: float | None = None  # what patience watches, smoothed: the higher the better
    best: float | None = None  # the highest of it
    best_epoch: int = 0  # epochs finished when it was reached
    scaler: dict[str, float] = Field(default_factory=dict)  # of the loss, in float16
    overhead_seconds: float = 0.0  # spent outside of training so far, over all starts: counts towards a budget
    score_with_mirroring: bool = True  # whether the held-out cases are scored with mirroring
    finished_by: Literal["", "schedule", "patience"] = ""  # set once the model of the whole run is written


def save_state(
    path: Path, state: RunState, network: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, torch.Tensor]
) -> None:
    """Write the whole state of a run, atomically.

    Raises DiskFullError, with the bytes needed and free, where there is no room; what was there before is intact.
    """
    stored = _tensors(network, optimizer) | _stored({f"average/{name}": tensor for name, tensor in average.items()})
    needed = sum(tensor.nbytes for tensor in stored.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(path.parent).free < needed:
        raise disk_full(path, needed)
    with written_aside(path, needed) as aside:
        # written by Python, not by safetensors, whose errors would hide that the disk is full
        aside.write_bytes(save(stored, metadata={_HEADER: sealed(state.model_dump(mode="json"), stored)}))


def _tensors(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    tensors = {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
    for index, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            tensors[f"optimizer/{index}/{key}"] = value if isinstance(value, torch.Tensor) else torch.tensor(value)
    return _stored(tensors)


def _stored(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def packed_state(network: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> bytes:
    """Weights, optimizer state and scale of the loss, for another process that trains along."""
    numbers = {f"scaler/{name}": torch.tensor(value) for name, value in scaler.state_dict().items()}
    return save(_tensors(network, optimizer) | numbers)


def unpack_state(
    packed: bytes, network: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler
) -> None:
    """Take over what `packed_state` packed."""
    tensors = load(packed)
    network.load_state_dict(_part(tensors, "network/"))
    _fill_optimizer(optimizer, _part(tensors, "optimizer/"))
    scale = {name: value.item() for name, value in _part(tensors, "scaler/").items()}
    if scale:
        scaler.load_state_dict(scaler_state(scaler, scale))


def scaler_state(scaler: torch.amp.GradScaler, kept: Mapping[str, float]) -> dict[str, Any]:
    """What the scaler's `load_state_dict` takes, from kept numbers: torch wants its counts as whole ones."""
    return {name: type(own)(kept.get(name, own)) for name, own in scaler.state_dict().items()}


def read_state(path: Path) -> RunState:
    """The counters of a saved state, without its tensors. Raises TrainingError when the file is damaged."""
    try:
        with safe_open(str(path), framework="pt") as file:
            record = json.loads((file.metadata() or {}).get(_HEADER, ""))
        return RunState.model_validate_json(json.dumps(unsealed(record)))
    except (SafetensorError, OSError, ValueError, AttributeError) as error:  # pydantic's errors are ValueErrors
        raise _unreadable(path, error) from error


def require_intact(path: Path) -> None:
    """Raise TrainingError where a saved state is damaged; reads all of it."""
    _read_tensors(path)


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        content = path.read_bytes()
        tensors = load(content)
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    fault = why_not_intact(content, _HEADER, tensors)
    if fault is not None:
        raise TrainingError(f"the saved state is damaged: {fault}", where=path, remedy=_REMEDY)
    return tensors


def load_state(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, torch.Tensor]
) -> RunState:
    """Fill network, optimizer and averaged weights from a saved state; return the counters.

    Raises TrainingError when the file is damaged or belongs to another network.
    """
    state, tensors = read_state(path), _read_tensors(path)
    weights = _part(tensors, "network/")
    expected = network.state_dict()
    if weights.keys() != expected.keys() or any(weights[name].shape != expected[name].shape for name in expected):
        raise TrainingError("the saved state belongs to another network", where=path, remedy=_REMEDY)
    network.load_state_dict(weights)
    for name, tensor in _part(tensors, "average/").items():
        average[name].copy_(tensor)
    _fill_optimizer(optimizer, _part(tensors, "optimizer/"))
    return state


def _fill_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    optimizer_state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split("/", 1)
        optimizer_state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": optimizer_state, "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                # the memory format of the weights, which fused optimizers expect of their state
                values[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _unreadable(path: Path, error: Exception) -> TrainingError:
    return TrainingError(f"the saved state cannot be read ({type(error).__name__})", where=path, remedy=_REMEDY)


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
