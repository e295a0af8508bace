"""Reports as files: the right kind, whole or not at all, and refused before the work where they could not be
written.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from r2router.errors import ConfigError, MissingExtra, SaveError
from r2router.report.file import check_report, write_report
from r2router.report.findings import Findings, Paragraph, Plot, Section, Series


def found(plots: int = 1) -> Findings:
    drawn = tuple(Plot(f"plot {i}", "x", "y", (Series("a", (1.0, 2.0), (0.1, 0.2)),)) for i in range(plots))
    return Findings("study", "A study", "Why?", ("Because.",), (Section("s", (*drawn, Paragraph("w"))),))


def test_the_ending_tells_what_is_written(tmp_path: Path) -> None:
    assert write_report(found(), tmp_path / "a.html") == [tmp_path / "a.html"]
    assert (tmp_path / "a.html").read_text().startswith("<!doctype html>")
    write_report(found(), tmp_path / "a.JSON")
    assert json.loads((tmp_path / "a.JSON").read_text()) == found().to_dict()
    write_report([found(), found()], str(tmp_path / "b.json"))
    assert [f["name"] for f in json.loads((tmp_path / "b.json").read_text())] == ["study", "study"]
    write_report(found(), tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text().startswith("<svg xmlns=")


def test_several_plots_are_numbered_files(tmp_path: Path) -> None:
    written = write_report([found(2), found(1)], tmp_path / "a.b.svg")
    assert [p.name for p in written] == ["a.b-1.svg", "a.b-2.svg", "a.b-3.svg"]
    assert [next(t for t in ("plot 0", "plot 1") if t in p.read_text()) for p in written] == [
        "plot 0",
        "plot 1",
        "plot 0",
    ]


def test_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    [path] = write_report(found(), tmp_path / "a.png")
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("name", "says"), [("a.pdf", "'?.pdf'?: name it .html"), ("report", "without an ending")])
def test_another_ending_is_refused(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        write_report(found(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_no_plot_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no plot"):
        write_report(found(0), tmp_path / "a.svg")


def test_what_could_not_be_written_is_refused_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SaveError, match="no folder"):
        check_report(tmp_path / "missing" / "a.html")
    (tmp_path / "a.html").mkdir()
    with pytest.raises(SaveError, match="not a file"):
        check_report(tmp_path / "a.html")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"r2router\[plot\]"):
        check_report(tmp_path / "a.png")
    check_report(tmp_path / "a.svg")


def test_an_older_report_stays_where_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.html"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SaveError, match="No space left"):
        write_report(found(), path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.html"]
