"""OpenTelemetry: a span per request, and within it one per attempt, with the names of one version of the GenAI
conventions.

Spans hold no text of prompts or answers, and no key. They go where the SDK's own variables say
(`OTEL_EXPORTER_OTLP_ENDPOINT`, ...).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Protocol

from r2router._version import __version__
from r2router.errors import MissingExtra
from r2router.gateway.step import PlannedStep
from r2router.upstream.endpoint import origin
from r2router.upstream.usage import Usage

SCHEMA = "https://opentelemetry.io/schemas/1.37.0"
"""The conventions are still in development and names change: these are of this version."""

_OPERATIONS = {
    "chat": "chat",
    "responses": "chat",
    "messages": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
}
_PROVIDERS = {
    "openai": "openai", "anthropic": "anthropic", "google": "gcp.gemini", "gemini": "gcp.gemini", "x-ai": "x_ai",
    "mistral": "mistral_ai",
    "deepseek": "deepseek", "groq": "groq", "cohere": "cohere",
}  # fmt: skip
"""Well-known values of `gen_ai.provider.name`; another provider stands there by its own name."""


class Span(Protocol):
    """The trace of a request or an attempt."""

    def say(self, **told: Any) -> None:
        """Set attributes, by the last part of their names; None is left out."""
        ...

    def used(self, usage: Usage | None, model: str | None, finish: str | None) -> None:
        """Set what an answer used."""
        ...

    def failed(self, kind: str, message: str = "") -> None:
        """Set why it failed."""
        ...

    def end(self) -> None:
        """End the span."""
        ...


class _Nothing:
    def say(self, **told: Any) -> None:
        pass

    def used(self, usage: Usage | None, model: str | None, finish: str | None) -> None:
        pass

    def failed(self, kind: str, message: str = "") -> None:
        pass

    def end(self) -> None:
        pass


NOTHING = _Nothing()


class Tracer(Protocol):
    """Makes spans."""

    def request(self, endpoint: str, asked: str, request_id: str, headers: Mapping[bytes, bytes]) -> Span:
        """Begin the span of a request; it continues the client's trace where the headers name one."""
        ...

    def attempt(self, parent: Span, step: PlannedStep, *, stream: bool) -> Span:
        """Begin the span of one call."""
        ...

    def close(self) -> None:
        """Send what is left."""
        ...


class NoTracer:
    """Traces nothing."""

    def request(self, endpoint: str, asked: str, request_id: str, headers: Mapping[bytes, bytes]) -> Span:
        return NOTHING

    def attempt(self, parent: Span, step: PlannedStep, *, stream: bool) -> Span:
        return NOTHING

    def close(self) -> None:
        pass


class _RecordedSpan:
    def __init__(self, span: Any, error: Any) -> None:
        self.span = span
        self._error = error

    def say(self, **told: Any) -> None:
        for name, value in told.items():
            if value is not None:
                self.span.set_attribute(f"r2router.{name}", value)

    def used(self, usage: Usage | None, model: str | None, finish: str | None) -> None:
        counts = {} if usage is None else {"input_tokens": usage.input, "output_tokens": usage.output}
        for name, count in counts.items():
            self.span.set_attribute(f"gen_ai.usage.{name}", count)
        if usage is not None:
            self.say(cached_tokens=usage.cached, reasoning_tokens=usage.reasoning)
        if model:
            self.span.set_attribute("gen_ai.response.model", model)
        if finish:
            self.span.set_attribute("gen_ai.response.finish_reasons", [finish])

    def failed(self, kind: str, message: str = "") -> None:
        self.span.set_attribute("error.type", kind)
        self.span.set_status(self._error, message[:300] or kind)

    def end(self) -> None:
        self.span.end()


class OpenTelemetry:
    """Makes spans with the OpenTelemetry SDK.

    provider: a tracer provider; by default one that exports over OTLP (HTTP).
    """

    def __init__(self, provider: Any = None) -> None:
        try:
            from opentelemetry import trace
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError:
            raise MissingExtra("traces need the [otel] extra: pip install 'r2router[otel]'") from None
        self._trace = trace
        self._provider = provider or _exporting()
        self._tracer = self._provider.get_tracer("r2router", __version__, schema_url=SCHEMA)
        self._parent = TraceContextTextMapPropagator()

    def request(self, endpoint: str, asked: str, request_id: str, headers: Mapping[bytes, bytes]) -> Span:
        carrier = {name: headers[key].decode("latin-1") for name, key in _CONTEXT.items() if key in headers}
        given = {
            "gen_ai.operation.name": _OPERATIONS[endpoint],
            "gen_ai.request.model": asked[:200],
            "r2router.request_id": request_id,
        }
        span = self._tracer.start_span(
            f"r2router {endpoint}",
            context=self._parent.extract(carrier) if carrier else None,
            kind=self._trace.SpanKind.SERVER,
            attributes=given | {"r2router.endpoint": endpoint},
        )
        return _RecordedSpan(span, self._trace.StatusCode.ERROR)

    def attempt(self, parent: Span, step: PlannedStep, *, stream: bool) -> Span:
        model, sent = step.model.upstream or step.model.id, step.sent
        operation = _OPERATIONS[step.speaks]
        _, host, port = origin(step.provider.base_url)
        given: dict[str, Any] = {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": _PROVIDERS.get(step.model.provider, step.model.provider),
            "gen_ai.request.model": model,
            "server.address": host,
            "server.port": port,
            "r2router.arm": step.arm,
            "r2router.endpoint": step.speaks,
            "r2router.stream": stream,
        }
        if sent.max_tokens is not None:
            given["gen_ai.request.max_tokens"] = sent.max_tokens
        context = self._trace.set_span_in_context(parent.span) if isinstance(parent, _RecordedSpan) else None
        span = self._tracer.start_span(
            f"{operation} {model}", context=context, kind=self._trace.SpanKind.CLIENT, attributes=given
        )
        return _RecordedSpan(span, self._trace.StatusCode.ERROR)

    def close(self) -> None:
        self._provider.shutdown()


_CONTEXT = {"traceparent": b"traceparent", "tracestate": b"tracestate"}
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


def tracer_of(wanted: bool | None) -> Tracer:
    """Make the tracer of a setting.

    wanted: None makes one where the environment names an endpoint.

    Raises `MissingExtra` where traces are wanted and the packages are missing.
    """
    if wanted is False or (wanted is None and not any(os.environ.get(name) for name in _ENDPOINTS)):
        return NoTracer()
    return OpenTelemetry()


def _exporting() -> Any:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise MissingExtra("traces need the [otel] extra: pip install 'r2router[otel]'") from None
    named = os.environ.get("OTEL_SERVICE_NAME", "").strip() or "r2router"
    provider = TracerProvider(resource=Resource.create({"service.name": named}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
