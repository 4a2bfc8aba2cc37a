"""How much work a decision is: turns red when the hot path gets longer, on any machine, however busy."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from mcp_ratelimit import MemoryStore, RateLimiter, RateLimitMiddleware

from tests.support.measure import count_instructions, no_growth

RESULT = {"resultType": "complete"}


async def nothing(ctx):
    return RESULT


def limiter(*limits):
    made = RateLimiter(*limits, store=MemoryStore(clock=lambda: 1000.0))
    made.check("ann")
    return made


CONTEXT = SimpleNamespace(method="tools/call", params={"name": "search"}, request=None)


@pytest.mark.uninstrumented
@pytest.mark.parametrize(
    ("most", "decide"),
    [
        (97, lambda one, three, middleware: one.try_acquire("ann")),
        (147, lambda one, three, middleware: one.check("ann")),
        (306, lambda one, three, middleware: three.try_acquire("ann")),
        (194, lambda one, three, middleware: middleware(CONTEXT, nothing)),
    ],
    ids=["try_acquire", "check", "three limits", "middleware"],
)
def test_bytecodes_of_a_decision(most, decide):
    """The figures are those of the slowest Python plus a tenth; the general way takes ten times as many."""
    one, three = limiter("900000/s"), limiter("900000/s", "800000/s", "700000/s")
    middleware = RateLimitMiddleware(limiter("900000/s"), key=lambda ctx: "ann")
    assert count_instructions(lambda: decide(one, three, middleware)) <= most


async def test_decisions_keep_no_memory():
    """Refused or not, of one key or of ever new ones that become idle at once."""
    now = [1000.0]
    busy, churn = limiter("5/h"), RateLimiter("1000/s burst 1", store=MemoryStore(clock=lambda: now[0]))

    def decide():
        now[0] += 0.1
        busy.check("ann")
        churn.check(f"key {now[0]}")

    await no_growth(decide)
