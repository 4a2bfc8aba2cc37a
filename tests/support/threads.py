"""Run async functions at the same moment, each on an event loop of its own in a thread of its own.

For what must hold when one object serves several loops. Time is real here: two virtual clocks would know nothing of
each other.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, wait
from typing import Any

import anyio

__all__ = ["run_in_threads"]


def run_in_threads(*fns: Callable[[], Awaitable[Any]], backend: str = "asyncio", timeout: float = 30) -> list[Any]:
    """Run every one of *fns* in its own thread and loop, all released by one barrier; their results, in order.

    Raises the first exception, and TimeoutError when one is still running after *timeout* seconds.
    """
    barrier = threading.Barrier(len(fns))
    futures: list[Future[Any]] = [Future() for _ in fns]
    for fn, future in zip(fns, futures, strict=True):
        threading.Thread(target=_run, args=(fn, future, barrier, backend), daemon=True).start()
    if running := wait(futures, timeout).not_done:
        raise TimeoutError(f"{len(running)} of {len(fns)} threads are still running after {timeout:g} s")
    return [future.result() for future in futures]


def _run(fn: Callable[[], Awaitable[Any]], future: Future[Any], barrier: threading.Barrier, backend: str) -> None:
    async def released() -> Any:
        barrier.wait()
        return await fn()

    try:
        future.set_result(anyio.run(released, backend=backend))
    except BaseException as error:  # noqa: BLE001 raised again in the test
        future.set_exception(error)
