"""Draw docs/architecture.svg from the rule that imports keep to: one row of boxes per layer of the import contract.

usage: architecture.py [--check]      --check writes nothing, and fails where the picture is not up to date
"""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

from r2router.report.svg import fill, lines_of

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "architecture.svg"
LEFT_OUT = {"__main__", "_version"}
WIDE, HIGH, GAP, MARGIN, LETTERS = 940, 62, 12, 14, 0.145  # pixels; letters that fit a pixel of a box


def layers() -> list[list[str]]:
    """The rooms of each layer, the command line first."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (c for c in config["tool"]["importlinter"]["contracts"] if c["id"] == "layers")
    rows = [[name.strip() for name in layer.replace(":", "|").split("|")] for layer in contract["layers"]]
    return [[name for name in row if name not in LEFT_OUT] for row in rows if set(row) - LEFT_OUT]


def about(room: str) -> str:
    """The first sentence of a room's docstring."""
    source = ROOT / "src" / "r2router" / room
    file = source / "__init__.py" if source.is_dir() else source.with_suffix(".py")
    words = " ".join((ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n\n")[0].split())
    return words.split(". ")[0].rstrip(".:")


def fold(words: str, room: float) -> list[str]:
    """At most two lines of so many pixels."""
    most, lines = int(room * LETTERS), [""]
    for word in words.split():
        if lines[-1] and len(lines[-1]) + len(word) >= most:
            if len(lines) == 2:
                lines[-1] += " ..."
                break
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def draw() -> str:
    """The picture."""
    style = (
        "text { font-family: system-ui, sans-serif; fill: #1c2126 } .room { font-size: 14px; font-weight: 600 } "
        ".about { font-size: 10.5px; fill: #5d6872 } rect { fill: #eef4fb; stroke: #2f7ed8 }"
    )
    parts, y = [], MARGIN
    for row in layers():
        wide = (WIDE - 2 * MARGIN - GAP * (len(row) - 1)) / len(row)
        for i, room in enumerate(row):
            x = MARGIN + i * (wide + GAP)
            box = '<rect x="{x:.0f}" y="{y}" width="{wide:.0f}" height="{high}" rx="6"/>'
            parts.append(fill(box, x=x, y=y, wide=wide, high=HIGH))
            parts.append(fill('<text class="room" x="{x:.0f}" y="{y}">{room}</text>', x=x + 10, y=y + 20, room=room))
            for n, line in enumerate(fold(about(room), wide - 20)):
                text = '<text class="about" x="{x:.0f}" y="{y}">{line}</text>'
                parts.append(fill(text, x=x + 10, y=y + 37 + 14 * n, line=line))
        y += HIGH + GAP
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}"'
        ' height="{h}">\n<style>{style}</style>\n'
    )
    head += '<rect x="0" y="0" width="{w}" height="{h}" style="fill: #fff; stroke: none"/>\n'
    return str(lines_of([fill(head, w=WIDE, h=y + MARGIN - GAP, style=style), *parts, fill("</svg>\n")]))


def main() -> None:
    text = draw()
    if "--check" not in sys.argv:
        PICTURE.write_text(text, encoding="utf-8")
    elif not PICTURE.exists() or PICTURE.read_text(encoding="utf-8") != text:
        raise SystemExit("docs/architecture.svg is not what the code says: run `make docs`")


if __name__ == "__main__":
    main()
