"""Charts: what is drawn lies where the numbers say, is well-formed, and holds no name unescaped."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoseg.report.chart_parts import Dot, Frame, Line, label, ticks
from autoseg.report.charts import (
    MOST_DRAWN,
    MOST_POINTS,
    MOST_SCATTERED,
    box_plots,
    heat_table,
    histogram,
    line_chart,
    reliability,
    scatter,
    thinned,
)

EVIL = '<script>alert("x")</script>&'
finite = st.floats(-1e9, 1e9, allow_nan=False, width=32)


def parsed(svg: object) -> ET.Element:
    return ET.fromstring(str(svg))


def named(svg: object, tag: str) -> list[ET.Element]:
    return [element for element in parsed(svg).iter() if element.tag == tag]


@given(low=finite, room=st.floats(1e-3, 1e9))
def test_ticks_are_round_and_within(low: float, room: float) -> None:
    found = ticks(low, low + room)
    step = found[1] - found[0] if len(found) > 1 else 0
    assert len(found) <= 12
    assert all(low - 1e-6 * room <= value <= low + room + 1e-6 * (room + abs(low)) for value in found) or not step


def test_ticks_of_a_known_range() -> None:
    assert ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(-3.0, 7.0) == [-2.0, 0.0, 2.0, 4.0, 6.0]
    assert [label(value) for value in (0.0005, 0.00001)] == ["0.0005", "1e-5"]
    assert label(250) == "250"


def test_a_line_goes_where_its_numbers_are() -> None:
    drawn = line_chart(
        [Line("loss", [0, 1, 2], [1.0, None, 3.0])], "epoch", "loss", y=(0.0, 4.0), width=300, height=200
    )
    path = next(element for element in named(drawn, "path") if "line" in element.get("class", ""))
    frame = Frame(300, 200, (0, 2), (0.0, 4.0))
    assert path.get("d") == (
        f"M{frame.at_x(0):.1f} {frame.at_y(1):.1f}M{frame.at_x(2):.1f} {frame.at_y(3):.1f}"  # broken at None
    )


@given(st.lists(st.one_of(st.none(), finite), max_size=30))
def test_any_values_can_be_drawn(values: list[float | None]) -> None:
    parsed(line_chart([Line("a", list(range(len(values))), values)], "epoch", "loss"))
    there = [value for value in values if value is not None]
    parsed(box_plots({"a": [Dot(value, "case") for value in there]}, "Dice"))
    parsed(histogram(there, "spacing"))
    parsed(scatter([(value, Dot(value, "case")) for value in there], "x", "y", diagonal=True))


def test_long_lines_are_thinned_and_keep_their_ends() -> None:
    line = thinned(Line("a", list(range(10_000)), [float(value) for value in range(10_000)]))
    assert len(line.x) == MOST_POINTS
    assert (line.x[0], line.x[-1]) == (0, 9999)


def test_every_case_is_a_dot_with_its_name_and_odd_ones_are_ringed() -> None:
    dots = [Dot(0.1 * value, f"case {value}", odd=value == 9) for value in range(10)]
    drawn = box_plots({"liver": dots}, "Dice", value=(0.0, 1.0))
    circles = named(drawn, "circle")
    titles = [title.text for circle in circles for title in circle]
    assert len([circle for circle in circles if "dot" in circle.get("class", "")]) == 10
    assert len([circle for circle in circles if circle.get("class") == "odd"]) == 1
    assert "case 9: 0.9" in titles
    assert any("median 0.450" in (title.text or "") for title in named(drawn, "title"))


def test_bars_of_a_histogram_add_up_to_the_cases() -> None:
    bars = [title.text or "" for title in named(histogram([1, 1, 2, 5, 5, 5], "spacing"), "title")]
    assert sum(int(text.rpartition(": ")[2]) for text in bars) == 6


def test_shares_of_a_heat_table_are_told_in_percent() -> None:
    texts = [
        text.text for text in named(heat_table(["background", "liver"], [[0.9, 0.1], [0.25, 0.75]], "x", "y"), "text")
    ]
    assert {"90.0", "10.0", "25.0", "75.0"} <= set(texts)


@pytest.mark.parametrize(
    "drawn",
    [
        line_chart([Line(EVIL, [0, 1], [1.0, 2.0]), Line("b", [0], [1.0])], EVIL, EVIL),
        box_plots({EVIL: [Dot(0.5, EVIL)] * 6}, EVIL),
        scatter([(1.0, Dot(2.0, EVIL))], EVIL, EVIL),
        reliability({EVIL: [(0.5, 0.6), (0.9, 0.95)]}),
        heat_table([EVIL, "b"], [[1.0, 0.0], [0.0, 1.0]], EVIL, EVIL),
        histogram([1.0], EVIL),
    ],
)
def test_names_are_escaped(drawn: object) -> None:
    assert "<script" not in str(drawn)
    parsed(drawn)


def test_where_dots_would_hide_all_only_those_outside_the_whiskers_are_drawn() -> None:
    rng = np.random.default_rng(0)
    inside = [Dot(float(value), "inside") for value in rng.uniform(0.4, 0.6, MOST_DRAWN)]
    drawn = box_plots({"liver": [*inside, Dot(0.05, "low"), Dot(0.95, "high")], "kidney": [Dot(0.5, "only")]}, "Dice")
    clouds = re.findall(r'class="cloud[^>]*d="([^"]*)"', drawn)
    assert [cloud.count("h0") for cloud in clouds] == [2, 1]
    few = box_plots({"liver": [*inside[:-3], Dot(0.05, "low"), Dot(0.95, "high")]}, "Dice")
    assert few.count("h0") > 100


def test_a_scatter_of_many_dots_is_one_path() -> None:
    dots = [(float(value), Dot(float(value), f"case {value}")) for value in range(MOST_SCATTERED + 1)]
    assert scatter(dots, "x", "y").count("<circle") == 0
    assert scatter(dots[:-1], "x", "y").count("<circle") == MOST_SCATTERED
