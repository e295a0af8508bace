"""The pool: what a person writes in TOML and CSV, what goes wrong there, and what requests cost."""

from __future__ import annotations

import importlib.util
import math
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2router.errors import ConfigError, MissingExtra, MissingPrice
from r2router.pool.pool import Pool, budget_order
from r2router.pool.prices import cost_usd, max_cost_usd, read_prices, write_prices
from r2router.pool.toml import read_providers
from r2router.types import Arm, Budget, Model, Prices, Tier
from r2router.upstream.usage import Usage

GOOD = """\
# every key there is
[[model]]
id = "gpt-5-mini"
provider = "openai"
upstream = "gpt-5-mini-2025-08-07"
budgets = ["low", "high", { id = "quick", tokens = 64, control = ["instruction"] }]
control = ["reasoning_effort"]
usd_per_million = { input = 0.25, cached_input = 0.025, output = 2, reasoning = 3.5 }
capabilities = ["vision", "tools"]
context = 400_000
available = false

[[model]]
id = "llama"
budgets = [150, "300", "unlimited"]
control = ["instruction", "max_tokens"]

[model.usd_per_million]
input = 0.1
output = 0.2
"""


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def to(text: str | bytes, name: str = "pool.toml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return to


def model(name: str = "m", *budgets: int | str, prices: Prices | None = None, **more: Any) -> Model:
    return Model(
        id=name, budgets=tuple(Budget.of(b) for b in budgets or ("unlimited",)), usd_per_million=prices, **more
    )


# -- reading ----------------------------------------------------------------------------------------------------------


def test_a_pool_file_says_everything_a_pool_can_hold(write: Any) -> None:
    pool = Pool.read(write(GOOD))
    assert pool.arms == (
        "gpt-5-mini@low",
        "gpt-5-mini@high",
        "gpt-5-mini@quick",
        "llama@150",
        "llama@300",
        "llama@unlimited",
    )
    assert pool["gpt-5-mini"] == Model(
        id="gpt-5-mini",
        budgets=(
            Budget("low", None, ("reasoning_effort",)),
            Budget("high", None, ("reasoning_effort",)),
            Budget("quick", 64, ("instruction",)),
        ),
        provider="openai",
        upstream="gpt-5-mini-2025-08-07",
        usd_per_million=Prices(input=0.25, output=2.0, cached_input=0.025, reasoning=3.5),
        capabilities=frozenset({"vision", "tools"}),
        context=400_000,
        available=False,
    )
    assert pool["llama"].budgets[0] == Budget("150", 150, ("instruction", "max_tokens"))
    assert pool["llama"].budgets[2].tokens is None
    assert pool["llama"].upstream == "llama", "without another name its own is what the provider knows"
    assert pool["llama"].usd_per_million == Prices(input=0.1, output=0.2)


def test_a_byte_order_mark_and_windows_line_ends_do_not_matter(write: Any) -> None:
    assert Pool.read(write(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())) == Pool.read(
        write(GOOD, "plain.toml")
    )


def broken(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


# (what is wrong, the file, what the message must hold); lines counted in the file above
MISTAKES = [
    ("a typo in a key", broken("provider =", "providr ="), ["line 4", "'providr'", "did you mean 'provider'"]),
    (
        "a typo in a late model",
        broken("budgets = [150", "budget = [150"),
        ["line 15", "'budget'", "did you mean 'budgets'"],
    ),
    (
        "a typo in a price",
        broken("reasoning = 3.5", "reasonning = 3.5"),
        ["line 8", "'reasonning'", "did you mean 'reasoning'"],
    ),
    (
        "a typo in a table of prices",
        broken("output = 0.2", "outptu = 0.2"),
        ["line 20", "'outptu'", "did you mean 'output'"],
    ),
    ("a typo in a budget", broken("tokens = 64", "token = 64"), ["line 6", "'token'", "did you mean 'tokens'"]),
    ("a key unlike any", broken("context", "zzz"), ["line 10", "'zzz'"]),
    ("a typo at the top", "\n\n[[modle]]\nid = 'llama'\n", ["line 3", "'modle'", "did you mean 'model'"]),
    ("a key at the top", "controls = []\n" + GOOD, ["line 1", "'controls'", "did you mean 'control'"]),
    ("no id", broken('id = "llama"\n', ""), ["line 13", "id"]),
    ("no budgets", broken('budgets = [150, "300", "unlimited"]\n', ""), ["line 13", "budgets"]),
    ("no output price", broken("output = 2, ", ""), ["line 8", "output"]),
    ("a price in words", broken("input = 0.25", 'input = "cheap"'), ["line 8", "input", "str"]),
    ("a late price in words", broken("output = 0.2", 'output = "0.2"'), ["line 20", "output", "str"]),
    ("a context in words", broken("400_000", '"400k"'), ["line 10", "context", "str"]),
    ("a budget of half a token", broken("[150,", "[150.5,"), ["line 15", "budget", "whole number"]),
    ("an unknown control", broken('["reasoning_effort"]', '["thinking"]'), ["line 7", "control", "thinking"]),
    ("available in words", broken("= false", '= "no"'), ["line 11", "available", "str"]),
    ("one model that is no list", 'model = "x"\n', ["line 1", "model"]),
    ("a duplicate model", broken('id = "llama"', 'id = "gpt-5-mini"'), ["line 14", "'gpt-5-mini'", "twice"]),
    ("a duplicate arm", broken('[150, "300"', '[150, "150"'), ["line 15", "'llama@150'", "twice"]),
    ("an at sign in an id", broken('id = "llama"', 'id = "lla@ma"'), ["line 14", "'lla@ma'", "'@'"]),
    ("white space in an id", broken('id = "llama"', 'id = "lla ma"'), ["line 14", "'lla ma'", "white space"]),
    ("an at sign in a budget", broken('"low"', '"l@w"'), ["line 6", "'l@w'", "'@'"]),
    ("white space in a budget", broken('"unlimited"', '"un limited"'), ["line 15", "'un limited'", "white space"]),
    ("an empty id", broken('id = "llama"', 'id = ""'), ["line 14", "''", "empty"]),
    ("an empty budget", broken('"low"', '""'), ["line 6", "''", "empty"]),
    ("budgets of nothing", broken('[150, "300", "unlimited"]', "[]"), ["line 15", "'llama'", "no budget"]),
    ("a negative price", broken("output = 0.2", "output = -0.2"), ["line 20", "'llama'", "output", "-0.2"]),
    ("a price of NaN", broken("input = 0.25", "input = nan"), ["line 8", "'gpt-5-mini'", "input", "nan"]),
    (
        "an endless price",
        broken("cached_input = 0.025", "cached_input = inf"),
        ["line 8", "'gpt-5-mini'", "cached_input", "inf"],
    ),
    ("a negative budget", broken("[150,", "[-150,"), ["line 15", "-150"]),
    ("a negative length", broken("tokens = 64", "tokens = -64"), ["line 6", "-64"]),
    ("a context of nothing", broken("400_000", "0"), ["line 10", "context", "0"]),
    ("no model", "", ["model"]),
    ("models of nothing", "model = []\n", ["no model"]),
    ("not TOML", broken('id = "llama"', "id = llama"), ["line 14", "TOML"]),
]


@pytest.mark.parametrize(("text", "words"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_a_mistake_in_a_pool_file_is_named_with_its_line(write: Any, text: str, words: list[str]) -> None:
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        Pool.read(path)
    message = str(caught.value)
    assert str(path) in message
    assert len(message.splitlines()) <= 2
    for word in words:
        assert word in message, message


PIECES = [
    "nan",
    "-1",
    "[]",
    "{}",
    "''",
    "true",
    "\n",
    "[[model]]\n",
    "=",
    "@",
    '"',
    "[model.usd_per_million]\n",
    "\x00",
    "1" * 30,
    "id=",
    "#",
]


@given(
    st.lists(st.tuples(st.integers(0, len(GOOD)), st.integers(0, 12), st.sampled_from(PIECES)), min_size=1, max_size=4)
)
def test_a_pool_file_with_anything_wrong_is_a_pool_or_a_config_error(edits: list[tuple[int, int, str]]) -> None:
    text = GOOD
    for at, length, piece in edits:
        text = text[:at] + piece + text[at + length :]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pool.toml"
        path.write_bytes(text.encode())
        try:
            assert Pool.read(path).models
        except ConfigError as error:
            assert str(path) in str(error) and len(str(error).splitlines()) <= 2  # noqa: PT017


def test_the_line_is_the_models_own_even_if_its_name_is_part_of_other_words(write: Any) -> None:
    text = (
        '[[model]]\nid = "a"\nbudgets = [1]\n\n[[model]]\nid = "a"\nbudgets = [2]\n\n[[model]]\nid ='
        ' "available"\nbudgets = [1]\n'
    )
    with pytest.raises(ConfigError, match="line 6: model 'a' is in the pool twice"):
        Pool.read(write(text))


def test_a_duplicate_budget_is_found_in_its_own_model(write: Any) -> None:
    text = '[[model]]\nid = "a"\nbudgets = [100, "100"]\n\n[[model]]\nid = "b"\nbudgets = [100, 1000]\n'
    with pytest.raises(ConfigError, match=r"line 3: arm 'a@100' is in the pool twice"):
        Pool.read(write(text))


@pytest.mark.parametrize(
    "content",
    [b"\x80\x02}q\x00.", b"\xff\xfe\x00", b"\x00" * 64, b"PAR1\x15\x04"],
    ids=["pickle", "utf-16", "zeros", "parquet"],
)
def test_a_binary_file_is_refused_by_name(write: Any, content: bytes) -> None:
    path = write(content)
    with pytest.raises(ConfigError) as caught:
        Pool.read(path)
    assert str(path) in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        Pool.read(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        Pool.read(tmp_path)


# -- made by hand -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["", " ", "a b", "a\tb", "a\nb", "a\u00a0b", "a@b", "@", "a\x1b[31m", "a\u202eb", "a\x9b", "a" * 301],
    ids=repr,
)
def test_ids_hold_no_at_sign_and_no_white_space(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be an id"):
        Pool([model(name)])
    with pytest.raises(ConfigError, match="cannot be an id"):
        Pool([Model(id="m", budgets=(Budget(name),))])


@given(st.text(st.characters(exclude_characters="@", exclude_categories=["Z", "C"]), min_size=1))
def test_an_arm_comes_apart_into_what_it_was_made_of(name: str) -> None:
    arm = Arm.of(name, "think+2")
    assert (arm.model, arm.budget, str(arm)) == (name, "think+2", f"{name}@think+2")


def test_pools_are_values() -> None:
    a, b, c = Pool([model("x", 1, 2)]), Pool([model("x", 1, 2)]), Pool([model("x", 2, 1)])
    assert a == b and hash(a) == hash(b) and a != c and a != "x"
    assert len(a) == 2 and a.index["x@2"] == 1
    with pytest.raises(ConfigError, match="no model"):
        Pool([])


def test_columns_of_a_pool() -> None:
    pool = Pool([model("x", 10, "unlimited"), model("y", "low", 300)])
    assert pool.model_of_arm.tolist() == [0, 0, 1, 1]
    np.testing.assert_array_equal(pool.budget_tokens, [10, math.nan, math.nan, 300])
    assert [b.id for b in pool.budgets] == ["10", "unlimited", "low", "300"]


def test_the_pool_of_some_arms_keeps_the_order() -> None:
    pool = Pool([model("x", 10, 20), model("y", 10, 20), model("z", 10)])
    assert pool.with_arms(["z@10", "x@20"]).arms == ("x@20", "z@10")


def test_budgets_are_ordered_as_a_person_would() -> None:
    names = [
        "unlimited",
        "think+2",
        "high",
        "1000",
        "none",
        "low",
        "20",
        "minimal",
        "think",
        "medium",
        "max",
        "xhigh",
        "0",
    ]
    assert [b.id for b in sorted(map(Budget.of, names), key=budget_order)] == [
        *("0", "20", "1000"),
        *("none", "minimal", "low", "medium", "high", "xhigh", "max"),
        *("think+2", "think"),  # other names as they came
        "unlimited",
    ]


@pytest.mark.parametrize(
    ("written", "tokens"),
    [(150, 150), ("150", 150), ("low", None), ("unlimited", None), ("info", None), ("nano", None), (0, 0)],
)
def test_a_budget_is_a_number_where_it_is_written_as_one(written: int | str, tokens: int | None) -> None:
    assert Budget.of(written) == Budget(str(written), tokens)


@pytest.mark.parametrize(
    "written",
    [
        "1k",
        "1K",
        "1.0k",
        "1,000",
        "1_000",
        "1000.0",
        "1000.",
        "01000",
        "+1000",
        "1e3",
        "1.00E+03",
        1000.0,
        np.int64(1000),
    ],
)
def test_another_spelling_of_a_number_is_that_number(written: Any) -> None:
    assert Budget.of(written) == Budget("1000", 1000)


@pytest.mark.parametrize(
    "written",
    [
        *(
            "-1",
            "-1.0",
            "\u22121",
            "1.5",
            "1.000",
            "100.000",
            "1,5",
            "1,50",
            "1,0000",
            "1,5k",
            "1k5",
            "500 tokens",
            "500t",
            "1M",
            "85%",
            "0x10",
        ),
        *(
            "\uff11\uff10",
            "\u00b2",
            "\u00bd",
            "inf",
            "-Infinity",
            "nan",
            "1e99",
            "1e-3",
            "9" * 5000,
            "1'000",
            ".5",
            "4-shot",
        ),
    ],
)
def test_what_looks_like_a_number_and_is_none_is_no_budget(written: str) -> None:
    with pytest.raises(ConfigError, match="looks like a number"):
        Budget.of(written)


@given(st.integers(0, 10**9))
def test_every_spelling_of_a_number_is_one_budget(tokens: int) -> None:
    spellings = [
        f"{tokens}",
        f"{tokens:,}",
        f"{tokens:_}",
        f"0{tokens}",
        f"{tokens}.0",
        f"+{tokens}",
        f"{tokens / 1000:.3f}0k",
    ]
    assert {Budget.of(s) for s in spellings} == {Budget(str(tokens), tokens)}


@given(st.text(max_size=12))
def test_a_budget_read_again_stays_what_it_is(text: str) -> None:
    try:
        budget = Budget.of(text)
    except ConfigError:
        return
    assert Budget.of(budget.id) == budget
    assert budget.tokens is not None or budget.id == text


@pytest.mark.parametrize(
    "budget",
    [Budget("1k", 1000), Budget("1000.0", 1000), Budget("100", 50), Budget("100"), Budget("x", -1), Budget("1.5")],
)
def test_a_pool_takes_a_number_in_one_spelling_only(budget: Budget) -> None:
    with pytest.raises(ConfigError, match="budget"):
        Pool([Model(id="m", budgets=(budget,))])


def test_a_pool_file_takes_budgets_as_tables_do(write: Any) -> None:
    path = write('[[model]]\nid = "m"\nbudgets = ["1k", 2_000.0, "3,000", 4000, "low"]\n')
    assert [(b.id, b.tokens) for b in Pool.read(path).budgets] == [
        *((f"{n}000", n * 1000) for n in (1, 2, 3, 4)),
        ("low", None),
    ]
    with pytest.raises(ConfigError, match=r"line 3: .*'1\.5k5'.*looks like a number"):
        Pool.read(write('[[model]]\nid = "m"\nbudgets = ["1.5k5"]\n'))
    with pytest.raises(ConfigError, match="is in the pool twice"):
        Pool.read(write('[[model]]\nid = "m"\nbudgets = ["1k", 1000]\n'))


@pytest.mark.parametrize(
    "text",
    [
        *(
            "a." * 10**5 + "a = 1",
            "[" + "a." * 10**5 + "a]",
            "a = " + "[" * 10**5,
            "a = " + "[\n" * 10**5,
            "a = " + "{a = " * 10**5,
        ),
        "\n".join(f"[b{n}." + "a." * 1900 + "a]" for n in range(800)),
    ],
    ids=["dotted", "heading", "list", "list of lines", "tables", "many headings"],
)
def test_a_deeply_nested_pool_file_is_refused_in_words(text: str, write: Any) -> None:
    with pytest.raises(ConfigError, match=r"pool\.toml"):
        Pool.read(write(f'[[model]]\nid = "m"\nbudgets = ["low"]\n{text}\n'))


def test_a_pool_file_in_another_encoding_is_named_so(tmp_path: Path) -> None:
    path = tmp_path / "pool.toml"
    path.write_text('[[model]]\nid = "m"\nbudgets = ["low"]\n', encoding="utf-16")
    with pytest.raises(ConfigError, match=r"UTF-16.*UTF-8"):
        Pool.read(path)


# -- who may be chosen ------------------------------------------------------------------------------------------------


@pytest.fixture
def mixed() -> Pool:
    return Pool(
        [
            model("a", 10, 20, capabilities=frozenset({"vision", "tools"})),
            model("b", 10, capabilities=frozenset({"tools"})),
            model("c", 10, available=False, capabilities=frozenset({"vision", "tools"})),
        ]
    )


@pytest.mark.parametrize(
    ("require", "exclude", "left"),
    [
        ([], [], "a@10 a@20 b@10"),
        (["tools"], [], "a@10 a@20 b@10"),
        (["vision"], [], "a@10 a@20"),
        (["vision", "tools"], ["a@20"], "a@10"),
        ([], ["a"], "b@10"),
        ([], ["b@10", "a@10"], "a@20"),
        (["json"], [], ""),
        ([], ["a", "b"], ""),
        ("vision", "a@10", "a@20"),
    ],
    ids=str,
)
def test_usable_arms(mixed: Pool, require: Any, exclude: Any, left: str) -> None:
    mask = mixed.usable(require, exclude)
    assert mask.dtype == bool
    assert [arm for arm, ok in zip(mixed.arms, mask, strict=True) if ok] == left.split()


def test_what_is_excluded_must_be_there(mixed: Pool) -> None:
    with pytest.raises(ConfigError, match=r"'a@30'.*did you mean 'a@[123]0'"):
        mixed.usable(exclude=["a@30"])
    with pytest.raises(ConfigError, match="'gpt'"):
        mixed.usable(exclude=["gpt"])


# -- money ------------------------------------------------------------------------------------------------------------


def test_cost_by_hand() -> None:
    pool = Pool(
        [
            model("plain", prices=Prices(input=2.0, output=10.0)),
            model("full", prices=Prices(input=2.0, output=10.0, cached_input=0.5, reasoning=20.0)),
        ]
    )
    # 1,000 tokens in of which 400 cached, 500 out of which 300 thinking
    cost = pool.cost(np.array([[1000.0]]), np.array([[500.0]]), np.array([[400.0]]), np.array([[300.0]]))
    plain = (1000 * 2 + 500 * 10) / 1e6
    full = (600 * 2 + 400 * 0.5 + 200 * 10 + 300 * 20) / 1e6
    np.testing.assert_allclose(cost, [[plain, full]], rtol=1e-12)


def test_tokens_that_are_not_known() -> None:
    pool = Pool([model("m", prices=Prices(input=2.0, output=10.0, cached_input=0.5, reasoning=20.0))])
    nan = np.array([[math.nan]])
    ten = np.array([[10.0]])
    assert pool.cost(ten, ten, nan, nan)[0, 0] == pytest.approx(120e-6), "cached and thinking tokens are assumed none"
    assert np.isnan(pool.cost(ten, nan)).all() and np.isnan(pool.cost(nan, ten)).all(), (
        "other unknown tokens are an unknown cost"
    )


@pytest.mark.parametrize("shape", [(), (1,), (2,), (3, 1), (1, 2), (3, 2)])
def test_tokens_of_any_shape_that_fits(shape: tuple[int, ...]) -> None:
    pool = Pool([model("a", 1, 2, prices=Prices(input=2.0, output=10.0, cached_input=0.5, reasoning=20.0))])
    expected = np.full((3, 2), (6 * 2 + 4 * 0.5 + 15 * 10 + 5 * 20) / 1e6)
    whole = {"input_tokens": 10.0, "output_tokens": 20.0, "cached_tokens": 4.0, "reasoning_tokens": 5.0}
    for name in whole:
        tokens: dict[str, Any] = {k: np.full((3, 2) if k != name else shape, v) for k, v in whole.items()}
        np.testing.assert_allclose(pool.cost(**tokens), expected, rtol=1e-12)


def test_a_literal_key_in_a_pool_file_is_named_by_its_line_and_not_shown(write: Any) -> None:
    key = "sk-proj-LITERALSECRET123456789"
    text = f"""[provider.y]
base_url = "http://127.0.0.1:1/v1"
key = "GOOD_KEY"
[provider.x]
base_url = "http://127.0.0.1:2/v1"
key = "{key}"
[[model]]
id = "m"
provider = "x"
budgets = [1]
"""
    for read in (Pool.read, read_providers):
        with pytest.raises(
            ConfigError, match="line 6: provider 'x': key must be the name of an environment variable"
        ) as error:
            read(write(text))
        assert key not in str(error.value) and key not in repr(error.value.__context__)
        with pytest.raises(ConfigError, match="line 5: provider 'x': base_url must begin with http") as error:
            read(write(text.replace(key, "MY_KEY").replace("http://127.0.0.1:2/v1", f"{key}@host")))
        assert key not in str(error.value)


# -- tiers and cache writes: a long prompt has prices of its own
# ---------------------------------------------------------

SONNET = Prices(3.0, 15.0, 0.3, tiers=(Tier(6.0, 22.5, 0.6, above=200_000),))


@pytest.mark.parametrize(("tokens", "rates"), [(200_000, (3.0, 15.0)), (200_001, (6.0, 22.5))])
def test_a_prompt_above_the_threshold_is_billed_at_the_tier_as_a_whole(tokens: int, rates: tuple[float, float]) -> None:
    expected = (tokens * rates[0] + 1000 * rates[1]) / 1e6
    assert cost_usd(SONNET, Usage(tokens, 1000)) == pytest.approx(expected, rel=1e-12)
    pool = Pool([model("flat", prices=Prices(1.0, 2.0)), model("sonnet", prices=SONNET)])
    cost = pool.cost(np.array([[float(tokens)], [10.0]]), np.array([[1000.0]]))
    np.testing.assert_allclose(cost[0], [(tokens + 2000) / 1e6, expected], rtol=1e-12)
    np.testing.assert_allclose(cost[1], [2010 / 1e6, (30 + 15_000) / 1e6], rtol=1e-12)


def test_cache_writes_have_a_price() -> None:
    usage = Usage(98_805, 5120, 66_360, cache_write=32_435)
    by_hand = (10 * 5 + 66_360 * 0.5 + 32_435 * 6.25 + 5120 * 25) / 1e6
    assert cost_usd(Prices(5.0, 25.0, 0.5), usage) == pytest.approx(by_hand, rel=1e-12), (
        "1.25 times the input price where none is given"
    )
    assert cost_usd(Prices(5.0, 25.0, 0.5, cache_write=7.0), usage) == pytest.approx(
        by_hand + 32_435 * 0.75 / 1e6, rel=1e-12
    )
    hourly = msgspec.structs.replace(usage, cache_write_1h=32_435)
    assert cost_usd(Prices(5.0, 25.0, 0.5), hourly) == pytest.approx(by_hand + 32_435 * 3.75 / 1e6, rel=1e-12), (
        "twice the input price"
    )


some_price = st.floats(0, 1000) | st.just(0.0)
some_rates = st.tuples(some_price, some_price, st.none() | some_price, st.none() | some_price, st.none() | some_price)


@st.composite
def some_prices(draw: st.DrawFn) -> Prices:
    above = sorted(draw(st.sets(st.integers(1, 5000), max_size=3)))
    return Prices(*draw(some_rates), tiers=tuple(Tier(*draw(some_rates), above=n) for n in above))


@given(
    st.lists(some_prices(), min_size=1, max_size=3),
    st.integers(0, 6000),
    st.integers(0, 6000),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_the_pool_prices_a_call_as_its_own_bill_does(
    prices: list[Prices], n: int, m: int, cached: float, thought: float
) -> None:
    usage = Usage(n, m, int(n * cached), int(m * thought))
    pool = Pool(model(f"m{i}", prices=p) for i, p in enumerate(prices))
    four = [np.array([float(x or 0)]) for x in (usage.input, usage.output, usage.cached, usage.reasoning)]
    np.testing.assert_allclose(pool.cost(*four), [cost_usd(p, usage) for p in prices], rtol=1e-9, atol=1e-15)


@given(some_prices(), *[st.integers(0, 6000)] * 4)
def test_no_bill_is_above_the_most_expensive_case(
    prices: Prices, max_in: int, max_out: int, cached: int, thought: int
) -> None:
    max_expensive = max_cost_usd(prices, max_in, max_out, writes=True)
    edges = {0, max_in, *(t.above for t in prices.tiers), *(t.above + 1 for t in prices.tiers)}
    for n in {edge for edge in edges if edge <= max_in}:
        read = min(cached, n)
        usage = Usage(n, max_out, read, min(thought, max_out), cache_write=n - read)
        assert cost_usd(prices, usage) <= max_expensive * (1 + 1e-9) + 1e-15


@given(st.lists(some_prices(), min_size=1, max_size=3))
def test_prices_come_back_from_csv_and_json_as_they_were(prices: list[Prices]) -> None:
    models = [model(f"m{i}", prices=p) for i, p in enumerate(prices)]
    assert msgspec.json.decode(msgspec.json.encode(models), type=list[Model]) == models
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prices.csv"
        path.write_text(write_prices(models))
        assert read_prices(path)[0] == {m.id: m.usd_per_million for m in models}


def test_tiers_in_a_pool_file(write: Any) -> None:
    text = """[[model]]
id = "sonnet"
budgets = [100]
[model.usd_per_million]
input = 3
output = 15
cached_input = 0.3
tiers = [{ above = 200_000, input = 6, output = 22.5, cached_input = 0.6 }]
"""
    assert Pool.read(write(text))["sonnet"].usd_per_million == SONNET
    for bad, what in (("200_000", "0"), ("input = 6", "input = -6")):
        with pytest.raises(ConfigError, match=r"line 8: .*usd_per_million.tiers"):
            Pool.read(write(text.replace(bad, what)))
    with pytest.raises(ConfigError, match="line 8: unknown key 'abve'.*did you mean 'above'"):
        Pool.read(write(text.replace("above", "abve")))


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ("m,3,15,\nm,6,22,2e5\n", "line 3: above_input_tokens is '2e5'"),
        ("m,6,22,200000\n", "line 2: 'm' has a tier, and no row without above_input_tokens"),
        ("m,3,15,\nm,6,22,200000\nm,7,22,200000\n", "line 4: 'm': tiers begin above 200000, 200000"),
        ("m,3,15,\nm,6,22,\n", "line 3: 'm' already has a price"),
    ],
)
def test_tiers_that_are_wrong_in_a_csv(write: Any, rows: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        read_prices(write("model,input_usd_per_million,output_usd_per_million,above_input_tokens\n" + rows, "p.csv"))


def test_a_free_model_costs_nothing_and_an_unknown_price_is_never_zero() -> None:
    assert Pool([model("m", prices=Prices(input=0.0, output=0.0))]).cost(np.array([5.0]), np.array([5.0])).tolist() == [
        0.0
    ]
    with pytest.raises(MissingPrice, match=r"'b'.*never zero"):
        Pool([model("a", prices=Prices(input=1.0, output=1.0)), model("b")]).cost(np.array([5.0]), np.array([5.0]))


@pytest.mark.parametrize("value", [-0.01, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("field", ["input", "output", "cached_input", "reasoning"])
def test_prices_are_finite_and_at_least_zero(field: str, value: float) -> None:
    prices = msgspec.structs.replace(Prices(input=1.0, output=1.0), **{field: value})
    with pytest.raises(ConfigError, match=f"'m'.*{field} is {value}"):
        Pool([model("m", prices=prices)])


# -- prices from elsewhere --------------------------------------------------------------------------------------------

HEADER = (
    "model,provider,upstream_model,input_usd_per_million,output_usd_per_million,cached_input_usd_per_million,"
    "reasoning_usd_per_million\n"
)


def test_a_price_list(write: Any) -> None:
    path = write("\ufeff" + HEADER + "a,openai,a-2025,1,2.5,0.1,3\n\nb,,,0,4,,\nunused,x,,1,1,,\n", "prices.csv")
    pool = Pool([model("b"), model("a", provider="mine")]).with_prices(path)
    assert pool["a"].usd_per_million == Prices(input=1.0, output=2.5, cached_input=0.1, reasoning=3.0)
    assert (pool["a"].provider, pool["a"].upstream) == ("mine", "a-2025"), "what the pool says itself goes first"
    assert pool["b"].usd_per_million == Prices(input=0.0, output=4.0)
    assert (pool["b"].provider, pool["b"].upstream) == ("", "b")


def test_a_price_list_needs_only_three_columns(write: Any) -> None:
    path = write("output_usd_per_million,model,input_usd_per_million\n2,a,1\n", "prices.csv")
    assert read_prices(path)[0] == {"a": Prices(input=1.0, output=2.0)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["model", "header"]),
        ("model,input_usd_per_million\na,1\n", ["output_usd_per_million", "header"]),
        (HEADER + "a,,,1,1,,\na,,,2,2,,\n", ["line 3", "'a'", "already"]),
        (HEADER + "a,,,cheap,1,,\n", ["line 2", "input_usd_per_million", "'cheap'"]),
        (HEADER + "a,,,$1,1,,\n", ["line 2", "input_usd_per_million", "'$1'"]),
        (HEADER + "b,,,1,1,,\na,,,1,-1,,\n", ["line 3", "output_usd_per_million", "'-1'"]),
        (HEADER + "a,,,1,nan,,\n", ["line 2", "output_usd_per_million", "'nan'"]),
        (HEADER + "a,,,1,1,inf,\n", ["line 2", "cached_input_usd_per_million", "'inf'"]),
        (HEADER + "a,,,1,1,,-2\n", ["line 2", "reasoning_usd_per_million", "'-2'"]),
        (HEADER + "a,,,1,,,\n", ["line 2", "output_usd_per_million"]),
        (HEADER + "a,,,1\n", ["line 2", "output_usd_per_million"]),
        (HEADER + ",,,1,1,,\n", ["line 2", "model"]),
    ],
)
def test_a_mistake_in_a_price_list_is_named_with_its_line(write: Any, text: str, words: list[str]) -> None:
    path = write(text, "prices.csv")
    with pytest.raises(ConfigError) as caught:
        read_prices(path)
    for word in (str(path), *words):
        assert word in str(caught.value)


def test_a_price_list_that_is_not_there_or_not_text(write: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_prices(tmp_path / "nowhere.csv")
    for content in (b"\xff\xfe\x00\x80", b"\x00\x01\x02", b"PAR1"):
        with pytest.raises(ConfigError, match=r"binary\.csv"):
            read_prices(write(content, "binary.csv"))


def test_models_without_a_price_are_named(write: Any) -> None:
    path = write(HEADER + "a,,,1,1,,\n", "prices.csv")
    with pytest.raises(MissingPrice) as caught:
        Pool([model("a"), model("b"), model("c")]).with_prices(path)
    assert str(path) in str(caught.value) and "'b', 'c'" in str(caught.value)
    with pytest.raises(MissingPrice, match="'b'"):
        Pool([model("a"), model("b")]).with_prices({"a": Prices(input=1.0, output=1.0)})


def test_many_missing_prices_are_a_short_message() -> None:
    with pytest.raises(MissingPrice, match="and 94 more"):
        Pool([model(f"m{i}") for i in range(100)]).with_prices({})


def test_a_bad_price_in_a_mapping_is_refused() -> None:
    with pytest.raises(ConfigError, match="input is nan"):
        Pool([model("a")]).with_prices({"a": Prices(input=math.nan, output=1.0)})


@pytest.mark.skipif(importlib.util.find_spec("genai_prices") is None, reason="genai-prices is not installed")
def test_list_prices_from_genai_prices() -> None:
    pool = Pool([model("gpt-4o-mini", provider="openai")]).with_prices("genai-prices")
    assert pool["gpt-4o-mini"].usd_per_million == Prices(input=0.15, output=0.6, cached_input=0.075)
    with pytest.raises(MissingPrice, match="'no-such-model'"):
        Pool([model("no-such-model", provider="openai")]).with_prices("genai-prices")
    with pytest.raises(MissingPrice, match="'text-embedding-3-small'"):  # it has no price for output: that is not zero
        Pool([model("text-embedding-3-small", provider="openai")]).with_prices("genai-prices")


@pytest.mark.skipif(importlib.util.find_spec("genai_prices") is None, reason="genai-prices is not installed")
@pytest.mark.parametrize("tokens", [1_000, 32_001, 128_000, 200_000, 200_001, 256_001, 272_001, 1_000_000])
@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("claude-sonnet-4-5", "anthropic"),
        ("gemini-2.5-pro", "google"),
        ("gemini-1.5-flash", "google"),
        ("gpt-5-mini", "openai"),
    ],
)
def test_list_prices_bill_as_the_list_does_in_every_tier(name: str, provider: str, tokens: int) -> None:
    from genai_prices import Usage as Asked
    from genai_prices import calc_price

    prices = Pool([model(name, provider=provider)]).with_prices("genai-prices")[name].usd_per_million
    assert prices is not None
    for cached in (0, tokens // 2):
        bill = calc_price(
            Asked(input_tokens=tokens, cache_read_tokens=cached, output_tokens=500), name, provider_id=provider
        )
        assert cost_usd(prices, Usage(tokens, 500, cached)) == pytest.approx(float(bill.total_price), rel=1e-9)


@pytest.mark.skipif(importlib.util.find_spec("genai_prices") is None, reason="genai-prices is not installed")
@pytest.mark.parametrize("hour", [0, 2, 5, 8, 12, 23])
def test_a_list_price_that_changes_with_the_hour_is_that_of_the_dearest(hour: int) -> None:
    import datetime

    from genai_prices import Usage as Asked
    from genai_prices import calc_price

    name = "deepseek-v4-flash"
    prices = Pool([model(name, provider="deepseek")]).with_prices("genai-prices")[name].usd_per_million
    assert prices is not None
    at = datetime.datetime.now(datetime.UTC).replace(hour=hour, minute=30)
    bill = calc_price(
        Asked(input_tokens=1000, output_tokens=500), name, provider_id="deepseek", genai_request_timestamp=at
    )
    assert cost_usd(prices, Usage(1000, 500)) >= float(bill.total_price) * (1 - 1e-9)


def test_genai_prices_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "genai_prices", None)
    with pytest.raises(MissingExtra, match=r"r2router\[prices\]"):
        Pool([model("a")]).with_prices("genai-prices")


def test_the_real_price_list_fits_the_real_table(shared: Path) -> None:
    pool = Pool.infer(shared / "data" / "tts_knowledge.parquet", prices=shared / "data" / "prices.csv")
    assert len(pool.models) == 12 and len(pool) == 37
    assert (pool.usd_per_token[:2] > 0).all()
