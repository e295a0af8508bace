"""What every experiment gets, and what it says of how it was made."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from r2router._version import __version__
from r2router.encode import Encoder, load_encoder
from r2router.evaluation.contenders import Contender, EmbeddedTable, HoldOutPlan, Tried
from r2router.pool.pool import Pool
from r2router.predict import Learner
from r2router.report.findings import Findings, Grid, GridRow, Section
from r2router.router.recipe import Recipe, without_folders
from r2router.types import Progress

_FEW = 100


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """A table under a plan.

    learner: ours.
    encoders: specs of more of them, for the experiment that compares some, and load makes one of a spec.
    other: the same queries and arms scored by another judge.
    command: what was typed.
    """

    data: EmbeddedTable
    plan: HoldOutPlan = field(default_factory=HoldOutPlan)
    learner: Learner = field(default_factory=lambda: Recipe().learner)
    encoders: tuple[str, ...] = ()
    load: Callable[[str], Encoder] = load_encoder
    other: EmbeddedTable | None = None
    command: str = ""
    progress: Progress | None = None

    def findings(
        self,
        name: str,
        title: str,
        question: str,
        answers: Sequence[str],
        sections: Sequence[Section],
        *,
        notes: Sequence[str] = (),
    ) -> Findings:
        """Findings with everything that a rerun needs."""
        table = self.data.table
        return Findings(
            name=name,
            title=title,
            question=question,
            answers=tuple(answers),
            sections=tuple(sections),
            sources=tuple((Path(path).name, digest) for path, digest in table.sources),
            settings=self.settings,
            command=self.command,
            notes=(*(without_folders(note, table) for note in table.notes), *few(len(self.data)), *notes),
            simulated=table.simulated,
        )

    @property
    def settings(self) -> dict[str, Any]:
        """Versions, seeds, and what was compared on what."""
        import numpy as np

        table = self.data.table
        return {
            "r2router": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "queries": len(table),
            "arms": len(table.arms),
            "models": len(table.pool.models),
            "observed": round(float(self.data.outcomes.seen.mean()), 4),
            "prices": _prices(table.pool),
            "encoder": self.data.encoder.id,
            "learner": msgspec.json.encode(self.learner).decode(),
            "seeds": list(self.plan.seeds),
            "folds": self.plan.folds,
            "bootstrap draws": self.plan.resamples,
        }


def _prices(pool: Pool) -> str:
    """Return the prices that all costs are made of."""
    known = [(m.id, m.usd_per_million) for m in pool.models]
    listed = ", ".join(f"{name} {p.input:g} / {p.output:g}" for name, p in known if p is not None)
    return f"US dollars per million tokens, input / output: {listed}"


def few(n: int) -> list[str]:
    """Return a warning where there are so few queries that a bootstrap over them is too sure of itself."""
    return (
        [f"{n} queries are few: intervals by bootstrap are too narrow on so few, and every figure may be luck"]
        if n < _FEW
        else []
    )


def fitting_times(tried: Sequence[Tried]) -> Grid:
    """Return a table of the seconds that each contender took for fitting and forecasting."""
    rows = tuple(GridRow(t.contender.name, (t.seconds,)) for t in tried if not t.failed)
    return Grid("Work", ("seconds",), rows, (".1f",), ("less",))


def failures(tried: Sequence[Tried]) -> list[str]:
    """Return a note for every contender that could not be had."""
    return [f"{t.contender.name}: not available: {t.failed}" for t in tried if t.failed]


def named(contenders: Sequence[Contender], name: str) -> Contender:
    """Return the contender of that name."""
    return next(c for c in contenders if c.name == name)
