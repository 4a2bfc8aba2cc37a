"""What type checkers must accept and infer; read by mypy and pyright, never run."""

from __future__ import annotations

from typing import Any

from fastmcp import FastMCP
from mcp.server import MCPServer, Server
from mcp.server.context import ServerMiddleware
from mcp_rbac import (
    Assignment,
    Decision,
    Exclusive,
    Grant,
    LivePolicy,
    Policy,
    PolicySource,
    RBACMiddleware,
    Request,
    Role,
    Scope,
    StepUp,
    Subject,
    as_fastmcp,
    from_token,
)
from typing_extensions import assert_type


def small(request: Request) -> bool:
    """Judge by an argument."""
    return bool(request.arguments["amount"] < 1000)


policy = Policy(
    roles={"a": Role(["tools/list", Grant("tools/call:pay", when=small)]), "b": {"inherits": ["a"]}},
    users={"ann": ["a", Assignment("b"), {"role": "a", "tenant": "x"}]},
    scopes={"s": Scope(["**"]), "t": {"implies": ["s"]}},
    dsd=[Exclusive(["a", "b"]), {"roles": ["a", "b"]}],
)
Policy(roles=["a"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # must stay an error

assert_type(policy.allowed(Subject("ann", {"a"}), "tools/list"), bool)
assert_type(policy.decide(policy.subject("ann"), "tools/list"), Decision)
assert_type(Policy.from_dict({}), Policy)

source: PolicySource = policy
source = LivePolicy(lambda: policy)

rbac = RBACMiddleware(source, subject=from_token(roles="groups"))
for_the_sdk: ServerMiddleware[Any] = rbac
MCPServer("one", middleware=[rbac])
Server("two").middleware.append(rbac)
FastMCP("three").add_middleware(as_fastmcp(rbac))
app = StepUp(MCPServer("four").streamable_http_app(), resource_metadata="https://x/meta")
