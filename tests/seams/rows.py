"""The middleware that the matrix puts at every seam: one line of ``ROWS`` is one more column of it.

To register a middleware, add ``"name": factory`` to ``ROWS``. The factory takes nothing and returns a fresh middleware
that lets a handful of calls pass: the matrix shows that it *fits* everywhere, what it does is the business of its own
tests. At each seam it runs as ``Chain(Recorder(...), factory())``, and every call must end as it does without it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mcp_cache
import mcp_circuit
import mcp_metrics
import mcp_middleware as mm
import mcp_rbac
from mcp_ratelimit import RateLimitMiddleware
from mcp_retry import Retry, RetryMiddleware

from tests.seams.pool_row import Pooled

ROWS: dict[str, Callable[[], Any]] = {
    "chain": mm.Chain,
    "cache": lambda: mcp_cache.CacheMiddleware(ttl=5, tools={"add": 5}),
    "circuit": lambda: mcp_circuit.CircuitMiddleware(lambda tool: mcp_circuit.CircuitBreaker()),
    "metrics": lambda: mcp_metrics.MetricsMiddleware(mcp_metrics.Registry()),
    "pool": Pooled,
    "ratelimit": lambda: RateLimitMiddleware("600/min", tools={"add": "300/min"}, overall="6000/min", post_charge=True),
    "rbac": lambda: mcp_rbac.RBACMiddleware(
        mcp_rbac.Policy(roles={"all": {"allow": ["**"]}}),
        local=mcp_rbac.Subject(roles=["all"]),
        anonymous=mcp_rbac.Subject(roles=["all"]),
    ),
    "retry": lambda: RetryMiddleware(Retry(on=ConnectionError)),
}

CODE, ADVICE, SECRET = -31029, {"retry_after": 7}, "hunter2"
"""What ``refuse`` refuses with, and what must not reach any client."""


async def rewrite(ctx: Any, call_next: Any) -> Any:
    """Let ``add`` add other numbers than the client asked for."""
    return await call_next(mm.with_arguments(ctx, {"a": 20, "b": 22}) if mm.target(ctx) == "add" else ctx)


async def refuse(ctx: Any, call_next: Any) -> Any:
    """Refuse ``add`` because of an error whose text is nobody's business."""
    if mm.target(ctx) == "add":
        raise mm.refuse(CODE, "slow down", ADVICE) from ValueError(SECRET)
    return await call_next(ctx)


PROBES: dict[str, Any] = {"rewrite": rewrite, "refuse": refuse}


class Recorder:
    """Writes down every message on its way in and its outcome on the way out, one JSON line each."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def __call__(self, ctx: Any, call_next: Any) -> Any:
        """Pass the call on."""
        facts = {
            "method": ctx.method,
            "target": mm.target(ctx),
            "internal": mm.is_internal(ctx),
        }
        self._note(facts)
        try:
            result = await call_next(ctx)
        except BaseException as error:
            self._note({**facts, "outcome": mm.outcome(error)})
            raise
        self._note({**facts, "outcome": mm.outcome(result)})
        return result

    def _note(self, line: dict[str, Any]) -> None:
        with Path(self._path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def build(name: str, path: str) -> mm.Chain:
    """Return the middleware `name` behind a recorder that writes to the file `path`."""
    return mm.Chain(Recorder(path), PROBES[name] if name in PROBES else ROWS[name]())
