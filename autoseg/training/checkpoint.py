"""The state of a run on disk, for resuming: one safetensors file, written aside and renamed.

Weights, optimizer state and averaged weights are tensors; counters stand in the header. One file, so that a kill at
any moment leaves a state that fits together: the earlier one or the new one. (Random numbers need no state: they are
a function of seed, step and place in the batch.)
"""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from autoseg.errors import TrainingError
from autoseg.files import written_aside
from autoseg.records import Record

_HEADER = "autoseg"


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
    overhead_seconds: float = 0.0  # spent outside of training so far, over all starts: counts towards a budget
    score_with_mirroring: bool = True  # whether the held-out cases are scored with mirroring


def save_state(
    path: Path, state: RunState, network: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, torch.Tensor]
) -> None:
    """Write the whole state of a run, atomically."""
    tensors = {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"average/{name}": tensor for name, tensor in average.items()}
    for index, values in optimizer.state_dict()["state"].items():
        for key, value in values.items():
            tensors[f"optimizer/{index}/{key}"] = value if isinstance(value, torch.Tensor) else torch.tensor(value)
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with written_aside(path) as aside:
        save_file(stored, str(aside), metadata={_HEADER: state.model_dump_json()})


def load_state(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, torch.Tensor]
) -> RunState:
    """Fill network, optimizer and averaged weights from a saved state; return the counters.

    Raises TrainingError when the file is damaged or belongs to another network.
    """
    remedy = "Remove it to begin this run anew, or restore the file."
    try:
        with safe_open(str(path), framework="pt") as file:
            state = RunState.model_validate_json((file.metadata() or {}).get(_HEADER, ""))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValidationError) as error:
        raise TrainingError(
            f"the saved state cannot be read ({type(error).__name__})", where=path, remedy=remedy
        ) from error
    weights = _part(tensors, "network/")
    expected = network.state_dict()
    if weights.keys() != expected.keys() or any(weights[name].shape != expected[name].shape for name in expected):
        raise TrainingError("the saved state belongs to another network", where=path, remedy=remedy)
    network.load_state_dict(weights)
    for name, tensor in _part(tensors, "average/").items():
        average[name].copy_(tensor)
    optimizer_state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in _part(tensors, "optimizer/").items():
        index, key = name.split("/", 1)
        optimizer_state.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({"state": optimizer_state, "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                # the memory format of the weights, which fused optimizers expect of their state
                values[key] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    return state


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
