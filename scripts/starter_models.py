"""The models that the starter router may choose: where each is sold, under which names, and what it can do.

One line per model: our id | provider | its name there | its name at OpenRouter | capabilities (t tools, v vision, j
JSON). Not listed, and so only teachers: models that nobody sells any more or that their provider has announced to
switch off (claude-2 and 3.x, gemini-1.x and 2.0, gpt-4-0314 and 0613, gpt-4.5-preview, o1-preview and o1-mini, grok-2,
experimental and dated previews), prompting methods that are no budget of an API (cot, few_shot, direct, ...), and
models whose hidden thinking nobody counted, as then their cost is not known.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence

import msgspec

from r2router.pool.pool import Pool
from r2router.types import Budget, Model, Prices

MODELS = """
gpt-3.5-turbo | openai | gpt-3.5-turbo | openai/gpt-3.5-turbo | tj
gpt-4-turbo | openai | gpt-4-turbo | openai/gpt-4-turbo | tvj
gpt-4o | openai | gpt-4o | openai/gpt-4o | tvj
gpt-4o-2024-05-13 | openai | gpt-4o-2024-05-13 | openai/gpt-4o-2024-05-13 | tvj
gpt-4o-mini | openai | gpt-4o-mini | openai/gpt-4o-mini | tvj
gpt-4.1 | openai | gpt-4.1 | openai/gpt-4.1 | tvj
gpt-4.1-mini | openai | gpt-4.1-mini | openai/gpt-4.1-mini | tvj
gpt-4.1-nano | openai | gpt-4.1-nano | openai/gpt-4.1-nano | tvj
gpt-5 | openai | gpt-5 | openai/gpt-5 | tvj
gpt-5-mini | openai | gpt-5-mini | openai/gpt-5-mini | tvj
gpt-5-nano | openai | gpt-5-nano | openai/gpt-5-nano | tvj
gpt-5.1 | openai | gpt-5.1 | openai/gpt-5.1 | tvj
gpt-5.2 | openai | gpt-5.2 | openai/gpt-5.2 | tvj
gpt-5.4 | openai | gpt-5.4 | openai/gpt-5.4 | tvj
gpt-5.4-mini | openai | gpt-5.4-mini | openai/gpt-5.4-mini | tvj
gpt-5.4-nano | openai | gpt-5.4-nano | openai/gpt-5.4-nano | tvj
gpt-5.5 | openai | gpt-5.5 | openai/gpt-5.5 | tvj
gpt-5.5-pro | openai | gpt-5.5-pro | openai/gpt-5.5-pro | tvj
o3 | openai | o3 | openai/o3 | tvj
o3-mini | openai | o3-mini | openai/o3-mini | tj
o4-mini | openai | o4-mini | openai/o4-mini | tvj
gpt-oss-120b | openrouter | openai/gpt-oss-120b | openai/gpt-oss-120b | tj
gpt-oss-20b | openrouter | openai/gpt-oss-20b | openai/gpt-oss-20b | tj
claude-haiku-4-5 | anthropic | claude-haiku-4-5 | anthropic/claude-haiku-4.5 | tv
claude-sonnet-4 | anthropic | claude-sonnet-4-0 | anthropic/claude-sonnet-4 | tv
claude-sonnet-4-5 | anthropic | claude-sonnet-4-5 | anthropic/claude-sonnet-4.5 | tv
claude-sonnet-4-6 | anthropic | claude-sonnet-4-6 | anthropic/claude-sonnet-4.6 | tv
claude-sonnet-5 | anthropic | claude-sonnet-5 | anthropic/claude-sonnet-5 | tv
claude-opus-4 | anthropic | claude-opus-4-0 | anthropic/claude-opus-4 | tv
claude-opus-4-1 | anthropic | claude-opus-4-1 | anthropic/claude-opus-4.1 | tv
claude-opus-4-5 | anthropic | claude-opus-4-5 | anthropic/claude-opus-4.5 | tv
claude-opus-4-6 | anthropic | claude-opus-4-6 | anthropic/claude-opus-4.6 | tv
claude-opus-4-7 | anthropic | claude-opus-4-7 | anthropic/claude-opus-4.7 | tv
claude-opus-4-8 | anthropic | claude-opus-4-8 | anthropic/claude-opus-4.8 | tv
gemini-2.5-flash | google | gemini-2.5-flash | google/gemini-2.5-flash | tvj
gemini-2.5-flash-lite | google | gemini-2.5-flash-lite | google/gemini-2.5-flash-lite | tvj
gemini-2.5-pro | google | gemini-2.5-pro | google/gemini-2.5-pro | tvj
gemini-3-flash-preview | google | gemini-3-flash-preview | google/gemini-3-flash-preview | tvj
gemini-3.1-pro-preview | google | gemini-3.1-pro-preview | google/gemini-3.1-pro-preview | tvj
gemma-2-9b-it | openrouter | google/gemma-2-9b-it | google/gemma-2-9b-it |
gemma-2-27b-it | openrouter | google/gemma-2-27b-it | google/gemma-2-27b-it |
gemma-3-4b-it | openrouter | google/gemma-3-4b-it | google/gemma-3-4b-it | vj
gemma-3-12b-it | openrouter | google/gemma-3-12b-it | google/gemma-3-12b-it | vj
gemma-3-27b-it | openrouter | google/gemma-3-27b-it | google/gemma-3-27b-it | tvj
gemma-3n-e4b-it | openrouter | google/gemma-3n-e4b-it | google/gemma-3n-e4b-it |
gemma-4-26b-a4b-it | openrouter | google/gemma-4-26b-a4b-it | google/gemma-4-26b-a4b-it | tvj
gemma-4-31b-it | openrouter | google/gemma-4-31b-it | google/gemma-4-31b-it | tvj
grok-3 | x-ai | grok-3 | x-ai/grok-3-beta | tj
grok-3-mini | x-ai | grok-3-mini | x-ai/grok-3-mini-beta | tj
grok-4 | x-ai | grok-4-0709 | x-ai/grok-4 | tvj
deepseek-v3 | openrouter | deepseek/deepseek-chat | deepseek/deepseek-chat | tj
deepseek-v3.1 | openrouter | deepseek/deepseek-chat-v3.1 | deepseek/deepseek-chat-v3.1 | tj
deepseek-v3.2 | deepseek | deepseek-v3.2 | deepseek/deepseek-v3.2 | tj
deepseek-v4-flash | deepseek | deepseek-v4-flash | deepseek/deepseek-v4-flash | tj
deepseek-v4-pro | deepseek | deepseek-v4-pro | deepseek/deepseek-v4-pro | tj
deepseek-r1 | openrouter | deepseek/deepseek-r1 | deepseek/deepseek-r1 | j
deepseek-r1-0528 | openrouter | deepseek/deepseek-r1-0528 | deepseek/deepseek-r1-0528 | tj
mistral-7b-instruct | openrouter | mistralai/mistral-7b-instruct | mistralai/mistral-7b-instruct |
mistral-nemo-instruct-2407 | mistral | mistral-nemo | mistralai/mistral-nemo | tj
mistral-small-3 | mistral | mistral-small-24b-instruct-2501 | mistralai/mistral-small-24b-instruct-2501 | tj
mistral-small-3.1 | mistral | mistral-small-3.1-24b-instruct | mistralai/mistral-small-3.1-24b-instruct | tvj
mistral-medium-3 | openrouter | mistralai/mistral-medium-3 | mistralai/mistral-medium-3 | tvj
mistral-medium-3.1 | openrouter | mistralai/mistral-medium-3.1 | mistralai/mistral-medium-3.1 | tvj
mistral-large-2411 | mistral | mistral-large | mistralai/mistral-large | tj
ministral-3b | mistral | ministral-3b | mistralai/ministral-3b | tj
ministral-8b | mistral | ministral-8b | mistralai/ministral-8b | tj
mixtral-8x7b-instruct | openrouter | mistralai/mixtral-8x7b-instruct | mistralai/mixtral-8x7b-instruct |
mixtral-8x22b-instruct | openrouter | mistralai/mixtral-8x22b-instruct | mistralai/mixtral-8x22b-instruct | t
command-a | cohere | command-a | cohere/command-a | tj
command-r | cohere | command-r | cohere/command-r | t
command-r-08-2024 | cohere | command-r | cohere/command-r-08-2024 | t
command-r-plus | cohere | command-r-plus | cohere/command-r-plus | t
command-r-plus-08-2024 | cohere | command-r-plus | cohere/command-r-plus-08-2024 | t
command-r7b | cohere | command-r7b | cohere/command-r7b-12-2024 | t
qwen2.5-7b-instruct | openrouter | qwen/qwen-2.5-7b-instruct | qwen/qwen-2.5-7b-instruct | t
qwen2.5-72b-instruct | openrouter | qwen/qwen-2.5-72b-instruct | qwen/qwen-2.5-72b-instruct | tj
qwen-turbo | openrouter | qwen/qwen-turbo | qwen/qwen-turbo | tj
qwen-plus | openrouter | qwen/qwen-plus | qwen/qwen-plus | tj
qwen-max | openrouter | qwen/qwen-max | qwen/qwen-max | tj
qwen3-max | openrouter | qwen/qwen3-max | qwen/qwen3-max | tj
qwen3-8b | openrouter | qwen/qwen3-8b | qwen/qwen3-8b | tj
qwen3-32b | openrouter | qwen/qwen3-32b | qwen/qwen3-32b | tj
qwen3-30b-a3b | openrouter | qwen/qwen3-30b-a3b | qwen/qwen3-30b-a3b | tj
qwen3-235b-a22b | openrouter | qwen/qwen3-235b-a22b | qwen/qwen3-235b-a22b | tj
qwen3-235b-a22b-instruct-2507 | openrouter | qwen/qwen3-235b-a22b-2507 | qwen/qwen3-235b-a22b-2507 | tj
qwen3-235b-a22b-thinking-2507 | openrouter | qwen/qwen3-235b-a22b-thinking-2507 | qwen/qwen3-235b-a22b-thinking-2507 | tj
qwen3-next-80b-a3b | openrouter | qwen/qwen3-next-80b-a3b-instruct | qwen/qwen3-next-80b-a3b-instruct | tj
llama-3-8b-instruct | openrouter | meta-llama/llama-3-8b-instruct | meta-llama/llama-3-8b-instruct |
llama-3-70b-instruct | openrouter | meta-llama/llama-3-70b-instruct | meta-llama/llama-3-70b-instruct |
llama-3.1-8b-instruct | openrouter | meta-llama/llama-3.1-8b-instruct | meta-llama/llama-3.1-8b-instruct | tj
llama-3.1-70b-instruct | openrouter | meta-llama/llama-3.1-70b-instruct | meta-llama/llama-3.1-70b-instruct | tj
llama-3.1-405b-instruct | openrouter | meta-llama/llama-3.1-405b-instruct | meta-llama/llama-3.1-405b-instruct | tj
llama-3.2-3b-instruct | openrouter | meta-llama/llama-3.2-3b-instruct | meta-llama/llama-3.2-3b-instruct |
llama-3.3-70b-instruct | openrouter | meta-llama/llama-3.3-70b-instruct | meta-llama/llama-3.3-70b-instruct | tj
llama-4-scout | openrouter | meta-llama/llama-4-scout | meta-llama/llama-4-scout | tvj
llama-4-maverick | openrouter | meta-llama/llama-4-maverick | meta-llama/llama-4-maverick | tvj
kimi-k2-0905 | openrouter | moonshotai/kimi-k2-0905 | moonshotai/kimi-k2-0905 | tj
kimi-k2.5 | openrouter | moonshotai/kimi-k2.5 | moonshotai/kimi-k2.5 | tvj
kimi-k2.6 | moonshotai | kimi-k2.6 | moonshotai/kimi-k2.6 | tvj
glm-4.7 | openrouter | z-ai/glm-4.7 | z-ai/glm-4.7 | tj
glm-5 | openrouter | z-ai/glm-5 | z-ai/glm-5 | tj
glm-5.1 | openrouter | z-ai/glm-5.1 | z-ai/glm-5.1 | tj
llama-3.1-nemotron-70b-instruct | openrouter | nvidia/llama-3.1-nemotron-70b-instruct | nvidia/llama-3.1-nemotron-70b-instruct | t
hermes-3-llama-3.1-405b | openrouter | nousresearch/hermes-3-llama-3.1-405b | nousresearch/hermes-3-llama-3.1-405b |
hermes-4-405b | openrouter | nousresearch/hermes-4-405b | nousresearch/hermes-4-405b | j
nova-micro | openrouter | amazon/nova-micro-v1 | amazon/nova-micro-v1 | t
nova-pro | openrouter | amazon/nova-pro-v1 | amazon/nova-pro-v1 | tv
nova-premier | openrouter | amazon/nova-premier-v1 | amazon/nova-premier-v1 | tv
phi-4 | openrouter | microsoft/phi-4 | microsoft/phi-4 | j
jamba-large | openrouter | ai21/jamba-large-1.7 | ai21/jamba-large-1.7 | tj
ling-2.6-flash | openrouter | inclusionai/ling-2.6-flash | inclusionai/ling-2.6-flash | t
"""

_CAPABILITIES = {"t": "tools", "v": "vision", "j": "json"}
_EFFORTS = frozenset({"minimal", "low", "medium", "high", "xhigh"})
# what an API does when nothing is asked; Claude does not think unless it is told to
_NOT_ASKED = frozenset({"default", "none"})


def starter_pool(arms: Sequence[str]) -> tuple[Pool, str]:
    """(the pool of those of the arms whose models are for sale, with prices, context and controls, what it is from).

    arms: those with enough evidence. Raises SystemExit for a model that genai-prices does not know.
    """
    from importlib.metadata import version

    from genai_prices import data_snapshot

    models = []
    for line in MODELS.strip().splitlines():
        name, provider, upstream, elsewhere, letters = (part.strip() for part in line.split("|"))
        budgets = [arm.partition("@")[2] for arm in arms if arm.partition("@")[0] == name]
        found = [
            budget
            for word in budgets
            if (budget := _budget(word, thinks=provider in {"anthropic", "google"})) is not None
        ]
        if not found:
            continue
        prices, context = _listed(upstream, provider, elsewhere)
        models.append(
            Model(
                id=name,
                budgets=tuple(sorted(found, key=_order)),
                provider=provider,
                upstream=upstream,
                openrouter=elsewhere,
                usd_per_million=prices,
                capabilities=frozenset(_CAPABILITIES[letter] for letter in letters),
                context=context,
            )
        )
    data = data_snapshot.get_snapshot()
    return Pool(models), f"genai-prices {version('genai-prices')} of {data.timestamp:%Y-%m-%d}"


def _order(budget: Budget) -> tuple[int, float]:
    from r2router.pool.pool import budget_order

    return budget_order(budget)


def _budget(word: str, *, thinks: bool) -> Budget | None:
    """A measured budget as an API can be asked for it; None where it cannot."""
    if word in _EFFORTS:
        return Budget.of(word, ("reasoning_effort",))
    if word in _NOT_ASKED:
        return Budget.of(word)
    return Budget.of(word, ("thinking_tokens",)) if thinks and word.isdigit() else None


def _listed(upstream: str, provider: str, elsewhere: str) -> tuple[Prices, int | None]:
    """(list prices, context) at the provider; context at OpenRouter where the provider's is not listed."""
    from r2router.pool.prices import genai_prices

    model = Model(id=upstream, upstream=upstream, provider=provider, budgets=(Budget.of("default"),))
    prices = genai_prices([model]).get(upstream)
    if prices is None:
        raise SystemExit(f"{upstream} at {provider}: not in genai-prices")
    return msgspec.structs.replace(prices), _context(upstream, provider, elsewhere)


def _context(upstream: str, provider: str, elsewhere: str) -> int | None:
    """Tokens of context at the provider, else at OpenRouter, else the median of what other sellers list (some cut it
    short).
    """
    from genai_prices import Usage, calc_price, data_snapshot

    for name, seller in ((upstream, provider), (elsewhere, "openrouter")):
        try:
            if found := calc_price(Usage(input_tokens=1), name, provider_id=seller).model.context_window:
                return int(found)
        except LookupError:
            continue
    names = {_bare(upstream), _bare(elsewhere)}
    others = [
        model
        for seller in data_snapshot.get_snapshot().providers
        for model in seller.models
        if _bare(model.id) in names
    ]
    listed = [int(model.context_window) for model in others if model.context_window]
    return statistics.median_low(listed) if listed else None


def _bare(name: str) -> str:
    """A model's name without its maker and the signs between its parts."""
    return re.sub(r"[^a-z0-9]+", "-", name.casefold().rpartition("/")[2].partition(":")[0])
