"""The experiments by name, and how one is run."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from r2router.encode import CachedEncoder, Encoder, load_encoder
from r2router.errors import ConfigError, DataError
from r2router.evaluation.contenders import EmbeddedTable, HoldOutPlan
from r2router.evaluation.experiment import Study
from r2router.evaluation.tables_and_plots import MIN_QUERIES
from r2router.predict import Learner
from r2router.report.findings import Findings
from r2router.router.recipe import Recipe
from r2router.table.table import Table
from r2router.text import suggest
from r2router.types import FloatArray, Progress

EXPERIMENTS: dict[str, str] = {
    "main": "all methods on equal terms: deferral curves, figures, paired differences, tasks, robustness",
    "new-llms": "LLMs that arrive later: quality against the number of graded queries",
    "ood": "every task forecast by learners that saw the other tasks only",
    "anchors": "how many budgets must be learned; those between are interpolated",
    "encoder": "which encoder reads the query",
    "predictor": "which learner forecasts the curves",
    "judge": "learned from one judge's scores, compared by another judge's",
    "concise": "baselines that tell every LLM to be brief",
    "prices": "decisions and figures as prices move by half",
    "curves": "what each LLM's budgets are worth, before any router",
    "oracle": "what an oracle reaches with curves, and with points",
    "queries": "gain by size of the training set",
    "cascade": "looking at answers before paying for better ones, beside other ways to ask several arms",
}
"""What can be reproduced: name -> what it shows. The module of that name (`new-llms` is `new_llms`) has the `run` that
does it.
"""
_WITHOUT_FIXED = frozenset({"curves"})  # compares nothing with a fixed arm


def reproduce(  # noqa: PLR0913 - each is a setting of its own, by name
    name: str,
    table: Table,
    *,
    plan: HoldOutPlan | None = None,
    encoder: str = "minilm",
    vectors: FloatArray | None = None,
    learner: Learner | None = None,
    encoders: Sequence[str] = (),
    cache: str | Path | None = None,
    other: Table | None = None,
    command: str = "",
    progress: Progress | None = None,
) -> Findings:
    """Return one experiment of the paper on a table.

    plan: seeds, folds and bootstrap draws.
    vectors: (n, d) embeddings of the table's queries, instead of an encoder's.
    learner: ours; by default the default one.
    encoders: more of them, for `encoder`.
    cache: a file that remembers embeddings from one experiment to the next.
    other: the same queries by another judge, for `judge`.
    command: what was typed, for the record.

    Raises `ConfigError` for an unknown name and `DataError` where the table cannot show it.
    """
    check_name(name)

    def load(spec: str) -> Encoder:
        return load_encoder(spec) if cache is None else CachedEncoder(load_encoder(spec), cache)

    chosen = None if vectors is not None else load(encoder)
    study = Study(
        data=EmbeddedTable.of(table, chosen, vectors, progress),
        plan=plan or HoldOutPlan(),
        learner=learner or Recipe().learner,
        encoders=tuple(encoders),
        load=load,
        other=None if other is None else EmbeddedTable.of(other, chosen, vectors, progress),
        command=command,
        progress=progress,
    )
    _check_enough(name, study.data)
    if study.other is not None:
        _check_enough(name, study.other)
    return import_module(f"{__package__}.{name.replace('-', '_')}").run(study)


def _check_enough(name: str, data: EmbeddedTable) -> None:
    """Raise `DataError` where a table is too small or too thin for any figure of a comparison."""
    if len(data) < MIN_QUERIES:
        raise DataError(
            f"fewer than {MIN_QUERIES} queries show only noise (here {len(data)} have outcomes): take a larger table"
        )
    if name not in _WITHOUT_FIXED and not len(data.outcomes.fixed_arms()):
        maximum = float(data.outcomes.seen.mean(axis=0).max(initial=0.0))
        raise DataError(
            "no arm was observed, with its tokens, on 95 % of the queries: there is no fixed arm to compare with. The"
            f" arm that was seen most has {maximum:.0%}: collect what is missing, or keep the queries that every arm"
            " was asked"
        )


def check_name(name: str) -> None:
    """Raise `ConfigError` unless an experiment has that name."""
    if name not in EXPERIMENTS:
        raise ConfigError(f"no experiment {name!r}{suggest(name, EXPERIMENTS)}; there are: {', '.join(EXPERIMENTS)}")
