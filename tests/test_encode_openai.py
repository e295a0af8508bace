"""The /v1/embeddings encoder against a real HTTP server on this machine that plays a fake endpoint."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from r2router.encode import OpenAIEmbeddings, load_encoder
from r2router.errors import ConfigError, EncoderError

KEY = "sk-very-secret-key-0123456789"
Answer = Callable[["FakeHandler", dict[str, Any]], None]


class FakeHandler(BaseHTTPRequestHandler):
    """One request: `answers` of the server are used up first, then every request is answered well."""

    server: FakeEndpoint
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, dict(self.headers), body))
        answer = self.server.answers.pop(0) if self.server.answers else well
        answer(self, body)

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers), {}))
        self.reply(200, {})

    def reply(self, status: int, body: Any, **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content_Length": str(len(data)), "Connection": "close", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class calls it so
        """Quiet."""


class FakeEndpoint(ThreadingHTTPServer):
    """Counts what it is asked, and answers as it is told."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeHandler)
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.answers: list[Answer] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


def embedding(text: str) -> list[float]:
    return [float(len(text)), 1.0, -2.0]


def well(handler: FakeHandler, body: dict[str, Any]) -> None:
    rows = [{"object": "embedding", "index": i, "embedding": embedding(t)} for i, t in enumerate(body["input"])]
    handler.reply(200, {"object": "list", "data": rows[::-1], "model": body["model"], "usage": {"prompt_tokens": 1}})


def status(code: int, body: Any = b"", **headers: str) -> Answer:
    return lambda handler, _: handler.reply(code, body, **headers)


def dropped(handler: FakeHandler, body: dict[str, Any]) -> None:
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEndpoint]:
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = FakeEndpoint()
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def encoder(endpoint: FakeEndpoint, **settings: Any) -> OpenAIEmbeddings:
    return OpenAIEmbeddings("embed-small", endpoint.url, **{"backoff_s": 0.001, "timeout_s": 10.0, **settings})


def failing(endpoint: FakeEndpoint, *answers: Answer, **settings: Any) -> str:
    """The message of the error that these answers lead to: one line, without the key."""
    endpoint.answers = list(answers)
    with pytest.raises(EncoderError) as caught:
        encoder(endpoint, **settings).encode(["one", "two"])
    message = str(caught.value)
    assert KEY not in message
    assert "\n" not in message
    assert endpoint.url in message
    return message


def test_rows_come_back_in_order_and_with_norm_one(endpoint: FakeEndpoint) -> None:
    texts = ["a", "bbb", "cc"]
    x = encoder(endpoint).encode(texts)
    expected = np.array([embedding(t) for t in texts])
    assert x.dtype == np.float32
    assert np.allclose(x, expected / np.linalg.norm(expected, axis=1, keepdims=True))
    path, headers, body = endpoint.requests[0]
    assert path == "/v1/embeddings"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body == {"model": "embed-small", "input": texts, "encoding_format": "float"}


def test_the_length_is_found_out_once(endpoint: FakeEndpoint) -> None:
    asked = encoder(endpoint)
    assert asked.dim == asked.dim == 3
    assert len(endpoint.requests) == 1
    used = encoder(endpoint)
    used.encode(["x"])
    assert used.dim == 3
    assert len(endpoint.requests) == 2


def test_batches_are_bounded_in_texts_and_characters(endpoint: FakeEndpoint) -> None:
    texts = [f"text {i}" for i in range(600)]
    x = encoder(endpoint).encode(texts)
    assert [len(body["input"]) for _, _, body in endpoint.requests] == [256, 256, 88]
    assert np.array_equal(x, np.concatenate([encoder(endpoint).encode([t]) for t in texts[:3]] + [x[3:]]))
    endpoint.requests.clear()
    encoder(endpoint, batch_chars=10).encode(["aaaaaa", "bbbb", "c", "d" * 50])
    assert [body["input"] for _, _, body in endpoint.requests] == [["aaaaaa", "bbbb"], ["c"], ["d" * 50]]


def test_odd_texts_are_sent_as_something_sane(endpoint: FakeEndpoint) -> None:
    encoder(endpoint, max_chars=5).encode(["", "\ud800", "long text", "\ud83d\ude00"])
    assert endpoint.requests[0][2]["input"] == [" ", "\ufffd", "long ", "\U0001f600"]


def test_nothing_to_encode_asks_nothing(endpoint: FakeEndpoint) -> None:
    assert encoder(endpoint).encode([]).shape == (0, 0)
    assert endpoint.requests == []


@pytest.mark.parametrize(
    "trouble", [status(429), status(500), status(503, b"<html>"), dropped, status(429, {}, Retry_After="0")]
)
def test_passing_trouble_is_waited_out(endpoint: FakeEndpoint, trouble: Answer) -> None:
    endpoint.answers = [trouble, trouble]
    assert encoder(endpoint).encode(["one"]).shape == (1, 3)
    assert len(endpoint.requests) == 3


def test_lasting_trouble_is_reported(endpoint: FakeEndpoint) -> None:
    error = {"error": {"message": f"You exceeded\nyour quota; key {KEY}", "type": "insufficient_quota"}}
    message = failing(endpoint, *[status(429, error)] * 4)
    assert (
        message
        == f"{endpoint.url}/embeddings answered 429: You exceeded your quota; key *** (insufficient_quota) (tried 4"
        " times)"
    )
    assert len(endpoint.requests) == 4


def test_a_wrong_request_is_not_repeated(endpoint: FakeEndpoint) -> None:
    message = failing(endpoint, status(404, {"error": {"message": "no such model"}}))
    assert message.endswith("answered 404: no such model")
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    "body", [b"", b"x" * 5000, b"\xff\xfe", b"[1]", b'"no"', b'{"error": null}', b'{"detail": [1, 2]}', b"[" * 50_000]
)
def test_errors_in_any_form_are_one_short_line(endpoint: FakeEndpoint, body: bytes) -> None:
    assert len(failing(endpoint, status(400, body))) < 300


@pytest.mark.parametrize("code", [401, 403])
def test_a_wrong_key_is_one_line_without_it(endpoint: FakeEndpoint, code: int) -> None:
    message = failing(endpoint, status(code, {"error": {"message": f"Incorrect API key provided: {KEY}"}}))
    assert (
        message
        == f"{endpoint.url}/embeddings refused the key in OPENAI_API_KEY ({code}); check that it is for this endpoint"
    )
    assert len(endpoint.requests) == 1


def test_a_missing_key_is_named(endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert "set OPENAI_API_KEY" in failing(endpoint, status(401))
    assert "Authorization" not in endpoint.requests[0][1]


@pytest.mark.parametrize("key", ["two\nlines", "schlüssel", "bell\x07"])
def test_a_key_that_cannot_be_sent(endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(EncoderError, match="OPENAI_API_KEY holds characters") as caught:
        encoder(endpoint).encode(["x"])
    assert key not in str(caught.value)
    assert endpoint.requests == []


def test_the_key_goes_to_no_host_that_the_user_did_not_name(
    endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL")
    encoder(endpoint).encode(["x"])
    assert "Authorization" not in endpoint.requests[-1][1]
    monkeypatch.setenv("OPENAI_BASE_URL", endpoint.url)
    encoder(endpoint).encode(["x"])
    assert endpoint.requests[-1][1]["Authorization"] == f"Bearer {KEY}"


def test_a_url_that_only_a_spec_names_gets_no_text_without_consent(
    endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A saved router holds such a spec: whoever trained it must not collect prompts."""
    monkeypatch.delenv("OPENAI_BASE_URL")
    made = load_encoder(f"openai:embed-small@{endpoint.url}")
    for named in (
        None,
        "https://api.openai.com/v1",
        "http://127.0.0.1:1/v1",
        endpoint.url.replace("127.0.0.1", "localhost"),
    ):
        if named:
            monkeypatch.setenv("R2ROUTER_EMBEDDINGS_URL", named)
        with pytest.raises(ConfigError, match=f"R2ROUTER_EMBEDDINGS_URL={endpoint.url}"):
            made.encode(["a secret"])
    assert endpoint.requests == []
    monkeypatch.setenv("R2ROUTER_EMBEDDINGS_URL", endpoint.url)
    made.encode(["x"])
    assert "Authorization" not in endpoint.requests[-1][1], "consent to prompts is none to the key"
    monkeypatch.delenv("R2ROUTER_EMBEDDINGS_URL")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{endpoint.url}/")
    load_encoder(f"openai:embed-small@{endpoint.url}").encode(["x"])
    assert endpoint.requests[-1][1]["Authorization"] == f"Bearer {KEY}"


def test_openai_itself_is_asked_by_a_spec_only_with_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "R2ROUTER_EMBEDDINGS_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="set OPENAI_API_KEY"):
        load_encoder("openai:text-embedding-3-small").encode(["a secret"])


def test_redirects_are_not_followed(endpoint: FakeEndpoint) -> None:
    for code in (301, 302, 307, 308):
        message = failing(endpoint, status(code, b"", Location=f"{endpoint.url}/elsewhere"))
        assert message.endswith(f"points elsewhere ({code}); give the final URL")
    assert [path for path, _, _ in endpoint.requests] == ["/v1/embeddings"] * 4


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"{}",
        b"[]",
        b"null",
        {"data": None},
        {"data": [1, 2]},
        {"data": [{"embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}] * 2},
        {"data": [{"index": i, "embedding": [1.0]} for i in (1, 2)]},
        {"data": [{"index": [0], "embedding": [1.0]}]},
        {"data": [{"index": i, "embedding": [1.0] * (i + 1)} for i in range(2)]},
        {"data": [{"index": i, "embedding": "AACAPw=="} for i in range(2)]},
        {"data": [{"index": i, "embedding": None} for i in range(2)]},
        {"data": [{"index": i, "embedding": []} for i in range(2)]},
        {"data": [{"index": i, "embedding": [0.0, 0.0]} for i in range(2)]},
        {"data": [{"index": i, "embedding": [float("nan"), 0.0]} for i in range(2)]},
        b"[" * 50_000,
    ],
    ids=lambda body: repr(body)[:40],
)
def test_malformed_replies(endpoint: FakeEndpoint, body: Any) -> None:
    assert len(failing(endpoint, status(200, body))) < 300
    assert len(endpoint.requests) == 1


def test_a_reply_that_ends_early(endpoint: FakeEndpoint) -> None:
    message = failing(endpoint, *[status(200, b"{", Content_Length="50")] * 4)
    assert "cannot be reached" in message
    assert len(endpoint.requests) == 4


def test_vectors_that_change_their_length(endpoint: FakeEndpoint) -> None:
    changing = encoder(endpoint)
    changing.encode(["x"])
    endpoint.answers = [status(200, {"data": [{"index": 0, "embedding": [1.0, 2.0]}]})]
    with pytest.raises(EncoderError, match="length 2, and of length 3 before"):
        changing.encode(["x"])


def test_an_endpoint_that_is_down(endpoint: FakeEndpoint) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(EncoderError, match=rf"http://127.0.0.1:{port}/v1/embeddings cannot be reached: .*refused"):
        OpenAIEmbeddings("m", f"http://127.0.0.1:{port}/v1").encode(["x"])


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 70])
def test_a_host_that_is_none(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(EncoderError, match=f"http://{host}/v1/embeddings cannot be reached"):
        OpenAIEmbeddings("m", f"http://{host}/v1", backoff_s=0.001, timeout_s=5).encode(["x"])


def test_an_endpoint_that_does_not_answer(endpoint: FakeEndpoint) -> None:
    never = threading.Event()
    message = failing(endpoint, *[lambda handler, body: never.wait(10) and None] * 2, attempts=2, timeout_s=0.2)
    never.set()
    assert message == f"{endpoint.url}/embeddings cannot be reached: no answer in 0.2 s (tried 2 times)"


@pytest.mark.parametrize(
    "url",
    ["ftp://host/v1", "file:///etc/passwd", "host:8080/v1", "http://", "http://[::1/v1", "http://host:port/v1", ""],
)
def test_urls_that_cannot_be(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", url or " ")
    with pytest.raises(ConfigError, match="http://"):
        load_encoder("openai:m")


@pytest.mark.parametrize("url", [f"https://user:{KEY}@host/v1", f"https://host/v1?key={KEY}", f"https://:{KEY}@/v1"])
def test_urls_that_hold_a_secret(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_encoder(f"openai:m@{url}")
    assert KEY not in str(caught.value)


def test_base_url_and_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert OpenAIEmbeddings("m").base_url == "https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1/")
    made = load_encoder("openai:m")
    assert made.id == "openai:m@http://127.0.0.1:9/v1"
    assert repr(made) == "OpenAIEmbeddings('m', 'http://127.0.0.1:9/v1')"
    assert KEY not in repr(vars(made))
