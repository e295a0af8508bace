"""Findings as pages, pictures and text: everything is on them, nothing can break them, and they stay small and
self-contained.
"""

from __future__ import annotations

import math
import re
import sys
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from r2router.errors import MissingExtra
from r2router.figure import Figure
from r2router.report import Style, plot_png, plot_svg, report_page, report_text
from r2router.report.cells import NOTHING, cells, count, number
from r2router.report.findings import Findings, Grid, GridRow, Paragraph, Plot, Section, Series
from r2router.report.place import NARROW, WIDE, Place, Size, labels
from r2router.report.plots import plot_chart
from r2router.report.svg import svg
from r2router.report.terminal import width
from r2router.report.thin import thin

NAN = math.nan
NASTY = (
    "<script>alert(1)</script>",
    "a & b \"q\" 'q'",
    "\u202eright to left עברית",
    "👩‍🔬🙂",
    "x" * 300,
    "\x00\x1b[31m\ud800",
    "$x^2$ </title>",
)
VOID = {"meta", "br", "circle", "line", "rect", "path", "polyline", "polygon"}


def grid(**changed: object) -> Grid:
    given = {
        "title": "Figures",
        "columns": ("area", "cost", "share", "words"),
        "rows": (
            GridRow("ours", (Figure("area", 0.2712, 0.262, 0.2801, 705), 0.00132, 0.271, "fine"), strong=True),
            GridRow("theirs", (Figure("area", 0.25, 0.24, 0.26, 705), 0.01, NAN, None)),
            GridRow("oracle", (Figure("area", 0.5, NAN, NAN, 705), 0.0001, 1.0, ""), bound=True),
        ),
        "formats": (".3f", "money", "share", ""),
        "better": ("more", "less", "more", ""),
    }
    return Grid(**{**given, **changed})  # type: ignore[arg-type]


def curve_plot(n: int = 5, lines: int = 2, name: str = "method") -> Plot:
    x = tuple(np.geomspace(0.01, 10, n).tolist())
    series = []
    for i in range(lines):
        y = tuple((0.3 + 0.1 * i / lines + 0.1 * np.log10(x)).tolist())
        series.append(
            Series(f"{name} {i}", x, y, tuple(v - 0.02 for v in y), tuple(v + 0.02 for v in y), strong=i == 0)
        )
    points = Series("arms", (0.02, 0.5), (0.1, 0.4), labels=(f"{name}@low", f"{name}@high"), style="points")
    return Plot(
        "Curves", "dollars", "quality", (*series, points), log_x=True, x_unit="money", about="Higher is better."
    )


def found(simulated: bool = False, text: str = "") -> Findings:
    return Findings(
        name=f"main{text}",
        title=f"Does it work?{text}",
        question=f"We asked.{text}",
        answers=(f"Yes, by 0.02.{text}", "Not on one task."),
        sections=(
            Section(f"Curves{text}", (curve_plot(name=f"method{text}"), Paragraph(f"Some words.{text}\n\nAnd more."))),
            Section("Table", (grid(title=f"Figures{text}", about=f"About{text}"),)),
            Section(f"Details{text}", (Paragraph("For reviewers."),), folded=True),
        ),
        sources=((f"outcomes.parquet{text}", "0123456789abcdef" * 4),),
        settings={"seed": 3, "split": {"test": 0.2}, f"k{text}": text},
        command=f"r2router reproduce main --table 'a b'{text}",
        notes=(f"Tokens are estimated.{text}",),
        simulated=simulated,
    )


class Reader(HTMLParser):
    """Holds that every tag is closed in order, and collects what the page would load and show."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [
            f"{k}={v}"
            for k, v in attrs
            if k in {"src", "href", "xlink:href", "action", "data", "srcset", "style"} or k.startswith("on")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    @property
    def words(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text))


# -- numbers in cells
# -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "form", "shown"),
    [
        (0.2712, ".3f", "0.271"),
        (0.0412, "+.3f", "+0.041"),
        (0.00132, "money", "$0.00132"),
        (0.271, "share", "27.1 %"),
        (1.5, "share", "150.0 %"),
        (0.00037, "share", "0.037 %"),
        (0.0, "share", "0.0 %"),
        (705.0, "", "705"),
        (30968.4, "", "30,968"),
        (0.27123, "", "0.271"),
        (NAN, "money", NOTHING),
        (math.inf, "", NOTHING),
    ],
)
def test_how_numbers_are_written(value: float, form: str, shown: str) -> None:
    assert number(value, form) == shown


def test_an_interval_ends_where_a_quality_is_never_reached() -> None:
    figures = (
        Figure("f", 1.5, 1.0, math.inf),
        Figure("f", -0.5, -math.inf, -0.1),
        Figure("f", 1.0, math.inf, math.inf),
    )
    rows = tuple(GridRow(str(i), (figure,)) for i, figure in enumerate(figures))
    assert [row[0].interval for row in cells(Grid("g", ("x",), rows, (".1f",)))] == [
        "[1.0, never]",
        "[never, -0.1]",
        "",
    ]


def test_intervals_and_what_is_missing() -> None:
    form = {"columns": ("x",), "formats": ("share",), "better": ()}
    rows = [
        Figure("f", 0.27, 0.26, 0.28),
        Figure("f", 0.27, NAN, 0.28),
        Figure("f", 0.27),
        Figure("f", NAN, NAN, NAN),
        None,
        NAN,
    ]
    shown = [row[0] for row in cells(grid(**form, rows=tuple(GridRow(str(i), (v,)) for i, v in enumerate(rows))))]
    assert [f"{c.text} {c.interval}".strip() for c in shown] == [
        "27.0 % [26.0, 28.0]",
        "27.0 % [\u2013, 28.0]",
        "27.0 %",
        NOTHING,
        NOTHING,
        NOTHING,
    ]
    assert [c.missing for c in shown] == [False] * 3 + [True] * 3
    plain = cells(
        grid(columns=("x",), formats=(), better=(), rows=(GridRow("a", (Figure("f", 12.0, 10.0, 14.0, unit=" %"),)),))
    )
    assert (plain[0][0].text, plain[0][0].interval) == ("12 %", "[10, 14]")


def test_the_best_of_a_column_leaves_bounds_and_gaps_out() -> None:
    best = [[cell.best for cell in row] for row in cells(grid())]
    assert best == [[True, True, False, False], [False] * 4, [False] * 4], "one known share alone is no contest"
    tie = grid(
        columns=("x",), formats=(".2f",), better=("less",), rows=tuple(GridRow("r", (v,)) for v in (0.101, 0.102, 0.2))
    )
    assert [row[0].best for row in cells(tie)] == [True, True, False], "what reads the same is equally good"
    assert not any(cell.best for row in cells(replace(tie, rows=tie.rows[:2])) for cell in row), (
        "where all are equal nothing is best"
    )


def test_n_is_said_once_where_all_are_equal() -> None:
    assert count(cells(grid())) == 705
    page = report_page(found())
    assert page.count("705") == 1
    mixed = grid(
        rows=(
            GridRow("a", (Figure("f", 1, 0, 2, 10), 1.0, 1.0, "")),
            GridRow("b", (Figure("f", 1, 0, 2, 20), 1.0, 1.0, "")),
        )
    )
    assert count(cells(mixed)) is None
    words = Reader(report_page(Findings("n", "t", "q", (), (Section("s", (mixed,)),)))).words
    assert "n 10" in words and "n 20" in words and "behind every figure" not in words
    assert count(cells(grid(rows=()))) == 0


def test_findings_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ValueError, match="'theirs': 1 cells for 4"):
        grid(rows=(GridRow("theirs", (0.1,)),))
    with pytest.raises(ValueError, match="formats"):
        grid(formats=("money",))
    with pytest.raises(ValueError, match="series 'a'"):
        Series("a", (1.0, 2.0), (1.0,))
    with pytest.raises(ValueError, match="not as many"):
        Series("a", (1.0, 2.0), (1.0, 2.0), low=(0.5,))


# -- the page
# -------------------------------------------------------------------------------------------------------------


def test_the_page_says_everything_in_order() -> None:
    words = Reader(report_page(found())).words
    order = [
        "Does it work?",
        "We asked.",
        "Yes, by 0.02.",
        "Curves",
        "Table",
        "0.271",
        "[0.262, 0.280]",
        "Details",
        "How this was made",
    ]
    places = [words.rindex(part) if part in ("Does it work?", "Curves") else words.index(part) for part in order]
    assert places == sorted(places)
    for part in (
        "$0.00132",
        "27.1 %",
        "0123456789abcdef" * 4,
        "r2router reproduce main",
        '{"test": 0.2}',
        "Tokens are estimated.",
        "And more.",
    ):
        assert part in words


def test_the_page_marks_what_is_strong_best_missing_and_folded() -> None:
    page = report_page(found())
    assert re.search(
        r'<tr class="strong"><th scope="row"[^>]*>ours</th>\s*<td class="n"[^>]*><span><b>0.271</b> <span'
        r' class="i">\[0.262, 0.280\]',
        page,
    )
    assert page.count('title="not available">\u2013</span>') == 2
    assert re.search(r"<details>\s*<summary><h2>Details", page), "closed until it is opened"
    for rule in ("prefers-color-scheme: dark", "@media print", "max-width: 560px", "tabular-nums"):
        assert rule in page


def test_simulated_data_cannot_be_missed() -> None:
    page = report_page(found(simulated=True))
    assert page.count("SIMULATED DATA") >= 4, "in the title, above the answers, and on each picture of the plot"
    assert page.index('class="simulated"') < page.index('class="answers"')
    assert "SIMULATED DATA" in plot_svg(curve_plot(), simulated=True)
    assert "SIMULATED DATA" in report_text(found(simulated=True), Style(60, unicode=False))
    for shown in (report_page(found()), plot_svg(curve_plot()), report_text(found(), Style())):
        assert "SIMULATED" not in shown


def test_several_findings_are_one_page() -> None:
    page = Reader(report_page([found(), found(text=" again")]))
    assert page.tags.count("h1") == 2
    assert page.tags.count("article") == 2
    assert "2 studies" in page.words


@pytest.mark.parametrize("text", NASTY)
def test_no_name_breaks_the_page_or_the_pictures(text: str) -> None:
    shown = report_page(found(text=text))
    page = Reader(shown)
    assert "script" not in page.tags
    assert page.loads == []
    visible = re.sub("[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]", "\ufffd", text)
    assert page.text.count(f"Yes, by 0.02.{visible}") == 1
    shown.encode()
    ElementTree.fromstring(plot_svg(curve_plot(name=text)))


@given(st.text(max_size=40))
def test_no_text_at_all_breaks_the_page(text: str) -> None:
    page = Reader(report_page(found(text=text)))
    assert "script" not in page.tags
    ElementTree.fromstring(plot_svg(curve_plot(name=text)).encode())


def test_the_page_fetches_nothing_and_needs_no_script() -> None:
    page = report_page(found(simulated=True))
    assert Reader(page).loads == []
    assert not re.search(r"url\(|@import|https?://|<script|<link|<img|<iframe", page)


def test_next_to_nothing_is_still_a_page() -> None:
    empty = Plot("nothing", "x", "y", ())
    odd = Plot("odd", "x", "y", (Series("none", (), ()), Series("unknown", (1.0, NAN), (NAN, 2.0))), log_x=True)
    same = Plot("same", "x", "y", (Series("one", (5.0, 5.0), (2.0, 2.0)),))
    parts = (empty, odd, same, grid(rows=()), Grid("no columns", (), (GridRow("a", ()),)))
    bare = Findings("n", "", "", (), (Section("s", parts), Section("none", ())))
    Reader(report_page(bare))
    assert "nan" not in svg(plot_chart(odd)) + svg(plot_chart(same))
    report_text(bare, Style())


# -- plots
# ------------------------------------------------------------------------------------------------------------------


def test_a_plot_has_its_lines_bands_names_and_hover_texts() -> None:
    drawn = ElementTree.fromstring(plot_svg(curve_plot()))
    space = "{http://www.w3.org/2000/svg}"
    assert len(list(drawn.iter(f"{space}polyline"))) == 2
    assert len(list(drawn.iter(f"{space}polygon"))) == 2
    texts = [t.text for t in drawn.iter(f"{space}text")]
    for text in ("Curves", "method 0", "method 1", "arms", "method@low", "method@high", "$0.1", "quality"):
        assert text in texts
    titles = [t.text for t in drawn.iter(f"{space}title")]
    assert "method 0: 0.1 [0.08, 0.12] at $0.0100" in titles
    assert "method@low: 0.1 at $0.0200" in titles
    assert "var(" not in plot_svg(curve_plot()), "programs that draw SVG files know no variables"


def test_a_line_stops_where_nothing_is_known() -> None:
    gap = Series(
        "a",
        (1.0, 2.0, 3.0, 4.0, 5.0),
        (0.1, 0.2, NAN, 0.3, 0.2),
        low=(0.0, 0.1, NAN, 0.2, 0.1),
        high=(0.2, 0.3, NAN, 0.4, 0.3),
    )
    drawn = svg(plot_chart(Plot("t", "x", "y", (gap,))))
    assert drawn.count("<polyline") == drawn.count("<polygon") == 2


def test_a_linear_axis_has_even_ticks_and_any_unit() -> None:
    chart = plot_chart(Plot("t", "queries", "error", (Series("a", (-10.0, 30_000.0), (-0.5, 7000.0)),)))
    ticks = chart.x_ticks(6)
    assert [label for _, label in ticks] == ["0", "10,000", "20,000", "30,000"]
    assert len(set(np.diff([x for x, _ in ticks]).round(6))) == 1
    low, high, bottom, top = chart.span()
    assert low < -10 and high > 30_000 and bottom < -0.5 and top > 7000
    paid = plot_chart(Plot("t", "x", "y", (Series("a", (0.0, 2.0), (0.0, 1.0)),), x_unit="money"))
    assert paid.x_ticks(4)[0] == (0.0, "$0")


def test_long_lines_become_short_and_look_the_same() -> None:
    x = np.linspace(0, 800, 2000)
    y = 200 + 150 * np.sin(x / 90)
    kept = thin(x, y, 0.3)
    assert len(kept) < 200
    assert np.abs(np.interp(x, x[kept], y[kept]) - y).max() <= 0.6, (
        "0.3 across the line is up to 0.6 along y where it is steep"
    )
    noise = np.random.default_rng(0).uniform(0, 400, 2000)
    assert len(thin(x, noise, 0.3, maximum=400)) <= 400
    straight = thin(x, 2 * x)
    assert straight.tolist() == [0, 1999]
    assert thin(x[:1], y[:1]).tolist() == [0]


@given(st.lists(st.tuples(st.floats(0, 900), st.floats(0, 500)), min_size=1, max_size=60), st.floats(0.1, 5))
def test_thinning_keeps_every_point_near_its_stretch(points: list[tuple[float, float]], tolerance: float) -> None:
    x, y = (np.array(v) for v in zip(*sorted(points), strict=True))
    kept = thin(x, y, tolerance)
    assert kept[0] == 0 and kept[-1] == len(x) - 1
    for a, b in zip(kept[:-1].tolist(), kept[1:].tolist(), strict=True):
        chord = np.array([x[b] - x[a], y[b] - y[a]])
        for i in range(a, b + 1):
            along = np.array([x[i] - x[a], y[i] - y[a]])
            length = float(chord @ chord)
            at = min(max(float(along @ chord) / length, 0.0), 1.0) if length else 0.0
            assert np.hypot(*(along - at * chord)) <= tolerance + 1e-9


def test_a_large_study_is_a_small_file() -> None:
    rng = np.random.default_rng(0)
    x = tuple(np.geomspace(0.001, 10, 200).tolist())
    wiggly = [np.cumsum(rng.normal(0, 0.01, 200)) for _ in range(11)]
    series = tuple(Series(f"m{i}", x, tuple(y), tuple(y - 0.05), tuple(y + 0.05)) for i, y in enumerate(wiggly))
    page = report_page(Findings("n", "t", "q", (), (Section("s", (Plot("p", "x", "y", series, log_x=True),)),)))
    assert len(page) < 500_000
    x = tuple(np.linspace(1, 10, 2000).tolist())
    series = tuple(Series(f"m{i}", x, tuple(rng.random(2000).tolist())) for i in range(11))
    assert len(report_page(Findings("n", "t", "q", (), (Section("s", (Plot("p", "x", "y", series),)),)))) < 500_000


def test_names_of_points_do_not_cover_each_other_or_other_points() -> None:
    rng = np.random.default_rng(1)
    points = Series(
        "arms",
        tuple(rng.random(60)),
        tuple(rng.random(60)),
        labels=tuple(f"model-{i}@low" for i in range(60)),
        style="points",
    )
    chart = plot_chart(Plot("t", "x", "y", (points,)))
    for size in (WIDE, NARROW):
        left, right, bottom, top = chart.span()

        def place(
            x: float, y: float, s: object = size, span: tuple[float, ...] = (left, right, bottom, top)
        ) -> tuple[float, float]:
            wide, high = s.width - 80, s.height - 72  # type: ignore[attr-defined]
            return 62 + (x - span[0]) / (span[1] - span[0]) * wide, 16 + (span[3] - y) / (span[3] - span[2]) * high

        boxes = []
        for name in labels(chart, size):
            x, y = place(name.point.x, name.point.y)
            x, y, long = x + name.dx, y + name.dy, 6 * len(name.text)
            start = x - {"start": 0, "middle": long / 2, "end": long}[name.anchor]
            boxes.append((start, y - 8, start + long, y + 2))
        assert len(boxes) > 5
        for i, a in enumerate(boxes):
            assert a[0] > 0 and a[2] < size.width
            assert not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in boxes[:i])
            assert not any(a[0] < px < a[2] and a[1] < py < a[3] for px, py in map(place, points.x, points.y))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.sampled_from([WIDE, NARROW]))
def test_no_name_lies_on_a_line(seed: int, size: Size) -> None:
    rng = np.random.default_rng(seed)
    x = np.sort(rng.random(12))
    curves = tuple(Series(f"c{i}", tuple(x), tuple(np.cumsum(rng.random(12)) / 12)) for i in range(4))
    arms = Series(
        "arms",
        tuple(rng.random(20)),
        tuple(rng.random(20)),
        labels=tuple(f"model-{i}@low" for i in range(20)),
        style="points",
    )
    chart = plot_chart(Plot("t", "x", "y", (*curves, arms)))
    place = Place(chart, size)
    names = labels(chart, size)
    for name in names:
        left = (
            place.x(name.point.x) + name.dx - 6.0 * len(name.text) * {"start": 0, "middle": 0.5, "end": 1}[name.anchor]
        )
        base = place.y(name.point.y) + name.dy
        for line in chart.lines[:4]:
            at = [(place.x(p.x), place.y(p.y)) for p in line.points]
            for (x0, y0), (x1, y1) in pairwise(at):
                for share in np.linspace(0, 1, 200):
                    px, py = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
                    assert not (left < px < left + 6.0 * len(name.text) and base - 8 < py < base + 2)


def test_a_png_of_a_plot() -> None:
    pytest.importorskip("matplotlib")
    for name in ("method", *NASTY):
        assert plot_png(curve_plot(name=name), simulated=True).startswith(b"\x89PNG")
    assert plot_png(curve_plot(), simulated=True) != plot_png(curve_plot())
    assert plot_png(Plot("t", "x", "y", ())).startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [m for m in sys.modules if m.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"r2router\[plot\]"):
        plot_png(curve_plot())


# -- the terminal
# -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
@pytest.mark.parametrize("unicode", [True, False])
def test_the_text_fits_and_says_everything(columns: int, unicode: bool) -> None:
    text = report_text(found(), Style(columns, unicode=unicode))
    assert all(width(line) <= columns for line in text.splitlines())
    flat = re.sub(r"\s+", " ", text)
    for part in (
        "Does it work?",
        "Yes, by 0.02.",
        "0.271",
        "[0.262, 0.280]",
        "$0.00132",
        "27.1 %",
        "n = 705",
        "command: r2router reproduce",
    ):
        assert part in flat
    assert "For reviewers" not in text
    assert "Details" in text
    if not unicode:
        assert text.isascii()


def test_a_table_in_the_terminal_is_aligned() -> None:
    lines = report_text(found(), Style(200)).splitlines()
    ours, theirs = (next(line for line in lines if line.startswith(name)) for name in ("ours", "theirs"))
    assert "0.271* [0.262, 0.280]" in ours
    assert ours.index("[0.262") == theirs.index("[0.240")
    narrow = report_text(found(), Style(44)).splitlines()
    at = next(i for i, line in enumerate(narrow) if line.startswith("ours"))
    assert "0.271*" in narrow[at] and "[0.262, 0.280]" in narrow[at + 1], "intervals stand below where there is no room"


@pytest.mark.parametrize("text", NASTY)
def test_no_name_steers_the_terminal(text: str) -> None:
    shown = report_text(found(text=text), Style(80))
    assert all(c.isprintable() or c == "\n" for c in shown)


# -- JSON
# -------------------------------------------------------------------------------------------------------------------


def test_the_dict_tells_parts_apart_and_has_no_nan() -> None:
    got = found().to_dict()
    assert [part["type"] for section in got["sections"] for part in section["parts"]] == [
        "plot",
        "words",
        "grid",
        "words",
    ]
    table = got["sections"][1]["parts"][0]
    assert table["rows"][0]["cells"][0] == {"value": 0.2712, "low": 0.262, "high": 0.2801, "n": 705}
    assert table["rows"][1]["cells"][2:] == [None, None]
