"""What a refused client gets from each SDK: an error for its program, or a result that its model can read.

Of the matrix every place, by the shortest way to it: what leaves a place does not depend on the transport.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import mcp_middleware as mm
import pytest
from mcp_ratelimit import CallRefused, RateLimitMiddleware

from tests.seams.cells import ARGUMENTS, Cell, cells, server_of
from tests.seams.clients import Client, connect

pytestmark = pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)  # real time, for real servers

SHORTEST = {(cell.place, cell.build, cell.modern): cell for cell in reversed([*cells()]) if cell.transport != "stdio"}
CELLS = [pytest.param(cell, id=cell.name) for cell in SHORTEST.values()]
TAKE_ERRORS = ("decorated tool", "client", "client session", "client dispatcher")
"""Places without a connection, where whatever is returned is taken for the function's, or for a model of a result."""
SAYS = "Rate limit '1/h' exceeded; try again in 3"


def limits(seen: list[CallRefused], **options: Any) -> mm.Chain:
    """Return a chain of the middleware alone, which decorates functions too."""
    return mm.Chain(RateLimitMiddleware("1/h", on_event=seen.append, **options))


def opened(cell: Cell, middleware: mm.Chain) -> AbstractAsyncContextManager[Client]:
    """Open the cell with the middleware in its place."""
    side: dict[str, Any] = {} if cell.side == "server" else {cell.side: middleware}
    return connect(server_of(cell, middleware), cell.transport, modern=cell.modern, **side)


@pytest.mark.parametrize("cell", CELLS)
async def test_refused_tools_answer_the_model(cell: Cell) -> None:
    """Marked isError, as the model has it from a tool that failed, and the session goes on."""
    seen: list[CallRefused] = []
    async with opened(cell, limits(seen, refuse_as="result")) as client:
        answers = [await client.call("add", ARGUMENTS["add"]) for _ in range(3)]
    assert answers[0].text == "3"
    assert not answers[0].is_error
    for refused in answers[1:]:
        assert SAYS in refused.text
        assert refused.is_error or cell.place in TAKE_ERRORS
    assert [event.decision.violated for event in seen] == 2 * [("1/h",)]


@pytest.mark.parametrize("cell", CELLS)
async def test_refused_tools_tell_the_program(cell: Cell) -> None:
    """With a code and the time to come back; where the SDK makes a result of every error, its text arrives."""
    seen: list[CallRefused] = []
    async with opened(cell, limits(seen)) as client:
        _, refused = [await client.call("add", ARGUMENTS["add"]) for _ in range(2)]
    assert SAYS in refused.text
    if cell.flattens:
        assert refused.is_error
    else:
        assert (refused.code, refused.data["retryAfter"], refused.data["policy"]) == (-31029, 3600, "1/h")
