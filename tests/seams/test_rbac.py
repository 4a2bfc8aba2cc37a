"""What a caller may not see, on real servers: answered like what is not there, byte for byte and as fast.

Each server is built twice, once with the hidden things and once without, and both are asked the same.

Annotations are evaluated (no ``from __future__ import annotations``): FastMCP 2.14 cannot resolve a local name later.
"""

import json
import statistics
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import mcp_middleware as mm
import pytest
from mcp_rbac import HANDSHAKE, METHODS, Policy, RBACMiddleware, Role, Scope, StepUp, Subject, as_fastmcp, from_token
from mcp_rbac.hiding import NOWHERE

from tests.seams import peers
from tests.seams.scenarios import initialize
from tests.seams.servers import FASTMCP, MCP, lowlevel

pytestmark = pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True)

POLICY = Policy(
    roles={
        "r": Role(
            [
                *("tools/list", "resources/list", "resources/templates/list", "prompts/list", "subscriptions/listen"),
                *("tools/call:open", "resources/read:docs://**", "resources/subscribe:docs://**", "prompts/get:hi"),
            ]
        )
    }
)
QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("tools/list", {}),
    ("resources/list", {}),
    ("resources/templates/list", {}),
    ("prompts/list", {}),
    *(
        ("tools/call", {"name": name, "arguments": {"a": 1}})
        for name in ("secret", "absent", "it's", 'say "hi"', "a\nb")
    ),
    ("tools/call", {"name": "secret", "arguments": {"a": "no number"}}),
    ("tools/call", {"name": "secret", "arguments": 5}),
    *(
        ("resources/read", {"uri": uri})
        for uri in ("mem://secret", "mem://about/secret", "mem://absent", "docs://a/../b")
    ),
    ("resources/read", {"uri": "mem://secret", "name": "docs://open"}),
    *(("prompts/get", {"name": name, "arguments": {"name": "x"}}) for name in ("secret", "absent")),
    ("prompts/get", {"name": "secret"}),
    *(
        ("completion/complete", {"ref": ref, "argument": {"name": "name", "value": "b"}})
        for ref in (
            {"type": "ref/prompt", "name": "secret"},
            {"type": "ref/prompt", "name": "absent"},
            {"type": "ref/resource", "uri": "mem://about/{topic}"},
        )
    ),
    ("logging/setLevel", {"level": "debug"}),
    ("acme/unheard", {}),
]


def guard(**options: Any) -> RBACMiddleware:
    """Return the middleware for a caller of few rights."""
    return RBACMiddleware(POLICY, **{"local": Subject("me", {"r"}), "anonymous": Subject("me", {"r"}), **options})


def furnish(server: Any, *, with_secrets: bool) -> Any:
    """Register what the caller may see, and the rest."""

    @server.tool(name="open")
    async def open_(a: int) -> int:
        return a

    @server.resource("docs://open")
    def doc() -> str:
        return "open"

    @server.prompt(name="hi")
    def hi(name: str) -> str:
        return "hi"

    if with_secrets:
        add_secrets(server)
    return server


def add_secrets(server: Any) -> None:
    """Register what the caller must not see."""

    @server.tool(name="secret")
    async def secret(a: int) -> int:
        raise AssertionError("ran")

    @server.resource("mem://secret")
    def memo() -> str:
        raise AssertionError("ran")

    @server.resource("mem://about/{topic}")
    def about(topic: str) -> str:
        raise AssertionError("ran")

    @server.prompt(name="secret")
    def prompt(name: str) -> str:
        raise AssertionError("ran")


def decorated(*, with_secrets: bool, rbac: Any) -> Any:
    """Build the SDK's decorator-style server behind the middleware."""
    if FASTMCP:
        from fastmcp import FastMCP

        server: Any = furnish(FastMCP("x", version="1"), with_secrets=with_secrets)
        server.add_middleware(as_fastmcp(rbac))
    elif MCP >= 2:
        from mcp.server.mcpserver import MCPServer

        server = furnish(MCPServer("x", version="1", middleware=[rbac]), with_secrets=with_secrets)
    else:
        from mcp.server.fastmcp import FastMCP as FastMCP1

        server = furnish(FastMCP1("x"), with_secrets=with_secrets)
        mm.install(server, rbac)
    return server


def handlers(*, with_secrets: bool, rbac: Any) -> Any:
    """Build the 2.x SDK's handler-style server, whose tools are a dictionary."""
    import mcp_types as types
    from mcp.server.lowlevel import Server

    names = ["open", "secret"] if with_secrets else ["open"]

    async def list_tools(ctx: Any, params: Any) -> Any:
        return types.ListToolsResult(
            tools=[types.Tool(name=name, input_schema={"type": "object"}) for name in names], cache_scope="public"
        )

    async def call_tool(ctx: Any, params: Any) -> Any:
        if params.name not in names:
            raise LookupError(f"no tool called {params.name!r}")
        if params.name == "secret":
            raise AssertionError("ran")
        return types.CallToolResult(content=[])

    server = Server("x", version="1", on_list_tools=list_tools, on_call_tool=call_tool)
    server.middleware.append(rbac)
    return server


def complete(*, with_secrets: bool, rbac: Any) -> Any:
    """Build the decorator-style server with a handler for everything that has no decorator there."""
    if MCP >= 2:
        server = decorated(with_secrets=with_secrets, rbac=rbac)
    else:  # the chain of FastMCP 2 and 3 does not hear of these
        server = decorated(with_secrets=with_secrets, rbac=mm.Chain())
        mm.install(server, rbac)
    known = {"hi", *(["secret", "mem://about/{topic}"] if with_secrets else [])}
    (add_handlers if MCP >= 2 else add_handlers_of_1x)(lowlevel(server), known)
    return server


HEARD: list[str] = []  # by the handlers


def completed(ref: Any, argument: Any, known: set[str]) -> Any:
    """Complete the argument ``user`` of anything, as many handlers do, and others of what is *known*."""
    from mcp import types

    HEARD.append(getattr(ref, "name", None) or str(ref.uri))
    return types.Completion(values=["alice", "bob"] if argument.name == "user" or HEARD[-1] in known else [])


def add_handlers(server: Any, known: set[str]) -> None:
    """Register handlers that note what they were asked for."""
    import mcp_types as types

    async def completion(ctx: Any, params: Any) -> Any:
        return types.CompleteResult(completion=completed(params.ref, params.argument, known))

    async def note(ctx: Any, params: Any) -> Any:
        HEARD.append(str(getattr(params, "uri", "no object")))
        return types.EmptyResult()

    server.add_request_handler("completion/complete", types.CompleteRequestParams, completion)
    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, note)
    server.add_request_handler("resources/subscribe", types.SubscribeRequestParams, note)
    server.add_request_handler("resources/unsubscribe", types.UnsubscribeRequestParams, note)


def add_handlers_of_1x(server: Any, known: set[str]) -> None:
    """Do the same with the decorators of the 1.x SDK's lowlevel server."""

    @server.completion()
    async def completion(ref: Any, argument: Any, context: Any) -> Any:
        return completed(ref, argument, known)

    @server.set_logging_level()
    async def level(level: Any) -> None:
        HEARD.append("no object")

    @server.subscribe_resource()
    @server.unsubscribe_resource()
    async def subscription(uri: Any) -> None:
        HEARD.append(str(uri))


BUILDERS = [decorated, complete, *([handlers] if MCP >= 2 and not FASTMCP else [])]
ERAS = ["legacy", "modern"] if MCP >= 2 else ["legacy"]


@asynccontextmanager
async def talking(server: Any, era: str) -> Any:
    """Connect a peer that sends messages by hand."""
    async with (peers.directly if era == "modern" else peers.in_memory)(lowlevel(server)) as peer:
        if era == "legacy":
            await initialize(peer)
        yield peer


async def answers(server: Any, era: str) -> list[str]:
    """Ask everything, and return what came back, as text."""
    async with talking(server, era) as peer:
        found = [await peer.request(method, params) for method, params in QUESTIONS]
    return [json.dumps(answer, ensure_ascii=False) for answer in found]


@pytest.mark.parametrize("on_deny", ["hide", "challenge"])
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("build", BUILDERS)
async def test_hidden_is_unknown(build: Any, era: str, on_deny: Any) -> None:
    """No answer tells a thing that is hidden from one that is not there."""
    kept = await answers(build(with_secrets=True, rbac=guard(on_deny=on_deny)), era)
    never = await answers(build(with_secrets=False, rbac=guard(on_deny=on_deny)), era)
    for question, hidden, absent in zip(QUESTIONS, kept, never, strict=True):
        assert hidden == absent, question
    assert "secret" not in kept[0]
    assert "open" in kept[0]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("build", BUILDERS)
async def test_unknown_is_answered_as_without_us(build: Any, era: str) -> None:
    """The words are the server's own: a server without the middleware says the same of what is not there."""
    behind = await answers(build(with_secrets=True, rbac=guard()), era)
    bare = await answers(build(with_secrets=False, rbac=mm.Chain()), era)
    for question, ours, theirs in zip(QUESTIONS, behind, bare, strict=True):
        method, params = question
        if method in ("tools/call", "prompts/get", "completion/complete") or params.get("uri", "").startswith("mem://"):
            assert ours == theirs, question


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("rbac", [guard(), RBACMiddleware(Policy())])
async def test_denied_completion_does_not_run(rbac: RBACMiddleware, era: str) -> None:
    """Whatever it is asked for, under whatever name, a handler that looks at the argument alone would answer."""
    HEARD.clear()
    async with talking(complete(with_secrets=True, rbac=rbac), era) as peer:
        for ref in ({"type": "ref/prompt", "name": "secret"}, {"type": "ref/resource", "uri": "mem://about/{topic}"}):
            asked = {"ref": ref, "argument": {"name": "user", "value": ""}}
            answer = await peer.request("completion/complete", asked)
            assert answer["result"]["completion"] == {"values": []}
    assert HEARD == []


@pytest.mark.parametrize("era", ERAS)
async def test_granted_completion_runs(era: str) -> None:
    """With what it completes."""
    HEARD.clear()
    async with talking(complete(with_secrets=True, rbac=guard()), era) as peer:
        asked = {"ref": {"type": "ref/prompt", "name": "hi"}, "argument": {"name": "name", "value": ""}}
        answer = await peer.request("completion/complete", asked)
    assert answer["result"]["completion"]["values"] == ["alice", "bob"]
    assert HEARD == ["hi"]


@pytest.mark.skipif(MCP < 2, reason="HTTP without a session, to be compared byte for byte, is of 2026-07-28")
@pytest.mark.parametrize("build", BUILDERS)
async def test_hidden_is_unknown_over_http(build: Any) -> None:
    """Status and headers too."""
    async with (
        http(build(with_secrets=True, rbac=guard())) as one,
        http(build(with_secrets=False, rbac=guard())) as two,
    ):
        for method, params in QUESTIONS:
            hidden, absent = await post(one, method, params), await post(two, method, params)
            assert hidden.status_code == absent.status_code
            assert hidden.content == absent.content, (method, params)
            assert dict(hidden.headers) == dict(absent.headers)


@asynccontextmanager
async def http(server: Any, around: Any = None) -> Any:
    """Serve over ASGI in this process."""
    import httpx

    app = server.http_app(path="/mcp") if FASTMCP else server.streamable_http_app()
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=around(app) if around else app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            yield client


async def post(client: Any, method: str, params: dict[str, Any], **headers: str) -> Any:
    """Send one request of 2026-07-28."""
    from mcp.shared.inbound import encode_header_value

    named = params.get("name" if method != "resources/read" else "uri")
    meta = {
        "io.modelcontextprotocol/protocolVersion": peers.MODERN,
        "io.modelcontextprotocol/clientInfo": {"name": "peer", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    return await client.post(
        "/mcp",
        json={"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}},
        headers={
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": peers.MODERN,
            "mcp-method": method,
            **({"mcp-name": encode_header_value(named)} if isinstance(named, str) else {}),
            **headers,
        },
    )


@pytest.mark.parametrize("build", BUILDERS)
async def test_hidden_is_as_fast_as_unknown(build: Any) -> None:
    """Medians within 10 %, of turns taken one after the other; noise may ask for another try."""
    async with talking(build(with_secrets=True, rbac=guard()), ERAS[-1]) as peer:
        ratios = []
        for _ in range(4):
            times: dict[str, list[float]] = {"secret": [], "absent": []}
            for _ in range(60):
                for name, taken in times.items():
                    began = time.process_time()
                    await peer.call(name, a=1)
                    taken.append(time.process_time() - began)
            ratios.append(statistics.median(times["secret"]) / statistics.median(times["absent"]))
            if 0.9 < ratios[-1] < 1.1:
                return
    pytest.fail(f"hidden takes {ratios} of the time of unknown")


@pytest.mark.skipif(MCP < 2, reason="the 1.x SDK has no list of its methods")
def test_every_method_of_the_sdk_is_known(anyio_backend: object) -> None:
    """A new one fails here, until somebody has thought about who may call it."""
    from mcp_types import methods

    assert methods.SPEC_CLIENT_METHODS | methods.SPEC_CLIENT_NOTIFICATION_METHODS == METHODS


PARAMS: dict[str, Any] = {
    "name": "secret",
    "uri": "mem://secret",
    "ref": {"type": "ref/prompt", "name": "secret"},
    "argument": {"name": "user", "value": "x"},
    "level": "debug",
    "notifications": {"toolsListChanged": True},
    "arguments": {"a": "1"},
}


@pytest.mark.parametrize("method", sorted(METHODS - HANDSHAKE))
@pytest.mark.parametrize("build", BUILDERS)
async def test_every_method_is_denied_by_default(build: Any, method: str) -> None:
    """Nothing runs but for the name that does not exist, no handler hears another, and lists are empty."""
    HEARD.clear()
    events: list[Any] = []
    rbac = RBACMiddleware(Policy(), local=Subject("me"), on_event=events.append)
    async with talking(build(with_secrets=True, rbac=rbac), "legacy") as peer:
        if method.startswith("notifications/"):
            await peer.notify(method)
            await peer.request("ping")
            answer: dict[str, Any] = {}
        else:
            answer = await peer.request(method, PARAMS)
    assert "ran" not in json.dumps(answer)
    assert all(NOWHERE in heard for heard in HEARD)
    if "error" not in answer and not answer.get("result", {}).get("isError"):
        found = answer.get("result", {})
        assert all(not value for value in found.get("completion", found).values()), answer
    if events:  # a method that this server or this version does not have never comes to the middleware
        assert all(not event.allowed for event in events)


@pytest.mark.parametrize(
    "method", ["completion/complete", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"]
)
async def test_every_handler_hears_what_is_granted(method: str) -> None:
    """Or it would prove nothing that it hears of nothing else."""
    HEARD.clear()
    every = RBACMiddleware(Policy(roles={"r": Role(["**"])}), local=Subject("me", {"r"}))
    async with talking(complete(with_secrets=True, rbac=every), "legacy") as peer:
        answer = await peer.request(method, PARAMS)
    assert "result" in answer
    assert HEARD in (["secret"], ["mem://secret"], ["no object"])


@pytest.mark.skipif(MCP < 2 or bool(FASTMCP), reason="MCPServer of mcp 2 has subscriptions/listen")
async def test_listening_is_narrowed() -> None:
    """The server acknowledges what it heard of."""
    async with (
        talking(decorated(with_secrets=True, rbac=guard()), "modern") as peer,
        anyio.create_task_group() as tasks,
    ):
        wanted = {"toolsListChanged": True, "resourceSubscriptions": ["docs://open", "mem://secret"]}
        tasks.start_soon(peer.request, "subscriptions/listen", {"notifications": wanted})
        await peer.heard("notifications/subscriptions/acknowledged")
        tasks.cancel_scope.cancel()
    (heard,) = [message for arrow, message in peer.transcript if arrow == "<"]
    assert heard["params"]["notifications"] == {"toolsListChanged": True, "resourceSubscriptions": ["docs://open"]}


@pytest.mark.skipif(MCP < 2, reason="results say who may cache them since 2026-07-28")
async def test_lists_are_private() -> None:
    """Whatever the server says of itself, in the handler or by its configuration."""
    if FASTMCP:
        from fastmcp import FastMCP

        server: Any = furnish(FastMCP("x", cache_ttl=60, cache_scope="public"), with_secrets=True)
    else:
        from mcp.server.caching import CacheHint
        from mcp.server.mcpserver import MCPServer

        server = MCPServer("x", cache_hints={"tools/list": CacheHint(ttl_ms=60_000, scope="public")})
        furnish(server, with_secrets=True)
    guard().protect(server)
    async with talking(server, "modern") as peer:
        result = (await peer.request("tools/list", {}))["result"]
    assert (result["cacheScope"], result["ttlMs"]) == ("private", 60_000)
    assert [tool["name"] for tool in result["tools"]] == ["open"]


@pytest.mark.skipif(MCP < 2 or bool(FASTMCP), reason="MCPServer looks at x-mcp-header before its middleware")
async def test_schema_of_a_hidden_tool_is_not_probed() -> None:
    """The check of ``Mcp-Param`` headers would answer for a tool that the caller cannot see."""
    from typing import Annotated

    from mcp.server.mcpserver import MCPServer
    from pydantic import Field

    statuses = []
    for protected in (True, False):
        server: Any = furnish(MCPServer("x", version="1"), with_secrets=False)

        @server.tool(name="secret")
        async def secret(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
            raise AssertionError("ran")

        rbac = guard()
        if protected:
            rbac.protect(server)
        else:
            server.middleware.append(rbac)
        async with http(server) as client:
            call = {"name": "secret", "arguments": {"region": "eu"}}
            statuses.append((await post(client, "tools/call", call, **{"mcp-param-region": "us"})).status_code)
    assert statuses == [200, 400], "the door that protect() closes is there to be closed"


@pytest.mark.skipif(MCP < 2, reason="the 1.x session takes an HTTP error for its end")
async def test_step_up() -> None:
    """HTTP 403 with every missing scope, for this tool alone, through the SDK's own HTTP."""
    policy = Policy(
        roles={"r": Role(["tools/call:*", "tools/list"])},  # some SDKs ask for the list before each call
        scopes={"read": Scope(["tools/call:open", "tools/list"]), "write": Scope(["tools/call:secret"])},
    )
    rbac = RBACMiddleware(policy, subject=from_token(roles="groups"), on_deny="challenge")

    def around(app: Any) -> Any:
        token = SimpleNamespace(client_id="app", subject="ann", scopes=["read"], claims={"groups": ["r"]})
        inner = StepUp(app, resource_metadata="https://x/meta")

        async def authenticated(scope: Any, receive: Any, send: Any) -> None:
            await inner({**scope, "user": SimpleNamespace(access_token=token)}, receive, send)

        return authenticated

    async with http(decorated(with_secrets=True, rbac=rbac), around) as client:
        granted = await post(client, "tools/call", {"name": "open", "arguments": {"a": 1}})
        denied = await post(client, "tools/call", {"name": "secret", "arguments": {"a": 1}})
    assert granted.status_code == 200
    assert denied.status_code == 403
    assert denied.headers["www-authenticate"] == (
        'Bearer error="insufficient_scope", scope="write", resource_metadata="https://x/meta"'
    )
    assert denied.json()["error"]["data"]["scope"] == "write"


@pytest.mark.skipif(MCP < 2 or bool(FASTMCP), reason="extensions are of mcp 2.x")
@pytest.mark.parametrize("wrap", [lambda rbac: rbac, lambda rbac: mm.Chain(mm.Chain(), rbac, mm.Chain())])
async def test_what_cannot_be_hidden_is_refused(wrap: Any) -> None:
    """An extension's interceptor runs the tool that was called, whatever name it is asked for."""
    from mcp import Client
    from mcp.server.extension import Extension
    from mcp.server.mcpserver import MCPServer

    guard, ran = wrap(RBACMiddleware(POLICY, local=Subject("bob", {"r"}))), []

    class Interceptor(Extension):
        identifier = "org.example/rbac"

        async def intercept_tool_call(self, params: Any, ctx: Any, call_next: Any) -> Any:
            return await guard(ctx, call_next)

    server = MCPServer("office", extensions=[Interceptor()])

    @server.tool()
    def secret() -> None:
        """Run for nobody."""
        ran.append("secret")

    async with Client(server) as client:
        with pytest.raises(Exception, match="access denied"):
            await client.call_tool("secret", {})
    assert ran == []


async def test_a_function_that_is_hidden_does_not_run() -> None:
    """Behind around() there is one function, and it is not there for those who may not see it."""
    ran: list[str] = []

    @mm.Chain(RBACMiddleware(POLICY, local=Subject("bob", {"r"}))).around
    async def secret() -> None:
        ran.append("secret")

    with pytest.raises(LookupError, match="there is no secret"):
        await secret()
    assert ran == []
