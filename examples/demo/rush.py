"""Act six: Bob calls a hundred times at once, and is served as often as his limit says."""

from __future__ import annotations

import time
from collections import Counter

import anyio

from .stage import Stage
from .world import Ending, Premises, client_over_http, ending

CALLS = 100
RATE = 10  # calls a second that flow back, as the stack's limit of 600 a minute says


async def play(stage: Stage, shop: Premises) -> None:
    """Let Bob rush, and Ada pass him by."""
    stage.act("Rush hour", f"Bob calls {CALLS} times at once; Ada, who is in no hurry, calls once.")
    ends: list[Ending] = []
    async with client_over_http(shop.url, "token-of-bob") as bob, client_over_http(shop.url, "token-of-ada") as ada:
        await bob.list_tools()
        start, room = time.monotonic(), await _remaining(shop, "bob")
        with stage.progress("calls of Bob's") as show:

            async def call() -> None:
                ends.append(await ending(bob, "search_notes", {"word": "ink"}))
                show(len(ends), CALLS)

            async with anyio.create_task_group() as tasks:
                for _ in range(CALLS):
                    tasks.start_soon(call)
            took = time.monotonic() - start
        refused = await _refused(shop)
        beside = await ending(ada, "search_notes", {"word": "ink"})
        while (late := await ending(bob, "search_notes", {"word": "ink"})).retry_after is None:
            pass  # until what has flowed back since is used up
        await anyio.sleep(late.retry_after)
        patient = await ending(bob, "search_notes", {"word": "ink"})
    kinds = Counter(end.kind for end in ends)
    stage.tell(f"{kinds['ok']} served, {refused} refused, in {took:.2f} s")
    stage.claim(f"all {CALLS} calls ended one way or the other", kinds["ok"] + refused, CALLS)
    stage.claim(f"served were the {room} that he had, and what flowed back meanwhile", room <= kinds["ok"], True)
    stage.claim("and not one more", kinds["ok"] <= room + took * RATE, True)
    stage.claim("Bob, when he waits as long as he was told, is served", patient.kind, "ok")
    stage.claim("Ada was not touched by any of it", beside.kind, "ok")


async def _remaining(shop: Premises, person: str) -> int:
    limits = (await shop.status())["limits"]
    return next(int(limit["remaining"]) for limit in limits if f"'{person}'" in limit["caller"])


async def _refused(shop: Premises) -> int:
    refusals = (await shop.status())["refusals"]
    return sum(refusal["times"] for refusal in refusals if refusal["by"] == "ratelimit")
