"""Act seven: eight slow reports want a connection at once, and there are four; two lose patience."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio

from .stage import Stage
from .world import Premises, client_over_http, ending

REPORTS, IMPATIENT, CONNECTIONS = 8, 2, 4


async def play(stage: Stage, shop: Premises) -> None:
    """Lend, watch, take back."""
    stage.act("A crowd", f"{REPORTS} reports at once want a connection, there are {CONNECTIONS}; two lose patience.")
    ends, seen = Counter[str](), list[dict[str, Any]]()

    async def report(patience: float) -> None:
        with anyio.move_on_after(patience) as scope:
            async with client_over_http(shop.url, "token-of-ada") as client:
                ends[(await ending(client, "yearly_report", {})).kind] += 1
        ends["gave up"] += scope.cancelled_caught

    async def watch() -> None:
        while True:
            seen.extend((await shop.status())["pools"])
            await anyio.sleep(0.05)

    with stage.waiting("reports"):
        async with anyio.create_task_group() as watching:
            watching.start_soon(watch)
            async with anyio.create_task_group() as reports:
                for number in range(REPORTS):
                    reports.start_soon(report, 0.6 if number < IMPATIENT else 30)
            watching.cancel_scope.cancel()
    pool = await _settled(shop)
    stage.claim("those who waited were all served", ends, {"ok": REPORTS - IMPATIENT, "gave up": IMPATIENT})
    stage.claim("every connection was lent, and never one too many", max(_alive(facts) for facts in seen), CONNECTIONS)
    stage.claim("some had to wait in line", max(facts["waiting"] for facts in seen) > 0, True)
    stage.claim("afterwards none is lost", (pool["in_use"], pool["waiting"], pool["leaks"]), (0, 0, 0))


def _alive(facts: dict[str, Any]) -> int:
    return sum(facts[state] for state in ("idle", "in_use", "connecting", "serviced", "closing"))


async def _settled(shop: Premises) -> dict[str, Any]:
    """Return the pool's statistics as soon as nothing is lent, or after some seconds."""
    (pool,) = (await shop.status())["pools"]
    with anyio.move_on_after(5):
        while pool["in_use"] or pool["serviced"]:
            await anyio.sleep(0.02)
            (pool,) = (await shop.status())["pools"]
    found: dict[str, Any] = pool
    return found
