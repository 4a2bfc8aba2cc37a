"""The stationer's folder, the servers that work on it as programs of their own, and clients connected to them."""

from __future__ import annotations

import json
import os
import sqlite3
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any, NamedTuple, cast

import anyio
import httpx2
from anyio.abc import ByteReceiveStream
from anyio.streams.text import TextReceiveStream
from mcp import Client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from .supplier import FlakySupplier, serving

NOTES = {
    "ink": "black ink is back on Friday\nblue ink is not\n",
    "paper": "two reams of laid paper\nask whether the ink bleeds\n",
    "string": "nobody buys string\n",
}
ARTICLES = {"paper": 4.5, "ink": 12.0, "pens": 7.25}
CUSTOMERS = ("Hopper", "Lovelace", "Meitner", "Noether")
TLS = ssl.create_default_context()  # loading certificates takes longer than all that a client does here
NOBODY = "http://127.0.0.1:9"  # the discard port: where a server finds no supplier
PATIENCE = 60.0
"""Seconds to wait for a process to start or to end, and for a line of the call log."""


@contextmanager
def stationer() -> Iterator[Path]:
    """Make a folder with three notes and a database of 240 orders, and remove it at the end."""
    with tempfile.TemporaryDirectory(prefix="stationer-") as name:
        folder = Path(name)
        (folder / "notes").mkdir()
        (folder / "accounts").mkdir()
        for note, text in NOTES.items():
            (folder / "notes" / f"{note}.txt").write_text(text)
        with closing(sqlite3.connect(folder / "orders.db")) as connection, connection:
            connection.execute("CREATE TABLE orders (customer TEXT, article TEXT, month INT, price REAL)")
            connection.executemany("INSERT INTO orders VALUES (?, ?, ?, ?)", map(_order, range(240)))
        yield folder


def _order(number: int) -> tuple[str, str, int, float]:
    article = list(ARTICLES)[number % 3]
    return CUSTOMERS[number % 4], article, number % 12 + 1, ARTICLES[article] * (1 + number % 5)


def note(folder: Path, name: str) -> str | None:
    """Return the text of a note as it lies on disk, None when there is none."""
    path = folder / "notes" / f"{name}.txt"
    return path.read_text() if path.exists() else None


def running(folder: Path) -> list[int]:
    """Return the process ids of the servers that are still there."""
    return [pid for pid in map(int, (folder / "pids").read_text().split()) if _exists(pid)]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def program(folder: Path, *options: str) -> tuple[list[str], dict[str, str]]:
    """Return the arguments and the environment with which this Python starts the server."""
    return (
        ["-m", f"{__package__}.server", str(folder), *options],
        {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), *sys.path]))},
    )


@asynccontextmanager
async def client_over_stdio(folder: Path, **options: Any) -> AsyncIterator[Client]:
    """Start the server as a child, and connect the SDK's client to its stdin and stdout."""
    arguments, environment = program(folder, "stdio", NOBODY)
    async with Client(
        StdioServerParameters(command=sys.executable, args=arguments, env=environment), **options
    ) as client:
        yield client


@asynccontextmanager
async def http_server(folder: Path, supplier: str, *options: str) -> AsyncIterator[str]:
    """Start the server on the loopback interface, and give its URL."""
    arguments, environment = program(folder, "http", supplier, *options)
    command = [sys.executable, *arguments]
    async with await anyio.open_process(command, stdin=DEVNULL, stdout=PIPE, env=environment) as process:
        try:
            with anyio.fail_after(PATIENCE):
                url = await TextReceiveStream(cast("ByteReceiveStream", process.stdout)).receive()
            yield url.strip()
        finally:
            if process.returncode is None:
                process.terminate()
            with anyio.move_on_after(PATIENCE, shield=True):
                await process.wait()


@asynccontextmanager
async def client_over_http(url: str, token: str) -> AsyncIterator[Client]:
    """Connect the SDK's client with a bearer token."""
    http = httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, verify=TLS)
    async with http, Client(streamable_http_client(f"{url}/mcp", http_client=http)) as client:
        yield client


class Ending(NamedTuple):
    """How a call ended for its client: in a word, and when to come back (seconds), if that was said."""

    kind: str
    retry_after: float | None = None


async def ending(client: Client, tool: str, given: dict[str, Any]) -> Ending:
    """Call a tool, whatever comes of it."""
    try:
        result = await client.call_tool(tool, given)
    except MCPError as refused:
        said = refused.data or {}
        hint = said["retryAfterMs"] / 1000 if "retryAfterMs" in said else said.get("retryAfter")
        return Ending(f"refused {refused.code}", hint)
    return Ending("tool_error" if result.is_error else "ok")


class Premises(NamedTuple):
    """The shop as it is reached over HTTP, and the supplier it asks."""

    url: str
    supplier: FlakySupplier

    async def status(self) -> dict[str, Any]:
        """Return what the layers say of themselves now."""
        async with httpx2.AsyncClient(verify=TLS) as http:
            found: dict[str, Any] = (await http.get(f"{self.url}/status.json")).json()
            return found


@asynccontextmanager
async def premises(folder: Path, port: int = 0) -> AsyncIterator[Premises]:
    """Start the supplier here, and the shop as a program of its own."""
    supplier = FlakySupplier()
    async with serving(supplier) as prices, http_server(folder, prices, f"{port}") as url:
        yield Premises(url, supplier)


class Ledger:
    """The call log of the chain, read from where the servers write it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "calls.jsonl"
        self._read = 0

    async def page(self, calls: int) -> list[dict[str, Any]]:
        """Return what is new once it holds so many tool calls; what is missing after some seconds stays missing."""
        with anyio.move_on_after(PATIENCE):
            while sum(entry["method"] == "tools/call" for entry in self._new()) < calls:  # noqa: ASYNC110
                await anyio.sleep(0.02)
        page = self._new()
        self._read += len(page)
        return page

    def all(self, method: str) -> list[dict[str, Any]]:
        """Return everything of one method, read already or not."""
        return [entry for entry in self._lines() if entry["method"] == method]

    def _new(self) -> list[dict[str, Any]]:
        return self._lines()[self._read :]

    def _lines(self) -> list[dict[str, Any]]:
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        return [json.loads(line) for line in lines]
