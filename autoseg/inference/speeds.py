"""fast, balanced and best: ways to predict that trade quality for time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from autoseg.errors import UsageError
from autoseg.inference.chosen_labels import named_labels
from autoseg.inference.members import first_stages
from autoseg.records import BEST_PREDICTION, ModelHeader, PredictSettings, SpeedMode

#: The modes by name, quickest first.
SPEEDS = ("fast", "balanced", "best")

#: The mode where nobody asks for one: masks are as good as the model can make them.
DEFAULT_SPEED = "best"

#: Step of `fast`: with 0.8 TotalSegmentator (change log of 2.1) lost 0.001 Dice, for up to 4 times fewer tiles.
FAST_STEP = 0.8


def stated_modes(headers: Sequence[ModelHeader]) -> tuple[SpeedMode, ...]:
    """The modes of one or several models used together of which nothing was measured, quickest first.

    `best` is what nnU-Net does. `balanced` leaves mirroring out, which doubles the passes per axis and brings little:
    in 3D it is up to 8 times quicker. `fast` has larger steps as well, and one network.
    """
    averaged = [name for header in headers for name in averaged_members(header)]
    one = tuple(averaged[:1]) if len(averaged) > 1 else ()
    return (
        SpeedMode(name="fast", settings=PredictSettings(step=FAST_STEP, mirror=False, members=one)),
        SpeedMode(name="balanced", settings=PredictSettings(mirror=False)),
        SpeedMode(name="best", settings=BEST_PREDICTION),
    )


def speed_modes(headers: Sequence[ModelHeader]) -> tuple[SpeedMode, ...]:
    """The modes of one or several models used together, quickest first: as measured, else as stated.

    What was measured on one model holds for that one alone, so of several the modes are as stated.
    """
    known = {mode.name: mode for mode in headers[0].speeds} if len(headers) == 1 else {}
    return tuple(known.get(mode.name, mode) for mode in stated_modes(headers))


def averaged_members(header: ModelHeader) -> list[str]:
    """Names of the networks that are averaged: all but the first stages of cascades."""
    helpers = {name for names in first_stages(header).values() for name in names}
    return [member.name for member in header.members if member.name not in helpers]


def speed_mode(headers: Sequence[ModelHeader], name: str) -> SpeedMode:
    """The mode of that name. Raises UsageError where there is none."""
    for mode in speed_modes(headers):
        if mode.name == name:
            return mode
    raise UsageError(f"there is no speed {name!r}", remedy=f"Known are: {', '.join(SPEEDS)}.")


def overridden(
    mode: SpeedMode, headers: Sequence[ModelHeader], given: Mapping[str, object], precision: str = "auto"
) -> SpeedMode:
    """The mode with the settings that were given by hand; None among them, and the precision "auto", leave it as it is.

    What was measured of the mode is left out where it was measured otherwise. Raises UsageError for a label that the
    models do not know.
    """
    update = {name: value for name, value in given.items() if value is not None}
    if "labels" in update:
        update["labels"] = named_labels(headers[0].labels, cast("Sequence[str]", update["labels"]))
    settings = PredictSettings.model_validate(mode.settings.model_dump() | update)
    chosen = mode.precision if precision == "auto" else precision
    alike = settings.model_copy(update={"labels": mode.settings.labels}) == mode.settings and chosen == mode.precision
    if alike:
        return mode.model_copy(update={"settings": settings})
    return SpeedMode.model_validate({"name": mode.name, "settings": settings, "precision": chosen})
