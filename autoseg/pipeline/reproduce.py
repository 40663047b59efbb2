"""`reproduce`: whether a result would come out the same here and now, and what is no longer as it was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from autoseg import devices
from autoseg.errors import UsageError
from autoseg.pipeline.origin import Given, Origin
from autoseg.pipeline.origins import origins
from autoseg.pipeline.receipts import GONE, versions
from autoseg.records import Receipt

Effect = Literal["yes", "by rounding", "no"]

#: Names of which a difference changes nothing, or only the last digits of what is computed; of all others it may
#: change anything. Rounding makes masks that agree in all but a few voxels, but a training makes another network of it.
_HARMLESS = frozenset(("python",))
_ROUNDING = frozenset(("torch", "numpy", "scipy", "device", "precision", "threads", "processes"))


@dataclass(frozen=True)
class Line:
    """One thing that a result follows from."""

    what: str
    then: str
    now: str | None  # None: not looked at, since nobody said where it is
    effect: Effect  # on the result, where it differs

    @property
    def differs(self) -> bool:
        """Whether it is known to be another one now."""
        return self.now is not None and self.now != self.then


@dataclass(frozen=True)
class Reproduced:
    """A result, and all that it follows from, then and now."""

    title: str
    receipt: Receipt
    lines: tuple[Line, ...]

    @property
    def agrees(self) -> bool:
        """Whether nothing is known to differ."""
        return not any(line.differs for line in self.lines)

    @property
    def notes(self) -> tuple[str, ...]:
        """Why it may come out otherwise although all agrees."""
        settings = self.receipt.options.get("settings")
        by_clock = isinstance(settings, dict) and settings.get("budget_seconds") is not None
        if by_clock or self.receipt.options.get("budget_seconds") is not None:
            return ("It was made within a budget of time: how far that reaches is never quite the same.",)
        if self.receipt.device and not self.receipt.device.startswith("cpu"):
            return ("It was computed on an accelerator, which does not add up in the same order every time.",)
        return ()

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        lines = [
            {"what": line.what, "then": line.then, "now": line.now, "differs": line.differs, "effect": line.effect}
            for line in self.lines
        ]
        return {
            "result": self.title,
            "stage": self.receipt.stage,
            "agrees": self.agrees,
            "lines": lines,
            "notes": list(self.notes),
            "receipt": self.receipt.model_dump(mode="json"),
        }


def reproduce(result: Path, given: Given) -> tuple[Reproduced, ...]:
    """Compare the receipt of a result with the present machine and files; masks may have several receipts.

    `result` is a work folder or a plan in it, a folder of prepared cases, the folder of a run, a model file, a folder
    of masks, or a summary.json. Raises UsageError where it has no receipt, RecordError for one that is damaged.
    """
    return tuple(_compared(origin) for origin in origins(result, given))


def _compared(origin: Origin) -> Reproduced:
    receipt = origin.receipt
    lines = [*_machine(origin), *_files(receipt, origin.now)]
    lines += [Line(name, then, now, "yes") for name, (then, now) in origin.further.items()]
    return Reproduced(origin.title, receipt, tuple(lines))


def _machine(origin: Origin) -> list[Line]:
    """Versions, device, precision, threads."""
    receipt = origin.receipt
    present = versions()
    lines = [
        Line(name, then, present.get(name, GONE), _effect(name, receipt)) for name, then in receipt.versions.items()
    ]
    if receipt.device:
        device, precision = _device_now(origin)
        lines.append(Line("device", receipt.device, device, _effect("device", receipt)))
        if receipt.precision:
            lines.append(Line("precision", receipt.precision, precision, _effect("precision", receipt)))
    if receipt.threads is not None:
        now = str(torch.get_num_threads())
        lines.append(Line("threads", str(receipt.threads), now, _effect("threads", receipt)))
    if receipt.processes > 1:
        lines.append(Line("processes", str(receipt.processes), None, _effect("processes", receipt)))
    return lines


def _device_now(origin: Origin) -> tuple[str, str | None]:
    """Device and precision that the same command would take now."""
    try:
        device = devices.choose_device(str(origin.receipt.options.get("device", "auto")))
    except UsageError:
        return GONE, None
    return devices.describe(device), None if origin.precision is None else devices.choose_precision(
        origin.precision, device
    )


def _files(receipt: Receipt, now: Mapping[str, str]) -> list[Line]:
    """Hashes of what went in and of what came out."""
    hashes = {**receipt.inputs, **receipt.results}
    return [Line(name, _short(then), _short(now.get(name)), _effect(name, receipt)) for name, then in hashes.items()]


def _effect(name: str, receipt: Receipt) -> Effect:
    if name in _HARMLESS:
        return "no"
    if name in _ROUNDING and receipt.stage == "plan":
        return "yes" if name == "device" else "by rounding"  # its memory is planned for
    return "by rounding" if name in _ROUNDING else "yes"


def _short(value: Any) -> Any:
    """A hash as it is shown; words and None as they are."""
    return value if value in (None, GONE) else value[:12]
