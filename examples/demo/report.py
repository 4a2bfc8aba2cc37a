"""Act two: a slow report that tells how far it is, and the same report given up half-way."""

from __future__ import annotations

from functools import partial

import anyio

from .stage import Stage
from .world import client_over_stdio

MONTHS = 12


async def play(stage: Stage) -> None:
    """Wait for the report once, and lose patience once."""
    stage.act("A slow report", "Twelve months, one after another; the second time nobody waits for the end.")
    async with client_over_stdio(stage.folder) as client:
        months: list[float] = []
        with stage.progress("yearly_report") as show:

            async def on_progress(progress: float, total: float | None, message: str | None) -> None:
                assert message
                months.append(progress)
                show(progress, total or progress)

            report = await client.call_tool("yearly_report", progress_callback=on_progress)

        seen_enough = anyio.Event()

        # The names are the SDK's: it may pass them as keywords.
        async def lose_patience(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001
            if progress == MONTHS / 4:
                seen_enough.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(client.call_tool, "yearly_report", progress_callback=lose_patience))
            await seen_enough.wait()
            tasks.cancel_scope.cancel()

        page = await stage.ledger((None, "yearly_report", "ok"), (None, "yearly_report", "cancelled"))
    took = {entry["outcome"]: entry["seconds"] for entry in page if entry["target"] == "yearly_report"}
    stage.claim("progress came through the chain, month by month", months, [*range(1, MONTHS + 1)])
    stage.claim("the report counts all 240 orders", _orders(report.structured_content), 240)
    stage.claim("the chain saw the cancellation early", took.get("cancelled", 9) < took.get("ok", 0) / 2, True)


def _orders(content: dict[str, list[dict[str, int]]] | None) -> int:
    return sum(month["orders"] for month in (content or {}).get("result", []))
