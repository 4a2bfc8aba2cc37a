# /// script
# requires-python = ">=3.10"
# dependencies = ["tenacity", "stamina", "backoff", "hyx", "fastmcp>=4,<5"]
# ///
"""What a retry costs while nothing fails, beside its peers, and what each does to a server that stood still.

Each candidate wraps an async function that returns at once:

- *Retry*: the decorator, with the default budget; *50 conditions*: the same with more to check and more attempts;
  *call*: ``retry.call(fn)``; *on_result*: with a predicate on results; *attempt_timeout*: each attempt in a cancel
  scope; *block*: ``async for attempt in retry``;
- *tenacity*, *stamina*, *backoff*, *hyx*: their decorators; *tenacity, block*: its ``async for``;
- *RetryMiddleware*, *FastMCP RetryMiddleware*: a ``tools/call`` through the middleware to a handler;
- *bare ...*: the least that each could cost: a wrapper that only passes its arguments on, the partial around *call*,
  the handler called as the middlewares are, and a middleware that does nothing;
- *least ...*: a wrapper and a middleware that also count the call for the budget and would see an exception.

The factors compare what is added to the bare function or handler; those of *least ...* are the most that any retry with
a budget can reach.  Tried: the loop in the wrapper itself (0.1 bare awaits more), the count as a float, in a list or in
a closure (no less), a wrapper without ``**kwargs`` (0.2 less, but then nothing can be passed by name).

Then the tables of ``retry_leak.py`` and ``retry_storm.py``.
"""

from __future__ import annotations

import functools
import inspect
import random
from dataclasses import dataclass
from typing import Any

import backoff
import retry_leak
import retry_storm
import stamina
import tenacity
from _ratio import compare, figure
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


@dataclass
class Request:
    """A context, of the kind that those of the SDKs are."""

    method: str
    params: dict[str, Any]


class Bare:
    """The least that a middleware and a wrapper can do."""

    async def __call__(self, ctx: Any, call_next: Any) -> Any:
        """Pass the request on."""
        return await call_next(ctx)

    @staticmethod
    def wrapper(fn: Any) -> Any:
        """Pass the arguments on."""

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await fn(*args, **kwargs)

        return call

    @staticmethod
    async def handler() -> object:
        """Call the handler as ``through`` calls a middleware."""
        return await handler(None)


class Least:
    """The least that a middleware and a wrapper with a budget can do."""

    calls = 0

    async def __call__(self, ctx: Any, call_next: Any) -> Any:
        """Count, pass the request on, and see whether it failed."""
        self.calls += 1
        try:
            return await call_next(ctx)
        except ConnectionError:
            raise SystemExit from None

    def wrapper(self, fn: Any) -> Any:
        """Count, pass the arguments on, and see whether it failed."""

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            try:
                return await fn(*args, **kwargs)
            except ConnectionError:
                raise SystemExit from None

        return call


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


def candidates() -> dict[str, Any]:
    """Return everything that is measured."""
    retry, many = Retry(on=ConnectionError), [type(f"Error{number}", (Exception,), {}) for number in range(50)]
    request = Request("tools/call", {"name": "add", "arguments": {}})
    message = MiddlewareContext(message=None, method="tools/call", type="request")
    return {
        "Retry": retry(noop),
        "Retry, 50 conditions": Retry(on=many, attempts=1000)(noop),
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
        "bare wrapper": Bare.wrapper(noop),
        "bare partial": functools.partial(noop),
        "bare handler": Bare.handler,
        "bare middleware": through(Bare(), request),
        "least wrapper": Least().wrapper(noop),
        "least middleware": through(Least(), request),
    }


def main() -> None:
    title = "a call that succeeds"
    ratios = {row.name: row.ratio for row in compare(candidates(), title=title, peers=PEERS, calls=2000)}

    def added(name: str, bare: str = "await noop()") -> float:
        return ratios[name] - ratios[bare]

    figure("decorator, the function included", ratios["Retry"], "bare awaits", at_most=2.6)
    figure("the same with 50 conditions", ratios["Retry, 50 conditions"], "bare awaits", at_most=2.6)
    figure("call", 1 + added("Retry, call", "bare partial"), "bare awaits", at_most=2.6)
    figure("a wrapper that only awaits", ratios["bare wrapper"], "bare awaits")
    figure("RetryMiddleware", 1 + added("RetryMiddleware", "bare handler"), "bare awaits")
    figure("a middleware that only awaits", 1 + added("bare middleware", "bare handler"), "bare awaits")
    figure("what hyx adds to what the least wrapper adds", added("hyx") / added("least wrapper"), "times")
    for name, least in (("hyx", 8), ("backoff", 8), ("stamina", 8), ("tenacity", 100)):
        figure(f"what {name} adds to what Retry adds", added(name) / added("Retry"), "times", at_least=least)
    names = ("FastMCP RetryMiddleware", "RetryMiddleware", "least middleware")
    theirs, own, least_of_all = (added(name, "bare handler") for name in names)
    figure("what FastMCP's RetryMiddleware adds to what the least middleware adds", theirs / least_of_all, "times")
    figure("what FastMCP's RetryMiddleware adds to what ours adds", theirs / own, "times", at_least=8)
    print()
    retry_leak.main()
    print()
    compare_with_installed()
    retry_storm.main()


if __name__ == "__main__":
    main()
