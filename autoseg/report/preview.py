"""A picture of results: image, reference and mask in three planes, of several cases below one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from autoseg.files import written_aside
from autoseg.report.slices import SIDES, Look, fullest, planes_of, slice_of, slice_spacing

#: Colours of the first labels, told apart by colour-blind readers too (Okabe & Ito 2008).
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")

#: Where the letters of the sides stand, left, right, top and bottom, as shares of a panel, and how they are set there.
_PLACES = ((0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center"), (0.5, 0.98, "center", "top"),
           (0.5, 0.02, "center", "bottom"))  # fmt: skip


def draw_scenes(path: Path, looks: Sequence[Look], label_values: Mapping[str, int]) -> None:
    """A row per case, a column per plane; filled = mask, line = reference. A PNG, written atomically."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    columns = max(len(planes_of(look)) for look in looks)
    figure = Figure(figsize=(max(3.2 * columns, 4.8), 3.3 * len(looks) + 0.6), layout="constrained", facecolor="white")
    axes = figure.subplots(len(looks), columns, squeeze=False)
    for row, look in enumerate(looks):
        centre = fullest((look.mask if look.reference is None else look.reference) != 0)
        for panel in axes[row][len(planes_of(look)) :]:
            panel.axis("off")
        for column, (name, axis) in enumerate(planes_of(look)):
            panel = axes[row][column]
            _draw_plane(panel, look, axis, centre[axis], label_values)
            title = f"{look.name}, {name}" if column == 0 else name
            panel.set_title(title if look.sides else look.name if column == 0 else "", fontsize=9)
    entries: list[Patch | Line2D] = [
        Patch(color=COLOURS[number % len(COLOURS)], alpha=0.6, label=name) for number, name in enumerate(label_values)
    ]
    if any(look.reference is not None for look in looks):
        entries.append(Line2D([], [], color="black", label="reference (outline)"))
    figure.legend(handles=entries, loc="outside lower center", ncols=len(entries), frameon=False, fontsize=9)
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=110, format="png")


def _draw_plane(panel, look: Look, axis: int, index: int, label_values: Mapping[str, int]) -> None:  # type: ignore[no-untyped-def]
    whole = np.zeros(look.mask.shape, np.float32) if look.image is None else look.image
    low, high = np.percentile(whole, (1, 99.5))
    tall, wide = slice_spacing(look, axis)
    panel.imshow(
        slice_of(look, whole, axis, index), cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=tall / wide
    )
    mask = slice_of(look, look.mask, axis, index)
    reference = None if look.reference is None else slice_of(look, look.reference, axis, index)
    for number, value in enumerate(label_values.values()):
        colour = COLOURS[number % len(COLOURS)]
        inside = mask == value
        if inside.any():
            panel.contourf(inside.astype(float), levels=[0.5, 1.5], colors=[colour], alpha=0.45)
        if reference is not None:
            outline = reference == value
            if outline.any():
                panel.contour(outline.astype(float), levels=[0.5], colors=["black"], linewidths=2.0)
                panel.contour(outline.astype(float), levels=[0.5], colors=[colour], linewidths=0.8)
    panel.set_xticks([])
    panel.set_yticks([])
    if look.sides:
        letter_sides(panel, axis)


def letter_sides(panel, axis: int) -> None:  # type: ignore[no-untyped-def]
    """The letters of the sides at the edges of a panel that shows a slice across that axis of (Z, Y, X)."""
    from matplotlib.patheffects import withStroke

    rim = [withStroke(linewidth=2, foreground="black")]
    for letter, (x, y, across, down) in zip(SIDES[axis], _PLACES, strict=True):
        panel.text(
            x, y, letter, transform=panel.transAxes, color="white", fontsize=9, fontweight="bold", ha=across, va=down,
            path_effects=rim,
        )  # fmt: skip
