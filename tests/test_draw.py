"""Drawings: what is on them, that nothing in a query can break them, and that they fit where they are shown."""

from __future__ import annotations

import math
import re
import sys
import warnings
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2router.errors import MissingExtra
from r2router.report import (
    Chart,
    ChartPoint,
    CurveRow,
    Line,
    Style,
    curve_chart,
    curve_rows,
    grid,
    image,
    page,
    plot,
    svg,
)
from r2router.report.chart import linear_ticks, log_ticks, tick_money
from r2router.report.svg import GREY
from r2router.report.terminal import pad, width
from r2router.text import cost_column, request_cost
from r2router.types import Arm, Curve, Decision

NAN = math.nan
PLAIN = Style(80, colour=False, unicode=True)


def curves() -> list[Curve]:
    return [
        Curve(
            "small",
            ("50", "200", "unlimited"),
            (0.3, 0.45, 0.5),
            (40.0, 150.0, 600.0),
            (0.0001, 0.0003, 0.001),
            (0.05, 0.05, NAN),
        ),
        Curve("large", ("50", "200"), (0.6, 0.8), (40.0, 150.0), (0.002, 0.006), (0.05, 0.05)),
        Curve("odd", ("low",), (NAN,), (NAN,), (NAN,), (NAN,)),
    ]


def decision(arm: str, quality: float, cost: float) -> Decision:
    model, _, budget = arm.partition("@")
    return Decision(
        arm=Arm(arm),
        model=model,
        budget=budget,
        quality=quality,
        tokens=99.0,
        cost=cost,
        spread=0.05,
        max_tokens=None,
        fallbacks=(),
        reason="because",
    )


CHOSEN = decision("large@50", 0.6, 0.002)


def chart(title: str = "Who wrote Faust?") -> Chart:
    return curve_chart(title, curve_rows(curves(), CHOSEN), "because")


def hostile(title: str) -> Chart:
    line = Line(f"{title} model", (ChartPoint(0.001, 0.2, title, title), ChartPoint(0.01, 0.4, title, title)))
    return Chart(title, (line,), line.points[0], title)


# -- what is drawn
# --------------------------------------------------------------------------------------------------------


def test_rows_know_what_was_chosen_and_what_is_best() -> None:
    rows = curve_rows(curves(), CHOSEN)
    assert [f"{r.model}@{r.budget}" for r in rows if r.chosen] == ["large@50"]
    assert [f"{r.model}@{r.budget}" for r in rows if r.best] == ["small@50", "small@200", "large@50", "large@200"]
    assert rows[2].cells() == ("small", "unlimited", "0.50", "600", "$0.00100")
    assert rows[5].cells() == ("odd", "low", "unknown", "unknown", "unknown")


def test_what_cannot_be_chosen_is_neither_best_nor_drawn() -> None:
    usable = np.array([True, True, True, False, False, True])
    rows = curve_rows(curves(), decision("small@200", 0.45, 0.0003), usable)
    assert [r.budget for r in rows if r.best] == ["50", "200", "unlimited"]
    drawn = curve_chart("x", rows)
    assert [line.name for line in drawn.lines] == ["small"]
    assert drawn.mark is not None
    assert drawn.mark.label == "small@200"


def test_a_budget_between_two_anchors_stands_between_them() -> None:
    rows = curve_rows(curves(), decision("large@120", 0.7, 0.004))
    assert [r.budget for r in rows if r.model == "large"] == ["50", "120", "200"]
    assert [p.x for p in curve_chart("x", rows).lines[1].points] == [2.0, 4.0, 6.0]


def test_of_many_models_those_on_the_way_have_a_line_and_the_others_lie_behind() -> None:
    many = [Curve(f"m{i}", ("50",), (0.5 - i / 100,), (40.0,), (0.001 * (i + 2),), (0.05,)) for i in range(60)]
    drawn = curve_chart("x", curve_rows([*many, Curve("cheap", ("50",), (0.2,), (40.0,), (0.001,), (0.05,))]))
    assert [line.name for line in drawn.lines] == ["m0", "cheap", "59 other models"]
    assert [line.faint for line in drawn.lines] == [False, False, True]
    assert [n for n, _ in drawn.layers()] == [2, 0, 1]
    text = plot(drawn, PLAIN)
    assert "a m0" in text
    assert ". 59 other models" in text.replace("·", ".")
    assert GREY in svg(drawn)
    assert "59 other models" in page(drawn)


def test_without_any_point_there_is_still_a_picture() -> None:
    empty = curve_chart("nothing", curve_rows([Curve("a", ("low",), (NAN,), (NAN,), (NAN,), (NAN,))]))
    assert "quality" in plot(empty, PLAIN)
    assert page(empty).startswith("<!doctype html>")


# -- axes
# -----------------------------------------------------------------------------------------------------------------


@given(st.floats(-12, 6), st.floats(0.01, 12), st.integers(2, 12))
def test_log_ticks_lie_inside_and_are_few(low: float, length: float, most: int) -> None:
    ticks = log_ticks(low, low + length, most)
    assert len(ticks) <= most
    assert ticks == sorted(set(ticks))
    assert all(low - 1e-9 <= math.log10(t) <= low + length + 1e-9 for t in ticks)


@given(st.floats(0, 0.99), st.floats(0.001, 1), st.integers(2, 12))
def test_linear_ticks_lie_inside_and_say_what_they_are(low: float, length: float, most: int) -> None:
    ticks = linear_ticks(low, low + length, most)
    assert len(ticks) <= most + 1
    assert all(low - 1e-6 <= y <= low + length + 1e-6 and float(label) == pytest.approx(y) for y, label in ticks)
    assert len({label for _, label in ticks}) == len(ticks)


def test_money_on_an_axis_is_short() -> None:
    assert [tick_money(v) for v in (0.002, 0.00001, 5.0, 100.0, 0.0)] == ["$0.002", "$0.00001", "$5", "$100", "$0"]


def test_what_costs_nothing_stands_left_of_everything() -> None:
    free = Chart(
        "x", (Line("free", (ChartPoint(0.0, 0.2), ChartPoint(0.0, 0.3))), Line("paid", (ChartPoint(0.01, 0.5),)))
    )
    low, high, _, _ = free.span()
    assert low < free.across(0.0) < free.across(0.01) < high
    assert free.x_ticks(6)[0] == (free.across(0.0), "$0")
    assert "$0" in plot(free, PLAIN)
    only = Chart("x", (Line("free", (ChartPoint(0.0, 0.2),)),))
    assert "free" in plot(only, PLAIN)
    assert "NaN" not in svg(only).replace("nan", "NaN")


# -- terminal
# -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
@pytest.mark.parametrize("unicode", [True, False])
def test_the_plot_fits_and_shows_every_model(columns: int, unicode: bool) -> None:
    text = plot(chart(), Style(columns, unicode=unicode))
    picture = text.split("cost per 1,000")[0].splitlines()
    assert all(width(line) <= max(columns, 28) for line in picture)
    assert "\x1b" not in text
    for letter, name in (("a", "small"), ("b", "large")):
        assert re.search(rf"\b{letter} {name}", text)
    assert "odd" not in text
    assert ("◆" if unicode else "#") in text
    if not unicode:
        assert text.isascii()


def test_points_stand_where_they_belong() -> None:
    rows = plot(chart(), PLAIN).splitlines()
    body = [line.split("│", 1)[1] for line in rows if "│" in line]
    at = {c: (line.index(c), n) for n, line in reversed(list(enumerate(body))) for c in "ab◆" if c in line}
    assert at["a"][0] < at["◆"][0] < at["b"][0], "cost grows to the right"
    assert at["a"][1] > at["◆"][1] > at["b"][1], "quality grows upwards"


def test_colours_only_where_they_are_wanted() -> None:
    coloured = plot(chart(), Style(80, colour=True))
    assert "\x1b[1;38;5;33ma\x1b[0m" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plot(chart(), PLAIN)


def test_more_models_than_colours_or_letters() -> None:
    lines = tuple(
        Line(f"model-{i}", (ChartPoint(10.0 ** (-i / 20), i / 70), ChartPoint(2 * 10.0 ** (-i / 20), i / 69)))
        for i in range(60)
    )
    big = Chart("many", lines)
    assert "model-59" in plot(big, Style(80, colour=True))
    assert svg(big).count("<polyline") == 60
    assert "stroke-dasharray" in svg(big)


def test_a_table_is_aligned_also_with_wide_letters() -> None:
    text = grid(("model", "n"), [("千问", "1"), ("e\u0301a", "1,000")], PLAIN, right=frozenset({1}))
    assert {width(line) for line in text.splitlines()} == {width("model") + 2 + 5}
    assert width("千问") == 4
    assert pad("ab", 1) == "ab"


# -- what a query may hold
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["\x1b]0;owned\x07\x1b[2J", "a\r\nb\tc", "\x9b31m", "\u202ereversed"])
def test_a_query_cannot_steer_the_terminal(text: str) -> None:
    shown = plot(hostile(text), PLAIN) + grid(("x",), [(text,)], PLAIN)
    assert all(c.isprintable() or c == "\n" for c in shown)


@given(st.text(max_size=60).filter(lambda t: not re.search("[\ud800-\udfff]", t)))
def test_a_query_cannot_break_the_page(text: str) -> None:
    drawn = page(hostile(text), [CurveRow(text, text, 0.2, 0.1, 5.0, 0.1, chosen=True, best=True, usable=True)])
    assert drawn.count("<script") == 0
    harmless = "".join(c for c in drawn if c == "\n" or c.isprintable())  # XML knows no control characters; HTML does
    body = harmless.split("<body>")[1].split("</body>")[0]
    ElementTree.fromstring(f"<body>{body}</body>")  # every tag is closed, every text escaped


def test_the_page_stands_alone_and_says_everything() -> None:
    drawn = page(chart("<script>alert(1)</script>"), curve_rows(curves(), CHOSEN))
    assert "&lt;script&gt;" in drawn
    assert not re.search(r"""(src|href)=|url\(|@import|https?://|<script|<link""", drawn)
    assert "prefers-color-scheme: dark" in drawn
    for text in (
        "large@50: quality 0.60 ± 0.05, $0.00200, 40 output tokens",
        "chosen: large@50",
        "log scale",
        "best for some trade-off",
    ):
        assert text in drawn
    assert drawn.count("<title>") == 1 + 5, "the page's own, and what is read on hovering over each point"


# -- PNG
# ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "title", ["Who wrote Faust?", "costs $5 or $x^2$ or $\\frac{", "谁写了浮士德?", "a" * 500, "\x00\x07"]
)
def test_a_png_of_any_title(title: str) -> None:
    pytest.importorskip("matplotlib")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert image(hostile(title)).startswith(b"\x89PNG")


def test_a_png_of_nothing_and_of_free_models() -> None:
    pytest.importorskip("matplotlib")
    for drawn in (Chart("x", ()), Chart("x", (Line("free", (ChartPoint(0.0, 0.2),)),))):
        assert image(drawn).startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [m for m in sys.modules if m.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"r2router\[plot\]"):
        image(chart())


def test_drawing_needs_no_query_text() -> None:
    anything: Any = curve_chart("", curve_rows(curves()))
    assert anything.mark is None
    assert "chosen:" not in page(anything)


@pytest.mark.parametrize(
    ("usd", "words", "short"),
    [
        (0.0, "$0", "$0"),
        (0.00132, "$0.00132", "$0.00132"),
        (45678.9, "$45,679", "$45,679"),
        (0.000214, "$0.214 per 1,000 requests", "$0.214/1,000"),
        (2.14e-7, "$0.214 per million requests", "$0.214/million"),
        (12.5, "$12.5", "$12.5"),
        (float("inf"), "$inf", "$inf"),
    ],
)
def test_costs_of_a_request_have_few_zeros(usd: float, words: str, short: str) -> None:
    assert (request_cost(usd), request_cost(usd, short=True)) == (words, short)


def test_a_column_of_costs_has_one_unit() -> None:
    assert cost_column([0.00132, 2.0, float("nan")]) == ("cost", ["$0.00132", "$2.00", "unknown"])
    assert cost_column([0.0, 2.0e-6, 0.009]) == ("cost per 1,000", ["$0", "$0.00200", "$9.00"])
    assert cost_column([2.14e-7]) == ("cost per million", ["$0.214"])
    assert cost_column([]) == ("cost", [])
