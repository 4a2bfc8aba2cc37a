# /// script
# requires-python = ">=3.10"
# dependencies = ["prometheus-client", "opentelemetry-sdk", "aioprometheus"]
# ///
"""What measuring costs: a bound series, a whole RED middleware, a scrape, a series in memory, an attack.

Beside prometheus_client, the OpenTelemetry SDK and aioprometheus. The middleware of prometheus_client is the one that
everyone writes: a counter and a histogram by method, tool and error, and a gauge of what is in flight. The others, and
*one*, are one histogram with eight of our ten attributes, and that gauge. Each figure is printed beside its target.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import sys
import threading
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import aioprometheus
import prometheus_client
from _ratio import compare, figure
from mcp_metrics import DEFAULT_BUCKETS, MetricsMiddleware, Names, Registry, openmetrics, render
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client.openmetrics.exposition import generate_latest

FORMATS = ("text/plain", "application/openmetrics-text", "application/vnd.google.protobuf")


@dataclass
class Context:
    """A dataclass, as the official SDK's is."""

    method: str
    params: dict[str, Any]
    protocol_version: str = "2026-07-28"
    request: Any = None


CTX = Context("tools/call", {"name": "add", "arguments": {}})
RESULT = {"content": [{"type": "text", "text": "3"}], "isError": False, "resultType": "complete"}
LABELS = ["method", "tool", "prompt", "operation", "error", "code", "version", "transport"]
PEERS = ["prometheus_client", "opentelemetry-sdk", "aioprometheus"]

Layer = Callable[[Any, Any], Awaitable[Any]]


async def handler(ctx: Any) -> Any:
    return RESULT


async def pass_through(ctx: Any, call_next: Any) -> Any:
    return await call_next(ctx)


def attributes(ctx: Any, error: str) -> tuple[str, ...]:
    operation = "execute_tool" if ctx.method == "tools/call" else ""
    transport = "pipe" if ctx.request is None else "tcp"
    return ctx.method, ctx.params.get("name", ""), "", operation, error, "", ctx.protocol_version, transport


def red(begin: Callable[[], object], end: Callable[[], object], observe: Callable[[Any, str, float], object]) -> Layer:
    """Build the middleware that everyone writes around a metrics library."""

    async def layer(ctx: Any, call_next: Any) -> Any:
        began = time.perf_counter()
        begin()
        error = ""
        try:
            result = await call_next(ctx)
            if result.get("isError"):
                error = "tool_error"
            return result
        except BaseException as exception:
            error = type(exception).__name__
            raise
        finally:
            end()
            observe(ctx, error, time.perf_counter() - began)

    return layer


def prometheus_red(*, lean: bool = False) -> Layer:
    registry = prometheus_client.CollectorRegistry()
    active = prometheus_client.Gauge("active", "Help.", registry=registry)
    names = LABELS[:3] if lean else LABELS
    seconds = prometheus_client.Histogram("seconds", "Help.", names, registry=registry, buckets=DEFAULT_BUCKETS)
    calls = prometheus_client.Counter("calls", "Help.", names, registry=registry)

    def observe(ctx: Any, error: str, duration: float) -> None:
        if lean:
            labels = ctx.method, ctx.params["name"], error
            calls.labels(*labels).inc()
        else:
            labels = attributes(ctx, error)
        seconds.labels(*labels).observe(duration)

    return red(active.inc, active.dec, observe)


def otel_red() -> Layer:
    meter = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False).get_meter("bench")
    active = meter.create_up_down_counter("active")
    seconds = meter.create_histogram("seconds", explicit_bucket_boundaries_advisory=list(DEFAULT_BUCKETS))

    def observe(ctx: Any, error: str, duration: float) -> None:
        seconds.record(duration, dict(zip(LABELS, attributes(ctx, error), strict=True)))

    return red(lambda: active.add(1), lambda: active.add(-1), observe)


def aio_red() -> Layer:
    registry = aioprometheus.Registry()
    active = aioprometheus.Gauge("active", "Help.", registry=registry)
    seconds = aioprometheus.Histogram("seconds", "Help.", registry=registry, buckets=list(DEFAULT_BUCKETS))

    def observe(ctx: Any, error: str, duration: float) -> None:
        seconds.observe(dict(zip(LABELS, attributes(ctx, error), strict=True)), duration)

    return red(lambda: active.inc({}), lambda: active.dec({}), observe)


def through(layer: Layer) -> Callable[[], Awaitable[object]]:
    async def call() -> object:
        return await layer(CTX, handler)

    return call


def bound() -> dict[str, Callable[[], object]]:
    """Bound series, ours and prometheus_client's, called in the same way."""
    ours, theirs = Registry(), prometheus_client.CollectorRegistry()
    count = ours.counter("calls", "Help.", labels=["a"]).bind("x").inc
    peer = prometheus_client.Counter("calls", "Help.", ["a"], registry=theirs).labels("x").inc
    observe = ours.histogram("seconds", "Help.", labels=["a"]).bind("x").observe
    histogram = prometheus_client.Histogram("seconds", "Help.", ["a"], registry=theirs, buckets=DEFAULT_BUCKETS)
    observe_peer = histogram.labels("x").observe
    return {
        "inc": count,
        "inc, prometheus_client": peer,
        "observe": partial(observe, 0.03),
        "observe, prometheus_client": partial(observe_peer, 0.03),
    }


def scrapes(lines: int = 10_000, rounds: int = 9) -> None:
    """Scrape registries of the same series by turns; cold is the first scrape of a fresh one."""
    series = lines // (len(DEFAULT_BUCKETS) + 4)
    rng = random.Random(1)  # noqa: S311  # the same values in each run
    peers = prometheus_client.CollectorRegistry()
    theirs = prometheus_client.Histogram("h", "Help.", ["method", "tool"], registry=peers, buckets=DEFAULT_BUCKETS)

    def fill(family: Any, bind: Callable[[Any], Callable[..., Any]]) -> None:
        for number in range(series):
            child = bind(family)("tools/call", f"tool-{number}")
            for _ in range(20):
                child.observe(rng.lognormvariate(-3, 1))

    fill(theirs, lambda family: family.labels)
    cold, warm, peer = [], [], []
    for _ in range(rounds):
        ours = Registry()
        fill(ours.histogram("h", "Help.", labels=["method", "tool"]), lambda family: family.bind)
        for times, scrape in (
            (cold, lambda registry=ours: "".join(openmetrics(registry)).encode()),
            (warm, lambda registry=ours: "".join(openmetrics(registry)).encode()),
            (peer, lambda: generate_latest(peers)),
        ):
            began = time.process_time()
            scrape()
            times.append(time.process_time() - began)
    print(f"\nscrape of {lines} lines, OpenMetrics: {statistics.median(warm) * 1e3:.1f} ms")
    for name, times, target in (("warm", warm, 25), ("cold", cold, 12)):
        ratio = statistics.median(theirs / ours for theirs, ours in zip(peer, times, strict=True))
        figure(f"a scrape by prometheus_client to ours {name}", ratio, "times", at_least=target)


def memory(series: int = 1000) -> None:
    """Allocate series of 15 buckets with a realistic spread of values."""
    names = [f"tool-{number}" for number in range(series)]
    rng = random.Random(1)  # noqa: S311  # the same values in each run
    peers = prometheus_client.CollectorRegistry()
    candidates = {
        "ours": Registry().histogram("h", "Help.", labels=["method", "tool"]).bind,
        "prometheus_client": prometheus_client.Histogram(
            "h", "Help.", ["method", "tool"], registry=peers, buckets=DEFAULT_BUCKETS
        ).labels,
    }
    for name, bind in candidates.items():
        tracemalloc.start()
        for tool in names:
            child = bind("tools/call", tool)
            for _ in range(300):
                child.observe(rng.lognormvariate(-3, 1))
        size, most = tracemalloc.get_traced_memory()[0] / series, 700 if name == "ours" else None
        figure(f"a series of 15 buckets, {name}", size, "bytes", at_most=most)
        tracemalloc.stop()


async def stall(lines: int = 100_000) -> None:
    """Render while another task keeps asking for its turn; the most CPU time between two turns, of the best run."""
    registry = Registry(max_series=lines)
    family = registry.histogram("h", "Help.", labels=["method", "tool"])
    for number in range(lines // (len(DEFAULT_BUCKETS) + 4)):
        family.bind("tools/call", f"tool-{number}").observe(number / 1000)
    for accept in FORMATS:
        longest = 1e3 * min([await _wait(registry, accept) for _ in range(5)])
        figure(f"longest wait beside {lines:,} lines, {accept}", longest, "ms", at_most=5)


async def _wait(registry: Registry, accept: str) -> float:
    longest, done = 0.0, False

    async def watch() -> None:
        nonlocal longest
        before = time.thread_time()
        while not done:
            await asyncio.sleep(0)
            longest, before = max(longest, time.thread_time() - before), time.thread_time()

    task = asyncio.create_task(watch())
    async for _ in render(registry, accept):
        pass
    done = True
    await task
    return longest


async def attack(requests: int = 1_000_000) -> None:
    """Ask for made-up tools, prompts and methods, between calls of one that exists."""
    registry = Registry()
    metrics = MetricsMiddleware(registry, tools=Names(["add"]))
    rng = random.Random(1)  # noqa: S311  # the same names in each run
    methods = ["tools/call", "prompts/get"]

    async def refuse(ctx: Any) -> Any:
        return {"isError": True}

    async def send(number: int) -> None:
        name = f"{rng.random()}"
        method = methods[number % 2] if number % 3 else name
        await metrics(Context(method, {"name": name}, name if number % 5 == 0 else "2026-07-28"), refuse)

    for number in range(1000):
        await send(number)
    gc.collect()
    tracemalloc.start()
    for number in range(requests):
        await send(number)
    gc.collect()
    growth = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    (points,) = (list(points) for about, points in registry.collect() if about.name == "mcp.server.operation.duration")
    values = max(len({point.labels[place] for point in points}) for place in range(3))
    figure(f"values of a label after {requests:,} random names, two of them known", values, at_most=4)
    figure("growth by them", growth / 1024, "KiB", at_most=1024)
    figure("requests not counted", requests + 1000 - sum(sum(point.counts) for point in points), at_most=0)


def threads(snapshots: int = 100_000, writers: int = 8) -> None:
    """Read a histogram whose sum is three times its count while its owner and eight other threads write to it.

    The owner writes without a lock, and the reader is a thread of its own: that is where a snapshot could tear. They
    take turns five hundred times as often as threads usually do, for more chances, and lest the reader waits for each.
    """
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    for native in (None, 3):
        series = Registry().histogram("h", "Help.", buckets=[1, 2, 5], native=native).bind()
        stop = threading.Event()
        written = [0] * (1 + writers)
        torn: list[bool] = []

        def write(place: int) -> None:
            while not stop.is_set():  # noqa: B023  # joined within the iteration
                series.observe(3)  # noqa: B023  # joined within the iteration
                written[place] += 1  # noqa: B023  # joined within the iteration

        def read() -> None:
            try:
                points = (series.read() for _ in range(snapshots))  # noqa: B023  # joined within the iteration
                torn.extend(point.value != 3 * sum(point.counts) for point in points)  # noqa: B023  # as above
            finally:
                stop.set()  # noqa: B023  # as above

        workers = [threading.Thread(target=write, args=(place,)) for place in range(1, 1 + writers)]
        workers.append(threading.Thread(target=read))
        for worker in workers:
            worker.start()
        write(0)
        for worker in workers:
            worker.join()
        kind = "native" if native else "plain"
        figure(f"torn of {len(torn):,} snapshots under {writers} threads and the owner, {kind}", sum(torn), at_most=0)
        lost = sum(written) - sum(series.read().counts)
        figure(f"lost of {sum(written):,} observations, {kind}", lost, at_most=0)
    sys.setswitchinterval(usual)


def main() -> None:
    candidates = {
        "MetricsMiddleware": through(MetricsMiddleware(Registry())),
        "pass-through": through(pass_through),
        "prometheus_client": through(prometheus_red(lean=True)),
        "prometheus_client, one": through(prometheus_red()),
        "OpenTelemetry SDK": through(otel_red()),
        "aioprometheus": through(aio_red()),
    }
    title = "a call that is measured"
    rows = {row.name: row for row in compare({**candidates, **bound()}, title=title, peers=PEERS, rounds=9, calls=2000)}
    floor = rows["pass-through"].ratio
    own = rows["MetricsMiddleware"].ratio - floor
    for name, least in zip(list(candidates)[2:], (5, None, 15, None), strict=True):
        figure(f"what {name} adds to what ours adds", (rows[name].ratio - floor) / own, "times", at_least=least)
    for name, most in (("inc", 0.45), ("observe", 0.35)):
        share = rows[name].ratio / rows[f"{name}, prometheus_client"].ratio
        figure(f"{name}, ours to prometheus_client's", share, "times", at_most=most)
    scrapes()
    memory()
    threads()
    asyncio.run(stall())
    asyncio.run(attack())


if __name__ == "__main__":
    main()
