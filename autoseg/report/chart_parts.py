"""What charts are made of: axes, marks, dots, lines and legends, as SVG.

Colours are the page's, so that they follow dark and light; names are escaped where they enter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

#: Series that are told apart by colour; further ones begin again.
COLOURS = 7

#: Axes whose marks are whole numbers.
WHOLE = ("epoch",)

#: Room in the drawing for what stands around the data: left, right, top, bottom.
LEFT, RIGHT, TOP, BOTTOM = 72, 14, 12, 44

#: Width of a letter of the font, about.
LETTER = 6.6


@dataclass(frozen=True)
class Line:
    """One line of a chart; None breaks it."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]


@dataclass(frozen=True)
class Dot:
    """One case of a chart, with its name for those who point at it."""

    value: float
    name: str
    odd: bool = False  # ringed


@dataclass(frozen=True)
class Frame:
    """Where the numbers of a chart lie in its drawing."""

    width: int
    height: int
    x: tuple[float, float]
    y: tuple[float, float]
    log_y: bool = False
    left: int = LEFT

    def at_x(self, value: float) -> float:
        """Horizontal place of a value."""
        low, high = self.x
        return self.left + (value - low) / (high - low) * (self.width - self.left - RIGHT)

    def at_y(self, value: float) -> float:
        """Vertical place of a value."""
        low, high, at = (math.log10(v) if self.log_y else v for v in (*self.y, value))
        return self.height - BOTTOM - (at - low) / (high - low) * (self.height - TOP - BOTTOM)


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) from low to high, about as many as wanted."""
    rough = (high - low) / max(wanted, 1)
    if not math.isfinite(rough) or rough <= 0:
        return [low]
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def label(value: float) -> str:
    """A number on an axis, short."""
    if value and (abs(value) >= 1e5 or abs(value) < 1e-4):
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:.6g}"


def limits(values: Sequence[float]) -> tuple[float, float]:
    """The range of the values with a little room around."""
    if not values:
        return (0.0, 1.0)
    low, high = min(values), max(values)
    room = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    return (low - room, high + room)


def svg(width: float, height: float, title: str, parts: Sequence[str]) -> Markup:
    """The drawing around its parts, which are SVG already."""
    return Markup(
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" role="img" '
        f'aria-label="{escape(title)}">{"".join(map(str, parts))}</svg>'
    )


def path(frame: Frame, line: Line, colour: str) -> Iterator[str]:
    """A line, broken where it has no value; a dot where it has only one."""
    words, pen = [], "M"
    shown = 0
    for x, y in zip(line.x, line.y, strict=True):
        if y is None or not math.isfinite(y) or (frame.log_y and y <= 0):
            pen = "M"
            continue
        words.append(f"{pen}{frame.at_x(x):.1f} {frame.at_y(y):.1f}")
        pen, shown = "L", shown + 1
    if shown == 1:  # a line of one point is not seen
        across, down = words[0][1:].split()
        yield f'<circle class="{colour}" fill="currentColor" cx="{across}" cy="{down}" r="3.5"/>'
    elif words:
        yield f'<path class="line {colour}" stroke="currentColor" d="{"".join(words)}"/>'


def dot_at(x: float, y: float, dot: Dot, colour: str, radius: float = 2.6) -> str:
    """A dot with its name and value; ringed where it is odd."""
    ring = f'<circle class="odd" cx="{x:.1f}" cy="{y:.1f}" r="{radius + 3}"/>' if dot.odd else ""
    return (
        f'{ring}<circle class="dot {colour}" fill="currentColor" cx="{x:.1f}" cy="{y:.1f}" r="{radius}">'
        f"<title>{escape(dot.name)}: {label(round(dot.value, 4))}</title></circle>"
    )


def diagonal_line(frame: Frame) -> str:
    """Where both axes have the same value."""
    low, high = frame.x
    return (
        f'<path class="axis" stroke-dasharray="4 4" d="M{frame.at_x(low):.1f} {frame.at_y(low):.1f}'
        f'L{frame.at_x(high):.1f} {frame.at_y(high):.1f}"/>'
    )


def axes(frame: Frame, x_label: str, y_label: str, fewer: bool = False) -> str:
    """Marks, names and horizontal grid of both axes."""
    parts = []
    right = frame.width - RIGHT
    for value in _marks(frame, 3 if fewer else 5):
        y = frame.at_y(value)
        parts.append(f'<path class="grid" d="M{frame.left} {y:.1f}H{right}"/>')
        parts.append(f'<text class="soft" x="{frame.left - 7}" y="{y + 4:.1f}" text-anchor="end">{label(value)}</text>')
    middle = (frame.height - BOTTOM + TOP) / 2
    parts.append(
        f'<text class="soft" x="13" y="{middle:.0f}" transform="rotate(-90 13 {middle:.0f})" '
        f'text-anchor="middle">{escape(y_label)}</text>'
    )
    return "".join(parts) + _bottom(frame, x_label, 4 if fewer else 7, grid=False)


def _marks(frame: Frame, wanted: int) -> list[float]:
    if not frame.log_y:
        return ticks(*frame.y, wanted)
    low, high = (math.log10(value) for value in frame.y)
    whole = [10.0**power for power in range(math.ceil(low), math.floor(high) + 1)]
    return whole if len(whole) >= 2 else ticks(*frame.y, wanted)


def vertical_grid(frame: Frame, x_label: str) -> str:
    """The horizontal axis alone, with a grid."""
    return _bottom(frame, x_label, 6, grid=True)


def _bottom(frame: Frame, x_label: str, wanted: int, *, grid: bool) -> str:
    floor = frame.height - BOTTOM
    parts = [f'<path class="axis" d="M{frame.left} {floor}H{frame.width - RIGHT}"/>']
    marks = ticks(*frame.x, wanted)
    if x_label in WHOLE:
        marks = [value for value in marks if value == round(value)]
    for value in marks:
        x = frame.at_x(value)
        if grid:
            parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{floor}"/>')
        parts.append(f'<text class="soft" x="{x:.1f}" y="{floor + 16}" text-anchor="middle">{label(value)}</text>')
    centre = (frame.left + frame.width - RIGHT) / 2
    parts.append(f'<text class="soft" x="{centre:.0f}" y="{floor + 34}" text-anchor="middle">{escape(x_label)}</text>')
    return "".join(parts)


def legend(names: Sequence[str], width: int, below: int) -> Iterator[str]:
    """Names with their colours below the drawing, in as many lines as it takes."""
    for index, (name, x, row) in enumerate(_legend_places(names, width)):
        y = below + row * 18
        yield (
            f'<rect class="s{index % COLOURS}" fill="currentColor" x="{x:.0f}" y="{y + 2}" width="12" height="12" '
            f'rx="2"/><text x="{x + 17:.0f}" y="{y + 12}">{escape(name)}</text>'
        )


def _legend_places(names: Sequence[str], width: int) -> Iterator[tuple[str, float, int]]:
    x, row = float(LEFT), 0
    for name in names:
        wide = len(name) * LETTER + 36
        if x > LEFT and x + wide > width:
            x, row = float(LEFT), row + 1
        yield name, x, row
        x += wide


def legend_height(names: Sequence[str], width: int) -> int:
    """Room that the legend takes; 0 without names."""
    if not names:
        return 0
    return 18 * (1 + max((row for _, _, row in _legend_places(names, width)), default=-1)) + 4


def short(name: str, room: float) -> Markup:
    """As much of a name as fits; the whole of it where one points."""
    most = max(int(room / LETTER), 3)
    if len(name) <= most:
        return escape(name)
    return Markup("{}…<title>{}</title>").format(name[: most - 1], name)
