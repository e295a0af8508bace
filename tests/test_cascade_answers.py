"""What answers may look like, and what a caller may give: languages, values, fields, functions."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import r2router as r2
from cascade_world import PRICES, QUESTION, outcomes
from r2router.cascade.checks import verdict
from r2router.cascade.signals import NAMES, numbers_of, value_of
from r2router.encode.embedded import MiniLM
from r2router.table.responses import ResponseIndex


@pytest.fixture(scope="module")
def router() -> r2.Router:
    return r2.Recipe(cascade=True, resamples=0).fit(r2.Table.read(outcomes(), prices=PRICES))


def asked(arms: list[str]) -> Any:
    """An arm that does not know, and notes that it was asked."""

    async def call(decision: r2.Decision) -> r2.Answer:
        arms.append(str(decision.arm))
        return r2.Answer(str(decision.arm), "I am not sure, it might be name7.", output_tokens=90)

    return call


REFUSALS = (
    "I have no idea.", "I won't answer that.", "I don't recall.", "Ich kann diese Frage nicht beantworten.",
    "Das weiß ich nicht.", "Es tut mir leid.", "Je n'ai pas d'informations.", "No lo sé.", "Non lo so.", "Não sei.",
    "Ik weet het niet.", "Dat kan ik niet zeggen.", "Nie wiem.", "Jag vet inte.", "Bilmiyorum.", "Saya tidak tahu.",
    "Tôi không biết.", "На жаль, я не можу відповісти.",  # noqa: RUF001
    "لا أعرف.", "मुझे नहीं पता।", "我無法回答。", "分かりません。", "모르겠습니다.",
)  # fmt: skip
DOUBTS = (
    "Ich bin nicht ganz sicher.", "Je ne suis pas certain.", "Non ne sono certo.", "Ik ben niet zeker.",
    "Nie jestem pewien.", "Belki.", "也許", "ربما", "शायद",
)  # fmt: skip
SAID = (
    "It was Paris, in 1889.", "Es war 1889 in Paris.", "La respuesta es Lima.", "Odpowiedź to 42.", "答えは42です。", "정답은 42입니다.",
    "الجواب هو 42.", "उत्तर 42 है।", "Câu trả lời là 42.", "Svaret är 42.",
)  # fmt: skip


@pytest.mark.parametrize(("texts", "name", "shows"), [(REFUSALS, "refusal", 1), (DOUBTS, "doubt", 1)])
def test_refusals_and_doubts_of_many_languages(texts: tuple[str, ...], name: str, shows: int) -> None:
    at = NAMES.index(name)
    assert [t for t in texts if numbers_of(frozenset(), t, 9, 9, "")[at] != shows] == []
    assert [t for t in SAID if numbers_of(frozenset(), t, 9, 9, "")[at]] == []


@pytest.mark.parametrize(
    ("same", "other"),
    [
        (
            (
                "42",
                "42.0",
                "The answer is 42.",
                "**42**",
                r"\boxed{42}",
                "#### 42",
                "Antwort: 42",
                "答案\uff1a42",
                "x = 42",
            ),
            "43",
        ),
        (("1000", "1,000", r"\boxed{1{,}000}", "$1,000.00", "1000."), "1001"),
        (("-3", "\u22123", "-3.0", "Result: -3"), "3"),
        (("Paris", "The answer is Paris.", "**paris**"), "London"),
        (("0.5", "0.50", "00.5"), "5"),
    ],
)
def test_one_value_in_many_forms(same: tuple[str, ...], other: str) -> None:
    found = {value_of(text) for text in same}
    assert len(found) == 1 and 0 not in found and value_of(other) not in found


@given(st.integers(-(10**12), 10**12), st.integers(0, 3))
def test_a_number_has_one_value_however_it_is_written(number: int, zeros: int) -> None:
    rest = f".{'0' * zeros}" if zeros else ""
    assert value_of(f"{number:,}{rest}") == value_of(f"The answer is {number}") != value_of(f"{number + 1}")


@pytest.mark.parametrize("text", ["", " \n\t", "\u200b", "\u200b\u2060\ufeff", "\0" * 100, "\u202e", "\ud800"])
def test_an_answer_in_which_nothing_can_be_read_is_empty(router: r2.Router, text: str) -> None:
    step = router.step(QUESTION, [r2.Answer("small@default", text, output_tokens=12)], r2.Value(0.01))
    assert step.call is not None and step.quality <= 0.003
    frame = outcomes(80).with_columns(response=np.array([text.replace("\ud800", "")] * 240))
    table = r2.Table.read(frame, prices=PRICES)
    index = table.responses
    assert isinstance(index, ResponseIndex) and not list(index.cells())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("finish_reason", 5), ("logprobs", "abc"), ("logprobs", [None]), ("logprobs", [True]), ("output_tokens", True),
        ("output_tokens", math.nan), ("output_tokens", "12"), ("input_tokens", -1), ("usd", math.inf), ("usd", False),
    ],
)  # fmt: skip
def test_every_field_of_an_answer_is_checked_by_name(router: r2.Router, field: str, value: Any) -> None:
    answer = r2.Answer(arm="small@default", text="It is name7.", **{field: value})
    with pytest.raises(r2.QueryError, match=rf"^seen\[0\]: {field}"):
        router.step(QUESTION, seen=[answer])


def test_numbers_of_any_kind_are_taken(router: r2.Router) -> None:
    plain = r2.Answer("small@default", "It is name7.", output_tokens=12, logprobs=(-0.1, -0.2))
    given = r2.Answer(
        "small@default",
        "It is name7.",
        output_tokens=np.int64(12),
        logprobs=np.array([-0.1, -0.2]),  # type: ignore[arg-type]
    )
    assert router.step(QUESTION, [given]) == router.step(QUESTION, [plain])


@pytest.mark.parametrize(
    "given",
    [{"call": 5}, {"check": 5}, {"go_on": "x"}, {"deadline_s": "3"}, {"deadline_s": -1.0}, {"deadline_s": math.nan}],
)
def test_arguments_of_answer_are_checked_before_anything_is_paid(router: r2.Router, given: dict[str, Any]) -> None:
    arms: list[str] = []
    call = given.pop("call", asked(arms))
    with pytest.raises(r2.UsageError, match=r"^(call|check|go_on|deadline_s) is "):
        router.answer(QUESTION, call, **given)
    assert not arms


def test_whoever_awaits_a_cascade_twice_pays_once(router: r2.Router) -> None:
    arms: list[str] = []

    async def main() -> None:
        running = router.answer(QUESTION, asked(arms))
        result = await running
        count = len(arms)
        again = await running
        shown = [pair async for pair in running]
        assert again.seen == result.seen and again.steps == result.steps and again.answer == result.answer
        assert [step for step, _ in shown] == list(result.steps) and shown[-1][1] == result.answer
        assert len(arms) == count

    asyncio.run(main())


def test_a_deadline_holds_for_checks_too(router: r2.Router) -> None:
    def hangs(question: str, answer: str) -> bool:
        time.sleep(30)
        return True

    result = asyncio.run(_answered(router, hangs))
    assert result.seconds < 8 and len(result.seen) == 1  # a check alone may take ten
    assert any("did not end" in note for note in result.notes) and "the deadline has passed" in result.notes


async def _answered(router: r2.Router, check: Any) -> Any:
    return await router.answer(QUESTION, asked([]), check=check, deadline_s=0.5)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), ValueError("x")])
def test_a_check_that_ends_its_thread_failed_and_did_not_hang(error: BaseException) -> None:
    def ends(question: str, answer: str) -> bool:
        raise error

    said, why = verdict(ends, QUESTION, "x")
    assert math.isnan(said) and type(error).__name__ in why


def test_nothing_is_embedded_twice(router: r2.Router, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    real = MiniLM.encode

    def encode(self: MiniLM, given: Any) -> Any:
        texts.extend(given)
        return real(self, given)

    monkeypatch.setattr(MiniLM, "encode", encode)
    question = "Which of the other long blue lost kings number 977 is it?"
    result = asyncio.run(_all(router, question))
    assert len(result.seen) > 1 and texts == [question]
    router.step(question, result.seen)
    assert texts == [question]
    train, test = r2.Table.read(outcomes(), prices=PRICES).split(test=0.3)
    texts.clear()
    again = r2.Recipe(cascade=True, resamples=0).fit(train)
    assert sorted(t for t in texts if t in set(train.queries)) == sorted(train.queries)
    texts.clear()
    r2.evaluate(again, test, cascade=True, resamples=10)
    assert sorted(texts) == sorted(test.queries)


async def _all(router: r2.Router, question: str) -> Any:
    return await router.answer(question, asked([]), r2.Value(1.0))
