"""What scorers need of `r2router.final_answer`, and the score where there is nothing to compare with."""

from __future__ import annotations

from r2router.bench.suite import Query, Score
from r2router.final_answer import bare_forms as bare_forms
from r2router.final_answer import final_answer as final_answer
from r2router.final_answer import final_answers as final_answers
from r2router.final_answer import first_line as first_line
from r2router.final_answer import marked_answers as marked_answers
from r2router.final_answer import plain as plain
from r2router.final_answer import reference_answer as reference_answer


def no_reference(query: Query, judge: str) -> Score | None:
    """The score where there is nothing to compare with: none."""
    return Score(quality=None, judge=judge, error="the query has no reference") if query.reference is None else None
