"""The judgements of a folder. They are a journal of their own, so that what judging cost never mixes with what
collecting cost.

A judgement is known by its content, as a call is: the judge, the prompt's words, and the material. The same answer
under two budgets is judged once, and an answer that was judged before is never paid for again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from r2router.bench.call_key import content_key, query_key
from r2router.bench.judging.prompt import DEFAULT, PROMPTS, SHORTENED, JudgePrompt
from r2router.bench.judging.verdict import read_verdict
from r2router.bench.record import Record, read_records
from r2router.bench.suite import Query, Score
from r2router.bench.thinking import without_thinking
from r2router.text import clean

JUDGEMENTS = "judgements.jsonl"
NO_ANSWER = "the response is empty"


def judge_name(model: str, prompt: str) -> str:
    """Return how a judge is called in tables: by its model, and by its prompt where that is not the usual one."""
    return model if prompt == DEFAULT else f"{model}/{prompt}"


class RecordedJudgements:
    """What judges have said so far.

    judges: their names.
    spent_usd: what was paid, as far as it is known, and charged where it is not.
    unknown: prompts of another version of r2router, whose judgements cannot be assigned.
    """

    def __init__(self, folder: Path) -> None:
        self.spent_usd = 0.0
        self.unknown: set[str] = set()
        self._said: dict[str, Score] = {}
        self._ways: dict[tuple[str, str, str], JudgePrompt] = {}
        by_id = {p.id: p for p in PROMPTS.values()}
        if not (folder / JUDGEMENTS).exists():
            return
        for record in read_records(folder / JUDGEMENTS):
            self.spent_usd += record.charged_usd
            prompt = by_id.get(record.budget)
            if prompt is None:
                self.unknown.add(record.budget)
                continue
            self._ways[record.model, record.budget, record.control] = prompt
            if record.error is None or record.key not in self._said:
                self._said[record.key] = _score(record, judge_name(record.model, prompt.name))

    @property
    def judges(self) -> list[str]:
        """Names of the judges, in the order of their first judgement."""
        return list(dict.fromkeys(judge_name(model, prompt.name) for (model, _, _), prompt in self._ways.items()))

    def scores(self, query: Query, response: str) -> Iterator[Score]:
        """Yield what each judge said about a response; an empty one is worth 0 to all of them, and nobody is asked."""
        for (model, budget, control), prompt in self._ways.items():
            if not without_thinking(response).strip():
                yield Score(quality=0.0, judge=judge_name(model, prompt.name), reason=NO_ANSWER)
                continue
            key = content_key(query_key(prompt.query(query, response)), model, budget, control, 0)
            if (score := self._said.get(key)) is not None:
                yield score


def _score(record: Record, judge: str) -> Score:
    verdict = None if record.response is None else read_verdict(record.response, record.finish_reason)
    if verdict is None:
        return Score(
            quality=None, judge=judge, error=clean(f"the judge failed: {record.error or 'no score in its reply'}")
        )
    note = f" ({record.note})" if record.note.startswith(SHORTENED) else ""
    return Score(quality=verdict.score, judge=judge, reason=clean(verdict.reason, keep="\n") + note)
