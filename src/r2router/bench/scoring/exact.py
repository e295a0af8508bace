"""The scorer `exact`."""

from __future__ import annotations

import msgspec

from r2router.bench.scoring.answers import no_reference
from r2router.bench.suite import Query, Score
from r2router.bench.thinking import without_thinking
from r2router.final_answer import bare_forms, final_answer, first_line, reference_answer


class Exact(msgspec.Struct, frozen=True):
    """1 where the final answer's first line, or its first sentence, is the reference but for case, white space and
    marks around it.
    """

    name: str = "exact"

    def score(self, query: Query, response: str) -> Score:
        """1 or 0."""
        if (missing := no_reference(query, self.name)) is not None:
            return missing
        said = without_thinking(response)
        answer = final_answer(said)
        line = first_line(said if answer is None else answer)
        wanted = bare_forms(reference_answer(query.reference or ""))
        same = bool(wanted & (bare_forms(line) | bare_forms(line.split(". ", 1)[0])))
        return Score(quality=float(same), judge=self.name)
