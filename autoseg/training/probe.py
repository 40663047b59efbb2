"""One real training step of a configuration, tried on random data before anything is promised.

The step is the training's own: network, loss, precision, optimizer, averaged weights, augmentation and the batches
that are cropped ahead. So what it takes here is what the first step of a training takes.
"""

from __future__ import annotations

import math
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from autoseg import devices
from autoseg.errors import TrainingError, is_out_of_memory
from autoseg.networks.acceleration import ACCELERATIONS, Acceleration, usual
from autoseg.planning.step import network_channels, step_bytes, step_operations
from autoseg.plugins import imported_plugins
from autoseg.records import (
    Configuration,
    Geometry,
    Labels,
    Placement,
    PreparedCase,
    Shape,
    StepProbe,
    TrainSettings,
)
from autoseg.training.augmentation import find_augmentation, initial_patch_size
from autoseg.training.cases import CaseInMemory
from autoseg.training.loop import Training
from autoseg.training.memory import memory_growth
from autoseg.training.setup import TrainingSetup

#: Steps that are made where the first took less than SHORT_SECONDS: it warms up, and memory is full from the second on,
#: when the optimizer has its state. More, up to MOST_REPEATS, while they are short: what augmentation holds varies.
REPEATS, MOST_REPEATS = 3, 6
SHORT_SECONDS, ENOUGH_SECONDS = 10.0, 1.0

#: A step that would take longer is not tried on a CPU.
PATIENCE_SECONDS = 60.0

#: Operations of a step that any CPU manages within that time: for fewer, nothing has to be estimated first.
QUICK_OPERATIONS = 3e12

#: Edge in voxels of the patch from which the time of a step is foreseen: on smaller ones all else takes longer.
SMALL_EDGE = 32

#: A step is not tried if the closed form says that it needs this many times the memory there is.
HOPELESS = 2.0

#: Name of the case that the step is made on.
NOISE = "noise"


@dataclass(frozen=True)
class StepTask:
    """Which step to try, and where."""

    configuration: Configuration
    channels: int  # of the images
    labels: Labels
    mirror_axes: tuple[int, ...]
    settings: TrainSettings
    device: str  # name for `devices.choose_device`
    partly_annotated: bool = False  # whether labels are missing from some cases: then the loss holds more
    samples_at_a_time: int | None = None  # of the batch; None is all
    acceleration: str = ""  # name in ACCELERATIONS; empty is the usual one of the device
    chosen_precision: devices.Precision | None = None  # None is what is best on the device

    @property
    def way(self) -> Acceleration:
        """How the network is computed."""
        device = devices.choose_device(self.device)
        return ACCELERATIONS[self.acceleration or usual(device, recordable=not imported_plugins())]

    @property
    def precision(self) -> devices.Precision:
        """The precision in which a training on this device computes unless told otherwise."""
        target = devices.choose_device(self.device)
        return self.chosen_precision or devices.choose_precision("auto", target, [self.configuration.network])

    @property
    def estimated_bytes(self) -> int:
        """Memory by the closed form."""
        half = self.precision != "float32"
        size = min(self.samples_at_a_time or self.configuration.batch_size, self.configuration.batch_size)
        at_once = self.configuration.model_copy(update={"batch_size": size})
        return step_bytes(at_once, self.channels, self.labels, self.settings, half_precision=half)

    @property
    def operations(self) -> float:
        """Arithmetic of one step."""
        return step_operations(self.configuration, self.channels, self.labels)


def try_step(task: StepTask, limit_bytes: int) -> StepProbe:
    """Make one training step (a few, where it is short) and tell what it took.

    A step is not made where the closed form says that it needs HOPELESS times the limit, nor on a CPU where it would
    take longer than PATIENCE_SECONDS; then seconds and bytes are estimates and `why` says so.
    """
    name, estimate = task.configuration.name, task.estimated_bytes
    if estimate > HOPELESS * limit_bytes:
        return StepProbe(
            configuration=name,
            fits=False,
            peak_bytes=estimate,
            limit_bytes=limit_bytes,
            why=f"not tried: it needs about {_gb(estimate)}, far more than {_gb(limit_bytes)}",
        )
    device = devices.choose_device(task.device)
    try:
        with memory_growth(device) as growth:
            seconds = _estimated_seconds(task) if device.type == "cpu" else 0.0
            if seconds > PATIENCE_SECONDS:
                return StepProbe(
                    configuration=name,
                    fits=estimate <= limit_bytes,
                    seconds_per_step=seconds,
                    peak_bytes=estimate,
                    limit_bytes=limit_bytes,
                    why=f"not tried: a step would take about {seconds:.0f} s here; seconds and memory are estimates",
                )
            seconds = timed_steps(task)
            peak = growth()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return StepProbe(
            configuration=name,
            fits=False,
            limit_bytes=limit_bytes,
            why=f"memory ran out: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
        )
    finally:
        devices.release_memory(device)
    fits = peak <= limit_bytes
    return StepProbe(
        configuration=name,
        fits=fits,
        seconds_per_step=seconds if fits else None,
        peak_bytes=peak,
        limit_bytes=limit_bytes,
        why="" if fits else f"a step took {_gb(peak)}, more than {_gb(limit_bytes)}",
    )


def _gb(count: float) -> str:
    return f"{count / 2**30:.1f} GB"


# --------------------------------------------------------------------------------------------------------- seconds


class _Enough(Exception):
    """The steps that were wanted are made."""


def timed_steps(task: StepTask, repeats: int = REPEATS, most: int = MOST_REPEATS) -> float:
    """Seconds of one step: the shortest of a few after the first, or the first where that is long.

    A first step that compiles is long whatever the others are. Raises TrainingError where the way that was named does
    not work.
    """
    device = devices.choose_device(task.device)
    way = task.way
    seconds: list[float] = []
    began = time.monotonic()

    def after_each_step() -> bool:
        devices.synchronize(device)
        seconds.append(time.monotonic() - began - sum(seconds))
        enough = most if sum(seconds) < ENOUGH_SECONDS else repeats
        # what a first step compiles or records is not of its kind
        if len(seconds) >= enough or (seconds[0] > SHORT_SECONDS and device.type != "cuda" and not way.compiled):
            raise _Enough
        return False

    with tempfile.TemporaryDirectory() as folder, suppress(_Enough):
        training = Training(_setup(task, device), Path(folder) / "state.safetensors")
        training.learner.makes_do = False
        if task.acceleration:
            training.say = _refused  # what a training would do without is not to be measured
        began = time.monotonic()
        for _ in training.epochs(after_each_step):
            pass
    return min(seconds[1:], default=seconds[0])


def _refused(words: str) -> None:
    raise TrainingError(words)


def _setup(task: StepTask, device: torch.device) -> TrainingSetup:
    # one endless epoch: nothing but steps, no Dice over held-out patches, no saved state
    configuration = task.configuration.model_copy(update={"steps_per_epoch": 1_000_000})
    return TrainingSetup(
        configuration=configuration,
        channels=network_channels(configuration, task.channels, task.labels),
        labels=task.labels,
        mirror_axes=task.mirror_axes,
        settings=task.settings.model_copy(update={"budget_seconds": None}),
        train_cases=[random_case(task)],
        validation_cases=[],
        device=device,
        precision=task.precision,
        samples_at_a_time=task.samples_at_a_time,
        acceleration=task.way,
        annotated={NOISE: tuple(task.labels.foreground)[:1]} if task.partly_annotated else {},
    )


def random_case(task: StepTask) -> CaseInMemory:
    """A case of noise, as large as what training crops for one sample."""
    initial = initial_patch_size(task.configuration.patch_size, find_augmentation(task.settings.augmentation))
    shape: Shape = (1, initial[0], initial[1]) if len(initial) == 2 else (initial[0], initial[1], initial[2])
    generator = np.random.default_rng(0)
    image = generator.standard_normal((task.channels, *shape), dtype=np.float32)
    labels = generator.integers(0, len(task.labels.values), shape, dtype=np.int16)
    if task.configuration.previous_stage is not None:  # a first stage that found everything
        image = np.concatenate([image, labels[None].astype(np.float32)])
    voxels = np.stack(np.unravel_index(np.arange(min(labels.size, 1000)), shape), axis=1).astype(np.int32)
    placement = Placement(
        geometry=Geometry(shape=shape, affine=((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))),
        orientation_axes=(0, 1, 2),
        orientation_flips=(False, False, False),
        axis_order=(0, 1, 2),
        transposed_shape=shape,
        transposed_spacing=(1, 1, 1),
        box=((0, shape[0]), (0, shape[1]), (0, shape[2])),
        prepared_shape=shape,
        prepared_spacing=(1, 1, 1),
    )
    locations = dict.fromkeys(task.labels.foreground, voxels)
    return CaseInMemory(PreparedCase(NOISE, image, labels, locations, placement))


def _estimated_seconds(task: StepTask) -> float:
    """Seconds of a step, from one of the same network on a small patch; 0 where it is short in any case."""
    if task.operations <= QUICK_OPERATIONS:
        return 0.0
    configuration = task.configuration
    small = []
    for axis, size in enumerate(configuration.patch_size):
        divisor = math.prod(stride[axis] for stride in configuration.strides)
        small.append(min(size, divisor * max(2, -(-SMALL_EDGE // divisor))))
    trial = replace(task, configuration=configuration.model_copy(update={"patch_size": tuple(small), "batch_size": 1}))
    return timed_steps(trial, REPEATS, REPEATS) * task.operations / trial.operations
