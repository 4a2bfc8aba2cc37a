"""What stays in memory after a million calls of each kind: successes, refusals, retries.

The garbage collector is off, so that what waits in reference cycles counts as kept.  Two figures, since tracemalloc
would take minutes: blocks that Python has allocated and not freed, each of up to 512 bytes, exactly; and the peak of
the memory of the whole process, where anything larger would show, a single byte a call as one MB.  Each run begins with
calls that fill caches and free lists.  The tests measure bytes with tracemalloc, over fewer calls.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import sys
from array import array
from collections.abc import Awaitable, Callable

from mcp_retry import Budget, Retry, constant

CALLS = 1_000_000
WARM_UP = 10_000


async def succeed() -> None: ...


async def fail() -> None:
    raise ConnectionError


def kinds() -> dict[str, Callable[[], Awaitable[None]]]:
    """Return a call of each kind: that succeeds, that is refused its retry, that is retried once and given up."""
    empty = Budget(ratio=0, floor=1e-9, burst=1)
    empty.spend()
    return {
        "successes": Retry(on=ConnectionError)(succeed),
        "refusals": Retry(on=ConnectionError, budget=empty)(fail),
        "retries": Retry(on=ConnectionError, budget=False, attempts=2, backoff=constant(0))(fail),
    }


async def growth(call: Callable[[], Awaitable[None]], calls: int) -> tuple[int, int]:
    """Return the blocks that *calls* calls have left behind, and the kB by which the peak of the process rose."""
    await repeat(call, WARM_UP)
    counts = array("q", [0] * 4)  # an int of their own would be a block more
    counts[0], counts[1] = peak(), sys.getallocatedblocks()
    await repeat(call, calls)
    counts[2], counts[3] = peak(), sys.getallocatedblocks()
    return counts[3] - counts[1], counts[2] - counts[0]


def peak() -> int:
    """Return the peak of this process's memory so far, in kB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


async def repeat(call: Callable[[], Awaitable[None]], calls: int) -> None:
    """Call so many times; a failure is expected, or none."""
    for _ in range(calls):
        try:
            await call()
        except ConnectionError:
            continue


def main() -> None:
    """Print the table."""
    gc.collect()
    gc.disable()
    print(f"left behind by {CALLS} calls, target 0:")
    for name, call in kinds().items():
        blocks, kilobytes = asyncio.run(growth(call, CALLS))
        print(f"  {name:<12}{blocks:>4} blocks {kilobytes:>6} kB")
    gc.enable()


if __name__ == "__main__":
    main()
