"""A picture of a result: image, reference and mask in three planes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.files import written_aside

#: Colours of the first labels, told apart by colour-blind readers too (Okabe & Ito 2008).
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")


@dataclass(frozen=True, eq=False)
class Scene:
    """One case to draw: arrays (Z, Y, X) in RAS+ orientation, spacing in mm."""

    title: str
    image: NDArray[np.float32]
    spacing: tuple[float, float, float]
    reference: NDArray[np.generic] | None
    mask: NDArray[np.generic]


def draw_scenes(path: Path, scenes: Sequence[Scene], label_values: dict[str, int]) -> None:
    """A row per case, a column per plane; filled = mask, line = reference. A PNG, written atomically."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    figure = Figure(figsize=(9.6, 3.3 * len(scenes) + 0.6), layout="constrained", facecolor="white")
    axes = figure.subplots(len(scenes), 3, squeeze=False)
    for row, scene in enumerate(scenes):
        centre = _centre(scene.mask if scene.reference is None else scene.reference)
        for column, (name, axis) in enumerate((("axial", 0), ("coronal", 1), ("sagittal", 2))):
            panel = axes[row][column]
            _draw_plane(panel, scene, axis, centre[axis], label_values)
            panel.set_title(f"{scene.title}, {name}" if column == 0 else name, fontsize=9)
    entries: list[Patch | Line2D] = [
        Patch(color=COLOURS[number % len(COLOURS)], alpha=0.6, label=name) for number, name in enumerate(label_values)
    ]
    if any(scene.reference is not None for scene in scenes):
        entries.append(Line2D([], [], color="black", label="reference (outline)"))
    figure.legend(handles=entries, loc="outside lower center", ncols=len(entries), frameon=False, fontsize=9)
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=110, format="png")


def _draw_plane(panel, scene: Scene, axis: int, index: int, label_values: dict[str, int]) -> None:  # type: ignore[no-untyped-def]
    image = np.take(scene.image, index, axis)
    spacing = [size for number, size in enumerate(scene.spacing) if number != axis]
    low, high = np.percentile(scene.image, (1, 99.5))
    panel.imshow(
        image, cmap="gray", origin="lower", vmin=low, vmax=max(high, low + 1e-6), aspect=spacing[0] / spacing[1]
    )
    for number, value in enumerate(label_values.values()):
        colour = COLOURS[number % len(COLOURS)]
        inside = np.take(scene.mask, index, axis) == value
        if inside.any():
            panel.contourf(inside.astype(float), levels=[0.5, 1.5], colors=[colour], alpha=0.45)
        if scene.reference is not None:
            outline = np.take(scene.reference, index, axis) == value
            if outline.any():
                panel.contour(outline.astype(float), levels=[0.5], colors=["black"], linewidths=2.0)
                panel.contour(outline.astype(float), levels=[0.5], colors=[colour], linewidths=0.8)
    panel.set_xticks([])
    panel.set_yticks([])


def _centre(labels: NDArray[np.generic]) -> tuple[int, int, int]:
    """The slice with most foreground along each axis."""
    foreground = labels != 0
    if not foreground.any():
        z, y, x = labels.shape
        return (z // 2, y // 2, x // 2)
    counts = [foreground.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    return (int(counts[0].argmax()), int(counts[1].argmax()), int(counts[2].argmax()))
