"""The domains of the public record, and prompts of our own for what it lacks.

A task's domain is told by its name. `KINDS` are prompts of kinds of which the record has few graded queries or none: a
query that lies nearest to one of them is known to be of that kind, and a decision on it says how little is known.
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from r2router.encode import count_tokens, load_encoder
from r2router.errors import DataError
from r2router.predict.domain_stats import DomainStats
from r2router.router.router import Router
from r2router.table.table import Table
from r2router.types import FloatArray

_DOMAINS = {
    "facts": r"simpleqa|ikp|frames|.*factual",
    "mathematics": r"gsm8k|math|numersense|.*aime|rg_(arithmetic|algebra|geometry)|mmlu_pro_math",
    "code": r"cruxeval|rg_code|benchpress_coding|mmlu_pro_computer",
    "SQL": r"sql",
    "science": r"gpqa|mmlu_pro_(physics|chemistry|biology|engineering)",
    "medicine": r"med_|mmlu_pro_health",
    "logic and puzzles": r"kor_|farel|rg_|chess|misguided|benchpress_reasoning",
    "law, business and humanities": r"mmlu_pro",
    "writing": r"benchpress_writing",
    "instructions": r"benchpress",
}
"""Domain -> the names of its tasks; the first that fits counts."""

KINDS: dict[str, tuple[str, ...]] = {
    "writing": (
        "Write a friendly email to a customer whose parcel is late.",
        "Write a letter to my landlord about the broken heating.",
        "Write a short poem about the first snow.",
        "Write a story about a lighthouse keeper, 300 words.",
        "Improve the style of this paragraph and keep its meaning.",
        "Write a cover letter for a job as a data analyst.",
        "Summarise this article in three sentences.",
        "Write a speech for my brother's wedding.",
        "Draft a blog post about working from home.",
        "Write an invitation to our summer party.",
        "Give me five slogans for a bicycle shop.",
        "Write a product description for wooden toys.",
    ),
    "chat": (
        "Hello, how are you today?",
        "Thank you, that was very helpful!",
        "Tell me a joke.",
        "I am bored. What shall we talk about?",
        "I feel lonely since I moved to a new city.",
        "Good morning! Did you sleep well?",
        "What is your favourite colour?",
        "Can you help me with something?",
        "Ok, please continue.",
        "What should I cook tonight with rice and eggs?",
        "How do I make new friends at work?",
        "Recommend a good film for a rainy evening.",
    ),
    "translation": (
        "Translate into German: The meeting was moved to Thursday.",
        "Translate this text into English.",
        "How do you say 'thank you very much' in Japanese?",
        "Translate to French: I would like to book a table for two.",
        "What is the Spanish word for 'butterfly'?",
        "Translate the following sentence into Chinese: The weather is fine today.",
        "Übersetze ins Englische: Der Zug hat zwanzig Minuten Verspätung.",
        "Traduis en anglais : Je voudrais un café, s'il vous plaît.",
        "Give me an Arabic translation of this sentence.",
        "Correct the grammar of my Italian sentence.",
    ),
    "other languages": (
        "Wie kann ich meine Steuererklärung online abgeben?",
        "Was kostet es, ein Auto anzumelden, und welche Unterlagen brauche ich?",
        "Erkläre mir bitte, wie ein Kühlschrank funktioniert.",
        "Schreibe einen Brief an meine Bank.",
        "Comment préparer une soupe à l'oignon ?",
        "Explique-moi la différence entre un virus et une bactérie.",
        "Quels sont les plus beaux villages de Provence ?",
        "¿Cómo puedo aprender a tocar la guitarra?",
        "Explica la fotosíntesis con palabras sencillas.",
        "¿Cuáles son los síntomas de la gripe?",
        "Como posso economizar dinheiro todos os meses?",
        "Spiegami come funziona il mutuo a tasso fisso.",
        "Hoe kan ik mijn fiets repareren?",
        "Jak ugotować barszcz?",
        "Как научиться быстро печатать?",
        "请解释一下什么是通货膨胀。",
        "请给我一些提高英语听力的建议。",
        "日本の四季について教えてください。",
        "한국에서 가볼 만한 곳을 추천해 주세요.",
        "ما هي فوائد شرب الماء؟",
        "मुझे स्वस्थ नाश्ते के बारे में बताइए।",
        "Bana İstanbul'da gezilecek yerleri öner.",
    ),
    "agents": (
        "You are a coding agent. Read the repository, find the failing test and fix it.",
        "You can use the tools search, read_file and write_file. Task: update the dependency and run the tests.",
        "Plan the steps to move our service to a new server, then begin with the first.",
        "Open the browser, find the cheapest flight from Oslo to Rome and tell me the price.",
        "You have access to a calendar tool. Schedule a meeting with Anna next week.",
        "Here is the output of the last command. What should be run next?",
    ),
    "SQL": (
        "Write a SQL query that lists all customers without an order.",
        "Write a query that shows the total sales of each month.",
        "How do I join three tables in PostgreSQL?",
        "Why is this SELECT with a subquery slow, and which index helps?",
        "Rewrite this MySQL statement for Oracle.",
        "SQL: find duplicate rows in the table users and delete all but one.",
        "What is the difference between a LEFT JOIN and an INNER JOIN?",
        "Use a window function to rank employees within their group.",
    ),
    "code": (
        "Write a Python function that removes duplicates from a list and keeps the order.",
        "Fix this bug: TypeError: 'NoneType' object is not subscriptable.",
        "How do I read a CSV file in Rust?",
        "Write unit tests for this class.",
        "Refactor this JavaScript code to use async and await.",
        "Explain what this regular expression matches.",
        "Write a bash script that renames all files in a folder.",
        "Implement a binary search tree in C++.",
        "Create a React component with a button that counts clicks.",
    ),
    "mathematics": (
        "Solve the equation 3x + 7 = 22.",
        "Prove that the sum of two odd numbers is even.",
        "What is the derivative of x squared times sin x?",
        "Compute the integral of 1/x from 1 to e.",
        "A train covers 180 km in 2 hours. How fast is it?",
        "What is 15 percent of 240?",
        "Prove by induction that 1 + 2 + ... + n = n(n+1)/2.",
    ),
    "medicine": (
        "Which drug is first choice for high blood pressure in a patient with diabetes?",
        "I have had a headache and a fever for three days. What could it be?",
        "What are the side effects of ibuprofen?",
        "How is pneumonia diagnosed?",
    ),
    "law, business and humanities": (
        "What is the difference between a contract and a tort?",
        "Explain the causes of the First World War.",
        "Which marketing strategy fits a small bakery?",
        "What did Kant mean by the categorical imperative?",
        "How do I calculate the break-even point of a company?",
    ),
}
"""Prompts as people write them, by domain: of kinds that the record hardly has, or has in the form of exam questions
only.
"""


def domain_of(task: str) -> str:
    """Return the domain of a task of the record. Raises `DataError` for one that no rule names."""
    plain = task.rpartition(":")[2].casefold()
    found = next((domain for domain, names in _DOMAINS.items() if re.match(names, plain)), None)
    if found is None:
        raise DataError(f"task {task!r} is of no domain: add it to {__name__}._DOMAINS")
    return found


def with_domain_stats(router: Router, table: Table, vectors: FloatArray | None = None) -> Router:
    """Return the router with what its training table says per domain: means and counts, no text.

    vectors: (n, dim) embeddings of the table's queries, where they exist. The table's columns must be the router's
        arms.

    Raises `DataError` where they are not, or for a task of no domain.
    """
    if table.arms != router.arms:
        raise DataError(
            "the table's arms are not the router's, in the same order: read the table with the router's pool"
        )
    encoder = load_encoder(router.encoder)
    x = encoder.encode(table.queries) if vectors is None else np.asarray(vectors, dtype=np.float32)
    evidence = DomainStats.fit(
        x,
        table.tasks,
        table.quality,
        table.output_tokens,
        np.asarray(count_tokens(table.queries), dtype=np.float64),
        {task: domain_of(task) for task in table.tasks},
        {kind: encoder.encode(prompts) for kind, prompts in KINDS.items()},
    )
    return replace(router, domain_stats=evidence)
