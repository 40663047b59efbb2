"""One training step of each configuration, tried before a plan is promised to fit.

On a CPU a step is made in a process of its own: should it ask for more memory than there is, that process ends and
nothing else does.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from autoseg.errors import WorkerDied
from autoseg.hardware import device_budget
from autoseg.machine import free_memory, under_quota, usable_memory
from autoseg.planning.step import network_channels
from autoseg.progress import Progress
from autoseg.records import Configuration, Plan, Probe, StepProbe
from autoseg.threads import BUSY_CORES, cores_of_others, suit_the_machine
from autoseg.workers.apart import run_apart

#: Seconds after which a step on a CPU is given up; one that is expected to take so long is not begun.
GIVE_UP_SECONDS = 300.0

#: Memory that a process needs before it makes a step.
PROGRAM_BYTES = 2**30

#: Where Linux lets a process say that it should be the first to go when memory runs out.
_FIRST_TO_GO = Path("/proc/self/oom_score_adj")


@dataclass(frozen=True)
class ProbeTask:
    """Which step to try on which device."""

    plan: Plan
    configuration: Configuration
    device: str
    limit_bytes: int
    partly_annotated: bool
    samples_at_a_time: int | None = None


def probed(
    plan: Plan,
    device: str,
    progress: Progress,
    *,
    configurations: Collection[str] | None = None,
    partly_annotated: bool = False,
    samples_at_a_time: int | None = None,
) -> Probe:
    """Try one training step of each configuration of a plan, or of the named ones, on the device.

    What does not fit is told in the answer and harms nothing. Configurations that make the same step share one.
    Of a batch `samples_at_a_time` are computed at once, None is all.
    `partly_annotated` tells that labels are missing from some cases, for which the loss holds more in memory.
    """
    groups: dict[str, list[Configuration]] = {}
    for entry in plan.configurations.values():
        if configurations is None or entry.name in configurations:
            groups.setdefault(_same_step(plan, entry), []).append(entry)
    budget = device_budget(device)
    if budget.kind == "cpu":
        described, free = budget.description, free_memory()
    else:
        described, free = _accelerator(device)
    steps: dict[str, StepProbe] = {}
    precision = "unknown"
    with progress.stage("Trying one training step", len(groups)) as advance:
        for alike in groups.values():
            if budget.kind == "cpu":
                task = ProbeTask(plan, alike[0], "cpu", usable_memory(), partly_annotated, samples_at_a_time)
                step, computed_in = _tried_apart(task)
            else:
                limit = _accelerator_limit(device)
                task = ProbeTask(plan, alike[0], device, limit, partly_annotated, samples_at_a_time)
                step, computed_in = _tried(task)
            step = step.model_copy(update={"samples_at_a_time": samples_at_a_time})
            precision = computed_in or precision
            steps |= {entry.name: step.model_copy(update={"configuration": entry.name}) for entry in alike}
            advance(1)
    ordered = tuple(steps[name] for name in plan.configurations if name in steps)
    return Probe(plan=plan.name, device=described, precision=precision, free_bytes=free, steps=ordered)


def _same_step(plan: Plan, configuration: Configuration) -> str:
    """What a step depends on, as text: two configurations that agree in it take the same."""
    channels = network_channels(configuration, len(plan.channels), plan.labels)
    spec = configuration.network_spec(channels, plan.labels.heads)
    masked = sum(configuration.preparation.use_mask_for_normalization)
    return f"{spec} {configuration.patch_size} {configuration.batch_size} {configuration.batch_dice} {masked}"


def _tried(task: ProbeTask) -> tuple[StepProbe, str]:
    """The step, made in this process, and the precision in which it was computed."""
    from autoseg.training.probe import StepTask, try_step  # loads torch, which planning for a CPU does without

    plan = task.plan
    step = StepTask(
        configuration=task.configuration,
        channels=len(plan.channels),
        labels=plan.labels,
        mirror_axes=plan.mirror_axes,
        settings=plan.training,
        device=task.device,
        partly_annotated=task.partly_annotated,
        samples_at_a_time=task.samples_at_a_time,
    )
    return try_step(step, task.limit_bytes), step.precision


def _tried_apart(task: ProbeTask) -> tuple[StepProbe, str]:
    """The same in a process of its own; its death means that the step does not fit."""
    outcome = run_apart(
        _tried_expendable, task, seconds=GIVE_UP_SECONDS, resident_bytes=PROGRAM_BYTES + task.limit_bytes
    )
    if isinstance(outcome.error, WorkerDied):
        step = StepProbe(
            configuration=task.configuration.name,
            fits=False,
            limit_bytes=task.limit_bytes,
            why=f"a step could not be made: {outcome.error.what}",
        )
        return step, ""
    return outcome.unwrap()


def _tried_expendable(task: ProbeTask) -> tuple[StepProbe, str]:
    with suppress(OSError):
        if _FIRST_TO_GO.exists():
            _FIRST_TO_GO.write_text("1000", encoding="ascii")
    suit_the_machine()
    if under_quota():
        from autoseg.devices import use_threads  # loads torch

        use_threads(None)  # as the training will
    cores = cores_of_others()
    step, precision = _tried(task)
    return step.model_copy(update={"busy": cores() >= BUSY_CORES}), precision


def _accelerator(device: str) -> tuple[str, int]:
    """Description and free bytes of a device that is not the CPU."""
    from autoseg import devices

    chosen = devices.choose_device(device)
    return devices.describe(chosen), devices.free_memory(chosen)


def _accelerator_limit(device: str) -> int:
    from autoseg import devices

    return devices.memory_limit(devices.choose_device(device))
