"""Providers that need no `[provider.NAME]` in the pool file: their OpenAI-compatible endpoints, as their documentation
gives them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from r2router.errors import ConfigError
from r2router.text import listing, suggest
from r2router.types import Model, Provider

KNOWN: dict[str, Provider] = {
    "openai": Provider(base_url="https://api.openai.com/v1", key="OPENAI_API_KEY"),
    "openrouter": Provider(base_url="https://openrouter.ai/api/v1", key="OPENROUTER_API_KEY", dialect="openrouter"),
    "anthropic": Provider(base_url="https://api.anthropic.com/v1", key="ANTHROPIC_API_KEY", dialect="anthropic"),
    "gemini": Provider(
        base_url="https://generativelanguage.googleapis.com/v1beta/openai", key="GEMINI_API_KEY", dialect="gemini"
    ),
    "google": Provider(
        base_url="https://generativelanguage.googleapis.com/v1beta/openai", key="GEMINI_API_KEY", dialect="gemini"
    ),
    "x-ai": Provider(base_url="https://api.x.ai/v1", key="XAI_API_KEY"),
    "mistral": Provider(base_url="https://api.mistral.ai/v1", key="MISTRAL_API_KEY"),
    "deepseek": Provider(base_url="https://api.deepseek.com/beta", key="DEEPSEEK_API_KEY", dialect="deepseek"),
    "qwen": Provider(
        base_url="https://dashscope-intl.aliyuncs.com/compatible-mode/v1", key="DASHSCOPE_API_KEY", dialect="qwen"
    ),
    "together": Provider(base_url="https://api.together.xyz/v1", key="TOGETHER_API_KEY"),
    "groq": Provider(base_url="https://api.groq.com/openai/v1", key="GROQ_API_KEY"),
    "fireworks": Provider(base_url="https://api.fireworks.ai/inference/v1", key="FIREWORKS_API_KEY"),
    "cohere": Provider(base_url="https://api.cohere.ai/compatibility/v1", key="COHERE_API_KEY"),
    "moonshotai": Provider(base_url="https://api.moonshot.ai/v1", key="MOONSHOT_API_KEY"),
    "z-ai": Provider(base_url="https://api.z.ai/api/paas/v4", key="ZAI_API_KEY"),
    "minimax": Provider(base_url="https://api.minimax.io/v1", key="MINIMAX_API_KEY"),
    "vllm": Provider(base_url="http://127.0.0.1:8000/v1", dialect="vllm", concurrency=64),
    "sglang": Provider(base_url="http://127.0.0.1:30000/v1", dialect="sglang", concurrency=64),
    "llama.cpp": Provider(base_url="http://127.0.0.1:8080/v1", dialect="llama.cpp", concurrency=4),
    "ollama": Provider(base_url="http://127.0.0.1:11434/v1", concurrency=4),
}

KEYS: dict[str, tuple[str, ...]] = {
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "google": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "x-ai": ("XAI_API_KEY",),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "mistral": ("MISTRAL_API_KEY",),
    "cohere": ("COHERE_API_KEY", "CO_API_KEY"),
    "qwen": ("DASHSCOPE_API_KEY",),
    "moonshotai": ("MOONSHOT_API_KEY",),
    "z-ai": ("ZAI_API_KEY", "ZHIPUAI_API_KEY"),
    "minimax": ("MINIMAX_API_KEY",),
    "together": ("TOGETHER_API_KEY",),
    "groq": ("GROQ_API_KEY",),
    "fireworks": ("FIREWORKS_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY",),
}
"""The environment variables in which people keep the key of a provider."""

EVERYWHERE = "openrouter"
"""Whoever has a key there can call (nearly) every model."""


def providers_with_keys() -> list[str]:
    """Return the providers whose keys are in the environment. OpenAI's does not count where `OPENAI_BASE_URL` names
    another host.
    """
    found = [
        name for name, variables in KEYS.items() if any(os.environ.get(variable, "").strip() for variable in variables)
    ]
    elsewhere = os.environ.get("OPENAI_BASE_URL", "").strip()
    return [name for name in found if name != "openai" or not elsewhere or "api.openai.com" in elsewhere]


def providers_of(models: Iterable[Model], given: Mapping[str, Provider]) -> dict[str, Provider]:
    """Return the providers that some models are called at: those of the pool file first, then the known ones. Raises
    `ConfigError`.
    """
    found: dict[str, Provider] = {}
    for model in models:
        name = model.provider
        provider = given.get(name) or KNOWN.get(name)
        if provider is None:
            known = [*given, *KNOWN]
            which = f"provider {name!r}" if name else "no provider"
            raise ConfigError(
                f"model {model.id!r} has {which}{suggest(name, known)}: add [provider.{name or 'NAME'}] with its"
                f" base_url to the pool, or name one of {listing(known, 12)}"
            )
        found[name] = provider
    return found
