"""Act four: Streamable HTTP, where tokens say who is calling, and not everybody may do everything."""

from __future__ import annotations

import anyio
import httpx2
from mcp.shared.exceptions import MCPError
from mcp_rbac import CODE

from .stage import Stage
from .world import NOBODY, client_over_http, http_server, note

PEOPLE = ("ada", "bob")
SEARCHES = 4


async def play(stage: Stage) -> None:
    """Let Ada and Bob work at once, refuse Bob, and turn a stranger away."""
    stage.act("At the counter", "The same chain over HTTP: Ada may write, Bob may read, Eve is unknown.")
    with stage.waiting("starting the server"):
        async with http_server(stage.folder, NOBODY) as url:
            async with anyio.create_task_group() as tasks:
                for person in PEOPLE:
                    tasks.start_soon(_search, url, person)
            refusal = await _append(url, "bob")
            before = note(stage.folder, "ink")
            nothing = await _append(url, "ada")
            after = note(stage.folder, "ink")
            stranger = await _knock(url, "token-of-eve")

    await stage.ledger(
        *[(person, "search_notes", "ok") for person in PEOPLE] * SEARCHES,
        ("bob", "append_note", "rejected"),
        ("ada", "append_note", "ok"),
    )
    stage.tell("Bob's client received " + " ".join(map(str, refusal[:2] if refusal else ["no refusal"])))
    expected = CODE, "insufficient scope", {"error": "insufficient_scope", "scope": "notes:write"}
    stage.claim("Bob was refused: the code, the reason and the scope reached his client", refusal, expected)
    stage.claim("and the note was as before", before, "black ink is back on Friday\nblue ink is not\n")
    stage.claim("Ada's line was written", (nothing, after), (None, f"{before}from ada\n"))
    stage.claim("Eve was turned away at the door, with HTTP 401", stranger, 401)


async def _search(url: str, person: str) -> None:
    async with client_over_http(url, f"token-of-{person}") as client, anyio.create_task_group() as tasks:
        for _ in range(SEARCHES):
            tasks.start_soon(client.call_tool, "search_notes", {"word": "ink"})


async def _append(url: str, person: str) -> tuple[int, str, object] | None:
    async with client_over_http(url, f"token-of-{person}") as client:
        try:
            await client.call_tool("append_note", {"name": "ink", "line": f"from {person}"})
        except MCPError as refused:
            return refused.code, refused.message, refused.data
    return None


async def _knock(url: str, token: str) -> int:
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}) as http:
        response = await http.post(f"{url}/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
        return int(response.status_code)
