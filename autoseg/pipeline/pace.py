"""How a training is computed on its device: how many samples at a time, and which way is the fastest."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from autoseg import devices
from autoseg.errors import RecordError, UsageError, WorkerDied
from autoseg.files import read_record, write_record
from autoseg.interrupts import StopSwitch
from autoseg.networks.acceleration import ACCELERATIONS, usual
from autoseg.pipeline.job import Job
from autoseg.pipeline.runs import has_begun
from autoseg.planning.step import step_bytes
from autoseg.plugins import imported_plugins
from autoseg.records import AccelerationTrial, Configuration, Probe, StepProbe
from autoseg.training.probe import StepTask, timed_steps
from autoseg.training.step import samples_at_a_time
from autoseg.workers.apart import run_apart

#: Seconds of a training from which trying ways to compute it is worth while: they take minutes, most of it compiling.
WORTH_SECONDS = 3600.0

#: A way other than the usual one is taken where its step takes at most this share of the usual one's.
GAIN = 0.95

#: Seconds after which a way is given up.
PATIENCE_SECONDS = 300.0


def suited(job: Job, stop: StopSwitch) -> Job:
    """The job with what it left open decided: samples at a time, and acceleration.

    Raises UsageError for an unknown acceleration, and what `stop` raises while ways are tried.
    """
    if job.acceleration != "auto" and job.acceleration not in ACCELERATIONS:
        raise UsageError(f"unknown acceleration {job.acceleration!r}", remedy=f"Use auto, {', '.join(ACCELERATIONS)}.")
    tried = _tried_step(job)
    if job.samples_at_a_time is None:
        job = replace(job, samples_at_a_time=_samples_that_fit(job, tried))
    if job.acceleration == "auto":
        job = replace(job, acceleration=_fastest(job, tried, stop))
    return job


def _share(job: Job) -> int:
    """Samples of a batch that fall to one process at most."""
    return -(-job.configuration.batch_size // job.ranks.place.world)


def _tried_step(job: Job) -> StepProbe | None:
    """The step of this configuration that was tried on this device when the plan was made."""
    try:
        probe = read_record(job.work.probe(job.run.plan), Probe)
    except RecordError:  # it belongs to the moment: only speed and memory depend on it
        return None
    if probe.device != devices.describe(devices.choose_device(job.device)):
        return None
    return next((step for step in probe.steps if step.configuration == job.configuration.name), None)


# --------------------------------------------------------------------------------------------------------- samples


def _samples_that_fit(job: Job, tried: StepProbe | None) -> int | None:
    """How many samples are computed at a time; None where all of a share fit."""
    target = devices.choose_device(job.device)
    sharing = job.ranks.place.local_world if target.type == "cpu" else 1
    limit = devices.memory_limit(target) // sharing
    share = _share(job)
    if tried is not None and tried.samples_at_a_time is not None:
        found = min(tried.samples_at_a_time, share)
    else:
        known = None if tried is None or not tried.fits else tried.peak_bytes
        found = samples_at_a_time(share, lambda samples: _bytes(job, samples, known), limit)
    if found == share:
        return None
    job.progress.say(
        f"{share} samples do not fit into {limit / 2**30:.1f} GB: {found} are computed at a time, to the same gradient"
    )
    return found


def _bytes(job: Job, samples: int, measured: int | None) -> int:
    """Memory of a step by the closed form, in proportion to what was measured with a whole batch."""

    def closed_form(count: int) -> int:
        return step_bytes(
            job.configuration.model_copy(update={"batch_size": count}),
            len(job.plan.channels),
            job.plan.labels,
            job.settings,
            half_precision=_precision(job) != "float32",
        )

    if measured is None:
        return closed_form(samples)
    return round(measured * closed_form(samples) / closed_form(job.configuration.batch_size))


def _precision(job: Job) -> devices.Precision:
    return devices.choose_precision(job.precision, devices.choose_device(job.device), [job.configuration.network])


# ---------------------------------------------------------------------------------------------------- acceleration


def _fastest(job: Job, tried: StepProbe | None, stop: StopSwitch) -> str:
    """The fastest way: as it was tried for this run before, or tried now where the training is long enough."""
    target = devices.choose_device(job.device)
    # several processes launch piece by piece: their sums over processes are between
    plain = usual(target, recordable=not imported_plugins() and not job.ranks.several)
    about = {"device": devices.describe(target), "torch": str(torch.__version__), "precision": _precision(job)}
    if job.run.acceleration.exists():
        before = read_record(job.run.acceleration, AccelerationTrial)
        if {name: getattr(before, name) for name in about} == about:
            return before.chosen
    if has_begun(job.run) or _seconds_left(job, tried) < WORTH_SECONDS:
        return plain
    trial = _trial(job, target, about, plain, stop)
    write_record(job.run.acceleration, trial)
    for name, why in trial.failed.items():
        job.progress.say(f"{name} does not work here: {why}")
    steps = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in trial.seconds_per_step.items())
    job.progress.say(f"Computing with {trial.chosen}; a step took: {steps}")
    return trial.chosen


def _seconds_left(job: Job, tried: StepProbe | None) -> float:
    if job.settings.budget_seconds is not None:
        return job.settings.budget_seconds
    if tried is None or tried.seconds_per_step is None:
        return 0.0
    return job.settings.epochs * job.configuration.steps_per_epoch * tried.seconds_per_step / job.ranks.place.world


def _trial(job: Job, device: torch.device, about: dict[str, str], plain: str, stop: StopSwitch) -> AccelerationTrial:
    """Seconds of a step by each way, in a process of its own: what fails or hangs there harms nothing."""
    names = [name for name, way in ACCELERATIONS.items() if way.suits(device) and (plain == "graph" or not way.graphed)]
    seconds: dict[str, float] = {}
    failed: dict[str, str] = {}
    memory = float(devices.memory_limit(device)) + 2**30 if device.type == "cpu" else math.inf
    with job.progress.stage("Trying ways to compute a step", len(names)) as advance:
        for name in names:
            outcome = run_apart(
                timed_steps,
                step_task(job, name),
                seconds=PATIENCE_SECONDS,
                resident_bytes=memory,
                while_waiting=stop.raise_if_set,
            )
            if outcome.value is not None:
                seconds[name] = outcome.value
            elif isinstance(outcome.error, WorkerDied) or outcome.error is not None:
                failed[name] = outcome.error.what.splitlines()[0]
            advance(1)
    return AccelerationTrial(**about, chosen=best(seconds, plain), seconds_per_step=seconds, failed=failed)


def best(seconds: dict[str, float], plain: str = "eager") -> str:
    """The fastest way that gains enough over the `plain` one, which is taken else."""
    if plain not in seconds:
        return plain if plain == "eager" else best(seconds)
    fastest = min(seconds, key=lambda name: seconds[name])
    return fastest if seconds[fastest] <= GAIN * seconds[plain] else plain


def step_task(job: Job, acceleration: str) -> StepTask:
    """One process's part of a step of the job."""
    configuration: Configuration = job.configuration.model_copy(update={"batch_size": _share(job)})
    return StepTask(
        configuration=configuration,
        channels=len(job.plan.channels),
        labels=job.plan.labels,
        mirror_axes=job.plan.mirror_axes,
        settings=job.settings,
        device=job.device,
        samples_at_a_time=job.samples_at_a_time,
        acceleration=acceleration,
        chosen_precision=_precision(job),
    )
