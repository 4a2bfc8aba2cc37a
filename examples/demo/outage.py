"""Act five: the supplier stumbles, breaks and heals, and the shop lives through it."""

from __future__ import annotations

from collections import Counter

import anyio
from mcp import Client
from mcp_circuit import CIRCUIT_OPEN

from .stage import Stage
from .world import Premises, client_over_http, ending

ARTICLES = [f"article-{number}" for number in range(16)]
TRIP, COOLDOWN = 5, 2.2  # failures in a row that open the circuit, and seconds for which: the stack's 2, and jitter


async def play(stage: Stage, shop: Premises) -> None:
    """Ask for prices in good days and bad ones."""
    stage.act("The supplier", "He stumbles, and is asked again; he breaks, and is left alone; he heals.")
    async with client_over_http(shop.url, "token-of-ada") as client:
        await _stumble(stage, shop, client)
        await _break(stage, shop, client)
        await _heal(stage, shop, client)


async def _stumble(stage: Stage, shop: Premises, client: Client) -> None:
    shop.supplier.health = "flaky"
    first = await _ask(stage, client, "prices, every fourth request fails", ARTICLES)
    asked = shop.supplier.asked
    again = await _ask(stage, client, "the same prices a moment later", ARTICLES)
    (retries,) = (await shop.status())["retries"]
    (cache,) = (await shop.status())["caches"]
    stage.claim("every call was answered all the same", first, {"ok": len(ARTICLES)})
    stage.claim(f"the {asked - len(ARTICLES)} failures were retried", retries["retries"], asked - len(ARTICLES))
    stage.claim("asked again, the answers came from the cache", (again, cache["hits"]), (first, len(ARTICLES)))
    stage.claim("and the supplier was left in peace", shop.supplier.asked, asked)


async def _break(stage: Stage, shop: Premises, client: Client) -> None:
    shop.supplier.health = "well"
    await _ask(stage, client, "one price more, and then he breaks", ["ink"])
    shop.supplier.health, before = "down", shop.supplier.asked
    ends = await _ask(stage, client, "prices in the outage", [f"lost-{number}" for number in range(12)])
    stage.tell("clients saw " + ", ".join(f"{times} x {end}" for end, times in ends.items()))
    stage.claim(f"the supplier suffered {TRIP} requests, and no more", shop.supplier.asked - before, TRIP)
    stage.claim("the others were refused at once", ends[f"refused {CIRCUIT_OPEN}"] >= 12 - TRIP, True)
    kept = await ending(client, "price", {"article": "ink"})
    stage.claim("a price known before is still answered, from the cache", kept.kind, "ok")


async def _heal(stage: Stage, shop: Premises, client: Client) -> None:
    shop.supplier.health = "well"
    refused = await ending(client, "price", {"article": "lost-0"})
    stage.claim("a refusal says when to come back", 0 < (refused.retry_after or 0) <= COOLDOWN, True)
    with stage.waiting("waiting as long as the refusal says"):
        await anyio.sleep((refused.retry_after or 0) + 0.05)
    answered = await ending(client, "price", {"article": "lost-0"})
    (circuit,) = (await shop.status())["circuits"]
    stage.claim("and then one probe finds the supplier well again", answered.kind, "ok")
    stage.claim("closed, open, half open, closed", (circuit["state"], circuit["transitions"]), ("closed", 3))


async def _ask(stage: Stage, client: Client, title: str, articles: list[str]) -> Counter[str]:
    ends = Counter[str]()
    with stage.progress(title) as show:
        for done, article in enumerate(articles, 1):
            ends[(await ending(client, "price", {"article": article})).kind] += 1
            show(done, len(articles))
    return ends
