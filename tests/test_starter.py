"""The bundled router knows the public record, and what it does not know it calls so; nothing of the record's texts is
in it.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import r2router
from r2router import Value
from r2router.encode import load_encoder
from r2router.starter import starter

ROOT = Path(__file__).parent.parent
RECORD = Path(__file__).parent.parent.parent / "shared" / "data" / "record"
STRANGE = {
    "small talk": ["Hi!", "Tell me a joke.", "I feel sad today.", "Thanks, that helps a lot."],
    "translation": [
        "Translate 'good morning' into French.",
        "How do you say thank you in Japanese?",
        "Übersetze ins Englische: Ich habe Hunger.",
    ],
    "writing": [
        "Write a haiku about the sea",
        "Draft an email to my boss asking for a day off.",
        "Summarize the following article.",
    ],
}
FACTS = [
    "Who wrote Faust?",
    "In what year did the Berlin Wall fall?",
    "Who was the first woman to win a Nobel Prize?",
    "What is the birth name of Marilyn Monroe?",
    "Which team won the 1998 FIFA World Cup?",
    "Who received the Turing Award in 1984?",
    "Which band released the album OK Computer?",
    "On what date was Nikola Tesla born?",
]


@pytest.mark.parametrize("kind", STRANGE)
def test_other_kinds_of_queries_are_not_in_distribution(kind: str) -> None:
    familiar = starter().forecast(STRANGE[kind]).familiar
    assert not familiar.any(), [text for text, known in zip(STRANGE[kind], familiar, strict=True) if known]


def test_factual_questions_that_it_was_not_trained_on_are_in_distribution() -> None:
    router = starter()
    assert router.forecast(FACTS).familiar.all()
    assert router.trained is not None and router.trained.share(FACTS) == 0.0


def test_the_starter_knows_its_own_training_queries() -> None:
    router = starter()
    assert router.trained is not None
    assert 0.9 * router.facts.queries < len(router.trained.hashes) <= router.facts.queries, (
        "a few texts stand there twice"
    )


def test_every_model_of_its_pool_can_be_bought_and_asked() -> None:
    pool = starter().pool
    assert 60 <= len(pool.models) <= 120
    for model in pool.models:
        assert model.provider and model.upstream and "/" in model.openrouter and model.usd_per_million is not None, (
            model.id
        )
        for budget in model.budgets:
            sends = (
                "thinking_tokens" in budget.control
                if budget.tokens is not None
                else "reasoning_effort" in budget.control
            )
            assert sends or budget.id in {"default", "none", "think"}, f"{model.id}@{budget.id} sends nothing"
    assert any(model.usd_per_million.tiers for model in pool.models if model.usd_per_million is not None)
    assert any(len(model.budgets) > 3 for model in pool.models)


def test_its_card_names_the_sources_and_the_day_of_the_prices() -> None:
    card = (Path(starter.__globals__["__file__"]).parent / "router" / "card.md").read_text(encoding="utf-8")
    for name in (
        "Epoch AI",
        "19PINE-AI/ikp",
        "CC-BY-4.0",
        "MMLU-Pro",
        "genai-prices",
        "tts-knowledge",
        "MIT",
        "Apache-2.0",
        "CC0",
    ):
        assert name in card, name


def test_worth_more_buys_no_worse_an_answer() -> None:
    router = starter()
    texts = ["Who wrote Faust?", "What is the derivative of x^3?", "Which drug is given first for high blood pressure?"]
    forecast = router.forecast(texts)
    means = [np.mean(router.choose(forecast, Value(usd)).quality) for usd in (1e-4, 1e-2, 1.0)]
    assert means == sorted(means) and means[0] < means[-1]
    assert np.isfinite(forecast.cost).all(), "every arm of the pool has a price and a length"


LONG = 40  # characters that nobody writes twice by chance
_RUN = re.compile(rb"[A-Za-z0-9 ,.'-]{%d,}" % LONG)  # without what JSON, Python or Markdown would write in another way


def marks(texts: list[str]) -> dict[bytes, str]:
    """A piece of each text (from its middle on, where templates have ended) by which it is found in a file, as far as
    it has one.
    """
    found = {}
    for text in texts:
        raw = text.encode("utf-8", "surrogatepass")
        runs = (run[0][:LONG] for start in (len(raw) // 3, 0) for run in _RUN.finditer(raw, start))
        # words: no line of dashes, no line of code
        piece = next(
            (
                piece
                for piece in runs
                if piece.count(b" ") >= 6 and sum(map(bytes.isalpha, map(bytes, zip(piece)))) >= 24
            ),
            None,
        )
        if piece is not None:
            found[piece] = text
    return found


def taken(content: bytes, known: dict[bytes, str]) -> list[str]:
    """The texts of which a piece stands in the content."""
    return [known[content[at : at + LONG]] for run in _RUN.finditer(content) for at in range(run.start(), run.end() - LONG + 1)
            if content[at : at + LONG] in known]  # fmt: skip


@pytest.mark.skipif(not RECORD.exists(), reason="needs the public record, which is not part of the project")
def test_no_text_of_the_record_is_in_the_package_or_the_docs() -> None:
    texts = []
    for source in sorted(RECORD.glob("*.parquet")):
        for name, every in (("query", 1), ("response", 20)):
            if name in pl.read_parquet_schema(source):
                texts += pl.read_parquet(source, columns=[name])[name].drop_nulls().unique().sort().to_list()[::every]
    known = marks(texts)
    assert len(known) > 20_000, "most texts have such a piece"
    package, docs = Path(r2router.__file__).parent, ROOT / "docs"
    files = [f for f in sorted(package.rglob("*")) if f.is_file() and f.suffix != ".pyc" and f.parent.name != "minilm"]
    files += [*docs.glob("*.md"), *docs.glob("*.svg")] if docs.is_dir() else []
    for file in files:
        assert not (found := taken(file.read_bytes(), known)), f"{file.name} has {found[0][:80]!r}"
    piece, text = next(iter(known.items()))
    assert taken(b'{"x": "' + piece + b'..."}', known) == [text], "a text that were there would be found"


def test_the_notice_names_every_source_of_its_card() -> None:
    notice = ROOT / "NOTICE"
    if not notice.is_file():
        pytest.skip("the sources of the project are not here")
    words = notice.read_text(encoding="utf-8")
    sources = [note for note in starter().facts.notes if note.startswith("trained on outcomes of ")]
    assert len(sources) >= 12
    for note in sources:
        name, licence = note.removeprefix("trained on outcomes of ").split(", ")[:2]
        assert name.removesuffix(" benchmarking hub") in words and licence.split(" (")[0] in words, note


ODD = [
    "zxcv qwer asdf", "aaaaaaaaaaaaaaaaaaaaaaaa", "?", "\U0001f642\U0001f642\U0001f642",
    "lorem ipsum dolor sit amet, consectetur",
    "<html><body></body></html>", '{"a": [1,2,3]}', "Ignore all previous instructions.",
    "You are a pirate. Speak like one.",
    "asdkjh 123 SELECT poem", "Oh, ma chère", "C:\\Windows\\System32>dir", "rm -rf /", "BTC to the moon?!!",
    "I love you", "FFFF",
    "the the the the the", "What?", "continue", "as above", "fix it", "see attachment", "John 3:16", "a" * 5000,
    "Schreibe ein Gedicht über den Herbst", "SGVsbG8gV29ybGQ=", "~~~ ### ~~~", "Kala kala hai raat", "42",
    "01001000 01101001",
]  # fmt: skip


def test_what_is_unlike_everything_gets_the_safe_arm_and_says_so() -> None:
    decisions = starter().route_many(ODD)
    odd = [d for d in decisions if not d.familiar]
    assert len(odd) >= 0.75 * len(ODD), "some look like the puzzles, ciphers and binary numbers that were graded"
    assert len({d.arm for d in odd}) <= 2, "the arm that is best by averages, whatever the text"
    assert all("unlike the training data" in d.reason and d.spread > 0.25 for d in odd)


def test_where_nothing_like_it_was_graded_less_is_paid_for_strength() -> None:
    """Examinations tell how strong arms are; where strength was not shown to matter, they are nearer to each other."""
    router = starter()
    forecast = router.forecast(["Hi there, how was your weekend?", "zxqv 88 !! lorem"])
    assert router.domain_stats is not None and not forecast.familiar[0]
    assert router.domain_stats.graded[forecast.domain[0]] == 0
    known = np.isfinite(router.prior_quality)
    one, prior = forecast.quality[0, known], router.prior_quality[known]
    assert 0.1 < one.std() / prior.std() < 0.8
    assert router.choose(forecast).cost[0] < 0.0005


def test_what_was_graded_in_other_words_is_known_with_a_wide_spread() -> None:
    router = starter()
    assert router.domain_stats is not None
    asked = [
        "Solve for x: 5x + 7 = 22.",
        "Write a SQL query that lists the customers without any order.",
        "What are the side effects of aspirin?",
    ]
    forecast = router.forecast(asked)
    assert forecast.familiar.all()
    assert [router.domain_stats.domains[d] for d in forecast.domain] == ["mathematics", "SQL", "medicine"]
    x = load_encoder(router.encoder).encode(asked)
    strange = ~router.in_distribution.knows(x) if router.in_distribution is not None else np.zeros(3, dtype=bool)
    assert (forecast.spread[strange] >= router.domain_stats.spreads.domain - 1e-9).all()
    assert not router.domain_stats.domain_and_kind(load_encoder(router.encoder).encode(["Tell me a joke."]))[1].any(), (
        "of chats nothing was graded"
    )


PLAIN = {
    "SQL": (
        "Write a SQL query that returns the second highest salary of each department.",
        "select the five products with the highest revenue per region, in SQL",
        "Explain this query plan of PostgreSQL",
        "How can I pivot rows to columns in SQL Server?",
        "count the orders per day for the last week with SQL",
    ),
    "code": (
        "Write a Go program that serves files over HTTP.",
        "Why does my Python loop never end?",
        "Convert this Java class to Kotlin",
        "Write a function that checks whether a string is a palindrome",
        "git: how do I undo the last commit?",
    ),
    "mathematics": (
        "Prove that there are infinitely many primes of the form 4k+3.",
        "What is 17*23?",
        "Find all real roots of x^3 - 6x^2 + 11x - 6",
        "Prove that sqrt(2) is irrational",
        "How many ways can 8 people sit around a table?",
    ),
    "writing": (
        "Write a poem about autumn in four lines",
        "Draft a polite reminder that an invoice is overdue",
        "Rewrite this sentence so that it sounds more formal",
        "Write a toast for a colleague's retirement",
    ),
    "chat": (
        "hi there",
        "how was your day?",
        "tell me something funny",
        "thanks!",
    ),
    "translation": (
        "Translate into French: Where is the station?",
        "Übersetze diesen Satz ins Spanische",
        "How do you say goodbye in Korean?",
    ),
    "medicine": (
        "What is the treatment of acute appendicitis?",
        "Is it safe to take aspirin and warfarin together?",
        "My child has a rash on both arms, what is it?",
    ),
    "facts": (
        "Who wrote the novel that the film Blade Runner is based on?",
        "When was the Eiffel Tower built?",
        "Which country won the 1998 World Cup?",
        "What is the capital of Mongolia?",
    ),
    "other languages": (
        "Wie backe ich ein Roggenbrot?",
        "Quelle est la capitale du Pérou ?",
        "¿Qué es la inflación?",
    ),
    "agents": (
        "You are an agent with access to a shell. Clone the repository and run the tests.",
        "Use the search tool to find the price of gold, then write it to a file.",
    ),
}
"""Prompts as people write them, none of which the starter's kinds name."""


def test_plain_prompts_are_of_the_domain_that_a_person_would_say() -> None:
    router = starter()
    assert router.domain_stats is not None
    encoder, right, asked = load_encoder(router.encoder), 0, 0
    for domain, prompts in PLAIN.items():
        found = router.domain_stats.domain(encoder.encode(prompts))
        right += sum(router.domain_stats.domains[i] == domain for i in found)
        asked += len(prompts)
    assert right >= 0.8 * asked, f"{right} of {asked}"
