"""A planned network and its patch, drawn to scale."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from autoseg.records import Configuration
from autoseg.report.chart_parts import svg

#: Height of the finest feature maps and width of the most features, in the drawing.
_TALL, _WIDE = 190.0, 52.0

#: Height of the largest plane of a patch drawing.
_PLANE = 210.0

#: Planes of a volume: name, axis that runs down, axis that runs across.
_PLANES = (("axial", 1, 2), ("coronal", 0, 2), ("sagittal", 0, 1))


def stage_shapes(configuration: Configuration) -> list[tuple[int, ...]]:
    """Shape of the feature maps of each stage, in voxels of that stage."""
    shapes, shape = [], tuple(configuration.patch_size)
    for stride in configuration.strides:
        shape = tuple(size // step for size, step in zip(shape, stride, strict=True))
        shapes.append(shape)
    return shapes


def network(configuration: Configuration) -> Markup:
    """The U-Net as a row of boxes: as tall as the feature maps' longest edge, as wide as their number.

    Encoder on the left, decoder on the right, and an arc for every skip connection.
    """
    shapes, features = stage_shapes(configuration), configuration.features_per_stage
    order = [*range(len(shapes)), *reversed(range(len(shapes) - 1))]
    slot = max(78.0, max(len(_shape(shape)) for shape in shapes) * 6.0 + 10)
    longest, most = max(map(max, shapes)), max(features)
    arcs = 18.0 * len(shapes)
    middle, floor = arcs + _TALL / 2, arcs + _TALL
    parts: list[str] = []
    places: dict[int, float] = {}
    for position, stage in enumerate(order):
        centre = slot * (position + 0.5)
        tall = max(_TALL * max(shapes[stage]) / longest, 3.0)
        wide = max(_WIDE * features[stage] / most, 2.5)
        decoder = position >= len(shapes)
        colour = "s2" if decoder else "s4"
        if position == len(shapes) - 1:
            colour = "s5"
        if decoder:
            parts.append(_arc(places[stage], centre, arcs - 18.0 * (len(shapes) - stage) + 14, middle, tall))
        else:
            places[stage] = centre
        parts.append(
            f'<rect class="{colour}" fill="currentColor" fill-opacity=".75" x="{centre - wide / 2:.1f}" '
            f'y="{middle - tall / 2:.1f}" width="{wide:.1f}" height="{tall:.1f}" rx="1.5"><title>stage {stage + 1}: '
            f"{features[stage]} features of {_shape(shapes[stage])}</title></rect>"
            f'<text x="{centre:.1f}" y="{floor + 20:.0f}" text-anchor="middle">{features[stage]}</text>'
            f'<text class="soft" x="{centre:.1f}" y="{floor + 36:.0f}" text-anchor="middle" style="font-size:10px">'
            f"{_shape(shapes[stage])}</text>"
        )
    return svg(slot * len(order), floor + 46, f"Network {configuration.network} of {len(shapes)} stages", parts)


def _arc(start: float, stop: float, top: float, middle: float, tall: float) -> str:
    edge = middle - tall / 2 - 3
    return (
        f'<path class="axis" stroke-dasharray="3 3" d="M{start:.1f} {edge:.1f}V{top:.1f}H{stop:.1f}V{edge:.1f}"/>'
        f'<path class="axis" d="M{stop - 3:.1f} {edge - 6:.1f}L{stop:.1f} {edge:.1f}L{stop + 3:.1f} {edge - 6:.1f}"/>'
    )


def patch_in_image(configuration: Configuration) -> Markup:
    """The patch inside the median prepared image, in millimetres, per plane; all planes at one scale."""
    image, patch, planes = _millimetres(configuration)
    scale = _PLANE / max(max(image), max(patch))
    parts: list[str] = []
    x = 12.0
    for name, down, across in planes:
        outer, inner = (image[across] * scale, image[down] * scale), (patch[across] * scale, patch[down] * scale)
        wide = max(outer[0], inner[0], 84.0)
        centre, middle = x + wide / 2, 28 + _PLANE / 2
        parts.append(f'<text x="{centre:.1f}" y="14" text-anchor="middle">{escape(name)}</text>')
        parts.append(
            _centred("panel", centre, middle, outer, f"median image, {image[across]:.0f} × {image[down]:.0f} mm")
        )
        parts.append(
            _centred(
                "s5",
                centre,
                middle,
                inner,
                f"patch, {patch[across]:.0f} × {patch[down]:.0f} mm",
                'fill="currentColor" fill-opacity=".22" stroke="currentColor" stroke-width="1.6"',
            )
        )
        x += wide + 34
    bar = _bar_length(max(image) / 4)
    parts.append(
        f'<path class="axis" stroke-width="2" d="M12 {_PLANE + 48:.0f}h{bar * scale:.1f}"/>'
        f'<text class="soft" x="{18 + bar * scale:.1f}" y="{_PLANE + 52:.0f}">{bar:g} mm</text>'
    )
    return svg(max(x - 20, 200), _PLANE + 62, "The patch inside the median image", parts)


def _millimetres(configuration: Configuration) -> tuple[list[float], list[float], Sequence[tuple[str, int, int]]]:
    spacing = [1.0 if size is None else size for size in configuration.spacing]
    image = [size * step for size, step in zip(configuration.median_shape[-len(spacing) :], spacing, strict=True)]
    patch = [
        size * step
        for size, step in zip(configuration.patch_size, spacing[-len(configuration.patch_size) :], strict=True)
    ]
    if configuration.dimensions == 2:
        return image[-2:], patch, (("in the slice", 0, 1),)
    return image, patch, _PLANES


def _centred(kind: str, x: float, y: float, size: tuple[float, float], title: str, paint: str = "") -> str:
    wide, tall = size
    return (
        f'<rect class="{kind}" {paint} x="{x - wide / 2:.1f}" y="{y - tall / 2:.1f}" width="{wide:.1f}" '
        f'height="{tall:.1f}"><title>{escape(title)}</title></rect>'
    )


def _bar_length(about: float) -> float:
    unit = 10.0 ** math.floor(math.log10(about))
    return max(unit * factor for factor in (1, 2, 5) if unit * factor <= about)


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
