"""The gateway's TOML file: providers, models laid over the router's pool, presets, aliases, limits. It holds no
secrets.
"""

from __future__ import annotations

import tomllib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from r2router.decide import AnyPolicy, Value
from r2router.errors import ConfigError, UsageError
from r2router.files import check_text, readable
from r2router.gateway.dialects.dialect import Speaks
from r2router.gateway.targets import Target, start_of
from r2router.text import suggest
from r2router.types import Budget, Control, Model, Prices, Provider
from r2router.upstream.endpoint import check_provider, origin
from r2router.upstream.known import KNOWN
from r2router.upstream.usage import Convention

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
_LARGEST = 4 << 20

_SPEAKS: dict[str, tuple[Speaks, ...]] = {
    "api.openai.com": ("chat", "responses", "completions", "embeddings"),
    "api.anthropic.com": ("messages", "chat"),
    "openrouter.ai": ("chat", "responses", "messages", "completions", "embeddings"),
    "api.groq.com": ("chat", "responses"),
}
_SPEAKS_DIALECT: dict[str, tuple[Speaks, ...]] = {
    "vllm": ("chat", "responses", "messages", "completions", "embeddings"),
    "llama.cpp": ("chat", "responses", "messages", "completions", "embeddings"),
    "sglang": ("chat", "messages", "completions", "embeddings"),
    "qwen": ("chat", "responses", "embeddings"),
    "gemini": ("chat", "embeddings"),
    "deepseek": ("chat", "completions"),
}
_OLLAMA_PORT = 11434


class Served(Provider, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A provider as the gateway calls it.

    speaks: its endpoints; by default those that are known of it, else chat alone.
    stream_options: whether it accepts that field in chat completions.
    first_byte_s: the longest wait for the first byte of an answer, seconds.
    usage: how it counts tokens, where its field names do not tell: `openai` (cached is part of input, reasoning part of
        output), `anthropic` (cache reads and writes beside the input), `gemini` and `xai` (reasoning beside the
        output), `deepseek` (cache hits and misses).
    """

    speaks: tuple[Speaks, ...] = ()
    stream_options: bool = True
    first_byte_s: _Seconds = 300.0
    usage: Convention | None = None

    @classmethod
    def of(cls, provider: Provider) -> Served:
        """Return the same provider, with what the gateway knows about it."""
        fields = {name: getattr(provider, name) for name in provider.__struct_fields__}
        if not fields.get("speaks"):
            _, host, port = origin(provider.base_url)
            known = _SPEAKS.get(host) or _SPEAKS_DIALECT.get(provider.dialect)
            fields["speaks"] = known or (_SPEAKS_DIALECT["vllm"] if port == _OLLAMA_PORT else ("chat", "embeddings"))
        return cls(**fields)


class Edits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How requests must be changed for a server.

    rename: field -> its name there; an empty name removes the field.
    roles: role of a message -> its name there, as in `{ developer = "system" }`.
    one_system: join all system messages into one, before the others.
    """

    rename: dict[str, str] = {}
    roles: dict[str, str] = {}
    one_system: bool = False


NO_EDITS = Edits()


class Overlay(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[model]]`. What is given replaces the values of the router's pool. A model that the pool does not have can
    be asked for by name.

    refuses: request fields that the model does not accept; they are removed from routed requests.
    edits: how requests must be changed for its server.
    """

    id: str
    provider: str | None = None
    upstream: str | None = None
    usd_per_million: Prices | None = None
    capabilities: frozenset[str] | None = None
    context: int | None = None
    max_output_tokens: int | None = None
    available: bool | None = None
    budgets: tuple[int | str, ...] | None = None
    control: tuple[Control, ...] = ()
    refuses: frozenset[str] | None = None
    edits: Edits = Edits()

    def over(self, model: Model) -> Model:
        """Return the model with the given values replaced."""
        names = ("provider", "upstream", "usd_per_million", "capabilities", "context", "max_output_tokens", "available")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        if self.provider is not None and self.upstream is None:
            given["upstream"] = model.upstream or model.id
        return msgspec.structs.replace(model, **given)

    def model(self) -> Model:
        """Make a model that the pool does not have."""
        budgets = tuple(Budget.of(b, self.control) for b in self.budgets or ("default",))
        return self.over(Model(id=self.id, budgets=budgets, upstream=self.upstream or self.id))


Mend = Literal["return", "continue", "again"]


class Preset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named policy that clients ask for as the model `auto:NAME`.

    policy: by default the router's own.
    models: choose only from these ids or arms (globs allowed); empty for all.
    exclude: models or arms that are never chosen.
    effort: `ceiling` takes the smaller of the caller's length settings and the arm's; `caller` takes the caller's where
        it sets any.
    switch_usd: US dollars per conversation that may be spent on leaving a prefix that a provider has cached.
    cascade: whether a cheap answer is checked before one is relayed, where the router has learned to.
    cut: what to do with an answer that the arm's budget cut, if it is neither streamed nor has tools: return it,
        continue it, or ask again without that budget.
    target: the mean spend or quality to keep, by moving the value of a correct answer; it starts from the policy's
        value.
    """

    policy: AnyPolicy | None = None
    models: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    effort: Literal["ceiling", "caller"] = "ceiling"
    switch_usd: Annotated[float, msgspec.Meta(ge=0)] = 0.05
    cascade: bool = False
    cut: Mend = "return"
    target: Target | None = None


class Server(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `[server]`.

    key: the *name* of the environment variable with the key that clients must send; empty means none, and then the
        gateway listens on loopback only.
    router: the folder of a saved router, relative to this file; empty means the starter router.
    default: the model for clients that name none.
    reply_model: which model name replies show.
    baseline: the model or arm that reports compare with; by default the best single one; or `none`.
    ledger: a file, relative to this one, a `postgresql://` address, or `none`; by default `default_ledger`.
    logs: `text`, `json` or `none`, on stderr; never any text of a prompt.
    traces: whether to make OpenTelemetry traces; by default where the environment names an endpoint for them
        (`OTEL_EXPORTER_OTLP_ENDPOINT`).
    """

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 4040
    key: str = ""
    router: str = ""
    default: str = "auto"
    reply_model: Literal["", "served", "asked"] = ""
    baseline: str = ""
    logs: Literal["text", "json", "none"] = "text"
    ledger: str = ""
    traces: bool | None = None


class Bounds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `[limits]`: sizes in megabytes, times in seconds.

    body_mb: the maximum size of a request, unpacked.
    body_s: the maximum time for a request to arrive.
    deadline_s: for all attempts, up to the first byte of an answer.
    silence_s: how long a provider may send nothing within an answer.
    stall_s: how long a client may read nothing.
    longest_s: the maximum duration of one answer.
    drain_s: how long running answers may go on when the gateway stops.
    attempts: the maximum number of calls per request, each to another model.
    keepalive_s: time between two keep-alives to a client that waits.
    """

    body_mb: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 32.0
    body_s: _Seconds = 30.0
    deadline_s: _Seconds = 600.0
    silence_s: _Seconds = 300.0
    stall_s: _Seconds = 120.0
    longest_s: _Seconds = 3600.0
    drain_s: _Seconds = 30.0
    attempts: Annotated[int, msgspec.Meta(ge=1, le=10)] = 3
    keepalive_s: _Seconds = 10.0
    concurrent: Annotated[int, msgspec.Meta(ge=1)] = 2000


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration file."""

    server: Server = Server()
    provider: dict[str, Served] = {}
    model: tuple[Overlay, ...] = ()
    preset: dict[str, Preset] = {}
    alias: dict[str, str] = {}
    limits: Bounds = Bounds()

    @classmethod
    def read(cls, path: str | Path) -> Config:
        """Read a TOML file. Raises `ConfigError` naming the file and the key."""
        path = Path(path)
        check_text(path, ConfigError)
        with readable(path, ConfigError):
            if path.stat().st_size > _LARGEST:
                raise ConfigError(f"{path}: is larger than any configuration ({_LARGEST:,} bytes)")
            text = path.read_text(encoding="utf-8-sig")
        try:
            config = msgspec.convert(tomllib.loads(text), cls)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{path}: not valid TOML: {error}") from None
        except RecursionError:
            raise ConfigError(f"{path}: nested too deeply") from None
        except (msgspec.ValidationError, UsageError) as error:  # a policy's own check is one of the latter
            raise ConfigError(f"{path}: {error}") from None
        try:
            config.check()
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
        return config

    def check(self) -> None:
        """Raise `ConfigError` for errors that do not depend on the router."""
        for name, provider in self.provider.items():
            check_provider(name, provider)
        seen: set[str] = set()
        for model in self.model:
            if model.id in seen:
                raise ConfigError(f"[[model]] {model.id!r} is given twice: keep one")
            seen.add(model.id)
        for name, preset in self.preset.items():
            if not name or any(c.isspace() or c in "@:*" for c in name):
                raise ConfigError(f"preset {name!r}: a name has no white space, '@', ':' or '*'")
            if preset.target is not None:
                try:
                    preset.target.pace(start_of(preset.policy, Value(1.0), 1.0))
                except ConfigError as error:
                    raise ConfigError(f"preset {name!r}: {error}") from None
        for pattern, target in [*self.alias.items(), ("server.default", self.server.default)]:
            if target.startswith("auto:") and target.removeprefix("auto:") not in {**self.preset, **PRESETS}:
                known = [*self.preset, *PRESETS]
                raise ConfigError(
                    f"{pattern}: there is no preset {target!r}{suggest(target.removeprefix('auto:'), known)}"
                )

    def providers(self) -> dict[str, Served]:
        """Return the built-in providers and the file's; the file's replace built-in ones of the same name."""
        known = {name: Served.of(provider) for name, provider in KNOWN.items()}
        return known | {name: Served.of(provider) for name, provider in self.provider.items()}

    def presets(self) -> dict[str, Preset]:
        """Return the built-in presets and the file's; the file's replace built-in ones of the same name."""
        return PRESETS | self.preset

    def resolve(self, asked: str) -> str:
        """Return the name that an alias stands for, or the name itself. The first pattern that matches counts."""
        return next((target for pattern, target in self.alias.items() if fnmatchcase(asked, pattern)), asked)


def _policy(**fields: Any) -> AnyPolicy:
    found: AnyPolicy = msgspec.convert(fields, AnyPolicy)
    return found


PRESETS: dict[str, Preset] = {
    "cheap": Preset(policy=_policy(policy="tradeoff", lam=0.8)),
    "balanced": Preset(),
    "best": Preset(policy=_policy(policy="tradeoff", lam=0.0)),
    "cascade": Preset(cascade=True),
}
"""Presets that are there without a configuration: mostly cost, the router's own policy, quality alone, and looking at
answers.
"""
