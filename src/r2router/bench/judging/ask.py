"""Judging what a folder holds, without calling again what was collected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from r2router.bench.call_key import query_key
from r2router.bench.engine import Engine
from r2router.bench.folder import JOURNAL, last_records, queries_of
from r2router.bench.judging.prompt import REPAIR, SCHEMA, SHORTENED, JudgePrompt, marked_anew, shortened
from r2router.bench.judging.verdict import NOT_WHOLE, read_verdict
from r2router.bench.plan import CollectionPlan, Work
from r2router.bench.suite import Query
from r2router.bench.thinking import without_thinking
from r2router.errors import ConfigError, DataError
from r2router.pool.pool import Pool
from r2router.text import listing, suggest
from r2router.types import Budget, Model, Provider
from r2router.upstream.reply import Failure, Reply, Request
from r2router.upstream.usage import sum_usage
from r2router.upstream.wire import FailureKind

TOKENS = 400
"""The most tokens of a verdict."""
_REPAIR_TOKENS = 60
_SHOWN = 80


class JudgePlan(CollectionPlan):
    """A plan whose queries are prompts about answers. A judgement may take two calls, where the first reply is no
    verdict.
    """

    calls_per_answer = 2

    def ceiling_usd(self, work: Work, cap: int, more_input: int = 0) -> float:
        """US dollars of the more expensive of the two calls: asked again, with the bad reply and the repair behind the
        prompt.
        """
        return super().ceiling_usd(work, cap, more_input + cap + _REPAIR_TOKENS)


def judge_plan(
    folder: Path,
    judges: Sequence[str],
    pool: Pool,
    providers: dict[str, Provider],
    prompt: JudgePrompt,
    tokens: int = TOKENS,
) -> JudgePlan:
    """Return what is to be asked about the answers in a folder, each different answer to a question once.

    judges: ids of models in the pool.
    tokens: the most of a verdict, thinking included.

    Raises `ConfigError` for a judge that the pool does not have, `MissingPrice` for one without prices, `DataError`
    where there is no answer to judge.
    """
    known = {m.id: m for m in pool.models}
    if strange := [j for j in judges if j not in known]:
        raise ConfigError(
            f"judge {strange[0]!r} is not in the pool{suggest(strange[0], known)}: add a [[model]] with its provider"
            f" and prices there (no router needs to use it), or name one of {listing(list(known), 8)}"
        )
    budget = Budget(prompt.id, tokens, ("max_tokens",))
    models = [msgspec.structs.replace(known[j], budgets=(budget,), available=True) for j in judges]
    prompts = list(prompts_of(folder, prompt))
    if not prompts:
        raise DataError(f"{folder}: no answer to judge; collect first")
    return JudgePlan(prompts, Pool(models), providers)


def prompts_of(folder: Path, prompt: JudgePrompt) -> Iterable[Query]:
    """Yield what a judge is to be asked about each different answer in a folder."""
    by_words: dict[str, list[Query]] = {}
    for query in queries_of(folder):
        by_words.setdefault(query_key(query), []).append(query)
    seen: set[str] = set()
    for record in last_records(folder / JOURNAL):
        if record.kind != "cell" or record.error is not None or not without_thinking(record.response or "").strip():
            continue
        for query in by_words.get(record.query, ()):
            asked = prompt.query(query, record.response or "")
            if (key := query_key(asked)) not in seen:
                seen.add(key)
                yield asked


def judges_of_their_own(judges: Iterable[str], pool: Pool, folder: Path) -> list[Model]:
    """Return the judges that would grade answers of their own: LLMs tend to like those."""
    answered = {r.model for r in last_records(folder / JOURNAL) if r.kind == "cell"}
    upstream = {m.upstream for m in pool.models if m.id in answered}
    return [m for m in pool.models if m.id in set(judges) and (m.id in answered or m.upstream in upstream)]


class JudgeEngine:
    """An engine whose replies are verdicts.

    It asks for JSON by schema; an endpoint that refuses that is asked in words from then on. A reply that is not a
    verdict is sent back once with the request to correct it; if the second reply is not a verdict either, that is a
    failure of kind `malformed`, never a score. A response too long for the judge's context is shown with its middle
    left out, by halves, until it fits.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._plain: set[str] = set()  # providers that take no schema

    async def call(self, request: Request) -> Reply | Failure:
        """Return one judgement. Both calls together are billed at most `request.billable` times."""
        asked = request.body["messages"][-1]["content"]
        first, note = await self._ask(_with_content(request, marked_anew(asked)), max(1, request.billable - 1)), ""
        share = 0.5
        while (
            isinstance(first, Failure) and first.kind == "context" and (shorter := shortened(asked, share)) is not None
        ):
            note = f"{SHORTENED} {shorter[1]:,} characters, as the judge's context holds no more"
            share = share / 2
            request = _with_content(request, shorter[0])
            first = await self._ask(
                _with_content(request, marked_anew(shorter[0])), max(1, request.billable - 1 - first.maybe_billed)
            )
        if isinstance(first, Failure):
            return first
        if read_verdict(first.text, first.finish_reason) is not None:
            return msgspec.structs.replace(first, note=note)
        if (left := request.billable - first.maybe_billed - 1) < 1:
            return _no_verdict(first, None, "no verdict, and no money is left to ask again")
        return self._mended(first, await self._ask(_repair(request, first), left), note)

    @staticmethod
    def _mended(first: Reply, second: Reply | Failure, note: str) -> Reply | Failure:
        """Return what comes of a reply that was no verdict, and of what came when it was asked again; both were paid
        for.
        """
        if isinstance(second, Failure):
            return _no_verdict(first, second, f"no verdict, and it could not be asked again: {second.message}")
        if read_verdict(second.text, second.finish_reason) is None:
            cut = "; it was cut off: give it more --tokens" if second.finish_reason in NOT_WHOLE else ""
            said = " ".join(second.text.split())[:_SHOWN]
            return _no_verdict(first, second, f"no verdict in two tries; the last was {said!r}{cut}")
        usage = sum_usage(first.usage, second.usage) if first.usage and second.usage else None
        return msgspec.structs.replace(
            second,
            usage=usage,
            usage_error=second.usage_error or first.usage_error,
            latency_s=first.latency_s + second.latency_s,
            attempts=first.attempts + second.attempts,
            maybe_billed=first.maybe_billed
            + second.maybe_billed
            + (usage is None),  # an answer without usage is charged once, and these are two
            lost=sum_usage(first.lost, second.lost, *((first.usage, second.usage) if usage is None else ())),
            note=note,
        )

    async def _ask(self, request: Request, billable: int) -> Reply | Failure:
        request = msgspec.structs.replace(request, billable=billable)
        way = f"{request.provider}\0{request.body.get('model')}"
        if way not in self._plain:
            result = await self.engine.call(
                msgspec.structs.replace(request, body={**request.body, "response_format": SCHEMA})
            )
            if isinstance(result, Reply) or result.kind != "refused":
                return result
        result = await self.engine.call(request)
        if isinstance(result, Reply):
            self._plain.add(way)
        return result

    async def probe(self, provider: str) -> Failure | None:
        """Probe with the inner engine."""
        return await self.engine.probe(provider)

    def stop(self) -> None:
        """Stop the inner engine."""
        self.engine.stop()

    async def close(self) -> None:
        """Close the inner engine."""
        await self.engine.close()


def _with_content(request: Request, text: str) -> Request:
    """Return the request with another text in its last message."""
    *before, last = request.body["messages"]
    return msgspec.structs.replace(request, body={**request.body, "messages": [*before, {**last, "content": text}]})


def _repair(request: Request, first: Reply) -> Request:
    """Return the request again, with what came and what is wanted behind it. Thinking is not sent back."""
    said = without_thinking(first.text).strip()
    asked = marked_anew(request.body["messages"][-1]["content"])
    if not said:  # some endpoints refuse an empty message
        return _with_content(request, f"{asked}\n\n{REPAIR}")
    again = _with_content(request, asked)
    messages = [*again.body["messages"], {"role": "assistant", "content": said}, {"role": "user", "content": REPAIR}]
    return msgspec.structs.replace(again, body={**again.body, "messages": messages})


def _no_verdict(first: Reply, second: Reply | Failure | None, why: str) -> Failure:
    """Make the failure of a reply without a verdict. Each paid call counts at its maximum cost.

    Its kind is malformed, except after an interrupt.
    """
    attempts, maybe_billed = first.attempts, first.maybe_billed + 1
    if second is not None:
        attempts = attempts + second.attempts
        maybe_billed = maybe_billed + second.maybe_billed + isinstance(second, Reply)
    reported = [
        first.usage,
        first.lost,
        *(() if second is None else (second.lost, second.usage if isinstance(second, Reply) else None)),
    ]
    stopped = isinstance(second, Failure) and second.kind == "interrupted"
    kind: FailureKind = "interrupted" if stopped else "malformed"
    return Failure(kind=kind, message=why, attempts=attempts, maybe_billed=maybe_billed, lost=sum_usage(*reported))
