"""How long a pool waits after connecting failed."""

from __future__ import annotations

import math

import pytest
from mcp_pool.gate import Gate


@pytest.mark.parametrize(("drawn", "delays"), [(0.0, [0.5, 1.0, 2.0, 2.5]), (0.5, [0.75, 1.5, 3.0, 3.75])])
def test_delays_double_up_to_the_limit_and_half_of_each_is_random(drawn: float, delays: list[float]) -> None:
    """1 s, 2 s, 4 s, and then 5 s for ever: no power is too large."""
    gate = Gate(attempts=3, backoff=1.0, max_backoff=5.0, random=lambda: drawn)
    found = [gate.failed(OSError(), 10.0) for _ in range(1100)]
    assert (found[:4], found[-1]) == (delays, delays[-1])
    assert gate.retry_at == 10.0 + delays[-1]


def test_one_probe_alone_until_a_connect_succeeds() -> None:
    """When its time has come, and while no other connect is in flight."""
    gate = Gate(attempts=3, backoff=1.0, max_backoff=5.0, random=lambda: 1.0)
    assert gate.allowed(5, 2, -math.inf) == 5
    gate.failed(OSError(), 10.0)
    assert [gate.allowed(5, 0, now) for now in (10.9, 11.0, 12.0)] == [0, 1, 1]
    assert (gate.allowed(5, 1, 11.0), gate.allowed(0, 0, 11.0)) == (0, 0)
    assert gate.succeeded() == 1
    assert gate.allowed(5, 2, 10.0) == 5
