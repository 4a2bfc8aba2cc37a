"""Act four: Streamable HTTP, where tokens say who is calling, and not everybody may do everything."""

from __future__ import annotations

import anyio
import httpx2
from mcp.shared.exceptions import MCPError
from mcp_rbac import CODE

from .stage import Stage
from .world import Premises, client_over_http, note

PEOPLE = ("ada", "bob")
SEARCHES = 4
OFFICE_TOOLS = {"yearly_report", "print_label", "payroll"}


async def play(stage: Stage, shop: Premises) -> None:
    """Let Ada and Bob work at once, refuse Bob, and turn a stranger away."""
    stage.act("At the counter", "The same chain over HTTP: Ada may write, Bob may read, Eve is unknown.")
    async with anyio.create_task_group() as tasks:
        for person in PEOPLE:
            tasks.start_soon(_search, shop.url, person)
    refusal = await _append(shop.url, "bob")
    before = note(stage.folder, "ink")
    nothing = await _append(shop.url, "ada")
    after = note(stage.folder, "ink")
    stranger = await _knock(shop.url, "token-of-eve")
    shown = {person: await _tools(shop.url, person) for person in PEOPLE}
    async with client_over_http(shop.url, "token-of-bob") as client:
        curious = await client.call_tool("payroll")

    await stage.ledger(
        *[(person, "search_notes", "ok") for person in PEOPLE] * SEARCHES,
        ("bob", "append_note", "rejected"),
        ("ada", "append_note", "ok"),
        ("bob", "payroll", "tool_error"),
    )
    stage.tell("Bob's client received " + " ".join(map(str, refusal[:2] if refusal else ["no refusal"])))
    expected = CODE, "insufficient scope", {"error": "insufficient_scope", "scope": "notes:write"}
    stage.claim("Bob was refused: the code, the reason and the scope reached his client", refusal, expected)
    stage.claim("and the note was as before", before, "black ink is back on Friday\nblue ink is not\n")
    stage.claim("Ada's line was written", (nothing, after), (None, f"{before}from ada\n"))
    stage.claim("Bob is not shown what only Ada may call", shown["ada"] - shown["bob"], OFFICE_TOOLS)
    text = "".join(part.text for part in curious.content if part.type == "text")
    stage.claim("and what he is not shown does not exist for him", text, "Unknown tool: payroll")
    stage.claim("Eve was turned away at the door, with HTTP 401", stranger, 401)


async def _search(url: str, person: str) -> None:
    async with client_over_http(url, f"token-of-{person}") as client, anyio.create_task_group() as tasks:
        for _ in range(SEARCHES):
            tasks.start_soon(client.call_tool, "search_notes", {"word": "ink"})


async def _tools(url: str, person: str) -> set[str]:
    async with client_over_http(url, f"token-of-{person}") as client:
        return {tool.name for tool in (await client.list_tools()).tools}


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
