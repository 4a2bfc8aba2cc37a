"""One server, three callers: what each of them sees, what is refused, and what the audit log says of it.

Over HTTP the callers would be told apart by their access tokens; here the example says who comes, and needs no network.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anyio
from mcp import Client
from mcp.server import MCPServer
from mcp_rbac import AccessDecided, Policy, RBACMiddleware, Subject

POLICY = Policy.from_dict(
    {
        "roles": {
            "reader": {"allow": ["tools/list", "tools/call:find_*"]},
            "clerk": {
                "inherits": ["reader"],
                "allow": [
                    "tools/call:order",
                    {"permission": "tools/call:pay", "when": {"args.amount": {"le": 100}}, "name": "petty cash"},
                ],
            },
            "auditor": {"inherits": ["reader"], "allow": ["tools/call:books"]},
        },
        "users": {"ann": ["clerk"], "bob": ["auditor"]},
        "ssd": [{"roles": ["clerk", "auditor"]}],
    }
)
CALLER = SimpleNamespace(user="nobody")


def subject_of(_ctx: Any, policy: Policy) -> Subject:
    """Take the caller from where the example has put it; a server would say ``from_token(issuer=…)``."""
    return policy.subject(CALLER.user)


def audit(event: AccessDecided) -> None:
    """Write one line for each decision about a tool."""
    if event.method == "tools/call":
        verdict = "granted" if event.allowed else "denied"
        print(f"audit   {event.user} {event.permission} {verdict} by {event.rule or event.reason}")


def office() -> MCPServer:
    """Build the server."""
    server = MCPServer("office", middleware=[RBACMiddleware(POLICY, subject=subject_of, on_event=audit)])

    @server.tool()
    def find_paper(size: str) -> str:
        """Find paper."""
        return f"{size}: 3 reams"

    @server.tool()
    def order(what: str) -> str:
        """Order something."""
        return f"ordered {what}"

    @server.tool()
    def pay(amount: int) -> str:
        """Pay an invoice."""
        return f"paid {amount}"

    @server.tool()
    def books() -> str:
        """Show the books."""
        return "all in order"

    return server


async def visit(server: MCPServer, user: str, *calls: tuple[str, dict[str, Any]]) -> None:
    """Look around as *user*, and make some calls."""
    CALLER.user = user
    async with Client(server) as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        print(f"{user:7} sees {', '.join(names) or 'nothing'}")
        for name, arguments in calls:
            try:
                result: Any = await client.call_tool(name, arguments)
                print(f"{user:7} {name}: {result.content[0].text}")
            except Exception as error:  # noqa: BLE001  # what the client gets is what the example is about
                print(f"{user:7} {name}: {error}")


async def main() -> None:
    """Let three people in, one after the other."""
    server = office()
    await visit(server, "ann", ("pay", {"amount": 80}), ("pay", {"amount": 8000}), ("books", {}))
    await visit(server, "bob", ("books", {}), ("order", {"what": "ink"}))
    await visit(server, "eve", ("find_paper", {"size": "A4"}))


if __name__ == "__main__":
    anyio.run(main)
