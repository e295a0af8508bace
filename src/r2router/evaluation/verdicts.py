"""A verdict in words: every report, sentence and table takes them from here."""

from __future__ import annotations

from typing import NamedTuple

from r2router.metrics.score import Verdict


class VerdictWords(NamedTuple):
    """One verdict about a router against the mixture of fixed arms.

    sentence: about routing as a whole, without its end.
    routing: what "so routing" is followed by in a table; None where that cannot be said.
    side: where the router's curve lies.
    """

    sentence: str
    routing: str | None
    side: str


VERDICTS: dict[Verdict, VerdictWords] = {
    "above": VerdictWords("Routing is worth it here", "helps", "clearly above"),
    "below": VerdictWords("Routing loses here", "loses", "clearly below"),
    "not clear": VerdictWords(
        "It is not clear that routing is worth it here", "no clear difference", "not clearly above or below"
    ),
    "not known": VerdictWords("Whether routing is worth it cannot be said by area", None, "beside"),
}
