"""Planning and trying in turn, until one real training step of every configuration fits the device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from autoseg.errors import PlanError
from autoseg.pipeline.probe import probed
from autoseg.planning.overrides import Overrides
from autoseg.progress import Progress
from autoseg.records import Plan, Probe, StepProbe

#: Plans that are tried with a smaller budget each.
MOST_ATTEMPTS = 6

#: Bounds of the factor by which the budget shrinks at a time, and how far below the limit it aims.
LEAST_FACTOR, MOST_FACTOR, AIM = 0.3, 0.85, 0.9


def fitting_plan(
    make: Callable[[Overrides], Plan],
    overrides: Overrides,
    device: str,
    progress: Progress,
    *,
    partly_annotated: bool = False,
) -> tuple[Plan, Probe]:
    """The first plan whose steps fit, with what was measured.

    Args:
        make: plans with the given overrides.
        overrides: what was asked for; its budget_scale shrinks where a step does not fit.
        device: name of the device to try on.
        progress: told of every plan that did not fit.
        partly_annotated: whether labels were not drawn in some cases; the loss then holds more.

    Raises PlanError where no plan fits, or where what does not fit was given and cannot shrink.
    """
    made = make(overrides)
    probe = probed(made, device, progress, partly_annotated=partly_annotated)
    for _ in range(MOST_ATTEMPTS):
        failed = _failed(probe)
        if not failed:
            return made, probe
        smaller, overrides = _smaller(make, made, overrides, failed)
        if smaller is None:
            probe = in_parts(made, probe, device, progress, partly_annotated=partly_annotated)
            break
        progress.warn(
            f"{failed[0].configuration} does not fit: {failed[0].why}. Planning again with "
            f"{overrides.budget_scale:.0%} of the budget"
        )
        made = smaller
        probe = probed(made, device, progress, partly_annotated=partly_annotated)
    failed = _failed(probe)
    if not failed:
        return made, probe
    raise PlanError(
        f"one training step of {failed[0].configuration} does not fit this device: {failed[0].why}",
        remedy="Give a smaller --set patch_size=… or batch_size=…, another --device, or --no-probe to train elsewhere.",
    )


def in_parts(made: Plan, probe: Probe, device: str, progress: Progress, *, partly_annotated: bool) -> Probe:
    """What was measured, with batches that do not fit at once tried in parts: the gradient is the same."""
    steps = []
    for step in probe.steps:
        size = made.configurations[step.configuration].batch_size
        while not step.fits and size > 1:
            size = -(-size // 2)
            again = probed(
                made,
                device,
                progress,
                configurations=[step.configuration],
                partly_annotated=partly_annotated,
                samples_at_a_time=size,
            )
            step = again.steps[0]
            if step.fits:
                progress.warn(
                    f"{step.configuration}: a batch does not fit at once; {size} samples of it are computed at a time"
                )
        steps.append(step)
    return probe.model_copy(update={"steps": tuple(steps)})


def _failed(probe: Probe) -> list[StepProbe]:
    return [step for step in probe.steps if not step.fits]


def _smaller(
    make: Callable[[Overrides], Plan], made: Plan, overrides: Overrides, failed: list[StepProbe]
) -> tuple[Plan | None, Overrides]:
    """A plan in which what failed has become smaller, and its overrides; None where no budget changes it."""
    factor = min(_factor(step) for step in failed)
    before = [_size(made, step.configuration) for step in failed]
    for _ in range(MOST_ATTEMPTS):
        overrides = replace(overrides, budget_scale=overrides.budget_scale * factor)
        try:
            smaller = make(overrides)
        except PlanError:  # nothing is small enough for this budget
            return None, overrides
        if all(_size(smaller, step.configuration) != size for step, size in zip(failed, before, strict=True)):
            return smaller, overrides
    return None, overrides


def _size(plan: Plan, name: str) -> tuple[tuple[int, ...], int] | None:
    """Patch and batch of a configuration; None where the plan does without it."""
    entry = plan.configurations.get(name)
    return None if entry is None else (entry.patch_size, entry.batch_size)


def _factor(step: StepProbe) -> float:
    """By how much the budget has to shrink for a step to fit, as far as it was measured."""
    if step.peak_bytes is None or step.peak_bytes <= step.limit_bytes:
        return 0.6
    return min(max(AIM * step.limit_bytes / step.peak_bytes, LEAST_FACTOR), MOST_FACTOR)
