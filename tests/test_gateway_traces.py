"""OpenTelemetry: one span per attempt under one per request, with the names of one version of the conventions, and no
text.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the gateway needs the [serve] extra")
pytest.importorskip("opentelemetry.sdk", reason="traces need the [otel] extra")

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fake_provider import RESET, Answer, Asked, FakeProvider, as_json, chunk
from gateway_rig import KEY, Rig, asking, rig
from r2router.gateway.traces import SCHEMA, NoTracer, OpenTelemetry, tracer_of

SECRET = "a very secret question"


@pytest.fixture(scope="module")
def traced() -> Iterator[tuple[Rig, FakeProvider, InMemorySpanExporter]]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with pytest.MonkeyPatch.context() as patch, FakeProvider() as fake:
        patch.setenv("FAKE_PROVIDER_KEY", KEY)
        with rig({"fake": fake}) as gate:
            gate.gateway.tracer = OpenTelemetry(provider)
            yield gate, fake, exporter


def spans(exporter: InMemorySpanExporter, count: int) -> tuple[Any, ...]:
    """What has ended, once that is so many: a request's own span ends behind its row in the ledger."""
    deadline = time.monotonic() + 10
    while len(exporter.get_finished_spans()) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return exporter.get_finished_spans()


def test_a_span_per_attempt_under_one_per_request(traced: tuple[Rig, FakeProvider, InMemorySpanExporter]) -> None:
    gate, fake, exporter = traced
    first: list[str] = []

    def script(asked: Asked) -> Answer | None:
        first.append(asked.body["model"])
        return as_json({"error": "busy"}, 503) if len(first) == 1 else None

    fake.script = script
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    status, headers, _ = gate.post("chat", asking("chat", SECRET, stream=True, max_tokens=500), traceparent=parent)
    assert status == 200
    failed, answered, request = spans(exporter, 3)
    assert all(f"{span.context.trace_id:032x}" == parent[3:35] for span in (failed, answered, request))
    assert request.parent is not None and f"{request.parent.span_id:016x}" == parent[36:52]
    assert failed.parent is not None and answered.parent is not None
    assert failed.parent.span_id == answered.parent.span_id == request.context.span_id
    said: dict[str, Any] = dict(answered.attributes or {})
    assert (
        said["gen_ai.operation.name"] == "chat"
        and said["gen_ai.provider.name"] == "fake"
        and said["server.port"] == fake.port
    )
    assert said["gen_ai.request.model"] == first[1] and said["gen_ai.request.max_tokens"] == 500
    assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (11, 7)
    assert said["gen_ai.response.model"] == "served-1" and said["gen_ai.response.finish_reasons"] == ("stop",)
    assert dict(failed.attributes or {})["error.type"] == "503" and not failed.status.is_ok and answered.status.is_unset
    about = dict(request.attributes or {})
    assert about["r2router.request_id"] == headers["x-r2router-request-id"] and about["r2router.attempts"] == 2
    assert request.instrumentation_scope is not None and request.instrumentation_scope.schema_url == SCHEMA
    assert [json.loads(line)["event"] for line in gate.lines] == ["request"]  # and no note of an error
    told = "".join(span.to_json() for span in exporter.get_finished_spans())
    assert KEY not in told and SECRET not in told and "Goethe" not in told


def test_what_breaks_off_is_an_error(traced: tuple[Rig, FakeProvider, InMemorySpanExporter]) -> None:
    gate, fake, exporter = traced
    gate.fresh()
    exporter.clear()
    fake.script = lambda asked: Answer([chunk("Faust"), 0.02, RESET])
    gate.post("chat", asking("chat", model="gpt-5-mini", stream=True))
    attempt, request = spans(exporter, 2)
    assert (
        not attempt.status.is_ok
        and not request.status.is_ok
        and json.loads(attempt.to_json())["attributes"]["error.type"] == "broken_off"
    )


def test_there_are_traces_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    assert isinstance(tracer_of(None), NoTracer) and isinstance(tracer_of(False), NoTracer)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    found = tracer_of(None)
    assert isinstance(found, OpenTelemetry)
    found.close()
    assert isinstance(tracer_of(False), NoTracer)
