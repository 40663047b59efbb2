"""How to predict: the mode that is asked for, or for each case the best one that keeps a deadline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch

from autoseg import devices
from autoseg.dataset.readers import decoded_bytes
from autoseg.errors import ReadError, UsageError
from autoseg.inference.engines import engine_precision
from autoseg.inference.forecast import CaseForecast, forecast, measured_on, time_passes, together
from autoseg.inference.joining import asked_precision, networks_of
from autoseg.inference.predictor import LoadedModel
from autoseg.inference.speeds import DEFAULT_SPEED, overridden, speed_mode, speed_modes
from autoseg.machine import own_memory
from autoseg.progress import Progress, duration
from autoseg.records import Case, Geometry, ModelHeader, PredictSettings, SpeedMode

#: Share of a deadline that an estimate may fill: it is off by a tenth now and then.
DEADLINE_SHARE = 0.9

#: Seconds from which on it is told how long the quicker modes would take.
LONG_SECONDS = 60.0

#: Most cases of which each is told why it is predicted as it is.
SHOWN_CASES = 10


@dataclass(frozen=True)
class CasePlan:
    """How one case is predicted, and what that will take."""

    case: Case
    mode: SpeedMode
    forecast: CaseForecast | None  # None where the header cannot be read: the case will fail by name
    why: str = ""  # the mode, where a deadline chose it
    missed_by: float = 0.0  # seconds by which it misses a deadline that no mode keeps


def asked_modes(
    headers: Sequence[ModelHeader],
    *,
    speed: str | None = None,
    deadline: float | None = None,
    settings: PredictSettings,
    precision: str = "auto",
) -> tuple[SpeedMode, ...]:
    """The modes to choose among, quickest first: all of them for a deadline, else the one that is asked for.

    What was given in `settings` overrides the modes, and so does a precision. Raises UsageError for an unknown mode or
    label, and for a speed beside a deadline.
    """
    if speed is not None and deadline is not None:
        raise UsageError(
            "--speed and --deadline contradict each other", remedy="A deadline chooses the speed of each case."
        )
    modes = all_modes(headers, settings, precision)
    if deadline is not None:
        return modes
    name = speed_mode(headers, speed or DEFAULT_SPEED).name
    return tuple(mode for mode in modes if mode.name == name)


def all_modes(headers: Sequence[ModelHeader], settings: PredictSettings, precision: str) -> tuple[SpeedMode, ...]:
    """Every mode, quickest first, overridden by what was given in `settings` and by a precision."""
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    return tuple(overridden(mode, headers, given, precision) for mode in speed_modes(headers))


def mode_precision(mode: SpeedMode, headers: Sequence[ModelHeader], device: torch.device) -> devices.Precision:
    """The precision in which a mode computes on a device."""
    asked = asked_precision(mode.precision, headers)
    return engine_precision(mode.settings.engine, asked, device, networks_of(headers))


def foretold(
    model: LoadedModel,
    cases: Sequence[Case],
    grids: Mapping[str, Geometry],
    modes: Sequence[SpeedMode],
    every: Sequence[SpeedMode],
    deadline: float | None,
    progress: Progress,
    *,
    scarce: bool = False,
) -> list[CasePlan]:
    """How each case is predicted, told before it begins; `every` are the modes that could have been asked for.

    `grids` are those of the cases by id; of one without a grid the header cannot be read. Where memory is `scarce` no
    more than one patch at a time is tried.
    """
    seconds = pass_seconds(model, modes, deadline, 1 if scarce else None)
    plans = plan_cases(model, cases, grids, modes, deadline, seconds)
    quicker = "" if deadline is not None else quicker_line(model, plans, grids, every, seconds)
    for line in (preview(plans), *deadline_lines(plans), quicker):
        if line:
            progress.say(line)
    return plans


def pass_seconds(
    model: LoadedModel, modes: Sequence[SpeedMode], deadline: float | None, most: int | None = None
) -> dict[str, float] | None:
    """Seconds of a pass by network, `most` patches at a time; None where the mode was measured on such a device.

    For a deadline they are always measured anew: it is a promise, and the device may be busy today.
    """
    return None if deadline is None and measured_on(modes[0], model) else time_passes(model, most)


def plan_cases(
    model: LoadedModel,
    cases: Sequence[Case],
    grids: Mapping[str, Geometry],
    modes: Sequence[SpeedMode],
    deadline: float | None,
    seconds: Mapping[str, float] | None,
) -> list[CasePlan]:
    """For each case its mode, and what it will take; `seconds` are those of `pass_seconds`."""
    plans, only = [], len(cases) == 1
    for case in cases:
        geometry = grids.get(case.id)
        if geometry is None:
            plans.append(CasePlan(case, modes[-1], None))
            continue
        decoded = None
        with suppress(ReadError):  # it will fail by name
            decoded = decoded_bytes(case.images)
        expected = [(mode, forecast(model, geometry, mode, seconds, decoded=decoded, only=only)) for mode in modes]
        if deadline is None:
            plans.append(CasePlan(case, *expected[-1]))
        else:
            plans.append(_keeping(case, expected, deadline))
    return plans


def _keeping(case: Case, expected: Sequence[tuple[SpeedMode, CaseForecast]], deadline: float) -> CasePlan:
    """The best mode that keeps the deadline; the quickest where none does."""
    fitting = [index for index, (_, told) in enumerate(expected) if told.seconds <= DEADLINE_SHARE * deadline]
    if not fitting:
        mode, told = min(expected, key=lambda entry: entry[1].seconds)
        missed = max(0.0, told.seconds - deadline)
        why = f"even {mode.name} takes about {duration(told.seconds)}"
        return CasePlan(case, mode, told, f"{why}, {_missed(missed, deadline)}", missed)
    best = fitting[-1]
    mode, told = expected[best]
    why = f"{mode.name} takes about {duration(told.seconds)}"
    if best + 1 < len(expected):
        better, longer = expected[best + 1]
        why += f", {better.name} would take {duration(longer.seconds)}"
    return CasePlan(case, mode, told, why)


def _missed(seconds: float, deadline: float) -> str:
    if seconds > 0:
        return f"{duration(seconds)} more than the deadline"
    return f"too close to the deadline of {duration(deadline)} to be sure of it"


# ---------------------------------------------------------------------------------------------------------- in words


def preview(plans: Sequence[CasePlan]) -> str:
    """One line: what the cases will take together, in which modes, and the memory of the whole program."""
    known = [plan.forecast for plan in plans if plan.forecast is not None]
    count = f"{len(plans)} {'case' if len(plans) == 1 else 'cases'}"
    if not known:
        return f"{count} whose headers cannot be read"
    modes = Counter(plan.mode.name for plan in plans)
    how = ", ".join(modes) if len(modes) == 1 else ", ".join(f"{number} {name}" for name, number in modes.items())
    about = "at most about" if any(plan.mode.settings.roi for plan in plans) else "about"
    memory = (own_memory() + max(told.bytes for told in known)) / 1e9
    return f"{count}, {about} {duration(_together(plans))} ({how}); about {memory:.1f} GB"


def quicker_line(
    model: LoadedModel,
    plans: Sequence[CasePlan],
    grids: Mapping[str, Geometry],
    modes: Sequence[SpeedMode],
    seconds: Mapping[str, float] | None,
) -> str:
    """What the quicker modes would take together; nothing where it is soon done anyway.

    `modes` are all there are, the one that is used among them.
    """
    if _together(plans) < LONG_SECONDS:
        return ""
    used = [mode.name for mode in modes].index(plans[0].mode.name)
    known = [mode for mode in modes[:used] if seconds is not None or measured_on(mode, model)]
    cases = [plan.case for plan in plans]
    told, least = [], _together(plans)
    for mode in reversed(known):
        takes = _together(plan_cases(model, cases, grids, [mode], None, seconds))
        if takes < least:  # with one tile to a case the modes are one
            told.append(f"--speed {mode.name} in about {duration(takes)}")
            least = takes
    return f"Quicker: {', '.join(told)}" if told else ""


def _together(plans: Sequence[CasePlan]) -> float:
    return together([plan.forecast for plan in plans if plan.forecast is not None])


def deadline_lines(plans: Sequence[CasePlan]) -> list[str]:
    """Which mode a deadline chose and why, case by case; of many cases those alone that miss it, the worst first."""
    told = [plan for plan in plans if plan.why]
    if len(told) > SHOWN_CASES:
        told = sorted((plan for plan in told if plan.missed_by), key=lambda plan: -plan.missed_by)[:SHOWN_CASES]
    return [f"{plan.case.id}: {plan.why}" for plan in told]


def mode_line(mode: SpeedMode) -> str:
    """What a mode does, and how good it was."""
    settings = mode.settings
    what = [f"step {settings.step:g}", "mirrored" if settings.mirror else "not mirrored"]
    if settings.members:
        what.append(f"{len(settings.members)} {'network' if len(settings.members) == 1 else 'networks'}")
    if mode.mean_dice is None:
        known = "not measured; run autoseg select"
    else:
        known = f"mean Dice {mode.mean_dice:.3f} of {mode.cases} held-out cases"
        if mode.seconds_per_case is not None:
            known += f", {duration(mode.seconds_per_case)} each on {mode.device}"
    return f"{mode.name}: {', '.join(what)} ({known})"
