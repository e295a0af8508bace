"""Findings as files: what is written is told by the file's ending."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from r2router.errors import ConfigError, MissingExtra, SaveError
from r2router.files import whole_file
from r2router.report import plot_png, plot_svg, report_page
from r2router.report.findings import Findings, Plot

FORMATS = (".html", ".json", ".svg", ".png")


def write_report(findings: Findings | Sequence[Findings], path: str | Path) -> list[Path]:
    """Write findings to a file; the paths that were written.

    `.html`: the page for people. `.json`: `Findings.to_dict()`, of several findings a list. `.svg`, `.png`: the plots;
    where there are several, a number is put behind the name: report-1.svg, report-2.svg, in the order of the page.

    A file takes its name only when all of it is on the disk. Raises `ConfigError` for another ending, or where there is
    no plot to draw; `SaveError` where a file cannot be written, and what was there before is untouched; `MissingExtra`
    as `plot_png` does.
    """
    path = Path(path)
    check_report(path)
    every = [findings] if isinstance(findings, Findings) else list(findings)
    written = []
    for target, content in _contents(every, path):
        with whole_file(target) as file:
            file.write(content)
        written.append(target)
    return written


def check_report(path: str | Path) -> None:
    """Refuse a path that `write_report` could not write, before the work rather than after it. Raises as `write_report`
    does.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in FORMATS:
        raise ConfigError(
            f"{path}: a report cannot be written as {repr(kind) if kind else 'a file without an ending'}: name it"
            f" {', '.join(FORMATS)}"
        )
    if not path.parent.is_dir():
        raise SaveError(f"{path}: there is no folder {path.parent}; make it first")
    if path.exists() and not path.is_file():
        raise SaveError(f"{path}: is not a file that can be replaced")
    if kind == ".png":
        from importlib.util import find_spec

        if find_spec("matplotlib") is None:
            raise MissingExtra(
                f"{path}: a PNG needs the [plot] extra: pip install 'r2router[plot]' (.svg needs nothing)"
            )


def _contents(every: list[Findings], path: Path) -> list[tuple[Path, bytes]]:
    """Return (file, what stands in it), all of it made before anything is written."""
    match path.suffix.lower():
        case ".html":
            return [(path, report_page(every).encode())]
        case ".json":
            content = [found.to_dict() for found in every]
            text = msgspec.json.encode(content[0] if len(content) == 1 else content, enc_hook=str)
            return [(path, msgspec.json.format(text) + b"\n")]
        case kind:
            drawn = [_drawn(plot, found.simulated, kind) for found in every for plot in _plots(found)]
    if not drawn:
        raise ConfigError(f"{path}: there is no plot to draw; write .html or .json")
    names = (
        [path]
        if len(drawn) == 1
        else [path.with_name(f"{path.stem}-{i}{path.suffix}") for i in range(1, len(drawn) + 1)]
    )
    return list(zip(names, drawn, strict=True))


def _plots(found: Findings) -> list[Plot]:
    return [part for section in found.sections for part in section.parts if isinstance(part, Plot)]


def _drawn(plot: Plot, simulated: bool, kind: str) -> bytes:
    return plot_png(plot, simulated=simulated) if kind == ".png" else plot_svg(plot, simulated=simulated).encode()
