"""What a call costs: no memory that stays, and a hot path that does not grow unnoticed."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from anyio.lowlevel import checkpoint
from mcp_retry import Budget, Retry, RetryMiddleware, constant

from tests.support.measure import count_instructions, no_growth

pytestmark = [pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True), pytest.mark.uninstrumented]


async def succeed():
    return 1


async def fail():
    raise ConnectionError


def make(**options):
    return Retry(**{"on": ConnectionError, "backoff": constant(0), **options})


async def swallow(call):
    try:
        await call()
    except ConnectionError:
        return


async def test_no_growth_over_successes():
    """A service runs for months."""
    await no_growth(make()(succeed))
    await no_growth(make(attempt_timeout=9)(checkpoint))  # the loop drops its cancelled timers when it runs


async def test_no_growth_over_retries():
    """An outage must not end in an out-of-memory kill."""
    for options in ({}, {"attempt_timeout": 9, "max_elapsed": 9}, {"on_event": lambda event: None}):
        call = make(budget=False, **options)(fail)
        await no_growth(lambda call=call: swallow(call))


async def test_no_growth_over_refusals():
    """Nor a budget that is empty."""
    budget = Budget(burst=1, ratio=0, floor=1e-9)
    budget.spend()
    call = make(budget=budget)(fail)
    await no_growth(lambda: swallow(call))
    assert budget.statistics().refused > 300


async def test_no_growth_over_decorations():
    """Functions that are decorated in a loop are forgotten with their wrappers."""
    retry = make()

    async def decorate():
        await retry(lambda: succeed())()  # noqa: PLW0108  # a fresh function each time

    await no_growth(decorate, cycles=True)


async def test_cost_of_a_success_is_flat():
    """More conditions, more attempts, another backoff: none is looked at before something fails."""
    plain = count_instructions(make()(succeed))
    many = [type(f"Error{number}", (Exception,), {}) for number in range(50)]
    for options in ({"on": many}, {"attempts": 10_000}, {"budget": False}, {"on_event": print}):
        assert count_instructions(make(**options)(succeed)) == plain


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="each Python has its own bytecode; the limits are for 3.11")
async def test_hot_path_stays_short():
    """Bytecodes beside those of the bare function; whoever needs more has to raise the limit, and say why."""
    bare = count_instructions(succeed)
    assert count_instructions(make()(succeed)) - bare <= 18
    retry = make()
    assert count_instructions(lambda: retry.call(succeed)) - bare <= 24
    middleware, ctx = RetryMiddleware(make()), SimpleNamespace(method="tools/call", params={"name": "x"})

    async def handler(ctx):
        return {"content": [], "isError": False}

    assert count_instructions(lambda: middleware(ctx, handler)) - bare <= 53
