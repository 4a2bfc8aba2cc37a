"""RED metrics of MCP: every message once, with the attributes of the conventions, whatever a peer sends."""

from __future__ import annotations

import gc
import logging
import sys
import weakref
from collections import Counter
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_metrics import DEFAULT_BUCKETS, MetricsMiddleware, Names, Network, Registry, openmetrics
from mcp_metrics.testing import assert_metric, find, parse

from tests.support.measure import count_instructions, no_growth
from tests.support.schedule import run_shuffled
from tests.support.sweep import sweep

OK = {"content": [], "isError": False, "resultType": "complete"}
VERSION = "2026-07-28"
COUNT = "mcp_server_operation_duration_seconds_count"
CALL = {
    "mcp_method_name": "tools/call",
    "gen_ai_tool_name": "add",
    "gen_ai_operation_name": "execute_tool",
    "mcp_protocol_version": VERSION,
    "network_transport": "pipe",
}
OTHER_THAN_CALL = dict.fromkeys(("gen_ai_tool_name", "gen_ai_operation_name"))


@dataclass
class Context:
    """What the official SDK hands over, as far as metrics look."""

    method: str | None = "tools/call"
    params: Any = field(default_factory=lambda: {"name": "add"})
    protocol_version: Any = VERSION
    request: Any = None


class Fast:
    """FastMCP's, in short."""

    def __init__(self, method, message):
        self.method, self.message = method, message


class SdkError(Exception):
    def __init__(self, code):
        super().__init__("secret text")
        self.error = SimpleNamespace(code=code, message="secret text")


class ToolError(Exception):
    pass


class Unruly:
    """A result that is no dictionary but has a ``get`` of its own."""

    def get(self, name):
        raise RuntimeError(name)


class Vague:
    """Neither true nor false."""

    def __bool__(self):
        raise ValueError("ambiguous")


class Asynchronous:
    async def __call__(self, code):
        return True


class Hostile(Exception):
    @property
    def error(self):
        raise RuntimeError("outside a request")


class ValidationError(Exception):
    __module__ = "pydantic_core"


class HttpError(Exception):
    """A code that is not of JSON-RPC."""

    def __init__(self, code):
        super().__init__("secret text")
        self.code, self.message = code, "Not Found"


class Group(Exception):
    def __init__(self, exceptions):
        super().__init__("secret text")
        self.exceptions = tuple(exceptions)


def caused(error, cause):
    error.__cause__ = cause
    return error


def refusal(code):
    error = HttpError(code)
    error.refused = True
    return error


def answering(result):
    async def handler(ctx):
        if isinstance(result, BaseException):
            raise result
        return result

    return handler


async def send(metrics, result=OK, /, **fields):
    """One message through the middleware; what came out of it."""
    context = Context(**fields)

    async def handler(ctx):
        assert ctx is context
        return await answering(result)(ctx)

    try:
        return await metrics(context, handler)
    except BaseException as error:  # noqa: BLE001  # handed to the test
        return error


def labels_of(registry, name=COUNT):
    return [dict(sample.labels) for sample in find(registry, name)]


def exemplars_of(registry):
    parsed = parse("".join(openmetrics(registry)))
    return [sample.exemplar.labels for family in parsed for sample in family.samples if sample.exemplar]


@pytest.fixture
def registry():
    return Registry()


async def test_a_tool_call(registry):
    """The whole of the attributes, and the duration by an injected clock; of one that fails, too."""
    ticks = iter([10.0, 12.5, 20.0, 24.0])
    metrics = MetricsMiddleware(registry, clock=lambda: next(ticks))
    assert await send(metrics) is OK
    assert labels_of(registry) == [CALL]
    assert_metric(registry, "mcp_server_operation_duration_seconds_sum", 2.5)
    assert_metric(registry, "mcp_server_operation_duration_seconds_bucket", 0, le="2.0")
    assert_metric(registry, "mcp_server_operation_duration_seconds_bucket", 1, le="5.0")
    assert_metric(registry, "mcp_server_active_requests", 0)
    await send(metrics, ValueError())
    assert labels_of(registry)[1] == {**CALL, "error_type": "ValueError"}
    assert_metric(registry, "mcp_server_operation_duration_seconds_sum", 4, error_type="ValueError")


@pytest.mark.parametrize(
    ("fields", "differs"),
    [
        ({"method": "prompts/get", "params": {"name": "greet"}}, {**OTHER_THAN_CALL, "gen_ai_prompt_name": "greet"}),
        ({"method": "resources/read", "params": {"uri": "file:///secret"}}, OTHER_THAN_CALL),
        ({"method": "notifications/initialized", "params": None}, OTHER_THAN_CALL),
        ({"method": "made/up"}, {**OTHER_THAN_CALL, "mcp_method_name": "_OTHER"}),
        ({"method": None}, {**OTHER_THAN_CALL, "mcp_method_name": None}),
        ({"method": ""}, {**OTHER_THAN_CALL, "mcp_method_name": None}),
        ({"request": object()}, {"network_transport": "tcp", "network_protocol_name": "http"}),
        ({"protocol_version": None}, {"mcp_protocol_version": None}),
        ({"protocol_version": "1999-01-01"}, {"mcp_protocol_version": "_OTHER"}),
        ({"protocol_version": ["x"]}, {"mcp_protocol_version": "_OTHER"}),
        ({"params": None}, {"gen_ai_tool_name": None}),
        ({"params": {}}, {"gen_ai_tool_name": None}),
        ({"params": {"name": ["list"]}}, {"gen_ai_tool_name": "_OTHER"}),
        ({"params": {"name": "x" * 4096}}, {"gen_ai_tool_name": "_OTHER"}),
        ({"params": {"name": "\ud800"}}, {"gen_ai_tool_name": "\ufffd"}),
    ],
)
async def test_attributes(registry, fields, differs):
    """What is not known is ``_OTHER``, what is not there is left out, and nothing raises; twice, for the fast path.

    The method is as it was sent unless *differs* says otherwise; None is what is left out.
    """
    metrics = MetricsMiddleware(registry)
    for _ in range(2):
        assert await send(metrics, **fields) is OK
    expected = {**CALL, "mcp_method_name": fields.get("method", "tools/call"), **differs}
    assert labels_of(registry) == [{name: value for name, value in expected.items() if value is not None}]
    assert "secret" not in "".join(openmetrics(registry))
    assert_metric(registry, COUNT, 2)


@pytest.mark.parametrize(
    ("result", "error_type", "code"),
    [
        ({"content": []}, None, None),
        ({"isError": None}, None, None),
        ({"isError": []}, None, None),
        ({"resultType": "input_required"}, None, None),
        ("text", None, None),
        (None, None, None),
        ({"isError": True}, "tool_error", None),
        (SimpleNamespace(is_error=True), "tool_error", None),
        (SimpleNamespace(root=SimpleNamespace(isError=True)), "tool_error", None),
        (SimpleNamespace(code=-32603, message="no"), "-32603", "-32603"),
        (SimpleNamespace(code=-32601, message="no"), None, "-32601"),
        (SimpleNamespace(root=SimpleNamespace(code=-32603, message="no")), "-32603", "-32603"),
        (SimpleNamespace(code=True, message="no"), "_OTHER", None),
        (SimpleNamespace(code=10**5000, message="no"), "_OTHER", None),
        (SimpleNamespace(code=2**63, message="no"), "_OTHER", None),
        (SimpleNamespace(code=0, message="no"), "0", "0"),
        (ToolError("x"), "tool_error", None),
        (ValueError("secret text"), "ValueError", None),
        (SdkError(-32603), "-32603", "-32603"),
        (SdkError(-32601), None, "-32601"),
        (SdkError(-31029), "-31029", "-31029"),
        (SdkError(-32001), "timeout", "-32001"),
        (SdkError(0), "0", "0"),
        (HttpError(404), "HttpError", None),
        (SystemExit(3), "cancelled", None),
        (Group([SdkError(-32603)]), "Group", None),
        (caused(ToolError("x"), SdkError(-32603)), "tool_error", None),
        (refusal(-31029), "-31029", "-31029"),
        (ValidationError("secret text"), None, "-32602"),
        (TimeoutError(), "timeout", None),
        (Hostile(), "Hostile", None),
        (KeyboardInterrupt(), "cancelled", None),
    ],
)
async def test_outcomes(registry, result, error_type, code):
    """``error.type`` and ``rpc.response.status_code`` on a server."""
    metrics = MetricsMiddleware(registry)
    for _ in range(2):
        assert await send(metrics, result) is result
    (labels,) = labels_of(registry)
    assert (labels.get("error_type"), labels.get("rpc_response_status_code")) == (error_type, code)
    assert "secret" not in "".join(openmetrics(registry))
    assert_metric(registry, COUNT, 2)


class Watched(dict):
    """A result that notes what it is asked for."""

    asked = 0

    def get(self, name):
        self.asked += 1
        return super().get(name)


@pytest.mark.parametrize("failed", [False, True])
@pytest.mark.parametrize("request_of_http", [None, SimpleNamespace(scope={"http_version": "1.1"})])
async def test_what_was_seen_before_is_not_looked_at_again(registry, failed, request_of_http):
    """The fast path asks a result whether it is an error, and nothing else."""
    metrics = MetricsMiddleware(registry, tools=Names(["add"]))
    asked = []
    for _ in range(2):
        result = Watched(isError=failed)
        await send(metrics, result, request=request_of_http)
        asked.append(result.asked)
    assert asked == [3, 1]
    assert_metric(registry, COUNT, 2)


async def test_one_key_is_never_taken_for_another(registry):
    """1 equals True in a dictionary, but only True is an error; and who asks for input has not failed."""
    metrics = MetricsMiddleware(registry)
    asking = {"resultType": "input_required", "isError": True}
    for result in (asking, *({"isError": flag} for flag in (1, True, 0, False, 1.0, True, None, []))):
        await send(metrics, result)
    assert [sample.value for sample in find(registry, COUNT) if "error_type" in sample.labels] == [2]
    assert sum(sample.value for sample in find(registry, COUNT)) == 9


@pytest.mark.parametrize("result", [Unruly(), SimpleNamespace(root=Vague()), SimpleNamespace(isError=Vague())])
async def test_a_foreign_result_passes(registry, result):
    """Whatever it does when it is looked at, it is passed on and counted."""
    assert await send(MetricsMiddleware(registry), result) is result
    assert_metric(registry, COUNT, 1)


async def test_client_side(registry):
    """A client has failed whenever it was told a code."""
    metrics = MetricsMiddleware(registry, side="client")
    await send(metrics, SdkError(-32601))
    assert labels_of(registry, "mcp_client_operation_duration_seconds_count")[0]["error_type"] == "-32601"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"network_transport": "tcp", "network_protocol_name": "http", "network_protocol_version": "1.1"}),
        ({"network": Network("pipe")}, {"network_transport": "pipe"}),
        ({"side": "client"}, {}),
        (
            {"side": "client", "network": Network("quic", "http", "3", "shop.example", 443)},
            {
                "network_transport": "quic",
                "network_protocol_name": "http",
                "network_protocol_version": "3",
                "server_address": "shop.example",
                "server_port": "443",
            },
        ),
        (
            {"side": "client", "network": Network("unix", address="/run/shop")},
            {"network_transport": "unix", "server_address": "/run/shop"},
        ),
    ],
)
async def test_network(registry, options, expected):
    """Seen on a server unless it is given; a client sees nothing. Twice, for the fast path."""
    metrics = MetricsMiddleware(registry, **options)
    for _ in range(2):
        await send(metrics, request=SimpleNamespace(scope={"http_version": "1.1"}))
    side = options.get("side", "server")
    (labels,) = labels_of(registry, f"mcp_{side}_operation_duration_seconds_count")
    assert {name: value for name, value in labels.items() if name.startswith(("network", "server"))} == expected
    assert_metric(registry, f"mcp_{side}_operation_duration_seconds_count", 2)


async def test_each_version_of_http_has_its_series(registry):
    """One server answers several; a caller's made-up one is ``_OTHER``."""
    metrics = MetricsMiddleware(registry)
    for version in ("1.1", "2", "1.1", "made up", "2", None):
        await send(metrics, request=version and SimpleNamespace(scope={"http_version": version}))
    counts = {labels.get("network_protocol_version") for labels in labels_of(registry)}
    assert counts == {"1.1", "2", "_OTHER", None}
    assert_metric(registry, COUNT, 2, network_protocol_version="2")
    assert_metric(registry, COUNT, 1, network_transport="pipe")


async def test_a_client_of_two_servers(registry):
    """One object a server: the metrics are shared, what one server lists is not believed of the other."""
    count = "mcp_client_operation_duration_seconds_count"
    metrics = MetricsMiddleware(registry, side="client", tools=Names(["given"]))
    one, two = (metrics.over(Network("tcp", "http", address=f"{name}.example", port=80)) for name in ("one", "two"))
    await send(one, {"tools": [{"name": "add"}]}, method="tools/list")
    for each in (one, two):
        await send(each, {"isError": True})
        await send(each, {"isError": True}, params={"name": "given"})
    assert_metric(registry, count, 1, server_address="one.example", server_port="80", gen_ai_tool_name="add")
    assert_metric(registry, count, 1, server_address="two.example", gen_ai_tool_name="_OTHER")
    assert_metric(registry, count, 1, server_address="two.example", gen_ai_tool_name="given")
    with two.session():
        pass
    assert_metric(registry, "mcp_client_session_duration_seconds_count", 1, server_address="two.example")


@pytest.mark.parametrize("side", ["server", "client"])
def test_the_conventions_to_the_letter(side):
    """Names, units, buckets and attributes of the metrics that the conventions have, and of ours beside them."""
    common = ["mcp.protocol.version", "network.transport", "network.protocol.name", "network.protocol.version"]
    if side == "client":
        common += ["server.address", "server.port"]
    named = ["gen_ai.tool.name", "gen_ai.prompt.name", "gen_ai.operation.name"]
    operation = ["mcp.method.name", *named, "error.type", "rpc.response.status_code", *common]
    registry = Registry()
    MetricsMiddleware(registry, side=side, sizes=True)
    found = {
        about.name: (about.kind, about.unit, about.bounds, list(about.labels), about.help)
        for about, _ in registry.collect()
        if about.name.startswith("mcp.")
    }
    bounds = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300)
    assert bounds == DEFAULT_BUCKETS
    sizes = (100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)
    message = "Time from a message's arrival to its answer."
    session = "Time from a session's begin to its end."
    unmeasured = "Messages without a duration: streams, and what the SDK asks itself."
    assert found == {
        f"mcp.{side}.operation.duration": ("histogram", "s", bounds, operation, message),
        f"mcp.{side}.session.duration": ("histogram", "s", bounds, ["error.type", *common], session),
        f"mcp.{side}.active_requests": ("gauge", "", (), [], "Messages begun and not over."),
        f"mcp.{side}.unmeasured": ("counter", "", (), ["kind"], unmeasured),
        f"mcp.{side}.response.size": ("histogram", "By", sizes, ["mcp.method.name"], "Size of a result as JSON."),
    }


async def test_error_table_is_pluggable(registry):
    """The conventions are in development, and two of their commits differ."""
    metrics = MetricsMiddleware(registry, is_error=lambda code: code == -32601)
    await send(metrics, SdkError(-32601))
    await send(metrics, SdkError(-32603))
    assert [labels.get("error_type") for labels in labels_of(registry)] == ["-32601", None]


async def test_a_table_that_raises_hides_nothing(registry, caplog):
    """The handler's exception passes, the message counts as failed, and the log says why."""
    metrics = MetricsMiddleware(registry, is_error=lambda code: code / 0)
    error = SdkError(-32601)
    assert await send(metrics, error) is error
    assert_metric(registry, COUNT, 1, error_type="-32601")
    assert caplog.record_tuples == [("mcp_metrics.outcomes", logging.ERROR, "is_error failed for -32601")]
    assert "ZeroDivisionError" in caplog.text


async def test_a_listener_that_raises_changes_no_answer(caplog):
    """A full family is told of while a request is counted: the result is the caller's all the same."""

    def listener(event):
        raise RuntimeError("listener")

    registry = Registry(max_series=1, on_event=listener)
    metrics = MetricsMiddleware(registry)
    for name in "ab":
        assert await send(metrics, params={"name": name}) is OK
    assert sum(sample.value for sample in find(registry, COUNT)) == 2
    told = "on_event failed for Overflow(metric='mcp.server.operation.duration')"
    assert [record[::2] for record in caplog.record_tuples] == [("mcp_metrics.registry", told)]


async def test_fastmcp_contexts(registry):
    """Models for messages, headers for the transport, typed results."""
    metrics = MetricsMiddleware(registry)
    call = Fast("tools/call", SimpleNamespace(name="add"))
    call.headers = {"mcp-protocol-version": VERSION}
    await metrics(call, answering(SimpleNamespace(is_error=False)))
    await metrics(Fast("tools/call", {"name": "add"}), answering(SimpleNamespace(is_error=False)))
    one, two = labels_of(registry)
    assert (one["gen_ai_tool_name"], one["network_transport"], one["mcp_protocol_version"]) == ("add", "tcp", VERSION)
    assert (two["gen_ai_tool_name"], two["network_transport"]) == ("add", "pipe")


class FastError(Exception):
    """FastMCP's own, by the name that it goes by."""


def fast_error(name):
    return type(name, (FastError,), {"__module__": "fastmcp.exceptions"})("secret text")


@pytest.mark.parametrize(
    ("version", "method", "name", "expected"),
    [
        ("2.14.7", "tools/call", "NotFoundError", ("tool_error", None)),
        ("4.1.2", "tools/call", "ValidationError", ("tool_error", None)),
        ("3.4.10", "tools/call", "DisabledError", ("tool_error", None)),
        ("4.1.2", "tools/call", "ValueError", ("ValueError", None)),
        ("4.1.2", "resources/read", "NotFoundError", (None, "-32602")),
        ("4.1.2", "resources/read", "DisabledError", (None, "-32602")),
        ("4.1.2", "prompts/get", "NotFoundError", (None, "-32602")),
        ("4.1.2", "prompts/get", "PromptError", ("PromptError", None)),
        ("3.4.10", "resources/read", "NotFoundError", (None, "-32002")),
        ("3.4.10", "resources/read", "ValidationError", ("ValidationError", None)),
        ("3.4.10", "prompts/get", "NotFoundError", ("NotFoundError", None)),
        ("2.14.7", "resources/read", "NotFoundError", ("NotFoundError", None)),
        ("", "resources/read", "NotFoundError", (None, "-32602")),
    ],
)
async def test_what_fastmcp_raises(registry, monkeypatch, version, method, name, expected):  # noqa: PLR0917
    """It is answered further out, as tests/seams sees it on the wire; an unknown name is not the server's failure."""
    monkeypatch.setitem(sys.modules, "fastmcp", SimpleNamespace(__version__=version) if version else None)
    call = Fast(method, SimpleNamespace(name="add"))
    call.fastmcp_context = None
    error = fast_error(name)
    with pytest.raises(type(error)):
        await MetricsMiddleware(registry)(call, answering(error))
    (labels,) = labels_of(registry)
    assert (labels.get("error_type"), labels.get("rpc_response_status_code")) == expected


async def test_a_class_of_the_same_name_is_not_fastmcps(registry):
    """On another SDK it is an exception like any other."""
    await send(MetricsMiddleware(registry), fast_error("NotFoundError"))
    assert_metric(registry, COUNT, 1, error_type="NotFoundError")


@pytest.mark.parametrize("version", [VERSION, None])
async def test_the_version_behind_fastmcps_context(registry, version):
    """Over stdio there is no header that says it."""
    call = Fast("tools/call", SimpleNamespace(name="add"))
    call.fastmcp_context = SimpleNamespace(request_context=SimpleNamespace(protocol_version=version))
    call.headers = {} if version else {"mcp-protocol-version": VERSION}
    await MetricsMiddleware(registry)(call, answering(OK))
    assert_metric(registry, COUNT, 1, mcp_protocol_version=VERSION)


@pytest.mark.parametrize(
    "listed",
    [
        {"tools": [{"name": "add"}, {"title": "nameless"}, None]},
        SimpleNamespace(tools=[SimpleNamespace(name="add")]),
        SimpleNamespace(root=SimpleNamespace(tools=[SimpleNamespace(name="add")])),
        [SimpleNamespace(name="add")],
    ],
)
async def test_names_are_learned_from_lists(registry, listed):
    """A tool that only ever fails has its own series, because it was listed."""
    metrics = MetricsMiddleware(registry)
    for result in ({"tools": []}, {"tools": []}, listed):
        await send(metrics, result, method="tools/list", params=None)
    await send(metrics, ValueError())
    assert_metric(registry, COUNT, 1, gen_ai_tool_name="add", error_type="ValueError")


@pytest.mark.parametrize("listed", [{}, {"tools": 7}, None, "text", {"tools": [7, Unruly()]}, {"tools": {}}, 7])
async def test_lists_of_no_shape(registry, listed):
    """Whatever a handler returns, it is passed on."""
    metrics = MetricsMiddleware(registry)
    assert await send(metrics, listed, method="tools/list", params=None) is listed
    assert_metric(registry, COUNT, 1)


async def test_names_are_learned_from_success_only(registry):
    """An unknown tool that fails is nobody; the server says isError, or raises."""
    metrics = MetricsMiddleware(registry)
    for result in ({"isError": True}, ValueError(), SdkError(-32602), SimpleNamespace(code=1, message="")):
        await send(metrics, result)
    assert {labels["gen_ai_tool_name"] for labels in labels_of(registry)} == {"_OTHER"}
    await send(metrics)
    await send(metrics, ValueError())
    assert_metric(registry, COUNT, 1, gen_ai_tool_name="add", error_type="ValueError")


async def test_prompts_have_names_of_their_own(registry):
    """A tool is no prompt; and both may be given in advance."""
    metrics = MetricsMiddleware(registry, tools=Names(["t"]), prompts=Names(["p"], learn=False))
    await send(metrics, ValueError(), params={"name": "t"})
    await send(metrics, {}, method="prompts/get", params={"name": "p"})
    await send(metrics, {}, method="prompts/get", params={"name": "t"})
    await send(metrics, {"prompts": [{"name": "t"}]}, method="prompts/list", params={})
    assert_metric(registry, COUNT, 1, gen_ai_tool_name="t")
    assert_metric(registry, COUNT, 1, gen_ai_prompt_name="p")
    assert_metric(registry, COUNT, 1, gen_ai_prompt_name="_OTHER")


async def test_prompts_are_learned_from_their_own_list(registry):
    """It says nothing of tools."""
    metrics = MetricsMiddleware(registry)
    await send(metrics, {"prompts": [{"name": "greet"}]}, method="prompts/list", params={})
    for method in ("prompts/get", "tools/call"):
        await send(metrics, ValueError(), method=method, params={"name": "greet"})
    assert_metric(registry, COUNT, 1, gen_ai_prompt_name="greet")
    assert_metric(registry, COUNT, 1, gen_ai_tool_name="_OTHER")


async def test_streams_and_internal_calls_stand_apart(registry):
    """A subscription that lasts a day is no slow request; what the SDK asks itself is no request."""
    metrics = MetricsMiddleware(registry)
    phantom = Context("tools/list", None)
    phantom.headers = {"mcp-method": "tools/call"}
    await metrics(phantom, answering({"tools": []}))
    assert await send(metrics, method="subscriptions/listen") is OK
    error = ValueError()
    assert await send(metrics, error, method="subscriptions/listen") is error
    assert labels_of(registry) == []
    assert_metric(registry, "mcp_server_unmeasured_total", 1, kind="internal")
    assert_metric(registry, "mcp_server_unmeasured_total", 2, kind="stream")


async def test_header_cannot_hide_other_methods(registry):
    """The header is the caller's own: it must not take a tool call out of the figures."""
    forged = Context()
    forged.headers = {"mcp-method": "tools/list"}
    await MetricsMiddleware(registry)(forged, answering(OK))
    assert_metric(registry, COUNT, 1)


async def test_in_flight(registry):
    """Begun and not over."""
    metrics = MetricsMiddleware(registry)
    seen = []

    async def handler(ctx):
        seen.append(find(registry, "mcp_server_active_requests")[0].value)

    async def nested(ctx):
        return await metrics(ctx, handler)

    await metrics(Context(), nested)
    assert seen == [2]
    assert_metric(registry, "mcp_server_active_requests", 0)


@pytest.mark.parametrize(
    ("traceparent", "expected"),
    [
        ("00-" + "ab" * 16 + "-" + "cd" * 8 + "-01", {"trace_id": "ab" * 16, "span_id": "cd" * 8}),
        ("00-" + "AB" * 16 + "-" + "cd" * 8 + "-01", None),
        ("ff-" + "ab" * 16 + "-" + "cd" * 8 + "-01", None),
        ("00-" + "00" * 16 + "-" + "cd" * 8 + "-01", None),
        ("00-" + "ab" * 16 + "-" + "00" * 8 + "-01", None),
        ('00-"\n', None),
        (7, None),
    ],
)
async def test_exemplars(registry, traceparent, expected):
    """The trace that the caller names, if it is one."""
    metrics = MetricsMiddleware(registry, exemplars=True, clock=lambda: 1.0)
    traced = {"name": "add", "_meta": {"traceparent": traceparent}}
    for _ in range(2):
        await send(metrics, params=traced)
    await send(metrics, params=None)
    fast = Fast("tools/call", SimpleNamespace(name="add", meta=SimpleNamespace(traceparent=traceparent)))
    await metrics(fast, answering(OK))
    assert exemplars_of(registry) == ([expected] * 2 if expected else [])
    await send(MetricsMiddleware(unasked := Registry()), params=traced)
    assert exemplars_of(unasked) == []


async def test_sizes(registry):
    """Bytes as JSON, only when asked for; what cannot be written counts as nothing."""
    await send(MetricsMiddleware(unasked := Registry()))
    assert "response" not in "".join(openmetrics(unasked))
    metrics = MetricsMiddleware(registry, sizes=True)
    cyclic: dict[str, Any] = {}
    cyclic["self"] = cyclic
    model = SimpleNamespace(model_dump_json=lambda: "x" * 30)
    for result in ({"a": 1}, model, cyclic, {"a": 1}):
        await send(metrics, result)
    assert_metric(registry, "mcp_server_response_size_bytes_sum", 44)
    assert_metric(registry, "mcp_server_response_size_bytes_count", 4, mcp_method_name="tools/call")


async def test_session(registry):
    """How long, and how it ended."""
    ticks = iter([0.0, 5.0, 0.0, 1.0])
    metrics = MetricsMiddleware(registry, clock=lambda: next(ticks))
    with metrics.over(Network("pipe")).session(protocol_version=VERSION):
        pass
    with pytest.raises(ValueError, match="end"), metrics.session(protocol_version="made up"):
        raise ValueError("end")
    name = "mcp_server_session_duration_seconds_sum"
    assert_metric(registry, name, 5, mcp_protocol_version=VERSION, network_transport="pipe")
    assert_metric(registry, name, 1, error_type="ValueError", mcp_protocol_version="_OTHER")
    assert "network_transport" not in labels_of(registry, name)[1]


async def test_native_histograms(registry):
    """One argument away."""
    await send(MetricsMiddleware(registry, native=3))
    points = next(points for about, points in registry.collect() if about.name == "mcp.server.operation.duration")
    assert next(points).native.count() == 1


async def test_error_classes_are_bounded(registry):
    """A handler that makes a class per request must not make a series per request."""
    metrics = MetricsMiddleware(registry)
    for number in range(100):
        await send(metrics, type(f"Error{number}", (Exception,), {})())
    for number in range(100):
        await send(metrics, SdkError(number))
    kinds = {labels.get("error_type") for labels in labels_of(registry)}
    assert len(kinds) <= 64 + 64 + 1
    assert "_OTHER" in kinds
    await send(metrics, SdkError(-32603))
    assert_metric(registry, COUNT, 1, error_type="-32603")


MESSAGES = st.lists(
    st.tuples(
        st.sampled_from(["tools/call", "prompts/get", "tools/list", "subscriptions/listen", "made/up", "", None]),
        st.sampled_from(["add", "gone", "", None, 7, ("x",)]) | st.text(max_size=4),
        st.sampled_from(
            [
                OK,
                {"isError": True},
                {"tools": [{"name": "add"}]},
                None,
                ValueError(),
                SdkError(-32601),
                KeyboardInterrupt(),
            ]
        ),
    ),
    max_size=25,
)


@given(MESSAGES, st.integers(1, 30))
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_conservation(messages, max_series):
    """Invariant 1, also when the family is full."""
    registry = Registry(max_series=max_series)
    metrics = MetricsMiddleware(registry)
    for method, name, result in messages:
        await send(metrics, result, method=method, params={"name": name})
    measured = sum(sample.value for sample in find(registry, COUNT))
    apart = sum(sample.value for sample in find(registry, "mcp_server_unmeasured_total"))
    assert measured + apart == len(messages)
    assert_metric(registry, "mcp_server_active_requests", 0)


async def test_an_attack_with_random_names_leaves_two_series(registry):
    """Invariant 2: the peers' 79 MB; here known + 2 values a label, and the real tool is exact."""
    metrics = MetricsMiddleware(registry)
    await send(metrics)
    for number in range(3000):
        await send(metrics, {"isError": True}, params={"name": f"tool-{number}"})
        await send(metrics, SdkError(-32601), method=f"method-{number}", protocol_version=f"{number}")
    await send(metrics)
    values = Counter(labels.get("gen_ai_tool_name") for labels in labels_of(registry))
    assert set(values) == {"add", "_OTHER", None}
    assert len(labels_of(registry)) == 3
    assert_metric(registry, COUNT, 2, gen_ai_tool_name="add")
    assert_metric(registry, COUNT, 3000, gen_ai_tool_name="_OTHER")


async def test_an_attack_keeps_no_memory(registry):
    """Names are not even remembered."""
    metrics = MetricsMiddleware(registry)
    numbers = iter(range(10**9))
    failed = {"isError": True}

    async def attack():
        await send(metrics, failed, params={"name": f"tool-{next(numbers)}"}, method="tools/call")

    await no_growth(attack)


async def test_nothing_is_kept_of_a_request(registry):
    """Invariant 4: no context, no result, no exception."""
    metrics = MetricsMiddleware(registry)
    context, error = Context(), ValueError()
    references = [weakref.ref(context)]
    with pytest.raises(ValueError) as caught:
        await metrics(context, answering(error))
    assert caught.value is error
    del context, error, caught
    gc.collect()
    assert [reference() for reference in references] == [None]


def test_a_cancelled_call_is_counted_wherever_it_is_cancelled():
    """The sweep: at each checkpoint, in every way; nothing is left in flight, one message is counted."""

    async def scenario(victim):
        registry = Registry()
        metrics = MetricsMiddleware(registry)

        async def handler(ctx):
            await anyio.sleep(1)
            await anyio.lowlevel.checkpoint()
            return OK

        await victim(metrics, Context(), handler)
        return registry, victim.cancelled

    def check(state):
        registry, cancelled = state
        assert_metric(registry, "mcp_server_active_requests", 0)
        (sample,) = find(registry, COUNT)
        return (sample.value, sample.labels.get("error_type")) == (1, "cancelled" if cancelled else None)

    sweep(scenario, check)


def test_shuffled_calls_are_conserved():
    """Many tasks through one object, in twenty random orders."""

    async def main():
        registry = Registry()
        metrics = MetricsMiddleware(registry)

        async def handler(ctx):
            await anyio.lowlevel.checkpoint()
            return OK

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(metrics, Context(), handler)
        assert_metric(registry, "mcp_server_active_requests", 0)
        return find(registry, COUNT)[0].value

    assert run_shuffled(main) == [20] * 20


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"side": "middle"}, ValueError, "side 'server' or 'client', got 'middle'"),
        ({"network": "tcp"}, TypeError, "a Network, or None, got 'tcp'"),
        ({"network": Network(address="a")}, ValueError, "address with side='client' alone, got Network"),
        ({"is_error": 7}, TypeError, "MetricsMiddleware needs a callable is_error, got 7"),
        ({"is_error": send}, TypeError, "is_error that is not async, got <function send"),
        ({"is_error": Asynchronous()}, TypeError, "is_error that is not async, got <"),
        ({"methods": "tools/call"}, TypeError, "a collection of methods, got the text 'tools/call'"),
        ({"methods": 7}, TypeError, "MetricsMiddleware needs a collection of methods, got 7"),
        ({"methods": [["a"]]}, TypeError, r"text for each of its methods, got \['a'\]"),
        ({"clock": 3}, TypeError, "MetricsMiddleware needs a callable clock, got 3"),
        ({"clock": None}, TypeError, "a callable clock, got None"),
        ({"tools": ["add"]}, TypeError, r"Names for tools and prompts, got \['add'\]"),
        ({"prompts": Names}, TypeError, "Names for tools and prompts, got <class"),
        ({"native": 99}, ValueError, "native must be a schema from -4 to 8, got 99"),
    ],
)
def test_nonsense_is_refused(registry, options, error, message):
    """At construction, naming argument and value."""
    with pytest.raises(error, match=message):
        MetricsMiddleware(registry, **options)


@pytest.mark.parametrize("registry", [None, Registry, 7])
def test_a_registry_is_wanted(registry):
    """An instance, not the class."""
    with pytest.raises(TypeError, match="MetricsMiddleware needs a Registry or a MeterSink, got"):
        MetricsMiddleware(registry)


def test_two_of_a_side_share_no_registry(registry):
    """The second one would count everything twice; it is refused."""
    MetricsMiddleware(registry)
    MetricsMiddleware(registry, side="client")
    with pytest.raises(ValueError, match="would expose"):
        MetricsMiddleware(registry)


@pytest.mark.uninstrumented
def test_the_hot_path_is_cheap(registry):
    """The gate: bytecodes of one known tool call, the most of any Python."""
    metrics = MetricsMiddleware(registry)
    context, handler = Context(), answering(OK)

    async def call():
        return await metrics(context, handler)

    assert count_instructions(call) <= 174


async def test_room_is_found_when_there_is_room():
    """Who came while the family was full is not left among the others for good."""
    now = SimpleNamespace(seconds=0.0)
    registry = Registry(max_series=1, idle=1, clock=lambda: now.seconds)
    metrics = MetricsMiddleware(registry)
    await send(metrics, params={"name": "add"})
    for now.seconds in (0.0, 1.0, 2.0):
        await send(metrics, params={"name": "late"})
        labels_of(registry)
    for _ in range(2):
        await send(metrics, params={"name": "late"})
    assert_metric(registry, COUNT, 2, gen_ai_tool_name="late")
    assert_metric(registry, COUNT, 3, gen_ai_tool_name="_OTHER")
