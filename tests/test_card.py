"""The card of a router shows names and notes of others as they are, and none of them becomes markup; rendered by an
outside reader.
"""

from __future__ import annotations

import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from r2router.decide import Value
from r2router.figure import Figure
from r2router.pool.pool import Pool
from r2router.router.card import Added, Facts, write_card
from r2router.text import clean, code, markdown
from r2router.types import Budget, Model

EVIL = (
    "<script>alert(1)</script>",
    "<img/src=x/onerror=alert(1)>",
    "[click](https://evil.example)",
    "![](https://evil.example/x.png)",
    "`code`",
    "``` \n# heading",
    "a|b|c",
    "**bold**_em_~~gone~~",
    "line\n\n# heading\n- list\n\n<b>x</b>",
    "\x1b[31mred\u202e",
    "https://evil.example",
    "&lt;b&gt;",
    "\\",
    "\\`x\\`",
    "<!-- hidden -->",
    "[x]: https://evil.example",
)
ALLOWED = {"p", "h1", "h2", "h3", "ul", "li", "code", "table", "thead", "tbody", "tr", "th", "td"}


def rendered(text: str) -> str:
    return MarkdownIt("commonmark", {"linkify": False}).enable("table").enable("strikethrough").render(text)


def shown(page: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", page))


def tags(page: str) -> set[str]:
    return {tag.lower() for tag in re.findall(r"<\s*/?\s*([a-zA-Z0-9]+)", page)}


@pytest.mark.parametrize("evil", EVIL)
def test_nothing_in_a_card_acts(evil: str) -> None:
    name = re.sub(r"[\s@]", "", clean(evil)) or "x"
    figures = (Figure(name=evil, value=1.0, low=0.0, high=2.0, n=3),)
    facts = Facts(
        title=evil,
        trained=evil,
        queries=3,
        tasks=((evil, 3),),
        sources=((evil, evil),),
        notes=(evil,),
        learner={"kind": evil},
        folds=2,
        figures=figures,
        limits=(evil,),
        added=(
            Added(
                model=name,
                added=evil,
                queries=3,
                tasks=((evil, 1),),
                sources=((evil, ""),),
                notes=(evil,),
                figures=figures,
            ),
        ),
    )
    card = write_card(
        Pool([Model(id=name, budgets=(Budget.of(100),)), Model(id="other", budgets=(Budget.of("low"),))]),
        evil,
        Value(1.0),
        facts,
    )
    page = rendered(card)
    assert tags(page) <= ALLOWED, page
    assert "href" not in page and "src=" not in re.sub(r">[^<]*<", "><", page)
    assert page.count("<h1>") == 1 and page.count("<h2>") == 5 and page.count("<h3>") == 1
    arms = page[page.index("<h2>Arms") :]
    assert arms.count("<tr>") == 3 and arms.count("<td>") == 8, "no name makes a column"
    assert all(c.isprintable() or c == "\n" for c in card)
    assert name in shown(arms)


@given(st.text(max_size=40))
def test_words_come_out_as_they_went_in(text: str) -> None:
    plain = clean(" ".join(text.split()))
    paragraph, span, cell = (
        rendered(f"x {markdown(text)} x"),
        rendered(f"x {code(text)} x"),
        rendered(f"| a |\n| --- |\n| {code(text, cell=True)} |\n"),
    )
    assert shown(paragraph).strip() == f"x {plain} x" if plain else True
    assert shown(span).strip().split() == ["x", *plain.split(), "x"]
    assert tags(paragraph) == {"p"} and tags(span) == {"p", "code"}
    assert cell.count("<td>") == 1 and shown(cell).split() == ["a", *plain.split()]
