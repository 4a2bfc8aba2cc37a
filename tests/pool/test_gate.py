"""How long a pool waits after connecting failed."""

from __future__ import annotations

import pytest
from mcp_pool.gate import Gate


@pytest.mark.parametrize(("drawn", "delays"), [(0.0, [0.5, 1.0, 2.0, 2.5]), (0.5, [0.75, 1.5, 3.0, 3.75])])
def test_delays_double_up_to_the_limit_and_half_of_each_is_random(drawn: float, delays: list[float]) -> None:
    """1 s, 2 s, 4 s, and then 5 s for ever: no power is too large."""
    gate = Gate(attempts=3, backoff=1.0, max_backoff=5.0, random=lambda: drawn)
    found = [gate.failed(OSError(), 10.0) for _ in range(1100)]
    assert (found[:4], found[-1]) == (delays, delays[-1])
    assert gate.retry_at == 10.0 + delays[-1]
