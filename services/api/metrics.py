"""What /metrics tells Prometheus: requests and answers as they were counted here, and the engine's own figures at the time of asking.

Nothing is done for each token: an answer is counted once, when it has ended. Knows nothing of what was asked, and no user's name: labels
are routes, dialects, statuses and reasons, of which there are few.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.types import Scope

from services.api.appliance import Appliance
from services.api.engine import Ended
from services.api.errors import ApiError
from services.shared import hardware, wire

router = APIRouter()
FIRST = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)  # seconds to the first token
BETWEEN = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2)  # seconds from token to token
WHOLE = (0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800)  # seconds of a request
DIALECTS = (("/v1/messages", "anthropic"), ("/api/", "ollama"), ("/v1/status", "cloister"), ("/v1/", "openai"))


class Metrics:
    """All of them, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # when each of them began tells nobody anything here
        self.registry = CollectorRegistry()
        self._engine = _Engine()
        self.registry.register(self._engine)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"cloister_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(f"cloister_{name}", text, labels, buckets=buckets, registry=self.registry)

        self._requests = counter("requests", "Requests; status aborted: the client went first", "route", "dialect", "status")
        self._seconds = histogram("request_seconds", "Seconds of a request, of a stream to its end", WHOLE, "dialect")
        self._answers = counter("answers", "Answers by how they ended", "outcome")
        self._prompt = counter("prompt_tokens", "Tokens of prompts, those found in the cache included")
        self._cached = counter("cached_tokens", "Tokens of prompts that were found in the KV cache")
        self._generated = counter("generated_tokens", "Tokens of answers, thoughts included")
        self._thought = counter("thought_tokens", "Tokens of thoughts")
        self._queue = histogram("queue_seconds", "Seconds that an answer waited before it began", FIRST)
        self._first = histogram("first_token_seconds", "Seconds to the first token, waiting included", FIRST)
        self._between = histogram("token_seconds", "Seconds from token to token, mean of an answer", BETWEEN)

    def request(self, scope: Scope, status: int, seconds: float) -> None:
        """One request has been answered, or broke off (status 0)."""
        route = getattr(scope.get("route"), "path", "none")  # the pattern, not what somebody put into it
        dialect = next((name for beginning, name in DIALECTS if route.startswith(beginning)), "none")
        self._requests.labels(route, dialect, str(status or "aborted")).inc()
        self._seconds.labels(dialect).observe(seconds)

    def answer(self, ended: Ended) -> None:
        """One answer of the engine has ended."""
        self._answers.labels(ended.outcome).inc()
        self._prompt.inc(ended.prompt_tokens)
        self._generated.inc(ended.generated_tokens)
        if (done := ended.finished) is None:
            return
        self._cached.inc(done.cached_tokens)
        self._thought.inc(done.thought_tokens)
        self._queue.observe(done.queue_seconds)
        if done.generated_tokens:
            self._first.observe(done.queue_seconds + done.prefill_seconds)
        if done.generated_tokens > 1:  # the first token comes out of the prefill
            self._between.observe(done.decode_seconds / (done.generated_tokens - 1))

    def text(self, hello: wire.Hello | None, seen: wire.Observed | None) -> bytes:
        """All of them in Prometheus's text form, with these figures of the engine."""
        self._engine.hello, self._engine.seen = hello, seen
        return generate_latest(self.registry)


class _Engine:
    """The engine's figures as it gave them last."""

    hello: wire.Hello | None = None
    seen: wire.Observed | None = None

    def collect(self) -> Iterator[Metric]:
        hello, seen = self.hello, self.seen
        memory = GaugeMetricFamily("cloister_memory_bytes", "Resident memory of a process", labels=["process"])
        memory.add_metric(["api"], hardware.resident())
        if seen:
            memory.add_metric(["engine"], seen.memory)
        yield memory
        yield GaugeMetricFamily("cloister_engine_up", "1 while the engine has a model loaded and answers", bool(hello and seen))
        if hello:
            yield _gauge("sequences", "Requests that can be answered at once", hello.sequences)
            yield _gauge("cells", "KV cells there are", hello.cells)
            yield _gauge("threads", "Threads that compute", hello.threads)
        if seen:
            yield _gauge("running", "Requests that are answered now", seen.running)
            yield _gauge("waiting", "Requests that wait for their turn", seen.waiting)
            yield _gauge("waiting_seconds", "How long the one that waits longest has waited", seen.waited)
            yield _gauge("cells_used", "KV cells in use, remembered conversations included", seen.cells_used)
            yield _gauge("store_bytes", "Conversations kept outside of the KV cache", seen.stored)
            yield _gauge("tokens_per_second", "Tokens generated a second, over the last few seconds", seen.tokens_per_second)
            yield _counter("evictions", "Times that remembered text had to leave the KV cache", seen.evicted)
            yield _counter("preemptions", "Times that a running request had to give way", seen.preempted)
            yield _counter("step_seconds", "Seconds that the engine spent in steps", seen.step_seconds)
            yield _counter("decode_seconds", "Seconds of these in the model itself", seen.decode_seconds)
            yield _counter("throttled_seconds", "Seconds that a CPU quota held threads up", seen.throttled_seconds)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"cloister_{name}", text, value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"cloister_{name}", text, value)


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Figures for Prometheus, in its text form."""
    home: Appliance = request.app.state.appliance
    counted: Metrics = request.app.state.metrics
    try:
        seen = await home.engine.observe()
    except ApiError:
        seen = None
    return Response(counted.text(home.engine.hello, seen), media_type=CONTENT_TYPE_LATEST)
