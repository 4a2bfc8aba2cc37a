# /// script
# requires-python = ">=3.10"
# dependencies = ["tenacity", "stamina", "backoff", "hyx", "fastmcp>=4,<5"]
# ///
"""What a retry costs while nothing fails, beside its peers, and what each does to a server that stood still.

Each candidate wraps an async function that returns at once:

- *Retry*: the decorator, with the default budget; *call*: ``retry.call(fn)``; *on_result*: with a predicate on results;
  *attempt_timeout*: each attempt in a cancel scope; *block*: ``async for attempt in retry``;
- *tenacity*, *stamina*, *backoff*, *hyx*: their decorators; *tenacity, block*: its ``async for``;
- *RetryMiddleware*, *FastMCP RetryMiddleware*: a ``tools/call`` through the middleware to a handler.

Then the table of ``retry_storm.py``.
"""

from __future__ import annotations

import functools
import inspect
import random
from types import SimpleNamespace
from typing import Any

import backoff
import retry_storm
import stamina
import tenacity
from _ratio import compare
from fastmcp.server.middleware import MiddlewareContext
from fastmcp.server.middleware.error_handling import RetryMiddleware as FastMCPRetryMiddleware
from hyx.retry import retry as hyx_retry
from mcp_retry import Retry, RetryMiddleware

PEERS = ["tenacity", "stamina", "backoff", "hyx", "fastmcp"]
RESULT = {"content": [{"type": "text", "text": "3"}], "isError": False, "resultType": "complete"}


async def noop() -> None: ...


async def handler(ctx: Any) -> dict[str, Any]:
    return RESULT


def block(attempts: Any) -> Any:
    async def run() -> None:
        async for attempt in attempts():
            async with attempt:
                await noop()

    return run


def tenacity_block() -> Any:
    async def run() -> None:
        async for attempt in tenacity.AsyncRetrying():
            with attempt:
                await noop()

    return run


def through(middleware: Any, context: Any) -> Any:
    async def run() -> object:
        return await middleware(context, handler)

    return run


def compare_with_installed() -> None:
    """Fail when the defaults of tenacity or stamina are no longer those in ``retry_storm``."""
    retrying = tenacity.AsyncRetrying()
    defaults = {name: parameter.default for name, parameter in inspect.signature(stamina.retry).parameters.items()}
    waits = [defaults[f"wait_{name}"] for name in ("max", "initial", "exp_base", "jitter")]
    found = [isinstance(retrying.wait, tenacity.wait_none), retrying.stop is tenacity.stop_never]
    found.append((defaults["attempts"], defaults["timeout"]) == (10, 45.0))
    for attempt in range(1, 11):
        random.seed(attempt)
        theirs = stamina._core._compute_backoff(attempt, *waits)
        random.seed(attempt)
        found.append(theirs == retry_storm.stamina_delay(attempt, random.uniform(0, 1)))  # noqa: S311  # chance, not secrecy
    if not all(found):
        raise SystemExit(f"retry_storm.py has other defaults than the peers that are installed: {found}")


def main() -> None:
    retry = Retry(on=ConnectionError)
    request = SimpleNamespace(method="tools/call", params={"name": "add", "arguments": {}})
    message = MiddlewareContext(message=None, method="tools/call", type="request")
    candidates: dict[str, Any] = {
        "Retry": retry(noop),
        "Retry, call": functools.partial(retry.call, noop),
        "Retry, on_result": Retry(on=ConnectionError, on_result=lambda result: False)(noop),
        "Retry, attempt_timeout": Retry(on=ConnectionError, attempt_timeout=1)(noop),
        "Retry, block": block(lambda: retry),
        "hyx": hyx_retry(on=ConnectionError)(noop),
        "backoff": backoff.on_exception(backoff.expo, ConnectionError)(noop),
        "stamina": stamina.retry(on=ConnectionError)(noop),
        "tenacity": tenacity.retry(noop),
        "tenacity, block": tenacity_block(),
        "RetryMiddleware": through(RetryMiddleware(retry), request),
        "FastMCP RetryMiddleware": through(FastMCPRetryMiddleware(), message),
    }
    rows = {row.name: row for row in compare(candidates, peers=PEERS, calls=300)}
    print("\nWhat the peers add to a bare await, as a multiple of what Retry adds:")
    for name in ("hyx", "backoff", "stamina", "tenacity"):
        print(f"{name:<12} {(rows[name].ratio - 1) / (rows['Retry'].ratio - 1):6.1f}")
    theirs, own = rows["FastMCP RetryMiddleware"], rows["RetryMiddleware"]
    print(f"FastMCP's middleware, as a multiple of RetryMiddleware: {(theirs.ratio - 1) / (own.ratio - 1):.1f}\n")
    compare_with_installed()
    retry_storm.main()


if __name__ == "__main__":
    main()
