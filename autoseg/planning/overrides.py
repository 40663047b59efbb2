"""What a person decides instead of the rules; everything that follows is derived from it anew."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import ValidationError

from autoseg.errors import UsageError
from autoseg.planning.presets import OPTIMIZER_DEFAULTS
from autoseg.records import Spacing, TrainSettings

#: Planning values that can be given by name; beside them every training setting.
PLANNING_NAMES = ("spacing", "patch_size", "batch_size", "network")

#: Training settings that record what an option did: a name alone would not do it.
BY_OPTION = {"initial": "--init", "plugins": "--use"}


@dataclass(frozen=True)
class Overrides:
    """Values given by a person, or by a measurement; what is not given follows from the rules."""

    spacing: Spacing | None = None  # mm, (Z, Y, X) of the images: replaces the target spacing as a whole
    patch_size_2d: tuple[int, int] | None = None  # of the 2D configuration
    patch_size_3d: tuple[int, int, int] | None = None  # of every 3D configuration, prepared axis order
    batch_size: int | None = None  # of every configuration
    memory_gb: float | None = None  # to plan for, in place of the device's or the preset's
    network: str | None = None  # of every configuration: a name in networks.catalog.NETWORKS
    budget_scale: float = 1.0  # share of the budget to use, after a real step did not fit
    training: Mapping[str, str] = field(default_factory=dict)  # training settings by name

    def patch_size(self, dimensions: Literal[2, 3]) -> tuple[int, ...] | None:
        """The given patch for configurations of so many dimensions."""
        return self.patch_size_2d if dimensions == 2 else self.patch_size_3d


def parse_overrides(words: Mapping[str, str] | Iterable[tuple[str, str]]) -> Overrides:
    """The overrides in NAME=VALUE words, already split; `patch_size` may occur twice, with two and three numbers.

    Raises UsageError for an unknown name (with the known ones) and for a value that is none.
    """
    pairs = words.items() if isinstance(words, Mapping) else words
    spacing: Spacing | None = None
    flat: tuple[int, int] | None = None
    solid: tuple[int, int, int] | None = None
    batch: int | None = None
    network: str | None = None
    training: dict[str, str] = {}
    for name, value in pairs:
        if name == "spacing":
            spacing = _spacing(value)
        elif name == "patch_size":
            numbers = _whole_numbers(name, value)
            if len(numbers) == 2:
                flat = (numbers[0], numbers[1])
            elif len(numbers) == 3:
                solid = (numbers[0], numbers[1], numbers[2])
            else:
                raise _no_value(name, value, "three numbers for 3D (patch_size=64,96,96) or two for 2D")
        elif name == "batch_size":
            numbers = _whole_numbers(name, value)
            if len(numbers) != 1:
                raise _no_value(name, value, "one whole number above 0")
            batch = numbers[0]
        elif name == "network":
            network = value
        elif name in TrainSettings.model_fields:
            require_settable(name)
            training[name] = value
        else:
            known = ", ".join((*PLANNING_NAMES, *TrainSettings.model_fields))
            raise UsageError(f"--set knows no {name!r}", remedy=f"Known: {known}.")
    return Overrides(spacing, flat, solid, batch, network=network, training=training)


def require_settable(*names: str) -> None:
    """Raise UsageError for a training setting that follows from an option."""
    for name in names:
        if name in BY_OPTION:
            raise UsageError(f"--set {name} would change nothing", remedy=f"Use {BY_OPTION[name]}.")


def trained_with(defaults: TrainSettings, asked: Mapping[str, object]) -> TrainSettings:
    """The settings with what was asked for; another optimizer brings its own rate, decay and warm-up.

    Raises UsageError for an unknown optimizer and for an impossible value.
    """
    return settings_with(defaults, {**optimizer_settings(defaults, asked.get("optimizer")), **asked})


def optimizer_settings(defaults: TrainSettings, optimizer: object) -> dict[str, object]:
    """What has to change with the optimizer; nothing where it stays. Raises UsageError for an unknown one."""
    if optimizer is None or optimizer == defaults.optimizer:
        return {}
    if optimizer not in OPTIMIZER_DEFAULTS:
        raise UsageError(f"unknown optimizer {optimizer!r}", remedy=f"Known: {', '.join(OPTIMIZER_DEFAULTS)}.")
    return {"optimizer": optimizer, **OPTIMIZER_DEFAULTS[str(optimizer)]}


def settings_with(base: TrainSettings, asked: Mapping[str, object]) -> TrainSettings:
    """The settings with some replaced. Raises UsageError for a name or value that is not possible."""
    unknown = sorted(set(asked) - set(TrainSettings.model_fields))
    if unknown:
        raise UsageError(f"unknown setting {unknown[0]!r}", remedy=f"Known: {', '.join(TrainSettings.model_fields)}.")
    try:
        return TrainSettings.model_validate({**base.model_dump(), **asked})
    except ValidationError as error:
        fault = error.errors()[0]
        name = ".".join(str(part) for part in fault["loc"])
        raise UsageError(f"setting {name}: {fault['msg']}", remedy="Correct its value.") from None


def _spacing(value: str) -> Spacing:
    expected = "three positive numbers in mm, as Z,Y,X of the images (spacing=1.5,0.8,0.8)"
    try:
        numbers = [float(word) for word in _words(value)]
    except ValueError:
        raise _no_value("spacing", value, expected) from None
    if len(numbers) != 3 or not all(0 < number < float("inf") for number in numbers):
        raise _no_value("spacing", value, expected)
    return numbers[0], numbers[1], numbers[2]


def _whole_numbers(name: str, value: str) -> tuple[int, ...]:
    words = _words(value)
    if not words or not all(word.isdecimal() and int(word) > 0 for word in words):
        raise _no_value(name, value, "whole numbers above 0, separated by commas")
    return tuple(int(word) for word in words)


def _words(value: str) -> list[str]:
    return [word for word in re.split(r"[\s,x×]+", value.strip()) if word]


def _no_value(name: str, value: str, expected: str) -> UsageError:
    return UsageError(f"--set {name}={value}: expected {expected}")
