"""Scrapes over ASGI, over the small server, and by hand; none stalls the loop, none raises."""

from __future__ import annotations

import gc
import gzip
import threading
import time
import tracemalloc
import zlib
from itertools import pairwise

import anyio
import pytest
from mcp_metrics import MetricsApp, Registry, endpoint, openmetrics, render, respond, serve
from mcp_metrics.testing import parse

from tests.support.sweep import sweep

OM = "application/openmetrics-text;version=1.0.0"
PROTOBUF = "application/vnd.google.protobuf;encoding=delimited"


def filled(series=1):
    registry = Registry(max_series=100_000, now=lambda: 1000.0)
    family = registry.histogram("wait", "Wait.", unit="s", labels=["tool"])
    for number in range(series):
        family.bind(f"tool-{number}").observe(0.1)
    return registry


async def asgi(app, method="GET", headers=()):
    """One request to an ASGI app; its status, headers and body."""
    sent = []

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        sent.append(message)

    encoded = [(name.encode(), value.encode()) for name, value in headers]
    await app({"type": "http", "method": method, "path": "/metrics", "headers": encoded}, receive, send)
    start, *bodies = sent
    assert [message["type"] for message in sent] == ["http.response.start", *["http.response.body"] * len(bodies)]
    assert [body.get("more_body", False) for body in bodies] == [True] * (len(bodies) - 1) + [False]
    return start["status"], dict(start["headers"]), b"".join(body["body"] for body in bodies)


async def test_render_yields_the_exposition():
    """Chunk by chunk, it is what the format writes."""
    registry = filled(200)
    chunks = [chunk async for chunk in render(registry, OM)]
    assert len(chunks) > 1
    assert b"".join(chunks).decode() == "".join(openmetrics(registry))


async def test_respond():
    """For a framework that is neither ASGI nor ours."""
    response = await respond(filled(), accept=f"{OM};escaping=dots")
    assert response.status == 200
    assert response.headers == {
        "content-type": "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=dots",
        "vary": "accept, accept-encoding",
        "content-length": f"{len(response.body)}",
    }
    assert parse(response.body.decode())[1].name == "wait__seconds"


@pytest.mark.parametrize("series", [1, 5, 500])
async def test_gzip(series):
    """Small answers as they are, large ones compressed, very large ones in another thread."""
    registry = filled(series)
    plain = await respond(registry)
    packed = await respond(registry, accept_encoding="gzip")
    if series == 1:
        assert packed.body == plain.body
        assert "content-encoding" not in packed.headers
    else:
        assert packed.headers["content-encoding"] == "gzip"
        assert gzip.decompress(packed.body) == plain.body
        assert packed.body[8] == 4  # in RFC 1952: made by the fastest algorithm


def watch_compressing(monkeypatch):
    """Return the threads in which something is compressed from now on."""
    threads = []
    compressobj = zlib.compressobj

    def compressor(*args, **kwargs):
        threads.append(threading.get_ident())
        return compressobj(*args, **kwargs)

    monkeypatch.setattr(zlib, "compressobj", compressor)
    return threads


@pytest.mark.parametrize(("gzip_from", "thread_from", "expected"), [(1, 1, []), (0, 1, [True]), (0, 0, [False])])
async def test_what_is_worth_a_thread(monkeypatch, gzip_from, thread_from, expected):
    """Exactly from the sizes on that stand in the module."""
    registry = filled(5)
    size = len((await respond(registry)).body)
    monkeypatch.setattr(endpoint, "GZIP_FROM", size + gzip_from)
    monkeypatch.setattr(endpoint, "THREAD_FROM", size + thread_from)
    threads = watch_compressing(monkeypatch)
    await respond(registry, accept_encoding="gzip")
    assert [thread == threading.get_ident() for thread in threads] == expected


async def test_asgi():
    """GET answers, HEAD says how much it would be, anything else is refused."""
    app = MetricsApp(filled(50))
    status, headers, body = await asgi(
        app, headers=[("Accept", OM), ("accept-encoding", "gzip"), ("accept-encoding", "br")]
    )
    assert (status, headers[b"content-encoding"]) == (200, b"gzip")
    assert int(headers[b"content-length"]) == len(body)
    assert parse(gzip.decompress(body).decode())
    status, headers, body = await asgi(app, "HEAD")
    assert (status, body) == (200, b"")
    assert int(headers[b"content-length"]) > 1000
    status, headers, body = await asgi(app, "POST")
    assert (status, headers[b"allow"], body) == (405, b"GET, HEAD", b"")


async def test_asgi_lifespan():
    """A server that runs the app by itself starts and stops it."""
    sent = []

    async def receive():
        return {"type": "lifespan.startup"}

    async def send(message):
        sent.append(message["type"])

    await MetricsApp(filled())({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_asgi_leaves_websockets_alone():
    """Nothing is sent, so the server refuses them."""
    await MetricsApp(filled())({"type": "websocket"}, pytest.fail, pytest.fail)


@pytest.mark.parametrize("source", [None, Registry, "metrics"])
def test_app_needs_a_source(source):
    """A class for an instance is told at start, not by the first scrape."""
    with pytest.raises(TypeError, match="MetricsApp needs a Registry or a Snapshot, got"):
        MetricsApp(source)


async def exchange(url, request):
    """Send bytes to the server, and return all that comes back."""
    host, port = url.split("/")[2].rsplit(":", 1)
    received = b""
    async with await anyio.connect_tcp(host, int(port)) as stream:
        await stream.send(request)
        with anyio.fail_after(10):
            try:
                while True:
                    received += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return received


@pytest.mark.parametrize("anyio_backend", ["uvloop", "trio"], indirect=True)
async def test_serve():
    """One line beside a server on stdio; a second scrape is a second connection."""
    async with serve(filled()) as url:
        for _ in range(2):
            head, _, body = (await exchange(url, f"GET /metrics HTTP/1.1\r\nAccept: {OM}\r\n\r\n".encode())).partition(
                b"\r\n\r\n"
            )
            assert head.startswith(b"HTTP/1.1 200 ")
            assert f"content-length: {len(body)}".encode() in head
            assert parse(body.decode())
    with pytest.raises(OSError):
        await exchange(url, b"GET / HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize("anyio_backend", ["uvloop", "trio"], indirect=True)
@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"garbage\r\n\r\n", b"400"),
        (b"GET /metrics SPDY/3\r\n\r\n", b"400"),
        (b"\xff\xfe\r\n\r\n", b"400"),
        (b"GET " + b"x" * 40_000, b"400"),
    ],
)
async def test_serve_survives(request_head, status):
    """Rule 2: what is wrong is answered, and the next scrape is served."""
    async with serve(filled()) as url:
        assert (await exchange(url, request_head))[9:12] in (status, b"")  # a reset may overtake the answer to too much
        assert (await exchange(url, b"HEAD / HTTP/1.0\r\n\r\n"))[9:12] == b"200"


@pytest.mark.parametrize("anyio_backend", ["uvloop", "trio"], indirect=True)
async def test_serve_outlives_a_client_that_hangs_up():
    """Half a request, and gone."""
    async with serve(filled()) as url:
        host, port = url.split("/")[2].rsplit(":", 1)
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send(b"GET /met")
        assert (await exchange(url, b"GET / HTTP/1.1\r\n\r\n"))[9:12] == b"200"


class Wire:
    """A stream from which these pieces come."""

    def __init__(self, *pieces, broken=False):
        self.pieces, self.broken, self.sent = iter(pieces), broken, b""

    async def receive(self):
        return next(self.pieces)

    async def send(self, data):
        if self.broken:
            raise anyio.BrokenResourceError
        self.sent += data


@pytest.mark.parametrize("anyio_backend", ["uvloop", "trio"], indirect=True)
async def test_silence_ends(monkeypatch):
    """Rule 2: who connects and says nothing, or not all, is not waited for longer than ``PATIENCE``."""
    patience = endpoint.PATIENCE
    monkeypatch.setattr(endpoint, "PATIENCE", 0.05)
    async with serve(filled()) as url:
        assert await exchange(url, b"") == b""
        assert await exchange(url, b"GET / HTTP/1.1\r\n") == b""
        monkeypatch.setattr(endpoint, "PATIENCE", patience)
        assert (await exchange(url, b"GET / HTTP/1.1\r\n\r\n"))[9:12] == b"200"


async def test_converse_when_the_client_is_gone():
    """An answer that nobody takes is nobody's error."""
    await endpoint._converse(filled(), Wire(b"GET / HTTP/1.1\r\n\r\n", broken=True))


TEXT = "200 -\r\ncontent-type: text/plain"


@pytest.mark.parametrize(
    ("pieces", "answer"),
    [
        ((b"POST / HTTP/1.1\r\n\r\n",), "405 -\r\nallow: GET, HEAD\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
        ((b"GET  / HTTP/1.1\r\n\r\n",), "400 -\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
        ((b"GET / HTTP/2\r\n\r\n",), "400 "),
        ((b"x" * endpoint.LONGEST_REQUEST, b"x"), "400 "),
        ((b"GET / HTTP/1.1\r\nx:".ljust(endpoint.LONGEST_REQUEST, b"x"), b"\r\n\r\n"), TEXT),
        ((b"GET / HT", b"TP/1.1\r\n\r", b"\n"), TEXT),
        ((f'GET / HTTP/1.1\r\nAccept: {OM};x="a:b"\r\n\r\n'.encode(),), "200 -\r\ncontent-type: application/openm"),
        ((f"GET / HTTP/1.1\r\n\r\nAccept: {OM}\r\n\r\n".encode(),), TEXT),
    ],
)
async def test_converse(pieces, answer):
    """A head may come in pieces, may hold colons, and ends at the first empty line; what is none is refused."""
    wire = Wire(*pieces)
    await endpoint._converse(filled(), wire)
    assert wire.sent.decode().startswith(f"HTTP/1.1 {answer}")
    assert wire.sent.decode().partition("\r\n\r\n")[0].endswith("connection: close")


def test_a_cancelled_scrape_leaves_nothing_behind():
    """Rule 3: at each checkpoint; the next scrape is whole."""

    async def scenario(victim):
        registry = filled(60)

        async def scrape():
            return await respond(registry, accept=OM)

        await victim(scrape)
        return registry

    sweep(scenario, lambda registry: len(parse("".join(openmetrics(registry)))) == 2)


async def scrape_beside(watch, registry, accept, encoding):
    """Scrape *registry* once, to a peer that is ready at once, with *watch* as the only other task."""

    async def send(message):
        await anyio.lowlevel.checkpoint()

    headers = [(b"accept", accept.encode()), (b"accept-encoding", encoding.encode())]
    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        await anyio.lowlevel.checkpoint()  # which is its first turn
        await MetricsApp(registry)({"type": "http", "method": "GET", "headers": headers}, None, send)
        group.cancel_scope.cancel()


@pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)
@pytest.mark.parametrize("accept", [OM, "text/plain", PROTOBUF])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_nothing_large_is_made_between_two_turns(accept, encoding, monkeypatch):
    """Rule 1, exactly: what is joined on the loop shows in memory, and nothing is compressed there."""
    registry, turns, compressing = filled(1_500), [], watch_compressing(monkeypatch)

    async def watch():
        while True:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            await anyio.lowlevel.checkpoint()
            turns.append(tracemalloc.get_traced_memory()[1] - before)

    tracemalloc.start()
    try:
        await scrape_beside(watch, registry, accept, encoding)
    finally:
        tracemalloc.stop()
    # Bytes, of 1.7 million; zlib's own tables, in its thread, are 256 thousand.
    assert max(turns) < (250_000 if encoding == "identity" else 500_000)
    assert len(compressing) == (encoding == "gzip")
    assert threading.get_ident() not in compressing


@pytest.mark.parametrize(
    ("source", "port", "error", "message"),
    [
        (None, 0, TypeError, "a Registry or a Snapshot, got None"),
        (Registry, 0, TypeError, "a Registry or a Snapshot, got <class"),
        (Registry(), -1, ValueError, "a port from 0 to 65535, got -1"),
        (Registry(), 65_536, ValueError, "got 65536"),
        (Registry(), "80", ValueError, "got '80'"),
        (Registry(), True, ValueError, "got True"),
    ],
)
async def test_serve_refuses_nonsense(source, port, error, message):
    """Before anything is opened."""
    with pytest.raises(error, match=message):
        async with serve(source, port=port):
            raise AssertionError


def many_families():
    """Each has a head to write, and next to nothing below it."""
    registry = Registry()
    for number in range(3_000):
        registry.gauge(f"limit-{number}", "Limit.").bind().set(1)
    return registry


def many_idle(seconds):
    """Each series is looked at whether it is idle; after *seconds* they all are, and leave at the next scrape."""
    clock = iter([0.0, *[seconds] * 100])
    registry = Registry(max_series=100_000, idle=60, clock=lambda: next(clock))
    family = registry.counter("jobs", "Jobs.", labels=["name"])
    for number in range(50_000):
        family.bind(f"{number}").inc()
    if seconds:
        for _ in range(2):
            list(family.points())
    return registry


async def longest_turn(registry, accept, encoding="identity"):
    """The most that a scrape does between two turns of another task, as a share of the scrape.

    A share of CPU time, since the machine may be slow, or busy with other things; the benchmark has milliseconds.
    """
    times = []

    async def watch():
        while True:
            times.append(time.thread_time())
            await anyio.lowlevel.checkpoint()

    gc.collect()
    gc.freeze()  # what the registry and the other tests hold is not the scrape's to walk through
    try:
        await scrape_beside(watch, registry, accept, encoding)
    finally:
        gc.unfreeze()
    assert len(times) > 10
    return max(after - before for before, after in pairwise(times)) / (times[-1] - times[0])


@pytest.mark.uninstrumented
@pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)
@pytest.mark.parametrize("accept", [OM, "text/plain", PROTOBUF])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_no_stall_at_100_000_lines(accept, encoding):
    """Rule 1, measured."""
    assert await longest_turn(filled(6_000), accept, encoding) < 0.1


@pytest.mark.uninstrumented
@pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)
@pytest.mark.parametrize("accept", [OM, "text/plain", PROTOBUF])
@pytest.mark.parametrize("fill", [many_families, lambda: many_idle(0.0), lambda: many_idle(60.0)])
async def test_no_stall_by_what_is_not_a_line(accept, fill):
    """Rule 1 for what takes time and writes little: heads of families, and series that are idle or leave."""
    assert await longest_turn(fill(), accept) < 0.1
