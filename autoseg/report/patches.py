"""Sheets of training patches: what the network sees, before and after augmentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autoseg.files import written_aside
from autoseg.report.preview import COLOURS, letter_sides
from autoseg.report.slices import Turn

#: Edge of a picture on the sheet, in inches.
_EDGE = 2.1

#: How much of a label's colour lies over the image: labels that touch share an outline, and only one is seen.
_FILL = 0.2

#: Labels that are named below a sheet; with more the colours repeat and say less.
_NAMED = 14


@dataclass(frozen=True, eq=False)
class PatchRow:
    """One sample: the patch as it was cropped, and augmented versions of it."""

    title: str
    images: Sequence[NDArray[np.float32]]  # (C, *patch), the first as cropped
    labels: Sequence[NDArray[np.integer]]  # (*patch), training labels
    aspect: float = 1.0  # height of a voxel by its width, in mm, as the patch is stored
    turn: Turn | None = None  # how its slices are brought to the radiological convention; None: drawn as stored

    @property
    def drawn_aspect(self) -> float:
        """Height of a voxel by its width as it is drawn."""
        return 1 / self.aspect if self.turn is not None and self.turn.swap else self.aspect

    def drawn(self, version: int, channel: int) -> tuple[NDArray[np.float32], NDArray[np.integer]]:
        """Image and labels (Y, X) of a version, first row on top: of a 3D patch the slice with most labels."""
        image, labels = self.images[version][channel], self.labels[version]
        if labels.ndim == 3:
            index = shown_slice(labels)
            image, labels = image[index], labels[index]
        return (image, labels) if self.turn is None else (self.turn(image), self.turn(labels))


def draw_patches(
    path: Path, title: str, rows: Sequence[PatchRow], channel: int, members: Mapping[str, tuple[int, ...]]
) -> None:
    """A row per sample, a column per version, of one channel, and the labels over it. A PNG, written atomically.

    Of a 3D patch the slice (across its first axis) with most labels is shown, or the middle one.

    Args:
        path: of the PNG.
        title: of the sheet.
        rows: the samples; all of them have the same number of versions.
        channel: which channel to show.
        members: name of each label -> the training labels that it is made of.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.lines import Line2D

    columns = len(rows[0].images)
    height, width = rows[0].drawn(0, channel)[1].shape
    tall = _EDGE * min(max(height / width * rows[0].drawn_aspect, 0.5), 1.8)
    figure = Figure(
        figsize=(_EDGE * columns + 0.4, (tall + 0.12) * len(rows) + 1.0),
        layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01),
        facecolor="white",
    )
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(members)}
    for number, row in enumerate(rows):
        low, high = np.percentile(row.images[0][channel], (1, 99))
        for column in range(columns):
            panel = axes[number][column]
            _draw(panel, row, column, channel, members, colours, (low, max(high, low + 1e-6)))
            if number == 0:
                panel.set_title("as cropped" if column == 0 else f"augmented {column}", fontsize=9)
            if column == 0:
                panel.set_ylabel(row.title, fontsize=8)
    if len(members) <= _NAMED:
        handles = [Line2D([], [], color=colour, linewidth=2, label=name) for name, colour in colours.items()]
        figure.legend(
            handles=handles, loc="outside lower center", ncols=min(len(handles), 7), frameon=False, fontsize=9
        )
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=110, format="png")


def _draw(  # type: ignore[no-untyped-def]
    panel,
    row: PatchRow,
    column: int,
    channel: int,
    members: Mapping[str, tuple[int, ...]],
    colours: Mapping[str, str],
    window: tuple[float, float],
) -> None:
    image, labels = row.drawn(column, channel)
    panel.imshow(
        image,
        cmap="gray",
        vmin=window[0],
        vmax=window[1],
        aspect=row.drawn_aspect,
        interpolation="nearest",
    )
    for name, values in members.items():
        inside = np.isin(labels, values)
        if inside.any():
            panel.contourf(inside.astype(float), levels=[0.5, 1.5], colors=[colours[name]], alpha=_FILL)
        if inside.any() and not inside.all():
            panel.contour(inside.astype(float), levels=[0.5], colors=["black"], linewidths=1.8)
            panel.contour(inside.astype(float), levels=[0.5], colors=[colours[name]], linewidths=1.1)
    panel.set_xticks([])
    panel.set_yticks([])
    if column == 0 and row.turn is not None:  # augmentation turns and mirrors the others
        letter_sides(panel, row.turn.axis)


def shown_slice(labels: NDArray[np.integer]) -> int:
    """The slice of (Z, Y, X) labels with most foreground, the middle one where there is none."""
    counts = (labels > 0).sum(axis=(1, 2))
    return int(counts.argmax()) if counts.any() else labels.shape[0] // 2
