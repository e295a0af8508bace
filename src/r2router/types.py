"""The basic values of r2router, all frozen. `docs/words.md` explains how they belong together.

Money is US dollars, prices are US dollars per million tokens, lengths are tokens. Three token counts are never mixed
up: the budget *asked for*, the tokens *forecast*, and the tokens *used*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from r2router.arm import Arm as Arm  # noqa: PLC0414 - it is one of these words
from r2router.arm import ArmField, plain
from r2router.text import html_table, whole_tokens

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
BoolArray = NDArray[np.bool_]
NumberArray = FloatArray | IntArray
"""Counts, that may be estimates."""

Control = Literal["instruction", "max_tokens", "reasoning_effort", "thinking_tokens", "prefix_sharing"]
"""A knob that enforces a budget: words in the prompt, a hard cut, a named effort, an allowance for thinking; or one
long answer that is cut at each budget and closed with a short forced one.
"""

Dialect = Literal["openai", "openrouter", "anthropic", "gemini", "deepseek", "qwen", "vllm", "sglang", "llama.cpp"]
"""Whose request fields an OpenAI-compatible endpoint understands, where they are not OpenAI's own."""

Progress = Callable[[str, int, int], None]
"""Called with what is going on, how many steps of it are done, and how many there are."""

HUGE = 1e15
"""Rows of embeddings with larger numbers are brought to norm 1 first: their squares could overflow float32."""

UNLIMITED = "unlimited"
CACHE_WRITE = 1.25  # times the input price: what Anthropic and Alibaba bill for a prompt that is written to their cache
CACHE_WRITE_1H = (
    1.6  # times the price of a cache write: Anthropic's for one that is kept for an hour (twice the input price)
)
MAX_PRICE = 1e12  # US dollars per million tokens: above that a price is a slip, and sums of it would end at infinity


_Number = TypeVar("_Number", float, Fraction)


def as_written(number: float) -> Fraction:
    """Return a number exactly as its decimals were written: 0.1 is one tenth, which no float is."""
    return Fraction(repr(float(number)))


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """US dollars per million tokens of each kind.

    input: input tokens.
    output: output tokens.
    cached_input: input read from the provider's prompt cache; by default the input price (never less).
    reasoning: thinking tokens; by default the output price, as nearly every provider bills today.
    cache_write: input written to the prompt cache, to be kept for minutes; by default `CACHE_WRITE` times the input
        price.
    """

    input: float
    output: float
    cached_input: float | None = None
    reasoning: float | None = None
    cache_write: float | None = None

    @property
    def each(self) -> tuple[float, float, float, float, float]:
        """Input, output, cached input, reasoning and cache write, with the defaults filled in."""
        return self._each(float)

    @property
    def exact(self) -> tuple[Fraction, Fraction, Fraction, Fraction, Fraction]:
        """The numbers of `each`, as exact decimals."""
        return self._each(as_written)

    def _each(self, number: Callable[[float], _Number]) -> tuple[_Number, _Number, _Number, _Number, _Number]:
        given, made = number(self.input), number(self.output)
        return (
            given,
            made,
            given if self.cached_input is None else number(self.cached_input),
            made if self.reasoning is None else number(self.reasoning),
            number(CACHE_WRITE) * given if self.cache_write is None else number(self.cache_write),
        )


class Tier(Rates, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The rates of a request with more than `above` input tokens. They hold for all tokens of the request."""

    above: int


class Prices(Rates, frozen=True, forbid_unknown_fields=True):
    """What a model costs: its rates, and other rates for long prompts.

    tiers: in rising order of `above`. The last tier whose `above` is less than a request's input tokens sets the rates
        of the whole request, as Anthropic, Google and OpenAI bill (and as the genai-prices data is meant).
    """

    tiers: tuple[Tier, ...] = ()

    def at(self, input_tokens: float) -> Rates:
        """Return the rates of a request with that many input tokens."""
        return next((tier for tier in reversed(self.tiers) if input_tokens > tier.above), self)

    def scaled(self, factor: float) -> Prices:
        """Return the same prices times a factor."""

        def times(rates: Any) -> Any:
            moved = {
                name: price * factor for name in Rates.__struct_fields__ if (price := getattr(rates, name)) is not None
            }
            return msgspec.structs.replace(rates, **moved)

        scaled: Prices = times(self)
        return msgspec.structs.replace(scaled, tiers=tuple(times(tier) for tier in self.tiers))


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an output length is asked for, in the model's own way.

    id: the part of an arm's name after the `@`: a number of tokens, an effort (`low`), `unlimited`, ...
    tokens: the same as a number, where it is one; only such budgets can be interpolated.
    control: the request controls that enforce it; usually a length instruction together with `max_tokens`.
    """

    id: str
    tokens: int | None = None
    control: tuple[Control, ...] = ()

    @classmethod
    def of(cls, value: float | str, control: tuple[Control, ...] = ()) -> Budget:
        """Make a budget from the way people write it: `150`, `"150"`, `"low"`, `"unlimited"`.

        `1k`, `1,000`, `1_000`, `1e3`, `1000.0` and `01000` are all `1000`. Raises `ConfigError` for a number that is
        not a whole one from 0 to 10^9, or that can be read in two ways (`1.000`, `1,5k`, `500 tokens`). Names of other
        budgets begin with a letter.
        """
        text = str(value)
        tokens = whole_tokens(text)
        return cls(text if tokens is None else str(tokens), tokens, control)


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One LLM that can be called.

    id: the name used everywhere in r2router.
    budgets: how long its answers may be; their order is the order of its arms.
    provider: the name of the `Provider` that serves it.
    upstream: the name by which its provider knows it.
    openrouter: its name at OpenRouter, where it can be called there too.
    usd_per_million: its prices; `None` means unknown, and whatever needs a cost then raises `MissingPrice`.
    capabilities: what a request can require of it (`vision`, `tools`, `json`, ...).
    context: the maximum number of tokens of prompt and answer together; `None` means unknown and unchecked.
    max_output_tokens: the maximum number of tokens of an answer, thinking included; collecting sends it as the cap
        where a budget sets none.
    available: false for a model that must not be chosen now (it stays in the pool and keeps its columns).
    """

    id: str
    budgets: tuple[Budget, ...]
    provider: str = ""
    upstream: str = ""
    openrouter: str = ""
    usd_per_million: Prices | None = None
    capabilities: frozenset[str] = frozenset()
    context: int | None = None
    available: bool = True
    max_output_tokens: int | None = None


class Provider(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where models are called: an OpenAI-compatible endpoint.

    base_url: without `/chat/completions`, for example `http://127.0.0.1:8080/v1`.
    key: the *name* of the environment variable that holds the key; empty where none is needed. The key itself is never
        kept.
    dialect: whose request fields it understands, for thinking tokens and for continuing an answer.
    concurrency: the maximum number of concurrent calls; the rate limits that it reports or enforces lower it
        automatically.
    timeout_s: the longest silence of the endpoint within a call, seconds.
    stream: whether answers are asked for piece by piece.
    """

    base_url: str
    key: str = ""
    dialect: Dialect = "openai"
    concurrency: Annotated[int, msgspec.Meta(ge=1)] = 16
    timeout_s: Annotated[float, msgspec.Meta(gt=0)] = 300.0
    stream: bool = True


_NO_COST: FloatArray = np.full((0, 0), np.nan)


class Forecast(msgspec.Struct, frozen=True, eq=False):
    """What is expected of every arm on every query. Arrays are (n queries, arms), NaN where an arm is unknown.

    quality: the expected quality in [0, 1].
    tokens: the expected output tokens, thinking included.
    spread: the standard deviation of the *forecast of the expected quality*: how unsure the router is, not how much
        answers vary.
    familiar: (n,) false where a query is out of distribution: unlike everything the router was trained on.
    cost: the expected US dollars of the request; NaN until the router has applied prices.
    domain: (n,) number of the domain that each query is nearest to; empty where the router keeps no domains.
    """

    arms: tuple[Arm, ...]
    quality: FloatArray
    tokens: FloatArray
    spread: FloatArray
    familiar: BoolArray
    cost: FloatArray = _NO_COST
    domain: IntArray = np.empty(0, dtype=np.intp)

    @classmethod
    def of(cls, arms: tuple[Arm, ...], quality: FloatArray, tokens: FloatArray, spread: FloatArray) -> Forecast:
        """Make the part that a predictor knows; the router adds prices and the in-distribution check."""
        return cls(arms, quality, tokens, spread, np.ones(len(quality), dtype=np.bool_))

    def __len__(self) -> int:
        return len(self.quality)

    def __getitem__(self, rows: slice | IntArray) -> Forecast:
        """Return the forecasts of some of the queries."""
        cost = self.cost if self.cost is _NO_COST else self.cost[rows]
        domain = self.domain[rows] if len(self.domain) else self.domain
        return Forecast(
            self.arms, self.quality[rows], self.tokens[rows], self.spread[rows], self.familiar[rows], cost, domain
        )

    def __repr__(self) -> str:
        return f"Forecast({len(self)} queries x {len(self.arms)} arms)"

    def _repr_html_(self) -> str:
        head = ("arm", "quality", "output tokens", "USD per 1,000 requests")
        cost = self.cost if self.cost.shape == self.quality.shape else np.full(self.quality.shape, np.nan)
        means = [
            a.mean(axis=0).tolist() if len(self) else [np.nan] * len(self.arms)
            for a in (self.quality, self.tokens, 1000 * cost)
        ]
        rows = ((arm, f"{q:.3f}", f"{t:,.0f}", f"{c:.3g}") for arm, q, t, c in zip(self.arms, *means, strict=True))
        return html_table(f"{self!r}, means over the queries", head, rows)


class Curve(msgspec.Struct, frozen=True):
    """The forecast of one model over its budgets, for one query.

    model: its id.
    budgets: in the pool's order; the other tuples have one entry per budget.
    quality: forecast, in [0, 1].
    tokens: output tokens, thinking included.
    cost: US dollars per request.
    spread: the standard deviation of the forecast of the quality.
    """

    model: str
    budgets: tuple[str, ...]
    quality: tuple[float, ...]
    tokens: tuple[float, ...]
    cost: tuple[float, ...]
    spread: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; a number that is not known is None."""
        return plain(self)


class PathStep(msgspec.Struct, frozen=True):
    """One arm of the exact path over all trade-offs: the best arm from `lam` down to the next step's `lam`.

    arm: the best arm there.
    lam: the lambda (with the path's cost scale) from which this arm is better than the cheaper one before it; 1 for the
        first.
    value: the same threshold in US dollars: what a correct answer must be worth for this arm to be the best.
    quality: forecast, in [0, 1].
    cost: US dollars per request.
    """

    if TYPE_CHECKING:
        arm: Arm
    else:
        arm: str  # see `ArmField`
    lam: float
    value: float
    quality: float
    cost: float

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "arm", self.arm)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        return plain(self)


class Enforcement(msgspec.Struct, frozen=True, kw_only=True):
    """What a request must carry so that an arm answers as it did when its curve was measured. None: nothing to send.

    max_tokens: the cap on output tokens, thinking included.
    instruction: the text to add after the user's text, or after the system prompt where `place` is `system`.
    place: where the instruction goes.
    effort: the value of `reasoning_effort`.
    thinking_tokens: the maximum number of thinking tokens; 0 switches thinking off.
    closing: where the answer was cut off at max_tokens, continue it with this text and take what follows (prefix
        sharing).
    """

    max_tokens: int | None = None
    instruction: str | None = None
    place: Literal["user", "system"] = "user"
    effort: str | None = None
    thinking_tokens: int | None = None
    closing: str | None = None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What a router chose for one request, and why. msgspec can encode it; `json` can encode its `to_dict()`.

    arm: the chosen model and budget.
    model: the arm's model.
    budget: the arm's budget.
    quality: the forecast quality of the chosen arm, in [0, 1].
    tokens: its forecast output tokens.
    cost: its forecast US dollars for the whole request.
    spread: the standard deviation of the forecast of the quality.
    max_tokens: the output length to enforce, where the budget or the policy sets one; it includes room for the answer
        beside thinking.
    enforcement: everything that a request must carry: `max_tokens`, an instruction, an effort, thinking tokens.
    fallbacks: the next best arms, one per model, to try in this order if the chosen model fails.
    reason: one or two sentences for a person.
    met: whether the policy's limit (a minimum quality) is forecast to be met.
    familiar: false where the query is unlike the training data. Quality and tokens are then the arms' averages, and the
        choice is a safe one.
    """

    if TYPE_CHECKING:
        arm: Arm
    else:
        arm: str  # see `ArmField`
    model: str
    budget: str
    quality: float
    tokens: float
    cost: float
    spread: float
    max_tokens: int | None
    if TYPE_CHECKING:
        fallbacks: tuple[Arm, ...]
    else:
        fallbacks: tuple[str, ...]
    reason: str
    met: bool = True
    familiar: bool = True
    enforcement: Enforcement = Enforcement()

    def __post_init__(self) -> None:
        for name in ("arm", "fallbacks"):
            msgspec.structs.force_setattr(self, name, getattr(self, name))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; a number that is not known is None."""
        return plain(self)


for _kind, _name in ((PathStep, "arm"), (Decision, "arm"), (Decision, "fallbacks")):
    ArmField(_kind, _name)


class Choices(msgspec.Struct, frozen=True, eq=False):
    """Decisions of many requests as arrays of length n.

    arm: index into the router's arms.
    budget_tokens: the budget where it is a number (also between two anchors), else NaN.
    quality: the forecast quality of the chosen arm, in [0, 1].
    tokens: its forecast output tokens.
    cost: its forecast US dollars per request.
    met: as in `Decision`.
    familiar: as in `Decision`.
    """

    arm: IntArray
    quality: FloatArray
    tokens: FloatArray
    cost: FloatArray
    budget_tokens: FloatArray
    met: BoolArray
    familiar: BoolArray

    @classmethod
    def join(cls, parts: Sequence[Choices]) -> Choices:
        """Return the decisions of several batches as one."""
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in cls.__struct_fields__))

    def take(self, rows: IntArray) -> Choices:
        """Return the decisions of some requests."""
        return Choices(*(getattr(self, name)[rows] for name in self.__struct_fields__))

    def __len__(self) -> int:
        return len(self.arm)

    def __repr__(self) -> str:
        return f"Choices({len(self)} queries, {len(set(self.arm.tolist()))} different arms)"
