"""The supplier: a small HTTP service that can be broken and healed while it runs, and counts who suffers."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import Any, Literal

import anyio
import uvicorn

Health = Literal["well", "flaky", "down"]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class FlakySupplier:
    """An ASGI app that answers ``/price/ARTICLE``; flaky, every fourth time it does not, and down never."""

    def __init__(self) -> None:
        self.health: Health = "well"
        self.asked = 0

    async def __call__(self, scope: Any, _receive: object, send: Send) -> None:
        """Answer one request."""
        self.asked += 1
        fails = self.health == "down" or (self.health == "flaky" and self.asked % 4 == 0)
        price = 1 + sum(scope["path"].encode()) % 1000 / 100
        await send({"type": "http.response.start", "status": 503 if fails else 200})
        await send({"type": "http.response.body", "body": b"" if fails else str(price).encode()})


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """Serve an ASGI app on a free port of the loopback interface while the block runs, and give its URL."""
    # asyncio switches Nagle's algorithm off only where the protocol is spelt out; with it every answer is 40 ms late.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="critical", lifespan="off", ws="none", timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        server.capture_signals = nullcontext  # type: ignore[assignment]  # the signals are the program's
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(server.serve, sockets=[listening]))
            while not server.started:  # noqa: ASYNC110  # uvicorn sets a flag, and no event
                await anyio.sleep(0.005)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            server.should_exit = True
