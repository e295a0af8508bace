"""The scorer `math`: formulas that are equal, by math-verify. It needs the math-verify package of the `[bench]` extra.

math-verify reads LaTeX into sympy, whose functions evaluate text; both read what an LLM wrote. So it runs in a sandbox,
a process for each answer, with a limit on time.
"""

from __future__ import annotations

import msgspec

from r2router.bench.scoring.answers import no_reference
from r2router.bench.scoring.exact import Exact
from r2router.bench.scoring.numeric import Numeric, reference_number
from r2router.bench.scoring.served import ProcessLost, ServedFunction
from r2router.bench.suite import Query, Score
from r2router.bench.thinking import without_thinking
from r2router.errors import R2Error
from r2router.final_answer import marked_answers, reference_answer

NAME = "math"
_LONGEST = 2000
"""Characters of an answer that are read, from its end where it has no mark."""


class Math:
    """1 where the response's formula is the reference or equal to it; a reference that is a number is left to
    `numeric`.

    What is compared is what stands in the last box or behind the last mark of an answer, or else the end of the
    response.
    """

    name = NAME

    def __init__(self) -> None:
        self._inside = ServedFunction("r2router.bench.scoring.formula:verify")

    def score(self, query: Query, response: str) -> Score:
        """1 or 0; no quality where the reference cannot be read, or no sandbox works."""
        if (missing := no_reference(query, NAME)) is not None:
            return missing
        if reference_number(query.reference or "") is not None:
            return msgspec.structs.replace(Numeric().score(query, response), judge=NAME)
        reference, answer = reference_answer(query.reference or ""), answered(response)
        if not answer:
            return Score(quality=0.0, judge=NAME, reason="no answer in the response")
        if Exact().score(query, response).quality == 1.0:
            return Score(quality=1.0, judge=NAME)
        try:
            return msgspec.json.decode(self._inside.call(msgspec.json.encode((reference, answer))), type=Score)
        except (
            ProcessLost,
            msgspec.DecodeError,
        ) as error:  # an answer that cannot be compared in time is not the reference
            return Score(quality=0.0, judge=NAME, reason=f"the answer could not be compared: {error}")
        except R2Error as error:
            return Score(quality=None, judge=NAME, error=str(error))


def answered(response: str) -> str:
    """Return what is compared: in the last box, or behind the last mark, else the end of the response."""
    response = without_thinking(response)
    for answer, boxed in marked_answers(response):
        return f"\\boxed{{{answer[:_LONGEST]}}}" if boxed else answer[:_LONGEST]
    return response[-_LONGEST:].strip()
