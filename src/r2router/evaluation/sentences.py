"""What an evaluation found, in sentences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from r2router.evaluation.tables_and_plots import signed, turned
from r2router.evaluation.verdicts import VERDICTS
from r2router.metrics.frontier import envelope_at
from r2router.metrics.score import KEEP, Comparison
from r2router.text import money

if TYPE_CHECKING:
    from r2router.evaluation.report import Report, TaskLine

_NAMED = 4  # tasks that are named; there may be a hundred
_EQUAL = 1e-6  # costs that differ by a smaller share, or qualities by less, are rounded differently and no more
_SLIVER = 0.02  # a range of spends shorter than this share of the whole (by log) is not worth a word


def answers_of(report: Report) -> tuple[str, ...]:
    """Is routing worth it, what it saves, where it does not help, and what the router does with its own policy."""
    c = report.comparison
    found = [_leak(report), _verdict(c), _saving(c), _no_help(report), _as_set(report)]
    return tuple(answer for answer in found if answer)


def _leak(report: Report) -> str:
    return leak(report.trained_on, report.trained_share)


def leak(names: tuple[str, ...], share: float | None) -> str:
    """Return what to say of a table that a router was trained on, in whole or in part; empty where it was not."""
    if not names and not share:
        return ""
    part = "" if share is None else f"{_percent(share)} of these queries"
    what = f"{', '.join(names)}: it has seen {part}, so" if names and part else f"{', '.join(names) or part}:"
    return f"The router was trained on {what} here it looks better than it is. Take a table that it has not seen."


def _percent(share: float) -> str:
    """Write a share; never 0 % of some, nor 100 % of nearly all."""
    if share < 0.01:
        return f"{100 * share:.1g} %"
    return f"{100 * share:.0f} %" if share < 0.99 or share == 1 else f"{100 * share:.4g} %"


def _verdict(c: Comparison) -> str:
    """By the paired difference of areas between the router and the best mixture."""
    gap, words = c.differences[c.mixture]["area"], VERDICTS[c.verdict].sentence
    if c.verdict == "not known":
        return f"{words}: all fixed arms cost the same, or one is free."
    chosen = "the best mixture of fixed arms"
    if c.mixture == "fixed":
        chosen += " that the router's training outcomes choose"
    knowing = c.differences["fixed known"]["area"]
    beside = f" Against the mixture that knows these outcomes it is {signed(knowing)}." if c.mixture == "fixed" else ""
    if c.verdict == "above":
        return f"{words}: at equal spend the mean quality is {signed(gap, '.3f')} above {chosen}.{beside}"
    if c.verdict == "below":
        return (
            f"{words}: at equal spend the mean quality is {signed(turned(gap), '.3f')} below {chosen}. Use that"
            f" mixture.{beside}"
        )
    return f"{words}: {signed(gap)} against {chosen} at equal spend.{beside}"


def _saving(c: Comparison) -> str:
    """Write the saving in dollars at the same quality."""
    level = f"{100 * KEEP:.0f} % of the quality of the best fixed arm ({c.best_arm}, {c.best[1]:.3f})"
    router, mixture = (c.figures[m]["cost_at_keep"] for m in ("router", c.mixture))
    if not math.isfinite(router.value):
        return f"The router never reaches {level}."
    whole = f"Always {c.best_arm} costs {_usd(c.best[0])} at its full quality."
    if not math.isfinite(mixture.value):
        return (
            f"At {level}, the router costs {_usd(router.value)} per 1,000 requests; the best mixture never reaches it."
            f" {whole}"
        )
    gap = c.differences[c.mixture]["cost_at_keep"]
    if abs(gap.value) <= _EQUAL * mixture.value:
        return (
            f"At {level}, the router costs {_usd(router.value)} per 1,000 requests, as much as the best mixture."
            f" {whole}"
        )
    less = gap.value <= 0
    low, high = sorted((-gap.low, -gap.high) if less else (gap.low, gap.high))
    interval = f" [{_usd(low)}, {_usd(high)}]" if math.isfinite(low) and math.isfinite(high) else ""
    saved = (
        f"{_usd(abs(gap.value))}{interval} {'less' if less else 'more'} than the best mixture ({_usd(mixture.value)})"
    )
    saved += "" if gap.high < 0 or gap.low > 0 else ", which is not clear on so many queries"
    return f"At {level}, the router costs {_usd(router.value)} per 1,000 requests, {saved}. {whole}"


def _no_help(report: Report) -> str:
    """Tasks and spends without a gain."""
    compared = [(t, t.comparison.verdict) for t in report.tasks if t.comparison is not None]
    known = [(t, verdict) for t, verdict in compared if verdict != "not known"]
    worse = [t for t, verdict in known if verdict == "below"]
    unclear = [t for t, verdict in known if verdict == "not clear"]
    words = []
    if worse:
        words.append(f"It loses on {len(worse)} of {len(known)} tasks: {_names(worse)}.")
    if unclear:
        fewest, maximum = min(t.queries for t in unclear), max(t.queries for t in unclear)
        many = f"{fewest:,} queries" if fewest == maximum else f"{fewest:,} to {maximum:,} queries each"
        words.append(f"No clear difference on {len(unclear)} of {len(known)} tasks ({many}): {_names(unclear)}.")
    if known and not words:
        words.append(f"It helps on each of the {len(known)} tasks.")
    if spends := _without_gain(report.comparison):
        words.append(f"It buys no more than the mixture at {' and '.join(spends)}.")
    return " ".join(words)


def _without_gain(c: Comparison) -> list[str]:
    """Return the ranges of spend at which the router's curve is not above the mixture's."""
    if not 0 < c.low < c.high:
        return []
    at = np.geomspace(c.low, c.high, 400)
    gain = envelope_at(*c.points["router"], at) - envelope_at(*c.points[c.mixture], at)
    behind = np.concatenate([[False], ~(gain > _EQUAL), [False]])
    starts = np.flatnonzero(~behind[:-1] & behind[1:])
    ends = np.flatnonzero(behind[:-1] & ~behind[1:]) - 1
    words = []
    for first, last in zip(starts.tolist(), ends.tolist(), strict=True):
        if last - first < _SLIVER * len(at):
            continue
        low, high = (f"{_usd(float(at[i]))} per 1,000 requests" for i in (first, last))
        if first == 0:
            words.append("any spend" if last == len(at) - 1 else f"spends below {high}")
        else:
            words.append(
                f"spends above {low}" if last == len(at) - 1 else f"spends from {_usd(float(at[first]))} to {high}"
            )
    return words


def _as_set(report: Report) -> str:
    quality, cost = report.own
    return (
        f"With its own policy ({report.own_policy}), the router gives quality {signed(quality, '.3f')} for "
        f"{_usd(cost.value)} [{_usd(cost.low)}, {_usd(cost.high)}] per 1,000 requests."
    )


def _names(tasks: list[TaskLine]) -> str:
    names = [t.task or "unnamed" for t in tasks]
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def _usd(usd: float) -> str:
    """Return a cost of one request as one of 1,000."""
    return ("-" if usd < 0 else "") + money(abs(1000 * usd))
