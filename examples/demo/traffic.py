"""Ordinary days at the shop, for as long as somebody watches: people call, and the supplier has his moods."""

from __future__ import annotations

import random
from itertools import cycle
from typing import Any

import anyio
from mcp import Client

from .supplier import FlakySupplier, Health
from .world import CUSTOMERS, Premises, client_over_http, ending

MOODS: tuple[tuple[Health, float], ...] = (
    ("well", 4.0),
    ("down", 5.0),
    ("well", 9.0),
    ("flaky", 9.0),
)  # and for how many seconds
ERRANDS: tuple[tuple[str, dict[str, list[Any]]], ...] = (
    ("price", {"article": [f"article-{number}" for number in range(30)]}),
    ("price", {"article": [f"article-{number}" for number in range(30)]}),
    ("customer_orders", {"customer": [*CUSTOMERS]}),
    ("search_notes", {"word": ["ink", "string", "glue"]}),
    ("yearly_report", {}),
    ("payroll", {}),
)


async def days(shop: Premises) -> None:
    """Go on for ever: Ada at an even pace, Bob in rushes."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_moods, shop.supplier)
        tasks.start_soon(_person, shop, "ada", (0.15,))
        tasks.start_soon(_person, shop, "ada", (0.25,))
        tasks.start_soon(_person, shop, "bob", (*[0.3] * 20, *[0.005] * 120))


async def _moods(supplier: FlakySupplier) -> None:
    for supplier.health, seconds in cycle(MOODS):
        await anyio.sleep(seconds)


async def _person(shop: Premises, name: str, pauses: tuple[float, ...]) -> None:
    whim = random.Random(name)  # noqa: S311  # what somebody wants next is no secret
    async with client_over_http(shop.url, f"token-of-{name}") as client:
        for pause in cycle(pauses):
            await _errand(client, whim)
            await anyio.sleep(pause)


async def _errand(client: Client, whim: random.Random) -> None:
    tool, choices = whim.choice(ERRANDS)
    await ending(client, tool, {name: whim.choice(values) for name, values in choices.items()})
