"""Where the prepared cases of a training are held."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from autoseg import devices
from autoseg.errors import RecordError
from autoseg.files import read_record
from autoseg.progress import Progress
from autoseg.records import Probe
from autoseg.training.cases import CaseOnDevice, hold_on_device, room_on_device
from autoseg.training.patches import TrainingCase
from autoseg.workspace import Workspace


def placed(
    cases: Sequence[TrainingCase],
    work: Workspace,
    plan: str,
    configuration: str,
    device: torch.device,
    progress: Progress,
) -> list[TrainingCase]:
    """The cases, as many on a CUDA device as fit there beside a training step."""
    if device.type != "cuda" or not cases:
        return list(cases)
    room = room_on_device(devices.free_memory(device), measured_step_bytes(work, plan, configuration, device))
    held = hold_on_device(cases, device, room)
    count = sum(isinstance(case, CaseOnDevice) for case in held)
    if count:
        progress.say(f"{count} of {len(held)} prepared cases are held on {device}")
    return held


def measured_step_bytes(work: Workspace, plan: str, configuration: str, device: torch.device) -> int | None:
    """What one step of a configuration took on such a device when it was tried; None where it was not tried there."""
    path = work.probe(plan)
    if not path.exists():
        return None
    try:
        probe = read_record(path, Probe)
    except RecordError:  # it belongs to the moment: nothing but the place of the cases depends on it
        return None
    if probe.device != devices.describe(device):
        return None
    return next((step.peak_bytes for step in probe.steps if step.configuration == configuration), None)
