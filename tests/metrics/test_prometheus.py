"""A real Prometheus scrapes a real server: what it stores is what was counted."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync
from mcp_metrics import MetricsMiddleware, Registry, serve

from tests.support.servers import PrometheusServer

pytestmark = [  # real time, for a real program
    pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True),
    pytest.mark.uninstrumented,
]

PATIENCE = 30.0  # seconds; a scrape comes five times a second


class Context:
    method, protocol_version, request = "tools/call", "2026-07-28", None

    def __init__(self, trace: str) -> None:
        self.params = {"name": "add", "_meta": {"traceparent": f"00-{trace}-{'cd' * 8}-01"}}


async def until(query: Callable[..., Any], expression: str, wanted: Callable[[Any], bool]) -> Any:
    """Ask again and again until the answer is as *wanted*; fail with the last one."""
    found = None
    with anyio.move_on_after(PATIENCE):
        while not wanted(found := await run_sync(query, expression)):
            await anyio.sleep(0.1)
        return found
    raise AssertionError(f"{expression} is {found} after {PATIENCE:g} s")


@pytest.fixture
def prometheus(tmp_path: Path):
    servers = []

    def start(url: str) -> PrometheusServer:
        server = PrometheusServer(tmp_path, url.split("/")[2])
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.kill()


async def test_scrapes_everything(prometheus) -> None:
    """``up``, every label value, every sum, exemplars, and both kinds of quantiles."""
    registry = Registry()
    metrics = MetricsMiddleware(registry, exemplars=True, native=3)
    strange = 'quote" back\\slash\nline # {} ü \ud83d\ude00'
    registry.counter("jobs", "Jobs.", labels=["kind"]).bind(strange).inc(7)
    latency = registry.histogram("latency", "Latency.", unit="s", native=3).bind()
    rng = random.Random(1)
    values = [rng.lognormvariate(-3, 1) for _ in range(20_000)]
    for value in values:
        latency.observe(value)

    async def handler(ctx):
        return {"isError": False}

    await metrics(Context("ab" * 16), handler)
    async with serve(registry) as url:
        server = await run_sync(prometheus, url)
        await until(server.query, "up", lambda found: [value for _, value in found] == [1])
        (labels, jobs), *_ = await until(server.query, "jobs_total", bool)
        assert (labels["kind"], jobs) == ('quote" back\\slash\nline # {} ü \U0001f600', 7)
        (labels, _), *_ = await until(
            server.query,
            "histogram_count(mcp_server_operation_duration_seconds)",
            lambda found: found and found[0][1] == 1,
        )
        assert labels["gen_ai_tool_name"] == "add"
        assert labels["mcp_method_name"] == "tools/call"
        assert "error_type" not in labels
        (_, total), *_ = await run_sync(server.query, "histogram_sum(latency_seconds)")
        assert math.isclose(total, sum(values))
        for quantile in (0.5, 0.9, 0.99):
            ((_, native),) = await run_sync(server.query, f"histogram_quantile({quantile}, latency_seconds)")
            true = statistics.quantiles(values, n=100)[int(quantile * 100) - 1]
            assert abs(native / true - 1) < 0.044


async def test_exemplars_arrive(prometheus) -> None:
    """Asked for OpenMetrics, which is what a Prometheus without native histograms prefers."""
    registry = Registry()
    metrics = MetricsMiddleware(registry, exemplars=True)

    async def handler(ctx):
        return {"isError": False}

    async with serve(registry) as url:
        server = await run_sync(prometheus, url)
        await until(server.query, "up", lambda found: [value for _, value in found] == [1])
        for number in range(3):
            await metrics(Context(f"{number:032x}"), handler)
            await anyio.sleep(0.3)
        found = await until(server.exemplars, "mcp_server_operation_duration_seconds_bucket", bool)
        assert {labels["trace_id"] for labels in found} <= {f"{number:032x}" for number in range(3)}


async def test_rate_across_an_eviction_is_never_negative(prometheus) -> None:
    """A series leaves and comes back from zero: one reset, and no rate below it."""
    registry = Registry(idle=0.5)
    counter = registry.counter("jobs", "Jobs.").bind()
    counter.inc(100)
    async with serve(registry) as url:
        server = await run_sync(prometheus, url)
        await until(server.query, "jobs_total", lambda found: found and found[0][1] == 100)
        await until(server.query, "jobs_total", lambda found: found == [])
        counter.inc(3)
        await until(server.query, "jobs_total", lambda found: found and found[0][1] == 3)
        counter.inc(4)
        await until(server.query, "jobs_total", lambda found: found and found[0][1] == 7)
        ((_, rate),) = await run_sync(server.query, "rate(jobs_total[1m])")
        ((_, resets),) = await run_sync(server.query, "resets(jobs_total[1m])")
        assert 0 < rate < 1
        assert resets == 1
