"""The accessors of ``_seam.py`` on contexts of every shape, and on garbage; real contexts are in tests/seams."""

from __future__ import annotations

import asyncio
import sys
from collections import UserDict
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_middleware import (
    Call,
    Chain,
    Principal,
    Refused,
    access_token,
    arguments,
    as_fastmcp,
    headers,
    http_request,
    is_continuation,
    is_internal,
    is_notification,
    is_stream,
    outcome,
    principal,
    refuse,
    request_id,
    session_id,
    target,
    with_arguments,
)

ACCESSORS = {
    target: None,
    arguments: {},
    headers: {},
    session_id: None,
    principal: None,
    request_id: None,
    is_notification: False,
    is_internal: False,
    is_continuation: False,
    is_stream: False,
}


class Hostile:
    """Raises for every attribute, as a property of an SDK does outside of a request."""

    def __getattr__(self, name):
        raise RuntimeError(name)


class Vague:
    """Neither true nor false, nor equal to anything: what a column of a data frame says."""

    def __bool__(self):
        raise ValueError("ambiguous")

    def __eq__(self, other):
        return self

    __hash__ = None


class Url:
    def unicode_string(self):
        return str(self)

    def __str__(self):
        return "file:///a"


@dataclass
class Model:
    """A params model with pydantic's way of copying."""

    name: Any = None
    arguments: Any = None
    uri: Any = None
    ref: Any = None
    request_state: Any = None

    def model_copy(self, update):
        return Model(**{**vars(self), **update})


@dataclass(frozen=True)
class FastContext:
    """FastMCP's MiddlewareContext, as far as it is read."""

    message: Any
    method: Any = "tools/call"
    type: str = "request"
    fastmcp_context: Any = None


junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.builds(object)
    | st.builds(Hostile),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.sampled_from(["name", "uri", "ref", "arguments", "requestState"]), inner)
        | st.builds(Model, name=inner, arguments=inner, uri=inner, ref=inner)
    ),
    max_leaves=6,
)
contexts = (
    junk
    | st.builds(Call, method=junk, params=junk, request_id=junk, headers=junk, principal=junk, request=junk)
    | st.builds(FastContext, message=junk, method=junk, type=junk, fastmcp_context=junk)
    | st.builds(
        SimpleNamespace,
        method=junk,
        params=junk,
        request=st.builds(SimpleNamespace, scope=junk, headers=junk),
    )
)


@pytest.mark.parametrize("accessor", ACCESSORS, ids=lambda accessor: accessor.__name__)
@given(ctx=contexts)
def test_accessors_never_raise(accessor, ctx):
    """Rule 1: remote input never raises, and what comes back has the promised type."""
    value, empty = accessor(ctx), ACCESSORS[accessor]
    assert value == empty or isinstance(value, (str, int, Principal, dict))


@given(junk)
def test_outcome_never_raises(value):
    """A middleware further in may return anything."""
    assert outcome(value) in {"ok", "tool_error", "input_required", "protocol_error"}


def test_a_property_that_raises_is_no_fact():
    """FastMCP's raise outside of a request."""
    for accessor, empty in ACCESSORS.items():
        assert accessor(Hostile()) == empty, accessor


def test_accessors_of_an_empty_context_are_empty():
    """The edge that every seam reaches: initialize without params."""
    for accessor, empty in ACCESSORS.items():
        assert accessor(Call("initialize")) == empty, accessor


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"name": "add"}, "add"),
        ({"uri": "file:///a"}, "file:///a"),
        ({"ref": {"type": "ref/prompt", "name": "greet"}}, "greet"),
        ({"ref": {"type": "ref/resource", "uri": "file:///{x}"}}, "file:///{x}"),
        (Model(uri=Url()), "file:///a"),
        (Model(ref=Model(name="greet")), "greet"),
        ({"name": 7}, None),
        ({"name": 7, "uri": ["x"]}, None),
        (None, None),
    ],
)
def test_target(params, expected):
    """A name, a URI, or what a completion refers to; nothing that is not text."""
    assert target(Call("x", params)) == expected
    assert target(FastContext(params, "x")) == expected


@pytest.mark.parametrize(
    ("method", "params", "expected"),
    [
        ("tools/call", {}, "public"),
        ("prompts/get", {}, "public"),
        ("resources/read", {}, "file:///secret"),
        ("resources/directory/read", {}, "file:///secret"),
        ("resources/read", {"uri": None}, None),
        ("tools/call", {"name": None}, None),
        (
            "completion/complete",
            {"ref": {"type": "ref/resource", "name": "public", "uri": "file:///{x}"}},
            "file:///{x}",
        ),
        ("completion/complete", {"ref": {"type": "ref/prompt", "name": "greet", "uri": "file:///a"}}, "greet"),
        ("completion/complete", {"ref": {"type": ["odd"]}}, None),
    ],
)
def test_target_is_the_field_that_the_method_goes_by(method, params, expected):
    """A caller who sends both must not be taken for one who calls something else."""
    assert target(Call(method, {"name": "public", "uri": "file:///secret", **params})) == expected


def test_arguments_are_a_mapping_or_nothing():
    """Never a list, never None."""
    assert arguments(Call("x", {"arguments": {"a": 1}})) == {"a": 1}
    assert arguments(FastContext(Model(arguments={"a": 1}))) == {"a": 1}
    assert arguments(Call("x", {"arguments": [1]})) == {}


@pytest.mark.parametrize(
    "params", [{"name": "add", "arguments": {"a": 1}}, Model("add", {"a": 1})], ids=["wire", "model"]
)
@pytest.mark.parametrize("shape", [lambda p: Call("tools/call", p), FastContext])
def test_with_arguments_copies(params, shape):
    """The context that the outer layers hold is not touched."""
    old = shape(params)
    new = with_arguments(old, {"a": 2})
    assert (target(new), arguments(new)) == ("add", {"a": 2})
    assert arguments(old) == {"a": 1}


def test_with_arguments_needs_no_params_and_a_dataclass():
    """A call without params gets some; an object that cannot be copied is a mistake of the program."""
    assert arguments(with_arguments(Call("x"), {"a": 1})) == {"a": 1}
    with pytest.raises(TypeError):
        with_arguments(SimpleNamespace(method="x", params=None), {})
    with pytest.raises(TypeError):
        with_arguments(SimpleNamespace(method="x"), {})


def served(**request):
    """A context of the official SDK that came over HTTP."""
    return SimpleNamespace(method="tools/call", params=None, request=SimpleNamespace(**request))


def over_fastmcp(**request):
    """The same over FastMCP, three objects down."""
    sdk = SimpleNamespace(request=SimpleNamespace(**request), request_id=7)
    return FastContext(None, fastmcp_context=SimpleNamespace(request_context=sdk))


TOKEN = SimpleNamespace(client_id="app", subject="ann", claims={"iss": "https://id"}, scopes=["read"])


@pytest.mark.parametrize("shape", [served, over_fastmcp])
def test_http_facts_are_found_at_every_seam(shape):
    """Headers, session and the verified token hang on the request."""
    ctx = shape(headers={"mcp-session-id": "s1"}, scope={"user": SimpleNamespace(access_token=TOKEN)})
    assert headers(ctx) == {"mcp-session-id": "s1"}
    assert session_id(ctx) == "s1"
    assert principal(ctx) == Principal("app", "https://id", "ann", ("read",))


def test_a_call_without_headers_has_those_of_its_request():
    """An empty mapping of its own hides nothing."""
    assert session_id(Call("x", request=SimpleNamespace(headers={"mcp-session-id": "s1"}))) == "s1"


class MappingRequest(UserDict):
    """Starlette's Request is a mapping too, of its scope: its headers are an attribute, not an item."""

    @property
    def headers(self):
        return {"mcp-session-id": "s1"}

    @property
    def scope(self):
        return self.data


def test_a_request_that_is_a_mapping_is_read_by_its_attributes():
    """Or nobody who comes over HTTP would be anybody."""
    request = MappingRequest({"user": SimpleNamespace(access_token=TOKEN), "headers": []})
    ctx = SimpleNamespace(method="tools/call", params=None, request=request)
    assert (session_id(ctx), principal(ctx).subject) == ("s1", "ann")


def test_request_id_is_the_wire_id():
    """FastMCP hides it on the SDK's context; anything but text or a number is no id."""
    assert request_id(over_fastmcp()) == 7
    assert request_id(Call("x", request_id="a")) == "a"
    assert request_id(Call("x", request_id=[1])) is None


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (SimpleNamespace(client_id="app", scopes=None), Principal("app")),
        (SimpleNamespace(client_id="app", claims={"sub": "ann"}, scopes=[]), Principal("app", None, "ann")),
        (SimpleNamespace(client_id=7, claims="odd", scopes="read"), Principal("7")),
    ],
)
def test_principal_of_tokens_that_say_less(token, expected):
    """1.x tokens carry the subject in their claims only; a string is not a list of scopes."""
    assert principal(served(scope={"user": SimpleNamespace(access_token=token)})) == expected


def test_the_request_and_its_token_are_there_for_what_principal_leaves_out(stale_sdk):
    """Claims, the HTTP version, the peer: what one middleware needs and no other."""
    ctx = served(scope={"user": SimpleNamespace(access_token=TOKEN)})
    assert (http_request(ctx), access_token(ctx)) == (ctx.request, TOKEN)
    assert (http_request(Call("x")), access_token(Call("x")).client_id) == (None, "first")
    stale_sdk.current = ctx
    assert (http_request(Call("x")), access_token(Call("x"))) == (ctx.request, TOKEN)


def test_principal_of_our_own_context():
    """A program without an SDK says who is calling."""
    assert principal(Call("x", principal=Principal("app"))) == Principal("app")


@pytest.fixture
def stale_sdk(monkeypatch):
    """The 1.x SDK in a stateful session: the contextvar of the token still holds the first caller's."""
    first = SimpleNamespace(client_id="first", scopes=[])
    auth = ModuleType("mcp.server.auth.middleware.auth_context")
    auth.get_access_token = lambda: first
    lowlevel = ModuleType("mcp.server.lowlevel.server")
    lowlevel.request_ctx = SimpleNamespace(get=lambda default: lowlevel.current)
    lowlevel.current = None
    monkeypatch.setitem(sys.modules, auth.__name__, auth)
    monkeypatch.setitem(sys.modules, lowlevel.__name__, lowlevel)
    return lowlevel


def test_a_request_without_a_user_is_nobody(stale_sdk):
    """Rule 2: never the stale token of another caller."""
    assert principal(served(scope={})) is None


def test_a_decorated_function_finds_the_request_being_served(stale_sdk):
    """Its ``Call`` carries no request, and the contextvar is stale."""
    stale_sdk.current = served(scope={"user": SimpleNamespace(access_token=TOKEN)})
    assert principal(Call("x")).client_id == "app"


def test_without_any_request_the_contextvar_is_all_there_is(stale_sdk):
    """Right for 2.x, where it is set for each request."""
    assert principal(Call("x")).client_id == "first"


def test_what_the_caller_wrote_is_no_identity():
    """Rule 2: ``_meta.client_id``, ``clientInfo`` and FastMCP's own attributes are not read."""
    params = {"_meta": {"client_id": "root"}, "clientInfo": {"name": "root"}, "principal": "root"}
    claimed = SimpleNamespace(client_id="root", session_id="root", request_context=None)
    assert principal(Call("initialize", params)) is None
    assert principal(FastContext(params, fastmcp_context=claimed)) is None
    assert session_id(FastContext(params, fastmcp_context=claimed)) is None


def test_fastmcp_before_4_finds_the_request_of_initialize(monkeypatch):
    """There is no request context yet, only FastMCP's own variable."""
    http = ModuleType("fastmcp.server.http")
    http._current_http_request = SimpleNamespace(get=lambda default: SimpleNamespace(headers={"mcp-session-id": "s1"}))
    monkeypatch.setitem(sys.modules, http.__name__, http)
    outer = SimpleNamespace(request_context=None)
    assert session_id(FastContext(None, "initialize", fastmcp_context=outer)) == "s1"


def test_is_notification():
    """By method, and by FastMCP's type for a custom one."""
    assert is_notification(Call("notifications/cancelled"))
    assert is_notification(FastContext(None, "custom", type="notification"))
    assert not is_notification(Call("tools/call"))


def test_is_internal_cannot_be_forged_for_another_method():
    """Only the SDK's own pair counts; the header is the caller's to write."""
    assert is_internal(Call("tools/list", headers={"mcp-method": "tools/call"}))
    assert is_internal(Call("tools/list", internal=True))
    assert not is_internal(Call("tools/call", headers={"mcp-method": "tools/list"}))
    assert not is_internal(Call("tools/list", headers={"mcp-method": "tools/list"}))


@pytest.mark.parametrize("params", [{"inputResponses": {}}, {"requestState": "x"}, Model(request_state="x")])
def test_is_continuation(params):
    """Either field, on the wire or on a model."""
    assert is_continuation(Call("tools/call", params))
    assert is_continuation(FastContext(params))
    assert not is_continuation(Call("tools/call", {"requestState": None}))


def test_is_stream():
    """The one method that lasts."""
    assert is_stream(Call("subscriptions/listen"))
    assert not is_stream(Call("tools/call"))


class ToolError(Exception):
    """FastMCP's, by name."""


class Cancelled(BaseException):
    """trio's, by name."""


class Group(BaseException):
    """An exception group, as far as it is read; the real one does not exist before 3.11."""

    def __init__(self, *members):
        self.exceptions = members


class McpError(Exception):
    def __init__(self, code, message="text"):
        self.error = SimpleNamespace(code=code, message=message)


Malformed = type("ValidationError", (ValueError,), {"__module__": "pydantic_core._pydantic_core"})


def caused(cause, error):
    error.__cause__ = cause
    return error


def tool_errors(count, error):
    return error if count == 0 else caused(tool_errors(count - 1, error), ToolError())


ring = ToolError()
ring.__cause__ = ring


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"content": []}, "ok"),
        ({"isError": True}, "tool_error"),
        ({"isError": "yes"}, "ok"),
        ({"resultType": "input_required"}, "input_required"),
        ({"task": {"taskId": "1"}, "resultType": "task"}, "ok"),
        (SimpleNamespace(isError=True), "tool_error"),
        (SimpleNamespace(is_error=True), "tool_error"),
        (SimpleNamespace(root=SimpleNamespace(isError=True)), "tool_error"),
        (SimpleNamespace(root=SimpleNamespace(tools=[])), "ok"),
        (SimpleNamespace(result_type="input_required"), "input_required"),
        (SimpleNamespace(input_required=SimpleNamespace()), "input_required"),
        (SimpleNamespace(code=-32601, message="no"), "protocol_error"),
        (SimpleNamespace(isError=Vague()), "ok"),
        (SimpleNamespace(is_error=False, isError=True), "ok"),  # only one is read: FastMCP 4 warns of the other
        (SimpleNamespace(isError=Vague(), is_error=True), "tool_error"),
        (SimpleNamespace(root=Vague()), "ok"),
        (SimpleNamespace(result_type=Vague()), "ok"),
        ({"resultType": Vague(), "isError": True}, "tool_error"),
        (None, "ok"),
        (ValueError("x"), "tool_error"),
        (ToolError("x"), "tool_error"),
        (ring, "tool_error"),
        (caused(TimeoutError(), ToolError()), "timeout"),
        (caused(ValueError(), ToolError()), "tool_error"),
        (tool_errors(8, TimeoutError()), "timeout"),
        (tool_errors(9, TimeoutError()), "tool_error"),
        (caused(TimeoutError(), ValueError()), "tool_error"),
        (McpError(-32601), "protocol_error"),
        (McpError(-32001), "timeout"),
        (McpError(408), "timeout"),
        (McpError("odd"), "tool_error"),
        (Malformed("x"), "protocol_error"),
        (type("ValidationError", (ValueError,), {})("mine"), "tool_error"),
        (asyncio.TimeoutError(), "timeout"),
        (type("TooSlowError", (Exception,), {})(), "timeout"),
        (asyncio.CancelledError(), "cancelled"),
        (Cancelled(), "cancelled"),
        (KeyboardInterrupt(), "cancelled"),
        (GeneratorExit(), "cancelled"),
        (Group(TimeoutError()), "timeout"),
        (Group(Group(Cancelled())), "cancelled"),
        (Group(ValueError(), TimeoutError()), "cancelled"),
    ],
    ids=repr,
)
def test_outcome(value, expected):
    """One word for whatever comes back, at every seam."""
    assert outcome(value) == expected


def fake_sdk(monkeypatch, **members):
    module = ModuleType("mcp.shared.exceptions")
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.fixture
def no_sdk(monkeypatch):
    monkeypatch.delitem(sys.modules, "mcp.shared.exceptions", raising=False)


def test_a_refusal_without_an_sdk_is_our_own(no_sdk):
    """Code, message and data as attributes, the message as its text."""
    error = refuse(-31029, "slow down", {"retry_after": 2})
    assert isinstance(error, Refused)
    assert (error.code, error.message, error.data, str(error)) == (-31029, "slow down", {"retry_after": 2}, "slow down")
    assert outcome(error) == "rejected"


def test_a_refusal_with_an_sdk_is_the_sdks(monkeypatch):
    """Anything else loses code and data on the way to the client."""

    class MCPError(Exception):
        pass

    fake_sdk(monkeypatch, MCPError=MCPError)
    error = refuse(429, "slow down", [1])
    assert type(error) is MCPError
    assert error.args == (429, "slow down", [1])
    assert outcome(caused(error, ToolError())) == "rejected"


def test_a_refusal_with_the_1x_sdk_wraps_error_data(monkeypatch):
    """The older class takes one model."""

    class OldError(Exception):
        pass

    fake_sdk(monkeypatch, McpError=OldError, ErrorData=SimpleNamespace)
    error = refuse(429, "slow down", [1])
    assert type(error) is OldError
    assert error.args == (SimpleNamespace(code=429, message="slow down", data=[1]),)


@pytest.mark.parametrize("code", [-32768, -32601, -32029, -32000, True, "429", None, 4.29])
def test_reserved_and_odd_codes_are_refused(code):
    """The popular -32029 is reserved by MCP since 2026-07-28."""
    with pytest.raises(ValueError, match=r"outside -32768\.\.-32000, which are reserved, got"):
        refuse(code, "no")


@pytest.mark.parametrize("code", [-32769, -31999, 0])
def test_codes_next_to_the_reserved_range_are_free(code, no_sdk):
    """The edges of the range."""
    assert refuse(code, "no").code == code


async def test_as_fastmcp_delegates_by_both_spellings(monkeypatch):
    """FastMCP 2.14 passes call_next by keyword, 3 and 4 by position."""
    package = ModuleType("fastmcp.server.middleware")
    package.Middleware = type("Middleware", (), {})
    monkeypatch.setitem(sys.modules, package.__name__, package)

    async def tag(ctx, call_next):
        """Tag it."""
        return "tagged", await call_next(ctx)

    async def end(ctx):
        return ctx

    assert await Chain(tag).as_fastmcp()("ctx", end) == ("tagged", "ctx")
    adapter = as_fastmcp(tag)
    assert isinstance(adapter, package.Middleware)
    assert (type(adapter).__name__, adapter.__doc__) == ("FastMCPAdapter", "Tag it.")
    assert await adapter("ctx", end) == await adapter("ctx", call_next=end) == ("tagged", "ctx")
