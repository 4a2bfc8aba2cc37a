"""Play every act; exit 0 only if every claim held."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

import anyio
from rich.console import Console

from . import accounts, counter, crowd, desk, outage, price, question, report, rush
from .stage import Stage
from .traffic import days
from .world import premises, running, stationer

AT_THE_DESK = (desk, report, question)  # each starts its server over stdio
AT_THE_COUNTER = (counter, outage, rush, crowd)  # with one server over HTTP


async def play(stage: Stage) -> None:
    """Play the acts one after another in the same shop."""
    for act in AT_THE_DESK:
        await act.play(stage)
    async with premises(stage.folder) as shop:
        for scene in AT_THE_COUNTER:
            await scene.play(stage, shop)
    await price.play(stage)
    accounts.play(stage)


def tell(console: Console, metrics: Path) -> int:
    """Tell the story, and return the exit code."""
    start = time.perf_counter()
    with stationer() as folder:
        stage = Stage(folder, console, metrics)
        anyio.run(play, stage)
        left = running(folder)
    stage.act("Closing time", "What was started has ended, and what was made is gone.")
    stage.claim("no server is still running", left, [])
    stage.claim("the temporary folder is gone", folder.exists(), False)
    held = stage.claims - stage.failed
    console.print(f"\n   {held} of {stage.claims} claims held, in {time.perf_counter() - start:.1f} s\n")
    return 1 if stage.failed else 0


async def serve(folder: Path, port: int) -> None:
    """Leave the shop open, with people in it, until somebody interrupts."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with premises(folder, port) as shop, anyio.create_task_group() as tasks:
            print(f"status   {shop.url}/status\nmetrics  {shop.url}/metrics\nMCP      {shop.url}/mcp", flush=True)
            print("         bearer token-of-ada or token-of-bob; Ctrl-C ends it", flush=True)
            tasks.start_soon(days, shop)
            async for _ in signals:
                tasks.cancel_scope.cancel()
                break


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m examples.demo", description="A day at a small stationer's.")
    parser.add_argument("--metrics", type=Path, default=Path("demo.prom"), help="where the day's metrics are written")
    parser.add_argument("--serve", action="store_true", help="leave the server running, with traffic and a status page")
    parser.add_argument("--port", type=int, default=0, help="for --serve; by default any that is free")
    options = parser.parse_args()
    if not options.serve:
        return tell(Console(highlight=False), options.metrics)
    with stationer() as folder:
        anyio.run(serve, folder, options.port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
