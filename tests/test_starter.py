"""The bundled router knows factual questions, and what it does not know it calls so."""

from __future__ import annotations

import pytest

from r2router.starter import starter

STRANGE = {
    "arithmetic": ["What is 12 times 4?", "2+2", "What is 15% of 80?", "Solve for x: 2x + 3 = 11", "Divide 144 by 12."],
    "code": ["Write a Python function that reverses a string.", "def add(a, b):", "What does `git rebase -i` do?", "Write fizzbuzz"],
    "small talk": ["Hi!", "Tell me a joke.", "I feel sad today.", "Thanks, that helps a lot."],
    "translation": [
        "Translate 'good morning' into French.",
        "How do you say thank you in Japanese?",
        "Übersetze ins Englische: Ich habe Hunger.",
    ],
    "writing": ["Write a haiku about the sea", "Draft an email to my boss asking for a day off.", "Summarize the following article."],
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
    assert router.trained is not None and len(router.trained.hashes) == router.facts.queries == 1117
