"""Findings as a web page: the answers first, then what they rest on, then how it was made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from r2router.report.cells import NOTHING, Cell, cells, count
from r2router.report.findings import Findings, Grid, Part, Plot, Section, Words
from r2router.report.html import document, picture
from r2router.report.plots import SIMULATED, plot_chart
from r2router.report.svg import safe

_CSS = """
body { max-width: 1180px; }
p, .wide, .answers { max-width: 900px; }
article + article { margin-top: 4rem; border-top: 3px double var(--rule); padding-top: 1.5rem; }
h1 { font-size: 1.6rem; line-height: 1.2; }
h2, summary { font-size: 1.2rem; font-weight: 600; margin: 2.4rem 0 .5rem; overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 1.4rem 0 .2rem; overflow-wrap: anywhere; }
summary { cursor: pointer; } summary h2 { display: inline; font-size: inherit; margin: 0; }
section p.words { color: inherit; max-width: 46rem; }
.simulated { border: 2px solid var(--warn); color: var(--ink); padding: .6rem .9rem; margin: 1rem 0; font-weight: 600; }
.simulated strong { color: var(--warn); letter-spacing: .05em; }
.answers { background: var(--pick); border-radius: 6px; padding: .9rem 1.1rem; margin: 1.1rem 0; list-style: none; }
.answers li { margin: .5rem 0; font-size: 1.05rem; overflow-wrap: anywhere; }
.answers li:first-child { font-size: 1.45rem; line-height: 1.3; font-weight: 600; margin-top: 0; }
.key, .foot { font-size: .82rem; }
figure { margin: 0 0 1.2rem; }
.scroll { overflow-x: auto; max-width: 100%; }
.grid th, .grid td { vertical-align: top; }
.grid thead th { vertical-align: bottom; }
.grid tbody th { color: inherit; font-weight: 400; min-width: 7rem; max-width: 18rem; overflow-wrap: anywhere; }
.grid tbody th { position: sticky; left: 0; background: var(--bg); }
.grid .stack th, .grid .stack td { padding-left: .4rem; padding-right: .4rem; }
.grid td.w { min-width: 5rem; max-width: 26rem; overflow-wrap: anywhere; }
.grid td.n { white-space: nowrap; }
.grid tr.strong > * { background: var(--pick); }
.grid tr.strong th { font-weight: 600; }
.grid .i, .grid .of, .grid .none { color: var(--soft); }
.grid .i, .grid .of { font-size: .92em; }
.grid .stack .i { display: block; }
.grid b { font-weight: 750; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem; font-size: .87rem; }
dt { color: var(--soft); } dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
code { font: .95em ui-monospace, monospace; overflow-wrap: anywhere; }
@media (min-width: 561px) { .grid th.short { white-space: nowrap; } }
@media screen and (max-width: 560px) {
  body { margin: 1rem auto; } dl { grid-template-columns: 1fr; gap: 0; } dd { margin: 0 0 .5rem; }
  .answers li:first-child { font-size: 1.2rem; }
  .grid .i { display: block; } .grid tbody th { max-width: 8.5rem; }
}
@media print {
  body { max-width: none; margin: 0; font-size: 10pt; } figure, tr, .answers { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .scroll { overflow: visible; } .grid tbody th { position: static; }
  details:not([open])::details-content { content-visibility: visible; block-size: auto; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

_SHORT = 28  # characters of a row's name that are not broken
_WIDE = 90  # characters of a row from which intervals stand below their values


def report_page(findings: Findings | Sequence[Findings]) -> str:
    """One HTML file of one or more findings: no script, nothing fetched, for screens, telephones and paper."""
    every = [findings] if isinstance(findings, Findings) else list(findings)
    title = every[0].title if len(every) == 1 else f"{len(every)} studies: " + ", ".join(f.name for f in every)
    if any(f.simulated for f in every):
        title = f"{SIMULATED}: {title}"
    return document(title, "\n".join(map(_article, every)), _CSS)


def _article(found: Findings) -> str:
    parts = [f"<article>\n<h1>{safe(found.title)}</h1>\n<p>{safe(found.question)}</p>"]
    if found.simulated:
        parts.append(
            f'<p class="simulated" role="note"><strong>{SIMULATED}.</strong> The data behind these figures are made up: '
            "nothing may be claimed from them.</p>"
        )
    if found.answers:
        parts.append('<ul class="answers">' + "".join(f"<li>{safe(a)}</li>" for a in found.answers) + "</ul>")
    if any(isinstance(part, Grid) for section in found.sections for part in section.parts):
        parts.append(
            f'<p class="key">In tables: value [95 % interval]; <b>bold</b> is the best value of a column, whatever its interval; {NOTHING} '
            "is not available.</p>"
        )
    parts += [_section(section, found.simulated) for section in found.sections]
    parts.append(_made(found))
    return "\n".join([*parts, "</article>\n"])


def _section(section: Section, simulated: bool) -> str:
    body = "\n".join(_part(part, simulated) for part in section.parts)
    if section.folded:
        return f"<details>\n<summary><h2>{safe(section.title)}</h2></summary>\n<section>{body}</section>\n</details>"
    return f"<section>\n<h2>{safe(section.title)}</h2>\n{body}\n</section>"


def _part(part: Part, simulated: bool) -> str:
    match part:
        case Words(text):
            return "".join(f'<p class="words">{safe(p)}</p>' for p in text.split("\n\n"))
        case Plot():
            return f"<figure>\n{_head(part.title, part.about)}{picture(plot_chart(part, simulated=simulated))}</figure>"
        case Grid():
            return _grid(part)


def _head(title: str, about: str) -> str:
    return (f"<h3>{safe(title)}</h3>\n" if title else "") + (f"<p>{safe(about)}</p>\n" if about else "")


# -- tables ---------------------------------------------------------------------------------------------------------


def _grid(grid: Grid) -> str:
    shown = cells(grid)
    n = count(shown)
    numeric = [any(row[i].numeric for row in shown) for i in range(len(grid.columns))]
    head = "".join(f'<th scope="col"{_kind(wide)}>{safe(name)}</th>' for name, wide in zip(grid.columns, numeric, strict=True))
    body = []
    for row, line in zip(grid.rows, shown, strict=True):
        strong = ' class="strong"' if row.strong else ""
        inner = "".join(_cell(cell, wide, with_n=n is None) for cell, wide in zip(line, numeric, strict=True))
        short = ' class="short"' if len(row.name) <= _SHORT else ""
        body.append(f'<tr{strong}><th scope="row"{short}>{safe(row.name)}</th>{inner}</tr>')
    foot = f'<p class="foot">n = {n:,} queries behind every figure.</p>\n' if n else ""
    stack = ' class="stack"' if _width(shown) > _WIDE else ""
    region = f'class="scroll" role="region" tabindex="0" aria-label="{safe(grid.title)}"'
    inside = "\n".join(body)
    table = f"<table{stack}>\n<thead><tr><th></th>{head}</tr></thead>\n<tbody>\n{inside}\n</tbody>\n</table>"
    return f'<figure class="grid">\n{_head(grid.title, grid.about)}<div {region}>\n{table}\n</div>\n{foot}</figure>'


def _width(shown: list[list[Cell]]) -> int:
    """Characters of a row, with its intervals beside the values."""
    return sum(max(len(cell.text) + len(cell.interval) + 3 for cell in column) for column in zip(*shown, strict=True))


def _kind(numeric: bool) -> str:
    return ' class="n"' if numeric else ' class="w"'


def _cell(cell: Cell, numeric: bool, *, with_n: bool) -> str:
    if cell.missing:
        return f'<td{_kind(numeric)}><span class="none" title="not available">{NOTHING}</span></td>'
    text = f"<b>{safe(cell.text)}</b>" if cell.best else safe(cell.text)
    interval = f' <span class="i">{safe(cell.interval)}</span>' if cell.interval else ""
    n = f' <span class="of">n {cell.n:,}</span>' if with_n and cell.n else ""
    return f"<td{_kind(numeric)}>{text}{interval}{n}</td>"


# -- how it was made --------------------------------------------------------------------------------------------------


def _made(found: Findings) -> str:
    """What a rerun needs, and what a reader must know."""
    items = [("command", f"<code>{safe(found.command)}</code>")] if found.command else []
    items += [(name, safe(plain(value))) for name, value in found.settings.items()]
    items += [("data", f"{safe(file)}<br><code>sha256 {safe(digest) or NOTHING}</code>") for file, digest in found.sources]
    items += [("note", safe(note)) for note in found.notes]
    if not items:
        return ""
    return (
        "<section>\n<h2>How this was made</h2>\n<dl>" + "".join(f"<dt>{safe(k)}</dt><dd>{v}</dd>" for k, v in items) + "</dl>\n</section>"
    )


def plain(value: Any) -> str:
    """A setting as a person reads it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
