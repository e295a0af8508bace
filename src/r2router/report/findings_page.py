"""Findings as a web page: the answers first, then what they rest on, then how it was made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from r2router.report.cells import NOTHING, Cell, cells, count
from r2router.report.findings import Findings, Grid, Paragraph, Part, Plot
from r2router.report.html import render
from r2router.report.plots import SIMULATED, plot_chart

_SHORT = 28  # characters of a row's name that are not broken
_WIDE = 90  # characters of a row from which intervals stand below their values


def report_page(findings: Findings | Sequence[Findings]) -> str:
    """Return one HTML file of one or more findings: no script, nothing fetched, for screens, phones and paper."""
    every = [findings] if isinstance(findings, Findings) else list(findings)
    title = every[0].title if len(every) == 1 else f"{len(every)} studies: " + ", ".join(f.name for f in every)
    if any(f.simulated for f in every):
        title = f"{SIMULATED}: {title}"
    return render(
        "findings.html", title=title, articles=[_article(f) for f in every], nothing=NOTHING, simulated=SIMULATED
    )


def _article(found: Findings) -> dict[str, Any]:
    """Return what the template needs of one study."""
    sections: list[dict[str, Any]] = [
        {
            "title": section.title,
            "folded": section.folded,
            "parts": [_part(part, found.simulated) for part in section.parts],
        }
        for section in found.sections
    ]
    return {
        "title": found.title,
        "question": found.question,
        "simulated": found.simulated,
        "answers": found.answers,
        "has_tables": any(part["kind"] == "grid" for section in sections for part in section["parts"]),
        "sections": sections,
        "made": _made(found),
    }


def _part(part: Part, simulated: bool) -> dict[str, Any]:
    match part:
        case Paragraph(text):
            return {"kind": "words", "paragraphs": text.split("\n\n")}
        case Plot():
            return {
                "kind": "plot",
                "title": part.title,
                "about": part.about,
                "chart": plot_chart(part, simulated=simulated),
            }
        case Grid():
            return _grid(part)


def _grid(grid: Grid) -> dict[str, Any]:
    shown = cells(grid)
    n = count(shown)
    columns = [
        {"name": name, "kind": "n" if any(row[i].numeric for row in shown) else "w"}  # numbers stand right, words left
        for i, name in enumerate(grid.columns)
    ]
    rows = [
        {
            "name": row.name,
            "strong": row.strong,
            "short": len(row.name) <= _SHORT,
            "cells": list(zip(line, columns, strict=True)),
            "counted": n is None,
        }
        for row, line in zip(grid.rows, shown, strict=True)
    ]
    return {
        "kind": "grid",
        "title": grid.title,
        "about": grid.about,
        "columns": columns,
        "rows": rows,
        "n": n,
        "stacked": bool(shown) and _width(shown) > _WIDE,
    }


def _width(shown: list[list[Cell]]) -> int:
    """Characters of a row, with its intervals beside the values."""
    return sum(max(len(cell.text) + len(cell.interval) + 3 for cell in column) for column in zip(*shown, strict=True))


def _made(found: Findings) -> list[tuple[str, str, str]]:
    """Return (name, text, code) of what a rerun needs, and of what a reader must know."""
    items = [("command", "", found.command)] if found.command else []
    items += [(name, plain(value), "") for name, value in found.settings.items()]
    items += [("data", file, f"sha256 {digest or NOTHING}") for file, digest in found.sources]
    return items + [("note", note, "") for note in found.notes]


def plain(value: Any) -> str:
    """Return a setting as a person reads it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
