"""What a cache must not do: take much memory, hold up the event loop, or let processes wait for a dead one.

Each function returns figures; ``bench_cache.py`` prints them beside their targets.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import resource
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from mcp_cache import Cache

WORKER = Path(__file__).resolve().parent.parent / "tests/cache/worker.py"


def bytes_per_entry(count: int = 100_000) -> float:
    """Fill a cache with entries that have a TTL, and return what the process has grown by for each of them."""
    keys = [f"key:{number}" for number in range(count)]
    cache = Cache(maxsize=count, ttl=1000)

    async def fill() -> float:
        await cache.set(keys[0], 1)
        gc.collect()
        before = _resident()
        for key in keys:
            await cache.set(key, 1)
        gc.collect()
        return (_resident() - before) / count

    return asyncio.run(fill())


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()


def longest_call(count: int) -> tuple[float, float]:
    """Return the CPU seconds of the longest call while *count* live entries are used, and while all of them expire.

    The collector is off: what it takes is the same for any program that has so many objects. The shorter of two runs
    counts, since what the machine does meanwhile is not the cache's doing.
    """
    now = [0.0]
    runs = [_fill_and_expire(Cache(maxsize=count + 10, ttl=100, clock=lambda: now[0]), count, now) for _ in range(2)]
    return min(run[0] for run in runs), min(run[1] for run in runs)


def _fill_and_expire(cache: Cache, count: int, now: list[float]) -> tuple[float, float]:
    async def run() -> tuple[float, float]:
        now[0] = 0.0
        await cache.set_many(dict.fromkeys(range(count), 0))
        gc.collect()
        gc.disable()
        try:
            live = await _longest(cache, range(count - 20_000, count + 20_000))
            now[0] = 1000.0
            return live, await _longest(cache, range(2 * count, 2 * count + 40_000))
        finally:
            gc.enable()

    return asyncio.run(run())


async def _longest(cache: Cache, keys: range) -> float:
    longest = 0.0
    for key in keys:
        began = time.thread_time()
        await cache.set(key, 1)
        await cache.get(key - 5000)
        longest = max(longest, time.thread_time() - began)
    return longest


def processes() -> tuple[int, float, float, float] | None:
    """Return what 4 processes with 25 callers each do with one key, and what they do when their leader is killed.

    Computations in all, commands of the server for each caller that waits, seconds from ``kill -9`` until another
    computes, and the seconds of the lease. None without a Redis or Valkey server on this machine.
    """
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        return None
    lease = 1.0
    with tempfile.TemporaryDirectory() as folder, _server(program, folder) as port:
        with _workers(port, 4, "one", 25, 1.0, lease) as workers:
            before = _commands(port)
            lines = [line for worker in workers for line in worker.communicate("\n")[0].splitlines()]
            commands = (_commands(port) - before) / 99
        with _workers(port, 1, "two", 1, 60, lease) as (leader,), _workers(port, 3, "two", 25, 0.1, lease) as others:
            for worker in (leader, *others):
                _go(worker)
                time.sleep(0.3)
            leader.kill()
            killed = time.monotonic()
            with selectors.DefaultSelector() as selector:
                for worker in others:
                    selector.register(worker.stdout, selectors.EVENT_READ)  # type: ignore[arg-type]  # it is a pipe
                selector.select(timeout=30)
            return lines.count("computing"), commands, time.monotonic() - killed, lease


@contextlib.contextmanager
def _server(program: str, folder: str) -> Iterator[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--daemonize", "no"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603  # ours
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield port
    finally:
        server.kill()
        server.wait()


@contextlib.contextmanager
def _workers(port: int, count: int, *arguments: object) -> Iterator[list[subprocess.Popen[str]]]:
    command = [sys.executable, str(WORKER), str(port), *map(str, arguments)]
    workers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603  # ours
        for _ in range(count)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None  # noqa: S101  # for type checkers
            worker.stdout.readline()
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def _go(worker: subprocess.Popen[str]) -> None:
    assert worker.stdin is not None  # noqa: S101  # for type checkers
    worker.stdin.write("\n")
    worker.stdin.flush()


def _commands(port: int) -> int:
    """Return how many commands clients have sent, those that scripts ran not counted."""
    with socket.create_connection(("127.0.0.1", port), 2) as connection:
        connection.sendall(b"INFO commandstats\r\nQUIT\r\n")
        text = connection.makefile("rb").read().decode()
    sent = re.findall(r"cmdstat_(?:eval|evalsha|exists|subscribe|scan|unsubscribe):calls=(\d+)", text)
    return sum(map(int, sent))
