"""Charts as SVG: pure functions from numbers to a drawing.

Every drawing has a title for those who do not see it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from markupsafe import Markup, escape

from autoseg.report.chart_parts import (
    BOTTOM,
    COLOURS,
    LETTER,
    TOP,
    Dot,
    Frame,
    Line,
    axes,
    diagonal_line,
    dot_at,
    label,
    legend,
    legend_height,
    limits,
    path,
    short,
    svg,
    vertical_grid,
)

#: Lines are drawn from at most this many points, histograms of so many bars.
MOST_POINTS = 400
BARS = 24

#: Dots of a chart that tell their names; of more, each is drawn, but a name for each would make the file too large.
MOST_TITLED = 2000

#: Dots of a chart; where there are more, those between the whiskers are left to the boxes.
MOST_DRAWN = 20_000

#: Dots with names of a scatter plot, of which a page has several.
MOST_SCATTERED = 500

#: Quartiles are drawn from this many values; fewer are shown as dots only.
_FEWEST_FOR_A_BOX = 5


def line_chart(
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    *,
    y: tuple[float, float] | None = None,
    log_y: bool = False,
    width: int = 700,
    height: int = 260,
) -> Markup:
    """Lines over a common axis, with a legend where there are several."""
    lines = [thinned(line) for line in lines]
    finite = [value for line in lines for value in line.y if value is not None and (value > 0 or not log_y)]
    across = [value for line in lines for value in line.x]
    x = (min(across), max(across)) if across and min(across) < max(across) else limits(across)
    if y is None:
        y = (min(finite) * 0.8, max(finite) * 1.25) if log_y and finite else limits(finite)
    frame = Frame(width, height, x, y, log_y)
    parts = [axes(frame, x_label, y_label)]
    for index, line in enumerate(lines):
        parts += path(frame, line, "s4" if len(lines) == 1 else f"s{index % COLOURS}")
    names = [line.name for line in lines] if len(lines) > 1 else []
    parts += legend(names, width, height)
    return svg(width, height + legend_height(names, width), f"{y_label} over {x_label}", parts)


def thinned(line: Line) -> Line:
    """The line with at most MOST_POINTS of its points, the last one among them."""
    count = len(line.x)
    if count <= MOST_POINTS:
        return line
    kept = np.unique(np.linspace(0, count - 1, MOST_POINTS).round().astype(int))
    return Line(line.name, [line.x[i] for i in kept], [line.y[i] for i in kept])


def box_plots(
    groups: Mapping[str, Sequence[Dot]],
    value_label: str,
    *,
    value: tuple[float, float] | None = None,
    width: int = 700,
    row: int = 46,
) -> Markup:
    """A row per group: quartiles as a box, the median as a bar, and every case as a dot.

    Whiskers reach to the furthest value within 1.5 times the distance of the quartiles (Tukey 1977).
    """
    left = round(min(240, max((len(name) for name in groups), default=0) * LETTER + 24))
    values = [dot.value for dots in groups.values() for dot in dots]
    height = TOP + BOTTOM + row * max(len(groups), 1)
    frame = Frame(width, height, value or limits(values), (0.0, 1.0), left=max(left, 40))
    parts = [vertical_grid(frame, value_label)]
    for index, (name, dots) in enumerate(groups.items()):
        middle = TOP + row * (index + 0.5)
        colour = f"s{index % COLOURS}"
        parts.append(f'<text x="{frame.left - 10}" y="{middle + 4:.1f}" text-anchor="end">{short(name, left)}</text>')
        parts += _box(frame, [dot.value for dot in dots], middle, row * 0.5, colour)
        shown = dots if len(values) <= MOST_DRAWN else _outside(dots)
        parts += _cloud(frame, shown, middle, row, colour, titled=len(values) <= MOST_TITLED)
    return svg(width, height, f"{value_label} per group: {', '.join(groups)}", parts)


def has_boxes(groups: Mapping[str, Sequence[Dot]]) -> bool:
    """Whether `box_plots` draws a box for any group, or dots alone."""
    return any(len(dots) >= _FEWEST_FOR_A_BOX for dots in groups.values())


def histogram(
    values: Sequence[float], x_label: str, y_label: str = "cases", *, width: int = 340, height: int = 190
) -> Markup:
    """How often values fall into bins of equal width."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return svg(width, height, f"{x_label}: nothing", [])
    low, high = min(finite), max(finite)
    if low == high:
        low, high = low - (abs(low) * 0.1 or 0.5), high + (abs(high) * 0.1 or 0.5)
    counts, edges = np.histogram(finite, bins=BARS, range=(low, high))
    frame = Frame(width, height, (low, high), (0.0, float(counts.max()) * 1.08), left=46)
    parts = [axes(frame, x_label, y_label, fewer=True)]
    for count, start, stop in zip(counts, edges[:-1], edges[1:], strict=True):
        if count:
            x, y = frame.at_x(float(start)), frame.at_y(float(count))
            wide, tall = frame.at_x(float(stop)) - x, frame.at_y(0.0) - y
            parts.append(
                f'<rect class="bar s4" fill="currentColor" x="{x + 0.5:.1f}" y="{y:.1f}" '
                f'width="{max(wide - 1, 1):.1f}" height="{tall:.1f}">'
                f"<title>{label(float(start))} to {label(float(stop))}: {count}</title></rect>"
            )
    return svg(width, height, f"Histogram of {x_label}", parts)


def scatter(
    dots: Sequence[tuple[float, Dot]],
    x_label: str,
    y_label: str,
    *,
    y: tuple[float, float] | None = None,
    diagonal: bool = False,
    colour: int = 4,
    width: int = 460,
    height: int = 320,
) -> Markup:
    """A dot per case: (x, Dot with y)."""
    x_range = limits([x for x, _ in dots])
    y_range = y or limits([dot.value for _, dot in dots])
    if diagonal:
        x_range = y_range = (min(x_range[0], y_range[0]), max(x_range[1], y_range[1]))
    frame = Frame(width, height, x_range, y_range)
    parts = [axes(frame, x_label, y_label)]
    if diagonal:
        parts.append(diagonal_line(frame))
    titled = len(dots) <= MOST_SCATTERED
    plain: dict[str, None] = {}
    for across, dot in dots:
        at = frame.at_x(across), frame.at_y(dot.value)
        if titled:
            parts.append(dot_at(*at, dot, f"s{colour % COLOURS}", 3.4))
        else:
            plain[f"M{at[0]:.0f} {at[1]:.0f}h0"] = None
    parts += [cloud_path(plain, f"s{colour % COLOURS}")] if plain else []
    return svg(width, height, f"{y_label} against {x_label}", parts)


def reliability(bins: Mapping[str, Sequence[tuple[float, float]]], *, width: int = 380, height: int = 360) -> Markup:
    """A reliability diagram: how often right against how sure; on the diagonal probabilities mean what they say."""
    low = min((min(pair) for pairs in bins.values() for pair in pairs), default=0.0)
    low = math.floor(min(low, 0.9) * 10) / 10
    frame = Frame(width, height, (low, 1.0), (low, 1.0))
    parts = [axes(frame, "confidence", "share that is right"), diagonal_line(frame)]
    for index, (name, pairs) in enumerate(bins.items()):
        colour = f"s{index % COLOURS}"
        parts += path(frame, Line(name, [x for x, _ in pairs], [y for _, y in pairs]), colour)
        parts += [
            dot_at(frame.at_x(x), frame.at_y(y), Dot(y, f"{name}: {x:.3f} sure, {y:.3f} right"), colour)
            for x, y in pairs
        ]
    parts += legend(list(bins), width, height)
    return svg(width, height + legend_height(list(bins), width), "Reliability diagram", parts)


def heat_table(names: Sequence[str], shares: Sequence[Sequence[float]], x_label: str, y_label: str) -> Markup:
    """A square of shares (0..1): rows add up to 1."""
    left, cell = round(min(220, max(map(len, names)) * LETTER + 34)), 76
    wide = cell * len(names)
    middle = 40 + wide / 2
    parts = [
        f'<text class="soft" x="14" y="{middle:.0f}" transform="rotate(-90 14 {middle:.0f})" text-anchor="middle">'
        f"{escape(y_label)}</text>",
        f'<text class="soft" x="{left + wide / 2}" y="{wide + 62}" text-anchor="middle">{escape(x_label)}</text>',
    ]
    for row, name in enumerate(names):
        y, across = 40 + row * cell, left + row * cell + cell / 2
        parts.append(f'<text x="{left - 8}" y="{y + cell / 2 + 4}" text-anchor="end">{short(name, left - 26)}</text>')
        parts.append(f'<text x="{across}" y="30" text-anchor="middle">{short(name, cell)}</text>')
        for column, share in enumerate(shares[row]):
            told = f"{name} as {names[column]}"
            parts += _heat_cell(left + column * cell, y, cell, share, "s2" if row == column else "s5", told)
    return svg(left + wide + 10, wide + 74, f"{y_label} against {x_label}", parts)


def _heat_cell(x: float, y: float, edge: float, share: float, colour: str, told: str) -> Iterator[str]:
    yield (
        f'<rect class="{colour}" fill="currentColor" fill-opacity="{0.06 + 0.6 * math.sqrt(share):.2f}" x="{x + 1}" '
        f'y="{y + 1}" width="{edge - 2}" height="{edge - 2}" rx="3"><title>{escape(told)}</title></rect>'
        f'<text x="{x + edge / 2}" y="{y + edge / 2 + 4}" text-anchor="middle">{_percent(share)}</text>'
    )


def _percent(share: float) -> str:
    if share == 0:
        return "0"
    return "<0.1" if share < 0.001 else f"{100 * share:.1f}"


def _cloud(frame: Frame, dots: Sequence[Dot], middle: float, row: float, colour: str, *, titled: bool) -> Iterator[str]:
    """A dot per case around the middle of its row; without titles all that are not odd are one path."""
    plain: dict[str, None] = {}  # those on the same pixel are seen as one
    for position, dot in enumerate(dots):
        # a fixed pattern sets dots apart that would hide one another
        x, y = frame.at_x(dot.value), middle + ((position * 0.618034) % 1.0 - 0.5) * row * 0.42
        if titled or dot.odd:
            yield dot_at(x, y, dot, colour)
        else:
            plain[f"M{x:.0f} {y:.0f}h0"] = None
    if plain:
        yield cloud_path(plain, colour)


def cloud_path(dots: Iterable[str], colour: str) -> str:
    """Many dots without names, as one path."""
    return f'<path class="cloud {colour}" stroke="currentColor" d="{"".join(dots)}"/>'


def _whiskers(values: Sequence[float]) -> tuple[float, float, float, float, float]:
    """Where the lower whisker ends, the quartiles with the median between them, and where the upper whisker ends."""
    low, median, high = (float(value) for value in np.quantile(values, (0.25, 0.5, 0.75)))
    reach = 1.5 * (high - low)
    return (
        min(value for value in values if value >= low - reach), low, median, high,
        max(value for value in values if value <= high + reach),
    )  # fmt: skip


def _outside(dots: Sequence[Dot]) -> Sequence[Dot]:
    """Those that a box with whiskers does not stand for."""
    if len(dots) < _FEWEST_FOR_A_BOX:
        return dots
    start, *_, stop = _whiskers([dot.value for dot in dots])
    return [dot for dot in dots if dot.odd or not start <= dot.value <= stop]


def _box(frame: Frame, values: Sequence[float], middle: float, tall: float, colour: str) -> Iterator[str]:
    if len(values) < _FEWEST_FOR_A_BOX:
        return
    start, low, median, high, stop = _whiskers(values)
    a, b, m, whisker_low, whisker_high = (frame.at_x(value) for value in (low, high, median, start, stop))
    yield (
        f'<path class="{colour}" stroke="currentColor" d="M{whisker_low:.1f} {middle:.1f}H{a:.1f}M{b:.1f} {middle:.1f}'
        f'H{whisker_high:.1f}"/>'
    )
    yield (
        f'<rect class="box {colour}" fill="currentColor" stroke="currentColor" x="{a:.1f}" y="{middle - tall / 2:.1f}" '
        f'width="{max(b - a, 1):.1f}" height="{tall:.1f}" rx="2"><title>median {median:.3f}, quartiles {low:.3f} to '
        f"{high:.3f}, {len(values)} cases</title></rect>"
        f'<path class="{colour}" stroke="currentColor" stroke-width="2.6" d="M{m:.1f} {middle - tall / 2:.1f}'
        f'v{tall:.1f}"/>'
    )
