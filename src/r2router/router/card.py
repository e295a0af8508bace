"""The card of a router: what it was trained on, on how much, what it measured, and where its knowledge ends."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from r2router.decide import Best, Cheapest, Policy, Tradeoff, Value
from r2router.figure import Figure
from r2router.pool.pool import Pool
from r2router.pool.prices import price_words
from r2router.text import code, markdown, money


class Added(msgspec.Struct, frozen=True):
    """A model that arrived after the training.

    added: the date.
    queries: how many it was graded on; tasks: (task, queries) of them.
    sources: (file name, sha256) of the outcomes.
    figures: by leave-one-out on those queries.
    """

    model: str
    added: str
    queries: int
    tasks: tuple[tuple[str, int], ...] = ()
    sources: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()


class Facts(msgspec.Struct, frozen=True):
    """Where a router comes from.

    sources: (file name, sha256) of its tables.
    tasks: (task, queries).
    learner: the learner's spec.
    figures: cross-validated on the training queries.
    promise: what the own policy was set to keep.
    limits: what a user must know, in sentences.
    added: models taken in since, without retraining.
    like: (model, the measured model that stands in for it).
    """

    title: str = "An r2router router"
    trained: str = ""
    queries: int = 0
    observed: float = 0.0
    tasks: tuple[tuple[str, int], ...] = ()
    sources: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    learner: dict[str, Any] = {}
    seed: int = 0
    folds: int = 0
    figures: tuple[Figure, ...] = ()
    limits: tuple[str, ...] = ()
    promise: str = ""
    added: tuple[Added, ...] = ()
    like: tuple[tuple[str, str], ...] = ()


def write_card(pool: Pool, encoder: str, policy: Policy, facts: Facts) -> str:
    """Return the card as Markdown."""
    lines = [f"# {markdown(facts.title)}", ""]
    lines += [
        (
            f"{len(pool.models)} models, {len(pool)} arms (model x budget); encoder {code(encoder)}; "
            f"own policy: {markdown(policy_words(policy))}."
        ),
        "",
    ]
    if facts.promise:
        lines += [f"About that policy: {markdown(facts.promise)}.", ""]
    if facts.queries:
        lines += [
            "## Trained on",
            "",
            (
                f"{facts.queries:,} queries, {facts.observed:.0%} of the (query, arm) cells observed; "
                f"{markdown(facts.trained)}; seed {facts.seed}."
            ),
            "",
        ]
        lines += [f"- task {code(task or 'unnamed')}: {n:,} queries" for task, n in facts.tasks]
        lines += [
            f"- {code(name)}" + (f", sha256 {markdown(digest)}" if digest else "") for name, digest in facts.sources
        ]
        lines += [f"- note: {markdown(note)}" for note in facts.notes]
        lines += [f"- learner: {code(msgspec.json.encode(facts.learner).decode())}", ""]
    if facts.figures:
        lines += [f"## Measured ({facts.folds}-fold cross-validation on the training queries)", ""]
        lines += _rows(facts.figures)
        lines += [
            "",
            (
                "Cost is what the tokens used would cost at the prices below; the interval is a bootstrap over queries."
                " Curves have at most twelve settings."
            ),
            "",
        ]
    if facts.added:
        lines += [
            "## Added later",
            "",
            "Without retraining; all that stands above is of the router without these models.",
            "",
        ]
    for one in facts.added:
        tasks = ", ".join(f"{code(task or 'unnamed')}: {n:,}" for task, n in one.tasks)
        lines += [
            f"### {code(one.model)}",
            "",
            f"Added {markdown(one.added)} from {one.queries:,} graded queries ({tasks}).",
            "",
        ]
        lines += [
            f"- {code(name)}" + (f", sha256 {markdown(digest)}" if digest else "") for name, digest in one.sources
        ]
        lines += [f"- note: {markdown(note)}" for note in one.notes]
        lines += ["", *_rows(one.figures), ""]
    if facts.like:
        lines += [
            "## Stand-ins",
            "",
            "Nobody measured these models: their forecasts are those of another one, and may be wrong by a lot.",
            "",
        ]
        lines += [*(f"- {code(model)}: as {code(other)}" for model, other in facts.like), ""]
    lines += ["## Limits", ""]
    lines += [
        f"- {markdown(limit)}"
        for limit in facts.limits or ("Nothing is known about queries unlike those it was trained on.",)
    ]
    lines += [
        "",
        "## Arms",
        "",
        "| model | budgets | USD per million tokens in / out | available |",
        "| --- | --- | --- | --- |",
    ]
    for m in pool.models:
        prices = m.usd_per_million
        price = "unknown" if prices is None else f"{price_words(prices, 'input')} / {price_words(prices, 'output')}"
        budgets = ", ".join(code(b.id, cell=True) for b in m.budgets)
        lines.append(f"| {code(m.id, cell=True)} | {budgets} | {price} | {'yes' if m.available else 'no'} |")
    return "\n".join(lines) + "\n"


def _rows(figures: tuple[Figure, ...]) -> list[str]:
    """Return a table of figures."""
    head = ["| figure | value | 95 % interval | queries |", "| --- | --- | --- | --- |"]
    return head + [
        f"| {markdown(f.name)} | {_or_none(f.value)}{markdown(f.unit)} | {_or_none(f.low)} to {_or_none(f.high)} |"
        f" {f.n:,} |"
        for f in figures
    ]


def _or_none(number: float) -> str:
    return "none" if math.isnan(number) else f"{number:.4g}"


def policy_words(policy: Policy) -> str:
    """Return a policy in a few words."""
    match policy:
        case Value(usd):
            return f"a correct answer is worth {money(usd)}"
        case Tradeoff(lam, scale):
            return f"trade-off lambda {lam:g}" + (f" (cost over {money(scale)})" if scale else "")
        case Cheapest(floor):
            return f"the cheapest arm forecast to reach quality {floor:g}"
        case Best(cap):
            return f"the best arm forecast to cost at most {money(cap)}"
        case _:
            return type(policy).__name__
