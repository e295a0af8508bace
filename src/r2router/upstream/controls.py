"""How a budget is put into a request: words, a hard cut, an effort, an allowance for thinking, or a cut of one long
answer.

The request fields are those of each provider's own documentation; `Provider.dialect` says which are understood.
"""

from __future__ import annotations

import re
from typing import Any, Literal, Protocol, get_args
from urllib.parse import urlsplit

import msgspec

from r2router.errors import ConfigError
from r2router.types import Budget, Control, Dialect, Enforcement, Model, Provider
from r2router.upstream.reply import Request

WORDINGS: dict[str, str] = {
    "paper": "Use at most {k} tokens.",  # arXiv 2602.02823
    "words": "Answer in at most {words} words.",
    "limit": "Your answer is cut off after {k} tokens: be sure to state the answer before that.",
    "concise": "Be concise: think in as few words as you can, use at most {k} tokens, and end with the answer.",
}
"""Length instructions by name. k: the budget in tokens; words: three quarters of it, about as many English words."""

CLOSINGS: dict[str, str] = {
    "final-answer": "\nTherefore, the final answer is",
    "answer": "\n\nAnswer:",
    "boxed": "\n\nThe final answer is \\boxed{",
}
"""What closes an answer that was cut, by name; the model goes on from there."""

SAFETY_CAP = 16_384
"""Output tokens after which an answer is cut off that no budget caps, where the pool does not give the model's
`max_output_tokens`.
"""

_NO_EFFORT: frozenset[Dialect] = frozenset({"anthropic", "qwen", "llama.cpp"})  # they ignore the field without a word
_NO_PREFILL: frozenset[Dialect] = frozenset({"gemini", "qwen"})
_NO_PIECES: frozenset[Dialect] = frozenset({"anthropic"})  # several tokens per piece, and log-probabilities are ignored
_CONTINUE: frozenset[Dialect] = frozenset({"vllm", "sglang"})


class PromptText(Protocol):
    """What is asked: the user's text, and a system prompt where there is one."""

    @property
    def text(self) -> str: ...

    @property
    def system(self) -> str | None: ...


class Controls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The choices behind the knobs; all of them are part of what identifies a call.

    wording, place: of the length instruction.
    closing, answer_tokens: of the forced answer under prefix sharing.
    temperature: of the sampling; None leaves it to the endpoint, and reasoning controls always do. Prefix sharing is
        greedy.
    answer_room: tokens for the answer beside an allowance for thinking, where `max_tokens` is asked for too.
    """

    wording: str = "paper"
    place: Literal["user", "system"] = "user"
    closing: str = "final-answer"
    answer_tokens: int = 10
    temperature: float | None = 0.0
    answer_room: int = 4096

    def __post_init__(self) -> None:
        for what, name, known in (("wording", self.wording, WORDINGS), ("closing", self.closing, CLOSINGS)):
            if name not in known:
                raise ConfigError(f"{what} {name!r} is not known; there are: {', '.join(known)}")
        if self.temperature is not None and not 0 <= self.temperature <= 2:
            raise ConfigError(
                f"temperature {self.temperature:g} is not between 0 and 2; none leaves it to the endpoint"
            )
        if self.answer_tokens < 1 or self.answer_room < 1:
            raise ConfigError("answer_tokens and answer_room are numbers of tokens above 0")

    def is_safety_cap(self, budget: Budget) -> bool:
        """Return whether the budget itself sets no cap."""
        return budget.tokens is None or not {"max_tokens", "prefix_sharing"} & set(budget.control)

    def cap(self, model: Model, budget: Budget) -> int:
        """Return the `max_tokens` of a call, thinking included: the budget's, or a safety cap where it has none, so
        that no answer costs more.
        """
        thinking = (budget.tokens or 0) if "thinking_tokens" in budget.control else 0
        if self.is_safety_cap(budget):
            return model.max_output_tokens or thinking + SAFETY_CAP
        return max(1, thinking + self.answer_room if "thinking_tokens" in budget.control else budget.tokens or 0)

    def enforcement(self, model: Model, budget: Budget) -> Enforcement:
        """Return what enforces a budget, whoever sends the request: the one rule for collecting and for decisions."""
        knobs, tokens = budget.control, budget.tokens
        words = None
        if "instruction" in knobs and tokens is not None:
            words = WORDINGS[self.wording].format(k=tokens, words=max(1, round(0.75 * tokens)))
        return Enforcement(
            max_tokens=self.cap(model, budget),
            instruction=words,
            place=self.place if words else "user",
            effort=budget.id if "reasoning_effort" in knobs else None,
            thinking_tokens=tokens if "thinking_tokens" in knobs else None,
            closing=CLOSINGS[self.closing] if "prefix_sharing" in knobs else None,
        )

    def signature(self, model: Model, budget: Budget) -> str:
        """Return the whole way in which a budget is enforced, in one line: part of the key of a call."""
        knobs = []
        for control in budget.control:
            match control:
                case "instruction":
                    knobs.append(f"instruction:{self.wording}:{self.place}")
                case "prefix_sharing":
                    knobs.append(f"prefix_sharing:{self.closing}:{self.answer_tokens}")
                case "thinking_tokens":
                    knobs.append(f"thinking_tokens:{self.answer_room}")
                case _:
                    knobs.append(control)
        cap = f";cap={self.cap(model, budget)}" if self.is_safety_cap(budget) else ""
        return f"{'+'.join(knobs) or 'none'};temperature={_temperature(self, budget)}{cap}"

    def check(self, model: Model, provider: Provider) -> None:
        """Raise `ConfigError` where an endpoint would ignore a control without a word, or a budget does not fit it."""
        for budget in model.budgets:
            arm, knobs = f"{model.id}@{budget.id}", budget.control
            if "prefix_sharing" in knobs and len(knobs) > 1:
                raise ConfigError(
                    f"{arm}: prefix_sharing cannot be combined with other controls; give the model one entry with it"
                    " and one without"
                )
            if budget.tokens is None and ({"prefix_sharing", "thinking_tokens"} & set(knobs)):
                raise ConfigError(f"{arm}: {knobs[0]} needs a budget that is a number of tokens")
            if "reasoning_effort" in knobs and provider.dialect in _NO_EFFORT:
                raise ConfigError(
                    f"{arm}: {provider.dialect} endpoints ignore reasoning_effort; control it by thinking_tokens"
                )
            if "thinking_tokens" in knobs and (budget.tokens or 0) >= self.cap(model, budget):
                raise ConfigError(
                    f"{arm}: max_output_tokens ({model.max_output_tokens}) leaves no room for an answer behind the"
                    " thinking"
                )
            if "thinking_tokens" in knobs:
                self._check_thinking(arm, budget.tokens or 0, provider)
            if "prefix_sharing" in knobs and provider.dialect in _NO_PIECES:
                raise ConfigError(
                    f"{arm}: this endpoint does not report single tokens, which prefix_sharing needs; use instruction"
                    " and max_tokens"
                )
            if "prefix_sharing" in knobs and (provider.dialect in _NO_PREFILL or _is_openai(provider)):
                raise ConfigError(
                    f"{arm}: this endpoint cannot continue an answer, which prefix_sharing needs; use instruction and"
                    " max_tokens"
                )

    def _check_thinking(self, arm: str, tokens: int, provider: Provider) -> None:
        if provider.dialect == "openai":
            raise ConfigError(
                f"{arm}: OpenAI-style endpoints have no field for thinking tokens; set the provider's dialect, or use"
                " efforts"
            )
        if provider.dialect == "deepseek" and tokens:
            raise ConfigError(
                f"{arm}: DeepSeek thinks or does not; only a budget of 0 thinking tokens can be asked for"
            )
        if provider.dialect == "anthropic" and 0 < tokens < 1024:
            raise ConfigError(f"{arm}: Anthropic's minimum allowance for thinking is 1,024 tokens")

    # -- requests -----------------------------------------------------------------------------------------------

    def request(self, model: Model, provider: Provider, query: PromptText, budget: Budget) -> Request:
        """Return the call of one arm on one query; not for prefix sharing."""
        sent = self.enforcement(model, budget)
        body: dict[str, Any] = {"model": model.upstream or model.id, "messages": _instructed(query, sent)}
        if sent.effort is not None:
            body |= (
                {"reasoning": {"effort": sent.effort}}
                if provider.dialect == "openrouter"
                else {"reasoning_effort": sent.effort}
            )
        if sent.thinking_tokens is not None:
            # which lie below the cap, so that thinking cannot eat it all
            body |= thinking_fields(provider.dialect, sent.thinking_tokens)
        body[cap_field(provider)] = sent.max_tokens
        if (temperature := _temperature(self, budget)) is not None:
            body["temperature"] = temperature
        return Request(provider=model.provider, body=body)

    def chain(self, model: Model, provider: Provider, query: PromptText, tokens: int) -> Request:
        """Return the one long answer that all budgets up to `tokens` are cut from."""
        body: dict[str, Any] = {
            "model": model.upstream or model.id,
            "messages": _chat(query.text, query.system),
            "temperature": 0.0,
        }
        body[cap_field(provider)] = max(1, tokens)
        # that one streams token by token, and sorts its vocabulary for every log-probability
        if provider.dialect != "llama.cpp":
            body |= {"logprobs": True, "top_logprobs": 0}
        return Request(provider=model.provider, body=body)

    def forced(self, model: Model, provider: Provider, query: PromptText, cut: str) -> Request:
        """Return the short answer behind a cut."""
        said, fields = continuing(provider, cut + CLOSINGS[self.closing])
        body: dict[str, Any] = {
            "model": model.upstream or model.id,
            "temperature": 0.0,
            cap_field(provider): self.answer_tokens,
        }
        return Request(
            provider=model.provider, body=body | fields | {"messages": [*_chat(query.text, query.system), said]}
        )


class Collected(msgspec.Struct, frozen=True):
    """How the outcomes of an arm were collected. cap: the safety cap, where one was recorded."""

    controls: Controls
    knobs: tuple[Control, ...]
    cap: int | None = None

    @classmethod
    def parse(cls, signature: str) -> Collected | None:
        """Back from `Controls.signature`; None where it says nothing that is understood."""
        found = _SIGNATURE.fullmatch(signature)
        if found is None:
            return None
        choices: dict[str, Any] = {
            "temperature": None if found["temperature"] == "None" else float(found["temperature"])
        }
        knobs: list[Control] = []
        for part in [] if found["knobs"] == "none" else found["knobs"].split("+"):
            name, *words = part.split(":")
            names, known = _CHOICES.get(name, ()), [control for control in _CONTROLS if control == name]
            if not known or len(words) != len(names):
                return None
            knobs += known
            choices |= {of: int(word) if word.isdigit() else word for of, word in zip(names, words, strict=True)}
        try:
            return cls(msgspec.convert(choices, Controls), tuple(knobs), int(found["cap"]) if found["cap"] else None)
        except (msgspec.ValidationError, ConfigError):
            return None

    def enforcement(self, model: Model, budget: Budget) -> Enforcement:
        """Return the enforcement of a budget, as `Controls.enforcement`; without a cap where neither the budget nor the
        record has one.
        """
        own = msgspec.structs.replace(budget, control=self.knobs)
        found = self.controls.enforcement(model, own)
        return msgspec.structs.replace(found, max_tokens=self.cap) if self.controls.is_safety_cap(own) else found


_CONTROLS: tuple[Control, ...] = get_args(Control)
_SIGNATURE = re.compile(
    r"(?P<knobs>[a-z0-9_:+-]{1,200});temperature=(?P<temperature>None|\d(\.\d{1,17})?)(;cap=(?P<cap>\d{1,9}))?"
)
_CHOICES = {
    "instruction": ("wording", "place"),
    "prefix_sharing": ("closing", "answer_tokens"),
    "thinking_tokens": ("answer_room",),
}


def _instructed(query: PromptText, sent: Enforcement) -> list[dict[str, Any]]:
    words = sent.instruction
    if words is None:
        return _chat(query.text, query.system)
    if sent.place == "user":
        return _chat(f"{query.text}\n\n{words}", query.system)
    return _chat(query.text, f"{query.system}\n\n{words}" if query.system else words)


def thinking_fields(dialect: Dialect, tokens: int) -> dict[str, Any]:
    """Return the request fields that allow so many tokens of thinking; 0 switches it off."""
    match dialect:
        case "openrouter":
            return {"reasoning": {"max_tokens": tokens} if tokens else {"effort": "none"}}
        case "anthropic":
            return {"thinking": {"type": "enabled", "budget_tokens": tokens} if tokens else {"type": "disabled"}}
        case "gemini":
            return {"extra_body": {"google": {"thinking_config": {"thinking_budget": tokens}}}}
        case "deepseek":
            return {"thinking": {"type": "disabled"}}
        case "qwen":
            return {"enable_thinking": True, "thinking_budget": tokens} if tokens else {"enable_thinking": False}
        case "sglang":
            if not tokens:
                return {"chat_template_kwargs": {"enable_thinking": False}}
            # the template's own variable is a hint; what --enable-strict-thinking enforces is read from custom_params
            allowance = {"thinking_budget": tokens}
            return {"chat_template_kwargs": {"enable_thinking": True, **allowance}, "custom_params": allowance}
        case "vllm" | "llama.cpp":
            field = "thinking_token_budget" if dialect == "vllm" else "thinking_budget_tokens"
            switch = {"chat_template_kwargs": {"enable_thinking": tokens > 0}}
            return {**switch, field: tokens} if tokens else switch
        case _:
            raise ConfigError(f"{dialect} endpoints have no field for thinking tokens")


def continues(provider: Provider) -> bool:
    """Return whether an endpoint is known to go on with an answer that has begun."""
    return provider.dialect in _CONTINUE or provider.dialect in ("deepseek", "llama.cpp")


def continuing(provider: Provider, said: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (the last message, other request fields) with which an endpoint goes on with an answer that has begun."""
    message: dict[str, Any] = {"role": "assistant", "content": said}
    if provider.dialect == "deepseek":
        message["prefix"] = True
    return message, (
        {
            "continue_final_message": True,
            "add_generation_prompt": False,
        }
        if provider.dialect in _CONTINUE
        else {}
    )


def thinking_within(thinking: int, max_tokens: int, room: int) -> int:
    """Return the allowance for thinking under a cap that is lower than the arm's own: the answer keeps its room, but
    thinking takes up to half.
    """
    return min(thinking, max(max_tokens - room, max_tokens // 2))


def _chat(text: str, system: str | None) -> list[dict[str, Any]]:
    user = [{"role": "user", "content": text}]
    return [{"role": "system", "content": system}, *user] if system else user


def _temperature(controls: Controls, budget: Budget) -> float | None:
    """Reasoning models refuse any temperature but their own; prefix sharing is greedy."""
    if {"reasoning_effort", "thinking_tokens"} & set(budget.control):
        return None
    return 0.0 if "prefix_sharing" in budget.control else controls.temperature


def cap_field(provider: Provider) -> str:
    """Return the field of a chat completion that caps the output tokens at this provider."""
    # OpenAI's reasoning models refuse the older name
    return "max_completion_tokens" if _is_openai(provider) else "max_tokens"


def _is_openai(provider: Provider) -> bool:
    return (urlsplit(provider.base_url).hostname or "").endswith(("openai.com", "openai.azure.com"))
