"""Two layers of the shop's own beside those of the stack, each a dozen lines, each fit for any server or function."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from mcp_middleware import (
    CallContext,
    arguments,
    is_notification,
    outcome,
    principal,
    target,
    with_arguments,
)

C = TypeVar("C", bound=CallContext)
R = TypeVar("R")


class CallLog:
    """Write one JSON line for each request: who called what, how it ended and how long it took (seconds)."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    async def __call__(self, ctx: C, call_next: Callable[[C], Awaitable[R]]) -> R:
        """Time the call; a notification has no outcome and is left out."""
        if is_notification(ctx):
            return await call_next(ctx)
        start = time.perf_counter()
        try:
            result = await call_next(ctx)
        except BaseException as error:
            self._write(ctx, outcome(error), time.perf_counter() - start)
            raise
        self._write(ctx, outcome(result), time.perf_counter() - start)
        return result

    def _write(self, ctx: CallContext, ending: str, seconds: float) -> None:
        who = principal(ctx)
        record = {
            "who": who.subject if who else None,
            "method": ctx.method,
            "target": target(ctx),
            "outcome": ending,
            "seconds": seconds,
        }
        self._file.write(json.dumps(record) + "\n")


async def tidy_names(ctx: C, call_next: Callable[[C], Awaitable[R]]) -> R:
    """Let people write ``" Ink "`` where the note is called ``ink``."""
    name = arguments(ctx).get("name")
    if isinstance(name, str):
        ctx = with_arguments(ctx, {**arguments(ctx), "name": name.strip().lower()})
    return await call_next(ctx)
