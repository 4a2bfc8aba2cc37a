"""Measures that do not depend on how busy the machine is: bytes kept by a call, and bytecodes run by one.

``no_growth`` fails when repeated calls keep memory. ``count_instructions`` counts the bytecodes of one call, for a gate
that turns red when a hot path gets longer: the figure is the same in every run, but each Python has its own.
"""

from __future__ import annotations

import gc
import inspect
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["count_instructions", "no_growth"]

ROUNDS = 4  # a leak grows in each; a cache that fills up or a list that makes room does not
TOLERANCE = 4  # bytes a call: less than one slot of a list


async def no_growth(fn: Callable[[], object], *, calls: int = 300, cycles: bool = False) -> None:
    """Fail when each call of ``fn()``, sync or async, keeps memory.

    Garbage that waits in reference cycles counts as kept, because it stays until the collector comes round;
    ``cycles=True`` lets it pass. Memory that is not Python's own (a C library's) is not seen.
    """
    limit = calls * TOLERANCE
    with _without_collector(), _tracing():
        growth = await _growth(fn, calls, collect=cycles)
        if growth <= limit:
            return
        kind = "memory" if cycles or await _growth(fn, calls, collect=True) > limit else "reference cycles"
        places = await _places(fn, calls)
    raise AssertionError(f"each of {calls} calls leaves {growth / calls:.0f} bytes of {kind} behind:\n{places}")


async def _growth(fn: Callable[[], object], calls: int, *, collect: bool) -> int:
    await _repeat(fn, calls)
    gc.collect()
    growths = []
    for _ in range(ROUNDS):
        before = _allocated(collect=collect)
        await _repeat(fn, calls)
        growths.append(_allocated(collect=collect) - before)
    return min(growths)


async def _places(fn: Callable[[], object], calls: int) -> str:
    before = tracemalloc.take_snapshot()
    await _repeat(fn, calls)
    lines = tracemalloc.take_snapshot().compare_to(before, "lineno")
    return "\n".join(f"  {line}" for line in lines[:5])


async def _repeat(fn: Callable[[], object], calls: int) -> None:
    for _ in range(calls):
        result = fn()
        if inspect.isawaitable(result):
            await result


def _allocated(*, collect: bool) -> int:
    if collect:
        gc.collect()
    return tracemalloc.get_traced_memory()[0]


def count_instructions(fn: Callable[[], object]) -> int:
    """Bytecodes that one call of ``fn()`` runs, in its own and all called Python frames.

    An async *fn* is stepped by hand and must not suspend: decisions do not wait. The first calls warm the interpreter
    up. Raises RuntimeError when two counts differ, because then the figure says nothing.
    """
    count = _count_by_monitoring if sys.version_info >= (3, 12) else _count_by_tracing
    for _ in range(3):
        _finish(fn())
    with _without_collector():
        counts = [count(fn), count(fn)]
    if counts[0] != counts[1]:
        raise RuntimeError(f"two calls of {fn!r} ran {counts[0]} and {counts[1]} bytecodes; does it do the same twice?")
    return counts[0]


def _finish(result: object) -> None:
    if not inspect.iscoroutine(result):
        return
    try:
        result.send(None)
    except StopIteration:
        return
    result.close()
    raise RuntimeError(f"{result.__qualname__} suspended; count_instructions counts code that does not wait")


def _count_by_tracing(fn: Callable[[], object]) -> int:
    ours = {count_instructions.__code__, _count_by_tracing.__code__, _finish.__code__}
    count = 0

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal count
        if frame.f_code in ours:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    previous = sys.gettrace()
    sys.settrace(trace)
    try:
        _finish(fn())
    finally:
        sys.settrace(previous)
    return count


def _count_by_monitoring(fn: Callable[[], object]) -> int:
    monitoring: Any = sys.monitoring
    ours = {_count_by_monitoring.__code__, _finish.__code__}
    tool = next(number for number in range(6) if monitoring.get_tool(number) is None)
    count = 0

    def instruction(code: object, offset: int) -> None:
        nonlocal count
        count += code not in ours

    monitoring.use_tool_id(tool, "count_instructions")
    monitoring.register_callback(tool, monitoring.events.INSTRUCTION, instruction)
    monitoring.set_events(tool, monitoring.events.INSTRUCTION)
    try:
        _finish(fn())
    finally:
        monitoring.set_events(tool, 0)
        monitoring.register_callback(tool, monitoring.events.INSTRUCTION, None)
        monitoring.free_tool_id(tool)
    return count


@contextmanager
def _without_collector() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _tracing() -> Iterator[None]:
    if tracemalloc.is_tracing():  # by the wish of whoever started Python
        yield
        return
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
