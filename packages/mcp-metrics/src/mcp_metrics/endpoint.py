"""Answer scrapes: as an ASGI app, as a function of two headers, or from a small server of its own.

    render(source, accept) ── chunks, a checkpoint after each ──▶ gzip, in a worker thread when large ──▶ response

Rules, each tested in ``tests/metrics/test_endpoint.py``:

1. The event loop is never kept for longer than one chunk takes, about half a millisecond, however much there is to say.
2. No request raises: an unknown method gets 405, garbage on the socket 400, and silence ends after ``PATIENCE``.
3. A scrape that is cancelled leaves no task, no connection and no half-read series behind.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import anyio
import anyio.abc
import anyio.lowlevel

from .checks import checked_source
from .exposition import Source
from .negotiation import Format, accepts_gzip, choose

__all__ = ["MetricsApp", "Response", "render", "respond", "serve"]

GZIP_FROM = 1024  # bytes: below, the answer fits in a packet or two anyway
THREAD_FROM = 65_536  # bytes: 0.2 ms of compressing, what moving to a thread and back costs
GZIP = 31  # for zlib: the largest window, and gzip's frame around it
PATIENCE = 5.0  # seconds for a request to arrive and an answer to leave
LONGEST_REQUEST = 16_384  # bytes
PORTS = range(65_536)  # 0 for any free one
ENCODING = "latin-1"  # of heads: every byte is a character, so none is refused

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Response(NamedTuple):
    """An HTTP answer; the names of the headers are in small letters.

    The body is in chunks, since to join megabytes takes milliseconds, in which no other task runs.
    """

    status: int
    headers: dict[str, str]
    chunks: Sequence[bytes] = ()

    @property
    def body(self) -> bytes:
        """All of it in one piece."""
        return b"".join(self.chunks)


def render(source: Source, accept: str = "") -> AsyncIterator[bytes]:
    """Yield the exposition in the format that *accept* asks for, and let other tasks run after each chunk."""
    return _render(source, choose(accept))


async def respond(source: Source, *, accept: str = "", accept_encoding: str = "") -> Response:
    """Return the answer to a scrape with these two headers; for a framework that is not ASGI."""
    form = choose(accept)
    chunks = [chunk async for chunk in _render(source, form) if chunk]
    headers = {"content-type": form.content_type, "vary": "accept, accept-encoding"}
    size = sum(map(len, chunks))
    if size >= GZIP_FROM and accepts_gzip(accept_encoding):
        chunks = [_compress(chunks) if size < THREAD_FROM else await anyio.to_thread.run_sync(_compress, chunks)]
        headers["content-encoding"] = "gzip"
    return Response(200, {**headers, "content-length": str(sum(map(len, chunks)))}, chunks)


class MetricsApp:
    """An ASGI app that answers every path: mount it where the metrics shall be, or run it by itself."""

    def __init__(self, source: Source) -> None:
        self._source = checked_source("MetricsApp", source, "collect", "a Registry or a Snapshot")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or the lifespan protocol."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, send)

    async def _answer(self, scope: Scope, send: Send) -> None:
        headers = _joined((name.decode(ENCODING), value.decode(ENCODING)) for name, value in scope["headers"])
        response = await _dispatch(self._source, scope["method"], headers)
        encoded = [(name.encode(), value.encode()) for name, value in response.headers.items()]
        await send({"type": "http.response.start", "status": response.status, "headers": encoded})
        for chunk in response.chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def serve(source: Source, *, port: int = 0, host: str = "127.0.0.1") -> AsyncGenerator[str, None]:
    """Serve *source* over HTTP while the block runs, and yield the URL; beside a server on stdio, say.

    Port 0 is any free one. There is no authentication: bind to other addresses than loopback in a private network only.
    Raises OSError when the port is taken.
    """
    checked_source("serve()", source, "collect", "a Registry or a Snapshot")
    if type(port) is not int or port not in PORTS:
        raise ValueError(f"serve() needs a port from 0 to 65535, got {port!r}")
    listeners = await anyio.create_tcp_listener(local_host=host, local_port=port)
    bound = listeners.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610  # anyio's, not Django's

    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            with anyio.move_on_after(PATIENCE):
                await _converse(source, stream)

    async with listeners, anyio.create_task_group() as group:
        group.start_soon(listeners.serve, answer)
        yield f"http://{f'[{host}]' if ':' in host else host}:{bound}/metrics"
        group.cancel_scope.cancel()


async def _render(source: Source, form: Format) -> AsyncIterator[bytes]:
    for chunk in form.write(source, form.scheme):
        yield chunk if isinstance(chunk, bytes) else chunk.encode()
        await anyio.lowlevel.checkpoint()


def _compress(chunks: Sequence[bytes]) -> bytes:
    compressor = zlib.compressobj(1, wbits=GZIP)  # lets other threads run while it is at a chunk
    return b"".join([*map(compressor.compress, chunks), compressor.flush()])


async def _dispatch(source: Source, method: str, headers: Mapping[str, str]) -> Response:
    if method not in ("GET", "HEAD"):
        return Response(405, {"allow": "GET, HEAD", "content-length": "0"})
    accept, encoding = headers.get("accept", ""), headers.get("accept-encoding", "")
    response = await respond(source, accept=accept, accept_encoding=encoding)
    return response._replace(chunks=()) if method == "HEAD" else response


async def _converse(source: Source, stream: anyio.abc.SocketStream) -> None:
    """Read one request, answer it, and be done: scrapers come every few seconds."""
    try:
        method, headers = _parse(await _head(stream))
        response = await _dispatch(source, method, headers)
    except ValueError:
        response = Response(400, {"content-length": "0"})
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return
    lines = [f"HTTP/1.1 {response.status} -", *(f"{name}: {value}" for name, value in response.headers.items())]
    head = "\r\n".join([*lines, "connection: close", "", ""])
    with suppress(anyio.BrokenResourceError):
        for chunk in (head.encode(), *response.chunks):
            await stream.send(chunk)


async def _head(stream: anyio.abc.SocketStream) -> bytes:
    received = b""
    while b"\r\n\r\n" not in received:
        if len(received) > LONGEST_REQUEST:
            raise ValueError  # answered with 400, like all that is no request
        received += await stream.receive()
    return received.partition(b"\r\n\r\n")[0]


def _parse(head: bytes) -> tuple[str, dict[str, str]]:
    request, *lines = head.decode(ENCODING).split("\r\n")
    method, _, version = request.split(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError
    pairs = (line.partition(":") for line in lines)
    return method, _joined((name, value) for name, _, value in pairs)


def _joined(pairs: Any) -> dict[str, str]:
    """Join headers of the same name with commas, as RFC 9110 has it."""
    headers: dict[str, str] = {}
    for name, value in pairs:
        key = name.strip().lower()
        headers[key] = f"{headers[key]},{value.strip()}" if key in headers else value.strip()
    return headers


async def _live(receive: Receive, send: Send) -> None:
    for phase in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{phase}.complete"})
