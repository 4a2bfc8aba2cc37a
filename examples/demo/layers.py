"""The middleware of the demo, each a dozen lines, each fit for any server, client or function."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from mcp_middleware import (
    CallContext,
    Chain,
    arguments,
    for_methods,
    for_tools,
    is_notification,
    outcome,
    principal,
    refuse,
    target,
    with_arguments,
)

C = TypeVar("C", bound=CallContext)
R = TypeVar("R")

FORBIDDEN = -31003
"""The error code of a refusal: of our own choosing, outside what JSON-RPC and MCP reserve."""


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


class NeedsScope:
    """Refuse everyone whose token lacks the scope; over stdio, where nobody has one, `local` lets the user pass."""

    def __init__(self, scope: str, *, local: bool) -> None:
        self._scope = scope
        self._local = local

    async def __call__(self, ctx: C, call_next: Callable[[C], Awaitable[R]]) -> R:
        """Ask the verified token, never what the caller says about itself."""
        who = principal(ctx)
        allowed = self._local if who is None else self._scope in who.scopes
        if not allowed:
            raise refuse(FORBIDDEN, f"{target(ctx)} needs the scope {self._scope}", {"scope": self._scope})
        return await call_next(ctx)


def chain(log: Path, *, local: bool) -> Chain:
    """Build the chain that stands before the server, over stdio (`local`) and over HTTP alike."""
    return Chain(
        for_methods(["tools/*", "resources/*"], CallLog(log)),
        for_tools(["append_note", "delete_note"], NeedsScope("notes:write", local=local)),
        for_tools("*_note", tidy_names),
    )
