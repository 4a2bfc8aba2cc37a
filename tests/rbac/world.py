"""Contexts and a server as the middleware meets them, without any SDK."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from mcp_rbac import Policy, Principal, RBACMiddleware, Role, Subject


@dataclass(frozen=True)
class Ctx:
    """A message; *principal* is what the token said."""

    method: Any
    params: Any = None
    principal: Principal | None = None
    request: Any = None
    request_id: Any = 1
    internal: bool = False


def tool(name, **arguments):
    return Ctx("tools/call", {"name": name, "arguments": arguments})


def over_http(ctx, *, user=None, headers=None, **claims):
    """The same message over HTTP, with a token if there is a user."""
    token = SimpleNamespace(
        client_id="app", scopes=claims.pop("scopes", []), subject=user, claims={"iss": "i", **claims}
    )
    scope: dict[str, Any] = {"user": SimpleNamespace(access_token=token)} if user else {}
    request = SimpleNamespace(scope=scope, headers=headers or {"host": "x"})
    return Ctx(ctx.method, ctx.params, request=request, request_id=ctx.request_id)


class Server:
    """Answers tools by their names, everything unknown in its own words, and remembers what reached it."""

    def __init__(self, **results: Any) -> None:
        self.results = results
        self.seen: list[Any] = []

    async def __call__(self, ctx: Any) -> Any:
        self.seen.append(ctx)
        params: Mapping[str, Any] = ctx.params or {}
        name = params.get("name", params.get("uri"))
        if ctx.method in self.results:
            return self.results[ctx.method]
        if name in self.results:
            return self.results[name]
        if ctx.method == "tools/call":
            return {"content": [{"type": "text", "text": f"Unknown tool: {name!r} ({name})"}], "isError": True}
        raise LookupError(f"no such thing: {name}", {"name": name})


POLICY = Policy(
    roles={
        "r": Role(
            [
                "tools/list",
                "tools/call:open_*",
                "prompts/list",
                "prompts/get:hi",
                "resources/list",
                "resources/templates/list",
                "resources/read:docs://**",
                "resources/subscribe:docs://**",
                "subscriptions/listen",
            ]
        )
    }
)
ME = Subject("me", {"r"})


def guarded(policy=POLICY, **options):
    return RBACMiddleware(policy, **{"local": ME, **options})
