"""Play every act; exit 0 only if every claim held."""

from __future__ import annotations

import sys
import time

import anyio
from rich.console import Console

from . import counter, desk, question, report
from .stage import Stage
from .world import running, stationer

ACTS = (desk, report, question, counter)


async def play(stage: Stage) -> None:
    """Play the acts one after another in the same shop."""
    for act in ACTS:
        await act.play(stage)


def main() -> int:
    """Tell the story, and return the exit code."""
    console = Console(highlight=False)
    start = time.perf_counter()
    with stationer() as folder:
        stage = Stage(folder, console)
        anyio.run(play, stage)
        left = running(folder)
    stage.act("Closing time", "What was started has ended, and what was made is gone.")
    stage.claim("no server is still running", left, [])
    stage.claim("the temporary folder is gone", folder.exists(), False)
    held = stage.claims - stage.failed
    console.print(f"\n   {held} of {stage.claims} claims held, in {time.perf_counter() - start:.1f} s\n")
    return 1 if stage.failed else 0


if __name__ == "__main__":
    sys.exit(main())
