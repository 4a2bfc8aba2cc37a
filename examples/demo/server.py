"""The stationer's MCP server: notes are files, orders lie in sqlite, prices are asked of the supplier.

python -m examples.demo.server FOLDER stdio|http SUPPLIER_URL [PORT [REDIS_URL LIMIT]]
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import uvicorn
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.resolve import Elicit, Resolve
from mcp_metrics import write
from mcp_middleware import for_methods, for_tools
from mcp_pool import Pool
from mcp_rbac import Subject
from pydantic import AnyHttpUrl, BaseModel

from .layers import CallLog, tidy_names
from .people import Tokens, policy
from .shared import Shared, connected, over_redis
from .shop import Database, Supplier
from .stack import Stack
from .status import Status

MONTHS = 12
PAUSE = 0.06  # seconds a month takes in the slow report: long enough to be seen, and to be cancelled


class Month(BaseModel):
    """One line of the report, in euros."""

    month: int
    orders: int
    revenue: float


class Sure(BaseModel):
    """What the user is asked before a note is deleted."""

    sure: bool


async def ask_first(name: str) -> Elicit[Sure]:
    """Put the question to the user; the answer goes to the tool."""
    return Elicit(f"Delete the note {name!r} for good?", Sure)


class Shop:
    """The server over what lies in `folder`, behind all layers; with tokens where it is reached at a `url`."""

    def __init__(self, folder: Path, supplier: str, url: str | None = None, shared: Shared | None = None) -> None:
        self.supplier = Supplier(supplier)
        self.status = Status()
        self.stack = Stack(
            policy,
            Pool(Database.at(folder / "orders.db"), reset=Database.rollback, max_size=4, name="orders.db"),
            upstream=["price"],
            database=["customer_orders", "yearly_report"],
            local=Subject("the till", {"manager"}) if url is None else None,
            on_event=self.status.tally,
            **(shared._asdict() if shared else {}),
        )
        self.server = MCPServer(
            "stationer",
            version="1.0",
            log_level="CRITICAL",
            middleware=[
                for_methods("tools/*", CallLog(folder / "calls.jsonl")),
                self.status.watch,
                self.stack.chain,
                for_tools("*_note", tidy_names),
            ],
            token_verifier=Tokens() if url else None,
            auth=AuthSettings(issuer_url=AnyHttpUrl(url), resource_server_url=None) if url else None,
        )
        add_notes(self.server, folder / "notes")
        add_orders(self.server, self.stack)
        add_prices(self.server, self.supplier)

    @asynccontextmanager
    async def opened(self, accounts: Path) -> AsyncIterator[MCPServer]:
        """Open the stack around the life of the server; at the end, leave metrics and statistics in a folder."""
        try:
            async with self.stack:
                yield self.server
        finally:
            with anyio.CancelScope(shield=True):
                await self.supplier.aclose()
                facts = json.dumps(await self.status.of(self.stack))
            write(self.stack.registry, accounts)
            (accounts / f"{os.getpid()}.json").write_text(facts, "utf-8")


def add_notes(server: MCPServer, notes: Path) -> None:
    """Register the tools on the folder of notes."""

    def existing(name: str) -> Path:
        path = notes / f"{name}.txt"
        if path.parent != notes or not path.is_file():
            raise ToolError(f"there is no note {name!r}")
        return path

    @server.tool()
    def search_notes(word: str) -> list[str]:
        """Name the notes that contain a word."""
        return sorted(path.stem for path in notes.glob("*.txt") if word in path.read_text())

    @server.tool()
    def read_note(name: str) -> str:
        """Return the text of a note."""
        return existing(name).read_text()

    @server.tool()
    def append_note(name: str, line: str) -> int:
        """Add a line to a note, and count its lines."""
        with existing(name).open("a") as file:
            file.write(line + "\n")
        return len(existing(name).read_text().splitlines())

    @server.tool()
    def delete_note(name: str, answer: Annotated[Sure, Resolve(ask_first)]) -> str:
        """Delete a note, if the user says so when asked."""
        if not answer.sure:
            return "kept"
        existing(name).unlink()
        return "deleted"


def add_orders(server: MCPServer, stack: Stack[Database]) -> None:
    """Register the tools on the table of orders, and two for the office."""

    @server.tool()
    async def customer_orders(customer: str) -> dict[str, float]:
        """Sum up a customer's orders by article, in euros."""
        statement = "SELECT article, SUM(price) FROM orders WHERE customer = ? GROUP BY article"
        return dict(await stack.database.current().query(statement, customer))

    @server.tool()
    async def yearly_report(ctx: Context) -> list[Month]:
        """Go through the year month by month, and tell how far it is."""
        report = []
        for month in range(1, MONTHS + 1):
            statement = "SELECT COUNT(*), TOTAL(price) FROM orders WHERE month = ?"
            ((orders, revenue),) = await stack.database.current().query(statement, month)
            report.append(Month(month=month, orders=orders, revenue=revenue))
            await ctx.report_progress(month, MONTHS, f"month {month}")
            await anyio.sleep(PAUSE)
        return report

    @server.tool()
    def print_label(customer: str) -> str:
        """Print an address label, on a printer that has run out of paper."""
        raise ToolError(f"no paper left for the label of {customer}")

    @server.tool()
    def payroll() -> dict[str, int]:
        """Tell who earns how much, which is not for everybody."""
        return {"ada": 3200, "bob": 2400}


def add_prices(server: MCPServer, supplier: Supplier) -> None:
    """Register the tool that asks the supplier."""

    @server.tool()
    async def price(article: str) -> float:
        """Ask what an article costs today, in euros."""
        return await supplier.price(article)


async def serve_stdio(folder: Path, supplier: str) -> None:
    """Serve until stdin ends."""
    async with Shop(folder, supplier).opened(folder / "accounts") as server:
        await server.run_stdio_async()


async def serve_http(folder: Path, supplier: str, port: str = "0", redis: str = "", limit: str = "") -> None:
    """Serve on a port of the loopback interface, any that is free for 0, and say on stdout which one."""
    # asyncio switches Nagle's algorithm off only where the protocol is spelt out; with it every answer is 40 ms late.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", int(port)))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        # When it is over, uvicorn raises the signal again that has ended it; there are still accounts to be written.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        shop = Shop(folder, supplier, url, over_redis(connected(redis), limit) if redis else None)
        async with shop.opened(folder / "accounts") as server:
            app = server.streamable_http_app()
            app.router.routes.extend(shop.status.routes(shop.stack))
            print(url, flush=True)
            config = uvicorn.Config(app, log_level="critical", ws="none", timeout_graceful_shutdown=2)
            await uvicorn.Server(config).serve(sockets=[listening])


def main(folder: Path, transport: str, supplier: str, *options: str) -> None:
    """Serve until stdin ends, or until asked to terminate."""
    logging.disable(logging.CRITICAL)  # the story is told by the client; the call log is a file
    with (folder / "pids").open("a") as pids:
        print(os.getpid(), file=pids)
    serve = (
        partial(serve_http, folder, supplier, *options)
        if transport == "http"
        else partial(serve_stdio, folder, supplier)
    )
    anyio.run(serve)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
