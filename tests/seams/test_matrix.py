"""One object at every seam: what it sees, what it can change and refuse, and what it is told when a client gives up.

Each test is one column of the matrix that is printed at the end of the run, each cell one of its rows.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.seams.cells import ARGUMENTS, Cell, cells, server_of
from tests.seams.clients import PATIENCE, Client, connect
from tests.seams.rows import ADVICE, CODE, ROWS, SECRET, build

pytestmark = pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)  # real time, for real servers

CELLS = [pytest.param(cell, id=cell.name) for cell in cells()]


class Log:
    """What a recorder has written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def lines(self, method: str, *, over: bool) -> list[dict[str, Any]]:
        """List the messages of one method that are over, or those that have begun."""
        lines = map(json.loads, self.path.read_text("utf-8").splitlines())
        return [line for line in lines if line["method"] == method and ("outcome" in line) is over]

    def calls(self, *, over: bool = True) -> list[tuple[str, str]]:
        """List the tools that the client called, with how each call ended; those begun, with ``over=False``."""
        return [(line["target"], line.get("outcome", "")) for line in self.lines("tools/call", over=over)]

    async def holds(self, tool: str, *, over: bool) -> None:
        """Wait until a call of `tool` has begun, or is over."""
        with anyio.fail_after(PATIENCE):
            while tool not in dict(self.calls(over=over)):
                await anyio.sleep(0.02)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """A fresh log."""
    return Log(tmp_path / "log")


@asynccontextmanager
async def opened(cell: Cell, row: str, log: Log) -> AsyncIterator[Client]:
    """Open the cell with one middleware in its place."""
    middleware = build(row, str(log.path))
    if cell.transport == "stdio":
        server: Any = [cell.build, row if cell.side == "server" else "", str(log.path)]
    else:
        server = server_of(cell, middleware)
    sides = {cell.side: middleware} if cell.side != "server" else {}
    async with connect(server, cell.transport, modern=cell.modern, **sides) as client:
        yield client


def needs(cell: Cell, what: str) -> None:
    """Leave a column empty where the SDK cannot do it, for the reason that the cell gives."""
    if what in cell.lacks:
        pytest.skip(cell.lacks[what])


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("cell", CELLS)
async def test_outcomes(cell: Cell, row: str, log: Log) -> None:
    """A middleware that decides by outcome must see the same ones wherever it is put."""
    async with opened(cell, row, log) as client:
        answers = [await client.call(tool, ARGUMENTS.get(tool)) for tool in cell.calls()]
    assert answers[0].text == "3"
    assert log.calls() == cell.expected()


@pytest.mark.parametrize("cell", CELLS)
async def test_cancelled(cell: Cell, log: Log) -> None:
    """A call that its client takes back is neither a success nor a failure."""
    needs(cell, "cancelled")
    async with opened(cell, "chain", log) as client:
        await client.abandon("slow", lambda: log.holds("slow", over=False))
        await log.holds("slow", over=True)
    assert log.calls() == [("slow", cell.sees.get("slow", "cancelled"))]


@pytest.mark.parametrize("cell", CELLS)
async def test_rewrite(cell: Cell, log: Log) -> None:
    """Arguments changed by with_arguments() are those that the tool gets."""
    needs(cell, "rewrite")
    async with opened(cell, "rewrite", log) as client:
        assert (await client.call("add", ARGUMENTS["add"])).text == "42"


@pytest.mark.parametrize("cell", CELLS)
async def test_refuse(cell: Cell, log: Log) -> None:
    """A refusal arrives with its code and data, or at least with its text; what caused it does not arrive."""
    async with opened(cell, "refuse", log) as client:
        answer = await client.call("add", ARGUMENTS["add"])
        others = await client.call("flawed")
    assert SECRET not in repr(answer)
    if cell.flattens:
        assert answer.is_error
        assert "slow down" in answer.text
    else:
        assert (answer.code, answer.text, answer.data) == (CODE, "slow down", ADVICE)
    assert others.is_error, "the session must go on after a refusal"
    assert log.calls()[0] == ("add", "rejected")


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell.values[0].transport != "stdio"])
async def test_internal(cell: Cell, log: Log) -> None:
    """What the SDK asks itself is marked, so that a limiter can count the calls of clients only; theirs are not."""
    needs(cell, "internal")
    async with opened(cell, "chain", log) as client:
        await client.call("add", ARGUMENTS["add"])
        await client.call("add", ARGUMENTS["add"])
        marked = [line["internal"] for line in log.lines("tools/list", over=False)]
        await client.session.list_tools()
    assert marked.count(True) == cell.phantoms
    assert all(not line["internal"] for line in log.lines("tools/call", over=False))
    listed = [line["internal"] for line in log.lines("tools/list", over=False)[len(marked) :]]
    assert listed in ([], [False]), "empty where the middleware sits at a tool"
