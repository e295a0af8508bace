"""The gateway as an ASGI application: which path does what.

It uses no web framework: a relay must notice disconnects at once, and add little time.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import msgspec

from r2router._version import __version__
from r2router.errors import Refused
from r2router.gateway import catalogue, feedback
from r2router.gateway.books import Books, NoBooks
from r2router.gateway.dialects import DIALECTS
from r2router.gateway.dialects.dialect import Dialect
from r2router.gateway.error_bodies import error_headers
from r2router.gateway.failover import Breaker
from r2router.gateway.incoming import Gone, Incoming, Receive, Scope, Send, check_local, same_secret, secret_of
from r2router.gateway.keys import PREFIX, Key, Keys
from r2router.gateway.ledger import Ledger, Limits
from r2router.gateway.logs import Log
from r2router.gateway.metrics import Metrics
from r2router.gateway.outgoing import Aborted, Outgoing
from r2router.gateway.pacing import InFlight
from r2router.gateway.plan import Planner
from r2router.gateway.relay import Relay, header_text
from r2router.gateway.replay import Replay
from r2router.gateway.request import read_call
from r2router.gateway.sessions import Sessions, session_of
from r2router.gateway.setting import REPLAY, Setting
from r2router.gateway.step import Plan, as_dict, bounded, moved
from r2router.gateway.targets import Targets
from r2router.gateway.traces import NOTHING, Span, Tracer, tracer_of
from r2router.gateway.upstreams import Caller, Network
from r2router.types import Arm
from r2router.upstream.endpoint import key_of

_JSON = (b"content-type", b"application/json")
_BY_PATH = {f"/v1{dialect.path}": dialect for dialect in DIALECTS}


class Gateway:
    """An ASGI application.

    setting: the configuration in use; `reload` replaces it at once.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        books: Books | None = None,
        keys: Keys | None = None,
        log: Log | None = None,
        caller: Caller | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.books: Books = books or NoBooks()
        self.targets = Targets(books if isinstance(books, Ledger) else None)
        self.planner = Planner(setting, targets=self.targets)
        self.keys = keys
        self.log = log or Log(setting.config.server.logs)
        self.metrics = Metrics()
        self.breaker = Breaker()
        self.sessions = Sessions(getattr(books, "where", None))
        self._network: Caller = caller or Network(setting.config.limits.silence_s)
        self._replay = Replay()
        self.tracer: Tracer = tracer or tracer_of(setting.config.server.traces)
        self.active = 0
        self.draining = False
        self._idle = asyncio.Event()
        self._gets: dict[str, Callable[[Incoming], tuple[int, bytes, bytes]]] = {
            "/health": self._health, "/ready": self._ready, "/metrics": self._metrics, "/v1/models": self._models,
        }  # fmt: skip

    @property
    def setting(self) -> Setting:
        return self.planner.setting

    def reload(self, setting: Setting) -> None:
        """Use another setting for new requests; running requests finish under the one they began with."""
        old = self.planner
        same = old.router.encoder == setting.router.encoder
        self.planner = Planner(setting, old.vectors if same else None, self.targets)
        if not same:
            old.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":  # a server that speaks it asks us; ours leaves it to `_answer`
            await send({"type": "websocket.close", "code": 1003})
        elif scope["type"] == "http":
            incoming, out = Incoming(scope, receive), Outgoing(send)
            try:
                await self._answer(incoming, out)
            except (Gone, Aborted):
                return
            except Refused as refused:
                await self._refuse(refused, incoming, out)
            except Exception as error:  # noqa: BLE001  a fault of ours is this request's alone, and says nothing of what it held
                where = traceback.extract_tb(error.__traceback__)[-1]
                self.log.say(f"internal error: {type(error).__name__} at {where.name}:{where.lineno}", id=incoming.id)
                await self._refuse(
                    Refused("internal error; see the log", status=500, code="internal_error", retry=False),
                    incoming,
                    out,
                )

    # -- what is asked ------------------------------------------------------------------------------------------------

    async def _answer(self, incoming: Incoming, out: Outgoing) -> None:
        path, method = incoming.path, incoming.method
        if incoming.header(b"upgrade").lower() == "websocket":
            refused = Refused("there is no WebSocket here: use HTTP", status=426, code="upgrade_required")
            await out.whole(426, [_JSON, (b"upgrade", b"HTTP/1.1")], DIALECTS[0].error(refused, incoming.id))
            return
        if method == "POST" and (dialect := _BY_PATH.get(path)):
            await self._relay(incoming, out, dialect, await self._authorise(incoming))
            return
        if method in ("GET", "HEAD") and path == "/":
            await out.whole(
                200,
                [_JSON],
                b"" if method == "HEAD" else msgspec.json.encode({"name": "r2router", "version": __version__}),
            )
            return
        if method in ("GET", "HEAD") and path in self._gets:
            if path not in ("/health", "/ready"):
                await self._authorise(incoming)
            status, kind, body = self._gets[path](incoming)
            await out.whole(status, [(b"content-type", kind)], body if method == "GET" else b"")
            return
        key = await self._authorise(incoming)
        if method == "GET" and path.startswith("/v1/models/"):
            await self._one_model(path.removeprefix("/v1/models/"), out)
            return
        if method == "POST" and path == "/v1/route":
            await self._route(incoming, out)
            return
        if method == "POST" and path == "/v1/feedback":
            data = await incoming.body(msgspec.structs.replace(self.setting.config.limits, body_mb=feedback.MAX_MB))
            said = await feedback.take(data, None if key is None else key.id, self.books, self.setting, self.targets)
            await out.whole(200, [_JSON], said)
            return
        if path in _BY_PATH or path in ("/v1/route", "/v1/feedback"):
            raise Refused(f"{path} takes POST", status=405, code="method_not_allowed")
        raise Refused(f"there is no {method} {path[:200]}", status=404, code="not_found")

    async def _authorise(self, incoming: Incoming) -> Key | None:
        """Return the ledger's key that the request came with.

        None for the gateway's own key, and for local requests where no key is configured. Raises a `Refused`.
        """
        name, secret = self.setting.config.server.key, secret_of(incoming)
        if self.keys is not None and secret.startswith(PREFIX):
            return self.keys.remembered(secret) or await asyncio.to_thread(self.keys.find, secret)
        if not name and self.keys is not None and await self.keys.needed():
            raise Refused(
                "this gateway has keys: send one as Authorization: Bearer KEY, or as x-api-key",
                status=401,
                code="invalid_api_key",
            )
        if not name:
            check_local(incoming)
            return None
        wanted, _ = key_of(name)
        if not wanted or not same_secret(secret, wanted):
            raise Refused(
                "the key is missing or wrong: send it as Authorization: Bearer KEY, or as x-api-key",
                status=401,
                code="invalid_api_key",
            )
        return None

    async def _relay(self, incoming: Incoming, out: Outgoing, dialect: Dialect, key: Key | None) -> None:
        began = asyncio.get_running_loop().time()
        if self.draining:
            raise Refused("the gateway is shutting down", status=503, code="shutting_down", retry_after=1)
        if self.active >= self.setting.config.limits.concurrent:
            raise Refused(
                "too many requests are under way (limits.concurrent)",
                status=503,
                code="too_many_requests",
                retry_after=1,
            )
        self.active += 1
        self._idle.clear()
        planner, asked, relay, status = self.planner, None, None, 0
        begun: tuple[str, InFlight, float] | None = None
        span: Span = NOTHING
        try:
            setting = planner.setting
            data = await incoming.body(setting.config.limits)
            call = read_call(dialect, data, setting.config.server.default)
            asked = call.asked
            span = self.tracer.request(dialect.name, asked, incoming.id, incoming.headers)
            owner = None if key is None else key.id
            name = session_of(incoming, call, owner)
            session = await self.sessions.find(owner, name) if call.conversation.turns > 1 else None
            plan = await planner.plan(call, session)
            if self._limits(key).bounds_answers and dialect.routed:
                plan = bounded(plan, call.ceilings)
            begun = self._begun(plan)
            if key is not None:
                key.check(preset=plan.preset, model=None if plan.preset else plan.steps[0].model.id)
            relay = Relay(call, plan, setting, incoming, out, began)
            relay.trace = partial(self.tracer.attempt, span, stream=call.stream)
            self.metrics.overhead.labels(plan.preset or "none").observe(asyncio.get_running_loop().time() - began)
            caller = self._replay if setting.replay and plan.steps[0].model.provider == REPLAY else self._network
            try:
                await relay.run(self.books, self.breaker, caller, owner, name)
            finally:
                self._paced(relay)
            if relay.told.served and name and dialect.routed:
                at = planner.router.pool.index.get(Arm(relay.told.served))
                self.sessions.keep(owner, name, moved(session, plan, relay.told.served, at))
        except Refused as refused:
            status = refused.status
            if relay is not None:  # by the ledger, before the relay's own books begin, or by the relay
                relay.told.status, relay.told.note = refused.status, refused.code
            span.failed(str(refused.status), refused.code)
            raise
        finally:
            if begun is not None:
                cost = None if relay is None else relay.told.bill.cost
                self.targets.end(*begun, None if cost is None else cost / 1e9)
            self.active -= 1
            if not self.active:
                self._idle.set()
            took = asyncio.get_running_loop().time() - began
            if relay is not None:
                self._tell(incoming, dialect, asked, relay, took)
            else:
                self._tell_refused(incoming, dialect, asked, status, took)
            if relay is not None:
                _trace(span, relay)
            span.end()

    def _begun(self, plan: Plan) -> tuple[str, InFlight, float] | None:
        """Count a request as under way in its preset's target; `Targets.end` takes the result."""
        if plan.pace is None or plan.preset is None or plan.decision is None:
            return None
        expected = plan.decision.cost
        return plan.preset, self.targets.begin(plan.preset, expected, plan.decision.quality), expected

    def _limits(self, key: Key | None) -> Limits:
        """Return the limits that a request with this key has."""
        if key is not None:
            return Limits() if key.shadow else key.limits
        return self.books.limits if isinstance(self.books, Ledger) else Limits()

    def _paced(self, relay: Relay) -> None:
        """Update the preset's spend target with what this request cost."""
        name, begun, cost, charge = relay.plan.preset, relay.plan.pace, relay.told.bill.cost, relay.charge
        if charge is not None and charge.over:
            self.metrics.over.labels(relay.told.served or relay.plan.steps[0].arm).inc(charge.over / 1e9)
        if name is None or begun is None:
            return
        if charge is not None and charge.pace is not None:
            self.targets.put(name, charge.pace)
        elif isinstance(self.books, NoBooks) and cost:
            self.targets.spent(name, begun, cost / 1e9)

    def _tell_refused(self, incoming: Incoming, dialect: Dialect, asked: str | None, status: int, took: float) -> None:
        """Report a request for which no arm was asked.

        status: of the response; 0 where the client left.
        """
        if status:
            self.metrics.errors.labels(dialect.name, status).inc()
        state = "refused" if status else "cancelled"
        self.log.request(id=incoming.id, status=status, endpoint=dialect.name, asked=asked, latency_s=took, state=state)

    def _tell(self, incoming: Incoming, dialect: Dialect, asked: str | None, relay: Relay, took: float) -> None:
        told, plan, metrics = relay.told, relay.plan, self.metrics
        arm = told.served or plan.steps[0].arm
        metrics.requests.labels(dialect.name, plan.preset or "none", arm, told.state).inc()
        metrics.attempts.labels(dialect.name).inc(told.attempts)
        metrics.latency.labels(dialect.name).observe(took)
        if told.ttft_s is not None:
            metrics.ttft.labels(dialect.name).observe(told.ttft_s)
        if told.served and told.served != plan.steps[0].arm and plan.looks is None:
            metrics.fallbacks.labels(dialect.name).inc()
        if told.status >= 400:
            metrics.errors.labels(dialect.name, told.status).inc()
        usage, cost = told.bill.usage, told.bill.cost
        if usage is not None:
            for kind in ("input", "output", "cached", "reasoning", "cache_write"):
                if number := getattr(usage, kind):
                    metrics.tokens.labels(arm, kind).inc(number)
        if cost is not None:
            metrics.cost.labels(arm).inc(cost / 1e9)
        self.log.request(
            id=incoming.id, status=told.status, endpoint=dialect.name, asked=asked, arm=plan.steps[0].arm,
            served=told.served,
            state=told.state, latency_s=took, ttft_s=told.ttft_s, cost_usd=None if cost is None else cost / 1e9,
            input_tokens=usage.input if usage else None, output_tokens=usage.output if usage else None,
            attempts=told.attempts,
            note=told.note or None,
        )  # fmt: skip

    # -- what it says of itself ---------------------------------------------------------------------------------------

    def _health(self, incoming: Incoming) -> tuple[int, bytes, bytes]:
        return 200, _JSON[1], msgspec.json.encode({"status": "ok", "version": __version__})

    def _ready(self, incoming: Incoming) -> tuple[int, bytes, bytes]:
        status = "draining" if self.draining else "replay" if self.setting.replay else "ready"
        return (503 if self.draining else 200), _JSON[1], msgspec.json.encode({"status": status})

    def _metrics(self, incoming: Incoming) -> tuple[int, bytes, bytes]:
        metrics, vectors = self.metrics, self.planner.vectors
        metrics.active.set(self.active)
        metrics.troubled.set(len(self.breaker.troubles()))
        for name, pace in self.targets.known(self.setting.paces).items():
            for what in ("target", "mean", "error", "value"):
                metrics.target.labels(name, pace.kind, {"mean": "actual"}.get(what, what)).set(getattr(pace, what))
        for what in ("cached", "encoded", "refused"):
            metrics.vectors.labels(what).set(getattr(vectors, what))
        body, kind = metrics.render(incoming.header(b"accept"))
        return 200, kind.encode(), body

    def _models(self, incoming: Incoming) -> tuple[int, bytes, bytes]:
        limit = parse_qs(incoming.query.decode("latin-1")).get("limit", [""])[0]
        maximum = int(limit) if limit.isascii() and limit.isdigit() and int(limit[:9]) > 0 else None
        return 200, _JSON[1], msgspec.json.encode(catalogue.listing(self.setting, maximum))

    async def _one_model(self, name: str, out: Outgoing) -> None:
        found = catalogue.one(self.setting, name)
        if found is None:
            raise Refused(
                f"there is no model {name[:100]!r}; GET /v1/models lists them",
                status=404,
                code="model_not_found",
                param="model",
            )
        await out.whole(200, [_JSON], msgspec.json.encode(found))

    async def _route(self, incoming: Incoming, out: Outgoing) -> None:
        """Decide without asking. Takes a body of any of the three formats, or a plain `text`."""
        data = await incoming.body(self.setting.config.limits)
        dialect, data = _format_of(data)
        call = read_call(dialect, data, self.setting.config.server.default)
        plan = await self.planner.plan(call)
        headers = [
            _JSON,
            (b"x-r2router-arm", header_text(plan.steps[0].arm)),
            (b"x-r2router-request-id", incoming.id.encode()),
        ]
        await out.whole(200, headers, msgspec.json.encode(as_dict(plan), enc_hook=str))

    # -- the rest -----------------------------------------------------------------------------------------------------

    async def _refuse(self, refused: Refused, incoming: Incoming, out: Outgoing) -> None:
        if out.started:
            return
        near = next((dialect for path, dialect in _BY_PATH.items() if incoming.path.startswith(path)), DIALECTS[0])
        dialect = _BY_PATH.get(incoming.path, near)
        headers = [_JSON, (b"x-r2router-request-id", incoming.id.encode()), *error_headers(refused)]
        if refused.status in (408, 413):
            headers.append((b"connection", b"close"))  # the rest of the body is not read
        await out.whole(refused.status, headers, dialect.error(refused, incoming.id))

    async def drain(self, seconds: float) -> bool:
        """Accept no new requests and wait for running ones. Returns whether all of them ended in time."""
        self.draining = True
        if not self.active:
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Close all connections and threads."""
        await self._network.close()
        self.planner.close()
        await asyncio.to_thread(self.tracer.close)

    async def _lifespan(self, receive: Receive, send: Callable[[MutableMapping[str, Any]], Awaitable[None]]) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.planner.vectors.of("warm up")
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


def _trace(span: Span, relay: Relay) -> None:
    told, plan = relay.told, relay.plan
    cost = None if told.bill.cost is None else told.bill.cost / 1e9
    span.say(
        arm=told.served, preset=plan.preset, reason=plan.reason, state=told.state, attempts=told.attempts, cost_usd=cost
    )
    span.used(told.bill.usage, None, told.finish)
    if told.status >= 400 or told.state != "done":
        span.failed(str(told.status) if told.status >= 400 else told.state)


def _format_of(data: bytes) -> tuple[Dialect, bytes]:
    """Tell the wire format of a body for `/v1/route`; a body with `text` becomes a chat."""
    chat, responses, messages = DIALECTS[:3]
    try:
        body = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return chat, data  # which says what is wrong with it
    if "text" in body and "messages" not in body and "input" not in body:
        said = b'[{"role":"user","content":' + bytes(body.pop("text")) + b"}]"
        return chat, msgspec.json.encode({**body, "messages": msgspec.Raw(said)})
    if "input" in body:
        return responses, data
    return (messages if body.keys() & {"system", "anthropic_version"} else chat), data
