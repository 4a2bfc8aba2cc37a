"""Three servers, one Redis, one crowd of clients; a server is killed and Redis restarted, and the limit holds exactly.

    python -m examples.demo.cluster

    clients ──▶ server 1 ──┐
            ──▶ server 2 ──┼──▶ Redis: how often who called, what is known, whether the supplier is well
            ──▶ server 3 ──┘──▶ the supplier

It needs ``redis-server`` or ``valkey-server`` on the PATH.  Redis writes every change to its file before it answers:
what it has counted outlives it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL

import anyio
from anyio.abc import Process
from mcp import Client
from mcp_circuit import CIRCUIT_OPEN
from mcp_pool import KeyedPool
from rich.console import Console

from .stage import Stage
from .supplier import FlakySupplier, serving
from .world import Ending, Premises, client_over_http, ending, http_server, running, stationer

LIMIT, OVER_LIMIT = "200/hour", -31029
SERVERS, CLIENTS, CALLS = 3, 6, 300
ARTICLES = 20
KILL_AT, RESTART_AT = 60, 120  # calls that are over by then
PATIENCE = 10.0  # seconds for one call
REFRESH = 0.25  # seconds after which a server has certainly looked at the shared circuit again
GONE = Ending("refused -32000")  # what the SDK's client makes of a connection that breaks
LOST = 5.0  # seconds: a refusal that says to come back sooner is no word of the limit's


class RedisProcess:
    """A Redis whose memory is on disk, so that it outlives the process."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        options = {"bind": "127.0.0.1", "port": self._port, "dir": folder, "save": "", "appendonly": "yes"}
        options |= {"appendfsync": "always"}
        self._options = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        self._process: Process | None = None
        self.url = f"redis://127.0.0.1:{self._port}"

    @staticmethod
    def program() -> str | None:
        """Return the path of the server, None where there is none."""
        return shutil.which("redis-server") or shutil.which("valkey-server")

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        self._process = await anyio.open_process([str(self.program()), *self._options], stdout=DEVNULL, stderr=DEVNULL)
        with anyio.fail_after(PATIENCE):
            while not await self._answers():  # noqa: ASYNC110  # another process, and no event
                await anyio.sleep(0.02)

    async def _answers(self) -> bool:
        try:
            async with await anyio.connect_tcp("127.0.0.1", self._port) as stream:
                await stream.send(b"PING\r\n")
                return await stream.receive() == b"+PONG\r\n"
        except OSError:
            return False

    async def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process:
            self._process.kill()
            await self._process.wait()


class Crowd:
    """Clients that take turns with the servers, and go to the next one when a server does not answer."""

    def __init__(self, sessions: KeyedPool[str, Client], servers: list[str]) -> None:
        self._sessions = sessions
        self._turns = deque(servers)
        self.ends: Counter[str] = Counter()
        self.broken = self.held = 0
        """Calls whose server was gone before it answered; calls that were told to come back in a moment."""

    async def ask(self, article: str) -> str:
        """Ask what an article costs until there is an answer, or the limit's final no."""
        while True:
            self._turns.rotate(1)
            server = self._turns[0]
            try:
                end = await self.try_once(server, article)
            except Exception:  # noqa: BLE001  # what a client raises for a server that is gone is its own affair
                end = GONE
            if end == GONE:
                self.broken += 1
                if len(self._turns) > 1 and server in self._turns:
                    self._turns.remove(server)
                continue
            if end.retry_after is None or end.retry_after > LOST:
                return end.kind
            self.held += 1
            await anyio.sleep(end.retry_after + 0.01)

    async def remaining(self) -> int:
        """Return how many calls the limit has left, as a server that lives reads it in Redis."""
        (limit,) = (await Premises(self._turns[0], FlakySupplier()).status())["limits"]
        return int(limit["remaining"])

    async def try_once(self, server: str, article: str) -> Ending:
        """Ask one server, once."""
        with anyio.fail_after(PATIENCE):
            async with self._sessions.acquire(server) as client:
                return await ending(client, "price", {"article": article})


@asynccontextmanager
async def session(url: str) -> AsyncIterator[Client]:
    """Connect as Ada."""
    async with client_over_http(url, "token-of-ada") as client:
        yield client


async def play(stage: Stage) -> None:
    """Start everything, break it, and count."""
    redis, supplier = RedisProcess(stage.folder), FlakySupplier()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(redis.kill)
        with stage.waiting("starting Redis and the servers"):
            await redis.start()
            prices = await stack.enter_async_context(serving(supplier))
            servers = [
                await stack.enter_async_context(http_server(stage.folder, prices, "0", redis.url, LIMIT))
                for _ in range(SERVERS)
            ]
        sessions = KeyedPool[str, Client].from_context(session, max_total=SERVERS * CLIENTS, max_size=CLIENTS)
        crowd = Crowd(await stack.enter_async_context(sessions), servers)
        await _one_circuit(stage, crowd, servers, supplier)
        await _one_limit(stage, crowd, redis, supplier)


async def _one_circuit(stage: Stage, crowd: Crowd, servers: list[str], supplier: FlakySupplier) -> None:
    stage.act("One circuit", "The supplier breaks, one server learns it the hard way, and all know.")
    first, second, third = servers
    supplier.health = "down"
    learned = await crowd.try_once(first, "anything")
    await anyio.sleep(REFRESH)
    asked = supplier.asked
    told = await crowd.try_once(second, "anything")
    spared = supplier.asked == asked
    supplier.health = "well"
    await anyio.sleep((told.retry_after or 0) + REFRESH)
    probed = await crowd.try_once(third, "anything")
    stage.claim("the first server's calls failed", learned.kind, "tool_error")
    stage.claim("the second one refuses without having asked", told.kind, f"refused {CIRCUIT_OPEN}")
    stage.claim("and the supplier was spared", spared, True)
    stage.claim("the third finds him well again, for all", (probed.kind, supplier.asked), ("ok", asked + 1))


async def _one_limit(stage: Stage, crowd: Crowd, redis: RedisProcess, supplier: FlakySupplier) -> None:
    stage.act(
        "One limit", f"{CALLS} calls, of which {LIMIT} may pass; a server dies, and Redis is killed and restarted."
    )
    room, asked = await crowd.remaining(), supplier.asked
    with stage.progress("calls that are over") as show:
        async with anyio.create_task_group() as tasks:
            numbers = iter(range(CALLS))

            async def client() -> None:
                for number in numbers:
                    crowd.ends[await crowd.ask(f"article-{number % ARTICLES}")] += 1
                    show(crowd.ends.total(), CALLS)

            for _ in range(CLIENTS):
                tasks.start_soon(client)
            await _mishaps(stage, crowd, redis)
    passed, lost = crowd.ends["ok"], room - crowd.ends["ok"]
    stage.tell(f"{crowd.broken} attempts met a dead server, {crowd.held} were told to come back in a moment")
    refused = crowd.ends[f"refused {OVER_LIMIT}"]
    stage.claim(f"each of the {CALLS} calls ended in an answer or in the limit's no", passed + refused, CALLS)
    stage.claim(f"not one more passed than the {room} that were left", passed <= room, True)
    stage.claim(
        f"the {lost} not answered were charged to calls that broke off", 0 <= lost <= crowd.broken + crowd.held, True
    )
    stage.claim("Redis has forgotten nothing: the limit is used up to the last", await crowd.remaining(), 0)
    stage.claim("and the supplier was asked by few, for all", supplier.asked - asked < passed / 2, True)


async def _mishaps(stage: Stage, crowd: Crowd, redis: RedisProcess) -> None:
    await _until(lambda: crowd.ends.total() >= KILL_AT)
    os.kill(running(stage.folder)[0], signal.SIGKILL)
    await _until(lambda: crowd.ends.total() >= RESTART_AT)
    await redis.kill()
    await anyio.sleep(1.0)
    await redis.start()


async def _until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110  # a count, and no event
        await anyio.sleep(0.005)


def main() -> int:
    """Tell the story, and return the exit code."""
    if not RedisProcess.program():
        print("this needs redis-server or valkey-server on the PATH", file=sys.stderr)
        return 2
    with stationer() as folder:
        stage = Stage(folder, Console(highlight=False), folder / "metrics")
        anyio.run(play, stage)
    print(f"\n   {stage.claims - stage.failed} of {stage.claims} claims held")
    return 1 if stage.failed else 0


if __name__ == "__main__":
    sys.exit(main())
