"""Act one: ordinary calls over stdio, among them one that is put right on the way and two that fail."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from .stage import Stage
from .world import client_over_stdio, note


async def play(stage: Stage) -> None:
    """Search, read, write, sum up, and fail."""
    stage.act("At the desk", "A server over stdio: notes and orders behind all seven layers, and two more.")
    with stage.waiting("starting the server"):
        async with client_over_stdio(stage.folder) as client:
            found = await client.call_tool("search_notes", {"word": "ink"})
            read = await client.call_tool("read_note", {"name": " Ink "})
            await client.call_tool("append_note", {"name": "STRING", "line": "sold one ball"})
            orders = await client.call_tool("customer_orders", {"customer": "Hopper"})
            label = await client.call_tool("print_label", {"customer": "Hopper"})
            missing = await client.call_tool("read_note", {"name": "glue"})

    await stage.ledger(
        (None, "search_notes", "ok"),
        (None, "read_note", "ok"),
        (None, "append_note", "ok"),
        (None, "customer_orders", "ok"),
        (None, "print_label", "tool_error"),
        (None, "read_note", "tool_error"),
    )
    stage.tell("tools/list is the client library's own, to check answers against schemas")
    stage.claim("a search of the files names two notes", _value(found), ["ink", "paper"])
    stage.claim("' Ink ' was rewritten to 'ink' on its way to the tool", _value(read), note(stage.folder, "ink"))
    stage.claim("the new line is on disk", note(stage.folder, "string"), "nobody buys string\nsold one ball\n")
    stage.claim("the sums are those of the database", _value(orders), _sums(stage, "Hopper"))
    stage.claim("the client reads why the label failed", _text(label), "no paper left for the label of Hopper")
    stage.claim("and that there is no note on glue", _text(missing), "there is no note 'glue'")


def _value(result: Any) -> object:
    content = result.structured_content or {}
    return content.get("result", content)


def _text(result: Any) -> str:
    return "".join(part.text for part in result.content).rpartition(": ")[2]


def _sums(stage: Stage, customer: str) -> dict[str, float]:
    sums: dict[str, float] = {}
    with closing(sqlite3.connect(stage.folder / "orders.db")) as connection:
        for article, price in connection.execute("SELECT article, price FROM orders WHERE customer = ?", [customer]):
            sums[article] = sums.get(article, 0) + price
    return sums
