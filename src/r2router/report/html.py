"""Web pages of one file: no script, nothing fetched, light or dark as the reader's system is."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from r2router.report import svg as drawn
from r2router.report.chart import Chart, Row
from r2router.report.place import NARROW
from r2router.report.svg import DARK, LIGHT, safe, svg, swatch


def _colours(scheme: dict[str, str]) -> str:
    return " ".join(f"{name}: {colour};" for name, colour in scheme.items())


CSS = f"""
:root {{ color-scheme: light dark; {_colours(LIGHT)} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {_colours(DARK)} }} }}
body {{ background: var(--bg); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }}
body {{ max-width: 900px; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.15rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }}
p {{ color: var(--soft); margin: .2rem 0 1rem; overflow-wrap: anywhere; }}
svg {{ width: 100%; height: auto; display: block; }}
.narrow {{ display: none; }}
@media screen and (max-width: 560px) {{ .wide {{ display: none; }} .narrow {{ display: block; }} }}
{drawn.CSS}
.legend {{ list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; padding: 0; margin: .6rem 0 1.6rem; font-size: .87rem; }}
.legend li {{ overflow-wrap: anywhere; }}
.legend svg {{ display: inline-block; width: 26px; height: 10px; margin-right: .4rem; vertical-align: middle; }}
table {{ border-collapse: collapse; width: 100%; font-size: .87rem; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: .22rem .6rem; border-bottom: 1px solid var(--rule); }}
th {{ color: var(--soft); font-weight: 600; }}
.n {{ text-align: right; }}
tr.chosen td {{ background: var(--pick); font-weight: 600; }}
tr.off td {{ color: var(--soft); }}
"""


def document(title: str, body: str, css: str = "") -> str:
    """A whole HTML document. body: HTML. css: what the page needs beside the style of all pages."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{safe(title)}</title>\n<style>{CSS}{css}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def picture(chart: Chart) -> str:
    """The chart for wide and for narrow screens, and its legend."""
    legend = "".join(f"<li>{swatch(line, n)}{safe(line.name)}</li>" for n, line in enumerate(chart.lines))
    return f'<div class="wide">{svg(chart)}</div>\n<div class="narrow">{svg(chart, NARROW)}</div>\n<ul class="legend">{legend}</ul>\n'


def page(chart: Chart, rows: Sequence[Row] = ()) -> str:
    """The chart and a table of the rows as a whole document."""
    about = f"<h1>{safe(chart.title)}</h1>\n<p>{safe(chart.about)}</p>\n"
    return document(chart.title, about + picture(chart) + (_table(rows) if rows else ""))


def _table(rows: Sequence[Row]) -> str:
    names = ("<th>model</th><th>budget</th>", *(f'<th class="n">{name}</th>' for name in ("quality", "output tokens", "cost")), "<th></th>")
    head = f"<tr>{''.join(names)}</tr>"
    body = []
    for row in rows:
        words, numbers = row.cells()[:2], row.cells()[2:]
        note = "chosen" if row.chosen else "cannot be chosen" if not row.usable else "best for some trade-off" if row.best else ""
        kind = ' class="chosen"' if row.chosen else "" if row.usable else ' class="off"'
        cells = "".join(f"<td>{safe(c)}</td>" for c in words) + "".join(f'<td class="n">{escape(c)}</td>' for c in numbers)
        body.append(f"<tr{kind}>{cells}<td>{note}</td></tr>")
    return f"<table>\n<thead>{head}</thead>\n<tbody>\n" + "\n".join(body) + "\n</tbody>\n</table>\n"
