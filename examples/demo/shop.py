"""What the stationer's tools work with: a database of orders, and a supplier who knows the prices."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx
from anyio import to_thread


class Database:
    """One connection to sqlite, which works in a worker thread; for one task at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def query(self, statement: str, *values: object) -> list[Any]:
        """Return all rows."""
        return await to_thread.run_sync(lambda: self._connection.execute(statement, values).fetchall())

    async def commit(self) -> None:
        """Make the changes last."""
        await to_thread.run_sync(self._connection.commit)

    async def rollback(self) -> None:
        """Leave nothing behind for the next who borrows it."""
        await to_thread.run_sync(self._connection.rollback)

    async def aclose(self) -> None:
        """Close the connection."""
        await to_thread.run_sync(self._connection.close)

    @classmethod
    def at(cls, path: Path) -> Callable[[], Coroutine[Any, Any, Database]]:
        """Return the function with which a pool connects to the database at *path*."""

        async def connect() -> Database:
            return cls(await to_thread.run_sync(lambda: sqlite3.connect(path, check_same_thread=False)))

        return connect


class PriceList:
    """A price list in this process, which stumbles whenever it is asked for an article for the first time."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    async def price(self, article: str) -> float:
        """Look a price up, in euros."""
        self.asked[article] += 1
        await anyio.lowlevel.checkpoint()
        if self.asked[article] == 1:
            raise ConnectionError("the price list does not answer")
        return float(len(article))


class Supplier:
    """The supplier's price list, asked over HTTP; ConnectionError when he does not answer as he should."""

    def __init__(self, url: str, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=2.0, transport=transport)

    async def price(self, article: str) -> float:
        """Ask for the price of an article, in euros."""
        try:
            reply = await self._client.get(f"/price/{article}")
        except httpx.TransportError as error:
            raise ConnectionError(f"the supplier cannot be reached: {error}") from error
        if reply.is_error:
            raise ConnectionError(f"the supplier answers {reply.status_code}")
        return float(reply.text)

    async def aclose(self) -> None:
        """Hang up."""
        await self._client.aclose()
