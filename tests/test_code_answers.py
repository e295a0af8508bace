"""The scorer `code` on answers as models write them: every form of a right program passes, and no form of a wrong one
does.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2router.bench.scoring import sandbox, scorer_named
from r2router.bench.scoring.inside.program import units_of
from r2router.bench.suite import Query

pytestmark = pytest.mark.skipif(sandbox.isolation() is None, reason="no sandbox works here")

QUESTION = 'from typing import List\n\ndef add_all(xs: List[int]) -> int:\n    """Sum of all."""\n'
TEST = "def check(candidate):\n    assert candidate([1, 2]) == 3\n    assert candidate([]) == 0\n"
# fmt: off
RIGHT = [  # written in full: what stands around the code is what is tested
    '```python3\ndef add_all(xs):\n    return sum(xs)\n```',
    '```py\ndef add_all(xs):\n    return sum(xs)\n```',
    '``` python\ndef add_all(xs):\n    return sum(xs)\n```',
    '````python\ndef add_all(xs):\n    return sum(xs)\n````',
    '~~~python\ndef add_all(xs):\n    return sum(xs)\n~~~',
    '~~~\ndef add_all(xs):\n    return sum(xs)\n~~~',
    '```Python\r\ndef add_all(xs):\r\n    return sum(xs)\r\n```\r\n',
    'Here: ```python\ndef add_all(xs):\n    return sum(xs)\n```',
    '```python\ndef add_all(xs):\n    return sum(xs)```',
    '```python\ndef add_all(xs):\n    return sum(xs)\n',
    '1. Do:\n\n   ```python\n   def add_all(xs):\n       return sum(xs)\n   ```\n',
    '> ```python\n> def add_all(xs):\n>     return sum(xs)\n> ```',
    '[PYTHON]\ndef add_all(xs):\n    return sum(xs)\n[/PYTHON]',
    '<code>\ndef add_all(xs):\n    return sum(xs)\n</code>',
    '```{python}\ndef add_all(xs):\n    return sum(xs)\n```',
    '```\ndef add_all(xs):\n    return sum(xs)\n```\n\n```\n>>> add_all([1])\n1\n```',
    '```python\ndef add_all(xs):\n    return sum(xs)\n```\nUsage:\n```python\nprint(add_all([1,2]))\nx = int(input())\n```',
    '```python\ndef add_all(xs):\n    return sum(xs)\n```\nTest it:\n```python\nimport unittest\nfrom solution import add_all\nassert add_all([1]) == 1\nraise SystemExit\n```',  # noqa: E501
    '```bash\npip install x\n```\n```python\ndef add_all(xs):\n    return sum(xs)\n```',
    '```python\ndef add_all(xs):\n    return sum(xs)\n```\n```json\n{"a": 1}\n```\n```text\n3\n```',
    '```python\ndef add_all(xs):\n    return 1\n```\nFixed:\n```python\ndef add_all(xs):\n    return sum(xs)\n```',
    '```python\ndef add_all(xs):\n    """\n    Example:\n    ```\n    add_all([1])\n    ```\n    """\n    return sum(xs)\n```',
    'return sum(xs)',
    '    return sum(xs)',
    'total = 0\n    for x in xs:\n        total += x\n    return total',
    '    total = 0\n    for x in xs:\n        total += x\n    return total\n\nThis adds them.',
    '```python\n    return sum(xs)\n```',
    '```python\nreturn sum(xs)\n```',
    'The body:\n```python\n    t = 0\n    for x in xs:\n        t += x\n    return t\n```\nDone.',
    '\treturn sum(xs)',
    '    return sum(xs)\n```\n\nExplanation: sums.\n```python\nprint(add_all([3]))\n```',
    'def add_all(xs):\n    return sum(xs)\n```\n\nExample:\n\n```python\nprint(add_all([1]))\n```',
    'def add_all(xs):\n    return sum(xs)\n\n# Test\nprint(add_all([1,2]))\n```',
    'Sure!\n\ndef add_all(xs):\n    return sum(xs)\n\nDone',
    'import math\n\nThen the function:\n\ndef add_all(xs):\n    return sum(xs)\n\nNote: it works\nEnjoy',
    'Sure! Here is the code:\ndef add_all(xs):\n    return sum(xs)\nI hope this helps!',
    'from __future__ import annotations\nimport math\n\ndef add_all(xs):\n    return sum(xs)\n',
    '"""Doc."""\nfrom __future__ import annotations\n\ndef add_all(xs):\n    return sum(xs)\n',
    '# comment\nfrom __future__ import annotations, division\ndef add_all(xs):\n    return sum(xs)\n',
    '```python\nfrom __future__ import annotations\n```\n```python\nfrom __future__ import annotations\ndef add_all(xs: Foo | None) -> Bar:\n    return sum(xs)\n```',  # noqa: E501
    '```python\ndef add_all(xs):\n    return sum(xs)\n\nif __name__ == "__main__":\n    import sys\n    sys.exit(add_all([1]))\n```',
    "```python\ndef add_all(xs):\n    return sum(xs)\n\nif '__main__' == __name__: input()\n```",
    "def add_all(xs):\n    return sum(xs)\n\ndef main():\n    print(add_all([int(input())]))\n\nif __name__=='__main__':\n    main()\n",
    '```python\nfrom dataclasses import dataclass\n@dataclass\nclass A:\n    x: int\n```\nThen\n```python\ndef add_all(xs):\n    return A(sum(xs)).x\n```',  # noqa: E501
    '```python\nK = 0\n```\ntext\n```python\ndef add_all(xs):\n    return sum(xs) + K\n```',
    '```python\ndef add_all(xs):\n    return plus(xs)\n```\nwith the helper\n```python\ndef plus(xs):\n    return sum(xs)\n```',
    '```python\nimport numpy_that_is_not_there\n```\n```python\ndef add_all(xs):\n    return sum(xs)\n```',
    '```python\nimport math\nfrom functools import reduce\n```\nand then\ndef add_all(xs):\n    return sum(xs)\n',
    'add_all = lambda xs: sum(xs)',
    '```python\nadd_all = sum\n```',
    '<think>\n```python\ndef add_all(xs):\n    return 1\n```\n</think>\ndef add_all(xs):\n    return sum(xs)\n',
    '```python\nasync def f(): pass\ndef add_all(xs):\n    return sum(xs)\n```',
    '\ufeff```python\ndef add_all(xs):\n    return sum(xs)\n```',
    '```python\ndef add_all(xs):\n\xa0\xa0\xa0\xa0return sum(xs)\n```',
    '`add_all` is simple: `sum(xs)`.\n\n```python\ndef add_all(xs):\n    return sum(xs)\n```',
    'Use ```sum```.\n\n```python\ndef add_all(xs):\n    return sum(xs)\n```',
    '```python def add_all(xs): return sum(xs)```',
    '```python\ntry:\n    import numpy as np\nexcept ImportError:\n    np = None\n```\n\n```python\ndef add_all(xs):\n    return sum(xs)\n```',  # noqa: E501
    '```python\ndef add_all(xs):\n    return sum(xs)\n\nassert add_all([1, 2]) == 3\n```',
    '**Solution**\n\n    def add_all(xs):\n        return sum(xs)\n\nAs you see.',
    '```python\nclass Solution:\n    pass\n\ndef add_all(xs):\n    return sum(xs)\n```',
    '<answer>\ndef add_all(xs):\n    return sum(xs)\n</answer>',
    '```python\n# add.py\ndef add_all(xs):\n    return sum(xs)\n```\n```python\n# test_add.py\nimport pytest\nfrom add import add_all\n\ndef test_it():\n    assert add_all([1]) == 1\n```',  # noqa: E501
    'def add_all(xs: List[int]) -> int:\n    return sum(xs)\n<|im_end|>',
    "def add_all(xs):\n    s = 'it\\'s'\n    return sum(xs)\nIt's done, isn't it?",
    "Let's define plus(a, b) first:\n\ndef plus(a, b):\n    return a + b\n\nNow it's easy:\n\ndef add_all(xs):\n    t = 0\n    for x in xs:\n        t = plus(t, x)\n    return t\n",  # noqa: E501
]
WRONG = [
    '```python\ndef add_all(xs):\n    return sum(xs)\n```\nNo, better:\n```python\ndef add_all(xs):\n    return 1\n```',
    '<think>\ndef add_all(xs):\n    return sum(xs)\n',
    'I cannot.',
    '',
    '```python\n```',
    "```python\nprint('hi')\n```",
    'add_all',
    '```python\ndef add_all(xs):\n    raise SystemExit(0)\n```',
    '```python\nimport os\ndef add_all(xs):\n    return sum(xs)\nos._exit(0)\n```',
]
# fmt: on


def score(response: str, question: str = QUESTION, **meta: str) -> Any:
    made: Any = scorer_named("code").score(
        Query(id="q", text=question, meta=meta or {"test": TEST, "entry_point": "add_all"}), response
    )
    return made


@pytest.mark.parametrize("response", RIGHT, ids=range(len(RIGHT)))
def test_a_right_program_passes_however_it_is_written(response: str) -> None:
    made = score(response)
    assert made.quality == 1.0, made


@pytest.mark.parametrize("response", WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_or_no_program_does_not(response: str) -> None:
    assert score(response).quality == 0.0


@pytest.mark.parametrize(
    "response",
    [
        "    return helper(sum(xs))", "return sum(map(helper, xs))", "def add_all(xs):\n    return helper(sum(xs))",
        "```python\n    return math.floor(sum(xs))\n```",
    ],
)  # fmt: skip
def test_the_question_may_hold_its_code_among_words(response: str) -> None:
    question = (
        "Complete it.\n\n```python\nimport math\n\ndef helper(a):\n    return a\n\ndef add_all(xs):\n   "
        " '''Sum'''\n```\n"
    )
    assert score(response, question).quality == 1.0


def test_tests_without_an_entry_point_say_what_is_needed() -> None:
    blocks = [
        "def plus(a, b):\n    return a + b",
        "def add_all(xs):\n    return sum(xs)",
        "print(add_all([int(input())]))",
    ]
    response = "\n".join(f"```python\n{block}\n```" for block in blocks)
    test = "assert add_all([1, 2]) == 3\nassert plus(1, 2) == 3"
    assert score(response, "Write add_all and plus.", test=test).quality == 1.0
    assert score(response, "Write add_all and plus.", test=f"{test}\nassert minus(1, 1) == 0").quality == 0.0


PARTS = st.sampled_from(
    [
        "```",
        "```python\n",
        "~~~\n",
        "def add_all(xs):\n",
        "    return sum(xs)\n",
        "words, words\n",
        "    ",
        "\n",
        "(",
        "'''",
        "@",
    ]
)


@given(st.lists(PARTS, max_size=30).map("".join))
@settings(deadline=None)
def test_any_mixture_of_marks_is_read(text: str) -> None:
    units_of(QUESTION, text, "add_all", TEST)


@given(st.text(max_size=100))
@settings(deadline=None)
def test_any_text_is_read(text: str) -> None:
    units_of(text, text, "add_all", text)
