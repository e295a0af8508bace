"""The scorers `code` and `code-trusted`: a program passes its tests, or it does not."""

from __future__ import annotations

from r2router.bench.scoring.sandbox import SandboxLimits, run_answer
from r2router.bench.suite import Query, Score
from r2router.bench.thinking import without_thinking
from r2router.errors import DataError


class Code:
    """1 where the response's Python code passes the tests in the query's meta, as HumanEval has them.

    `test` is a program; with `entry_point`, it defines `check(candidate)`, which is called with that function. A
    response may be a whole program, in one block or several, fenced or bare, or only the rest of the program that the
    question begins; which of it is meant is found within the sandbox too (`r2router.bench.scoring.inside.program`).
    Nothing is run where no sandbox works.
    """

    name = "code"
    isolated = True
    limits = SandboxLimits()

    def score(self, query: Query, response: str) -> Score:
        """1 or 0; no quality where the query has no tests, or code cannot be run here."""
        test, entry = query.meta.get("test"), query.meta.get("entry_point", "")
        if (
            not isinstance(test, str)
            or not test.strip()
            or not isinstance(entry, str)
            or (entry and not entry.isidentifier())
        ):
            return Score(quality=None, judge=self.name, error="the query's meta has no test (and entry_point) to run")
        answer = without_thinking(response)
        try:
            ran = run_answer(query.text, answer, entry, test, self.limits, isolated=self.isolated)
        except DataError as error:
            return Score(quality=None, judge=self.name, error=str(error))
        return Score(quality=float(ran.finished), judge=self.name, reason=ran.why)


class TrustedCode(Code):
    """Scores like `Code`, but where no sandbox works it runs the code with resource limits only.

    Use it only for code that you trust, or on a machine that holds nothing of value.
    """

    name = "code-trusted"
    isolated = False
