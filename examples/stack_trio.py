"""A trio worker behind the whole stack: jobs from a queue, prices from a service that stumbles, no MCP."""

from __future__ import annotations

import tempfile
from pathlib import Path

import trio
from demo.shop import Database, PriceList
from demo.stack import Stack
from mcp_pool import Pool
from mcp_rbac import Policy, Subject

POLICY = Policy(roles={"worker": {"allow": ["tools/call:price", "tools/call:book"]}})


async def work(folder: Path) -> None:
    """Do ten jobs with three workers."""
    prices, jobs = PriceList(), iter([f"article-{number % 5}" for number in range(10)])
    pool = Pool(Database.at(folder / "books.db"), reset=Database.rollback, max_size=2)
    stack = Stack(POLICY, pool, upstream=["price"], database=["book"], local=Subject("worker", {"worker"}))
    price = stack.chain.around(prices.price)

    @stack.chain.around
    async def book(article: str, euros: float) -> int:
        """Write down what was bought, and count the lines."""
        database = stack.database.current()
        await database.query("INSERT INTO books VALUES (?, ?)", article, euros)
        await database.commit()
        return len(await database.query("SELECT * FROM books"))

    async def worker() -> None:
        for article in jobs:
            await book(article, await price(article))

    async with stack:
        await pool.call(Database.query, "CREATE TABLE books (article TEXT, euros REAL)")
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(worker)
        ((jobs_done, euros),) = await pool.call(Database.query, "SELECT COUNT(*), SUM(euros) FROM books")
    print(f"booked   {jobs_done} jobs for {euros:g} euros, over {pool.statistics().connects} connections")
    print(f"asked    {prices.asked.total()} times, {stack.retry.statistics().retries} of them again")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        trio.run(work, Path(name))
