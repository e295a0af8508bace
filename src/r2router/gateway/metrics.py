"""Prometheus metrics of one gateway, in its own registry. No label holds a key, a prompt or anything else that a client
can choose.
"""

from __future__ import annotations

from typing import Any

from r2router.errors import MissingExtra

_LATENCY = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_OVERHEAD = (0.00025, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1)


class ByLabels:
    """A metric, with what it has counted at hand by the values of its labels: to find that anew takes the library
    longer than to count.
    """

    def __init__(self, metric: Any) -> None:
        self._metric = metric
        self._known: dict[tuple[object, ...], Any] = {}

    def labels(self, *values: object) -> Any:
        """Return what has these values; there are few, as no client chooses one."""
        found = self._known.get(values)
        if found is None:
            found = self._known[values] = self._metric.labels(*values)
        return found


class Metrics:
    """The gateway's metrics, one attribute each."""

    def __init__(self) -> None:
        try:
            from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
        except ImportError:
            raise MissingExtra("the gateway needs the [serve] extra: pip install 'r2router[serve]'") from None
        self.registry = CollectorRegistry()
        given: dict[str, Any] = {"registry": self.registry}
        self.requests = ByLabels(
            Counter("r2router_requests", "Requests that are over", ["endpoint", "preset", "arm", "state"], **given)
        )
        self.errors = ByLabels(
            Counter("r2router_errors", "Answers with an error status", ["endpoint", "status"], **given)
        )
        self.attempts = ByLabels(Counter("r2router_attempts", "Calls to providers", ["endpoint"], **given))
        self.fallbacks = ByLabels(
            Counter("r2router_fallbacks", "Requests that another arm answered than the first", ["endpoint"], **given)
        )
        self.tokens = ByLabels(Counter("r2router_tokens", "Tokens as providers report them", ["arm", "kind"], **given))
        self.cost = ByLabels(Counter("r2router_cost_usd", "US dollars spent", ["arm"], **given))
        self.over = ByLabels(
            Counter(
                "r2router_over_bound_usd",
                "US dollars that providers billed above the bound of a request",
                ["arm"],
                **given,
            )
        )
        self.latency = ByLabels(
            Histogram("r2router_request_seconds", "Seconds to its end", ["endpoint"], buckets=_LATENCY, **given)
        )
        self.ttft = ByLabels(
            Histogram(
                "r2router_first_byte_seconds", "Seconds to its first byte", ["endpoint"], buckets=_LATENCY, **given
            )
        )
        self.overhead = ByLabels(
            Histogram(
                "r2router_overhead_seconds", "Seconds before the first call", ["preset"], buckets=_OVERHEAD, **given
            )
        )
        self.active = Gauge("r2router_requests_active", "Requests under way", **given)
        self.troubled = Gauge("r2router_upstreams_troubled", "Providers and models that are known to fail now", **given)
        self.target = ByLabels(
            Gauge(
                "r2router_target",
                "What presets hold: US dollars per request or day, or quality",
                ["preset", "kind", "what"],
                **given,
            )
        )
        self.vectors = ByLabels(
            Gauge("r2router_vectors", "Texts encoded, found in the cache, and refused", ["what"], **given)
        )

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return (text, content type) in the format that a scraper accepts."""
        from prometheus_client.exposition import choose_encoder

        encoder, kind = choose_encoder(accept)
        return encoder(self.registry), kind
