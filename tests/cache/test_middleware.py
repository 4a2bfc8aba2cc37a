"""The MCP face: what may be cached, for whom, for how long, and in which form it comes back."""

from __future__ import annotations

import copy
import dataclasses
import gc
import weakref
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_cache import Cache, CacheMiddleware, Uncacheable
from mcp_cache._seam import Principal
from mcp_cache.keys import parsed

PROTOCOL = "io.modelcontextprotocol/"


@dataclass(frozen=True)
class Request:
    """A context as the official SDK makes it, as far as the cache looks at it."""

    method: str = "resources/read"
    params: dict[str, Any] | None = field(default_factory=lambda: {"uri": "memo://a"})
    principal: Principal | None = None
    headers: dict[str, str] = field(default_factory=dict)
    protocol_version: str | None = "2026-07-28"
    session: Any = None
    internal: bool = False
    meta: Any = None


class Server:
    """Answers with *result*, counts, and takes 1 s of virtual time if told to."""

    def __init__(self, seconds=0.0, **result):
        self.result = {"resultType": "complete", "contents": [{"text": "x"}], "ttlMs": 60_000, **result}
        self.seconds, self.asked = seconds, []

    @property
    def calls(self):
        return len(self.asked)

    async def __call__(self, ctx):
        self.asked.append(ctx.method)
        answer = {**copy.deepcopy(self.result), "call": self.calls}
        await anyio.sleep(self.seconds)
        return answer


async def ask(middleware, server, *requests):
    """Send the *requests* one after the other; the number of the call that answered each."""
    return [(await middleware(request, server))["call"] for request in requests]


A = Request()


async def test_ttl_of_the_result_is_honoured_and_counts_down(clock):
    """Rules 1 and 5: as long as it says; what is left is written into the copy, and nothing else is changed."""
    middleware, server = CacheMiddleware(Cache(isolation="copy", clock=clock)), Server()
    first = await middleware(A, server)
    first["contents"].append("changed by its receiver")
    await clock.advance(20)
    second = await middleware(A, server)
    assert second == {**server.result, "call": 1, "ttlMs": 40_000}
    await clock.advance(40)
    assert await ask(middleware, server, A) == [2]


@pytest.mark.parametrize("told", [0, -5, None, "60000"])
async def test_result_without_a_ttl_is_not_kept(clock, told):
    """Rule 1: zero means stale at once; legacy results say nothing."""
    middleware, server = CacheMiddleware(Cache(isolation="copy", clock=clock)), Server(ttlMs=told)
    assert await ask(middleware, server, A, A) == [1, 2]


async def test_shortest_ttl_is_a_millisecond(clock):
    """It is a ttl, too."""
    middleware, server = CacheMiddleware(Cache(isolation="copy", clock=clock)), Server(ttlMs=1)
    assert await ask(middleware, server, A, A) == [1, 1]
    await clock.advance(0.001)
    assert await ask(middleware, server, A) == [2]


@pytest.mark.parametrize("told", [86_400_001, 10**400, float("inf")])
async def test_ttl_is_believed_for_a_day_at_most(clock, told):
    """A figure in a result must not pin an entry for ever, nor be more than a float can hold."""
    middleware = CacheMiddleware(Cache(isolation="copy", clock=clock))
    assert (await middleware(A, Server(ttlMs=told)))["ttlMs"] == 86_400_000


async def test_operator_decides_by_method(clock):
    """Rule 1: also for results that carry no ttlMs, which then get none."""
    middleware = CacheMiddleware(Cache(isolation="copy", clock=clock), ttl={"prompts/get": 5, "resources/read": 7})
    server = Server(ttlMs=0)
    prompt = Request("prompts/get", {"name": "greet", "arguments": {"a": 1}})
    assert await ask(middleware, server, A, A, prompt, prompt) == [1, 1, 2, 2]
    assert (await middleware(A, server))["ttlMs"] == 7000
    assert (await middleware(prompt, server))["ttlMs"] == 0, "prompts/get has no such member; it is left alone"
    await clock.advance(5)
    assert await ask(middleware, server, A, prompt) == [1, 3]


async def test_tools_only_when_declared():
    """A tool may change the world: none is cached by default."""
    call = Request("tools/call", {"name": "look", "arguments": {"b": 1, "a": [1.0]}})
    assert await ask(CacheMiddleware(ttl=5), Server(), call, call) == [1, 2]
    middleware, server = CacheMiddleware(tools={"look": 5}), Server(ttlMs=None)
    same = dataclasses.replace(call, params={"arguments": {"a": [1.0], "b": 1}, "name": "look"})
    others = [{"b": 1, "a": [1]}, {"b": True, "a": [1.0]}, {"b": "1", "a": [1.0]}, {}]
    changed = [dataclasses.replace(call, params={"name": "look", "arguments": other}) for other in others]
    assert await ask(middleware, server, call, same, *changed, call) == [1, 1, 2, 3, 4, 5, 1]
    assert await ask(middleware, server, Request("tools/call", {"name": "touch"})) == [6]


@pytest.mark.parametrize("hints", [(True, True), (True, False), (False, True), (None, None)])
async def test_annotated_tools_need_both_hints(hints):
    """Opted in, a tool that says that it is read-only *and* idempotent is cached, once its list has come by."""
    middleware, server = CacheMiddleware(annotated_tools=5), Server(ttlMs=None)
    annotations = {"readOnlyHint": hints[0], "idempotentHint": hints[1]}
    server.result["tools"] = [{"name": "look", "annotations": annotations}, {"name": "bare"}]
    call = Request("tools/call", {"name": "look"})
    await ask(middleware, server, Request("resources/list", None))
    assert await ask(middleware, server, call, call) == [2, 3], "its list was not seen yet"
    await ask(middleware, server, Request("tools/list", None))
    assert await ask(middleware, server, call, call) == ([5, 5] if all(hints) else [5, 6])


async def test_annotated_tools_of_a_list_of_models():
    """As FastMCP has it, in the spelling of either model."""
    middleware, calls = CacheMiddleware(annotated_tools=5), []
    old = SimpleNamespace(readOnlyHint=True, idempotentHint=True)
    new = SimpleNamespace(read_only_hint=True, idempotent_hint=True)
    tools = [SimpleNamespace(name="old", annotations=old), SimpleNamespace(name="new", annotations=new)]

    async def answer(ctx):
        calls.append(ctx.method)
        return tools

    await middleware(Request("tools/list", None), answer)
    for name in ("old", "new", "old", "new"):
        await middleware(Request("tools/call", {"name": name}), answer)
    assert calls == ["tools/list", "tools/call", "tools/call"]


@pytest.mark.parametrize(
    "result", [{"isError": True}, {"resultType": "input_required"}, {"isError": True, "ttlMs": 5000}]
)
async def test_only_complete_results(clock, result):
    """Rule 2: neither kept nor shared by those who ask meanwhile, who do not wait in line either."""
    middleware, server = CacheMiddleware(Cache(isolation="copy", clock=clock), ttl=5), Server(1, **result)
    answers = []

    async def one():
        answers.append((await middleware(A, server))["call"])

    began = clock()
    async with anyio.create_task_group() as tg:
        for _ in range(5):
            tg.start_soon(one)
    assert sorted(answers) == [1, 2, 3, 4, 5]
    assert clock() - began == 2.0
    assert middleware.cache.statistics().failures == middleware.cache.statistics().entries == 0


async def test_exception_passes_and_is_not_kept():
    """Rule 2."""
    middleware = CacheMiddleware(ttl=5)

    async def fail(ctx):
        raise LookupError("no such resource")

    with pytest.raises(LookupError):
        await middleware(A, fail)
    assert await ask(middleware, Server(), A) == [1]


async def test_one_call_for_many_who_ask(clock):
    """The stampede that FastMCP's cache lets through."""
    middleware, server = CacheMiddleware(Cache(isolation="copy", clock=clock)), Server(1)
    async with anyio.create_task_group() as tg:
        for _ in range(50):
            tg.start_soon(middleware, A, server)
    assert server.calls == 1


DIFFERENT = [
    {"principal": Principal("client", "issuer", "alice")},
    {"principal": Principal("client", "issuer", "bob")},
    {"principal": Principal("client", "other", "alice")},
    {"principal": Principal("client", "issuer", "alice", ("admin",))},
    {"protocol_version": "2025-06-18"},
    {"protocol_version": None, "headers": {"mcp-protocol-version": "2025-03-26"}},
    {"protocol_version": None, "session": SimpleNamespace(client_params=SimpleNamespace(protocolVersion="2024-11-05"))},
    {"params": {"uri": "memo://a", "_meta": {f"{PROTOCOL}clientCapabilities": {"roots": {}}}}},
    {"params": {"uri": "memo://a", "_meta": {"fastmcp": {"version": "2"}}}},
    {"params": {"uri": "memo://a", "extension": 1}},
    {"params": {"uri": "memo://b"}},
    {"meta": {f"{PROTOCOL}clientCapabilities": {"sampling": {}}}},
    {"method": "resources/list"},
    {"method": "resources/list", "params": {"cursor": "2"}},
    {"method": "resources/list", "params": None},
]


async def test_whatever_differs_is_answered_apart():
    """Rule 3: each of these may get another answer."""
    middleware, server = CacheMiddleware(), Server()
    requests = [dataclasses.replace(A, **change) for change in [{}, *DIFFERENT]]
    numbers = [*range(1, len(requests) + 1)]
    assert await ask(middleware, server, *requests) == numbers
    assert await ask(middleware, server, *requests) == numbers


class Dumped:
    """A model of pydantic's: what it is dumped with decides what it says."""

    def model_dump(self, **options):
        return {**options, "progressToken": 1}


DUMPED = {"by_alias": True, "mode": "json", "exclude_none": True}
CLIENT = SimpleNamespace(protocolVersion="2025-06-18", capabilities=Dumped())


def inside(message, **source):
    """A context of FastMCP's; *source* is what the SDK knows of the request."""
    context = SimpleNamespace(request_context=SimpleNamespace(request=None, **source) if source else None)
    return SimpleNamespace(method="tools/call", message=message, fastmcp_context=context)


KEYS = [
    (
        Request(
            "tools/call",
            {"name": "look", "arguments": {"a": 1}, "_meta": {"x": 1, f"{PROTOCOL}clientCapabilities": {"roots": {}}}},
            principal=Principal("client", "issuer", "alice", ("admin",)),
            headers={"mcp-session-id": "7"},
        ),
        [
            {"name": "look", "arguments": {"a": 1}},
            {"x": 1},
            ["client", "issuer", "alice", ("admin",)],
            None,
            "2026-07-28",
            {"roots": {}},
        ],
    ),
    (
        Request(
            "tools/call",
            {"name": "look"},
            protocol_version=None,
            headers={"mcp-session-id": "7", "mcp-protocol-version": "2025-03-26"},
            meta={f"{PROTOCOL}clientCapabilities": {"sampling": {}}},
        ),
        [{"name": "look"}, {}, None, "7", "2025-03-26", {"sampling": {}}],
    ),
    (
        Request("tools/call", {"name": "look"}, protocol_version=None, session=SimpleNamespace(client_params=CLIENT)),
        [{"name": "look"}, {}, None, None, "2025-06-18", {**DUMPED, "progressToken": 1}],
    ),
    (
        Request("tools/call", {"name": "look"}, protocol_version=None, session=SimpleNamespace()),
        [{"name": "look"}, {}, None, None, None, None],
    ),
    (
        inside(
            SimpleNamespace(name="look", arguments={"a": 1}, cursor="1", meta=Dumped()),
            protocol_version="2025-11-25",
            session=None,
        ),
        [{"target": "look", "arguments": {"a": 1}, "cursor": "1"}, DUMPED, None, None, "2025-11-25", None],
    ),
    (
        inside(SimpleNamespace(name="look", params=SimpleNamespace(cursor="2"))),
        [{"target": "look", "arguments": {}, "cursor": "2"}, {}, None, None, None, None],
    ),
]


@pytest.mark.parametrize(("request_", "parts"), KEYS, ids=[*"abcdef"])
async def test_what_the_key_consists_of(request_, parts):
    """Rule 3: method, parameters, what is left of _meta, principal or session, era, capabilities, and what is added."""
    events, server = [], Server()
    cache = Cache(isolation="copy", on_event=events.append)
    await CacheMiddleware(cache, tools={"look": 5}, vary=lambda _: "varied")(request_, server)
    (computed,) = events
    members, meta, *others = parts
    assert parsed(computed.key) == ["tools/call", [members, meta], *others, "varied"]


async def test_what_is_no_part_of_the_key():
    """Or every request would be another."""
    middleware, server = CacheMiddleware(), Server()
    meta = {"progressToken": 7, "traceparent": "00-1", f"{PROTOCOL}clientInfo": {"name": "x"}}
    noisy = dataclasses.replace(A, params={"_meta": meta, "uri": "memo://a"}, headers={"user-agent": "x"})
    assert await ask(middleware, server, A, noisy) == [1, 1]


NAMES = st.text(max_size=4)
PRINCIPALS = st.none() | st.builds(Principal, NAMES, st.none() | NAMES, st.none() | NAMES, st.tuples(NAMES))


@given(st.lists(st.tuples(PRINCIPALS, NAMES), min_size=2, max_size=6, unique=True))
def test_nobody_gets_what_was_computed_for_another(cases):
    """Rule 3, with names made to collide."""
    middleware, server = CacheMiddleware(), Server()
    requests = [Request(params={"uri": uri}, principal=who) for who, uri in cases]
    numbers = anyio.run(partial(ask, middleware, server, *requests))
    assert numbers == [*range(1, len(cases) + 1)]


TELLING = """authorization proxy-authorization cookie x-api-key apikey x-auth-token x-access-token x-forwarded-user
    x-forwarded-email remote-user cf-access-jwt-assertion x-ms-client-principal x-amzn-oidc-identity client-cert
    x-forwarded-client-cert ocp-apim-subscription-key x-auth-request-email x-secret"""


@pytest.mark.parametrize("header", TELLING.split())
async def test_no_principal_behind_credentials_is_not_cached(header):
    """Rule 3: somebody is behind that header, and we do not know who; with a verified principal, we do."""
    middleware, server = CacheMiddleware(), Server()
    request = dataclasses.replace(A, headers={"host": "x", header: "x"})
    assert await ask(middleware, server, request, request) == [1, 2]
    known = dataclasses.replace(request, principal=Principal("ann"))
    assert await ask(middleware, server, known, known) == [3, 3]


async def test_sessions_are_told_apart_where_nobody_is_known():
    """Rule 3: a session may be somebody's; one of a known principal is like another of the same."""
    middleware, server = CacheMiddleware(), Server()
    sessions = [dataclasses.replace(A, headers={"mcp-session-id": name}) for name in "abab"]
    assert await ask(middleware, server, *sessions) == [1, 2, 1, 2]
    known = [dataclasses.replace(session, principal=Principal("ann")) for session in sessions]
    assert await ask(middleware, server, *known) == [3] * 4
    assert await ask(CacheMiddleware(public=["resources/read"]), server, *sessions) == [4] * 4


ORDINARY = """host user-agent accept accept-language content-type content-length connection mcp-protocol-version
    mcp-method mcp-name traceparent x-forwarded-for x-request-id origin sec-fetch-mode cache-control"""


async def test_ordinary_headers_do_not_matter():
    """Or nothing would ever be cached over HTTP."""
    middleware, server = CacheMiddleware(), Server()
    request = dataclasses.replace(A, headers=dict.fromkeys(ORDINARY.split(), "x"))
    assert await ask(middleware, server, request, request) == [1, 1]


async def test_public_methods_are_shared():
    """Rule 3: declared by the operator, and unless the result says private."""
    middleware, server = CacheMiddleware(public=["resources/read"]), Server()
    alice, bob = (dataclasses.replace(A, principal=Principal(name), headers={"authorization": "x"}) for name in "ab")
    assert await ask(middleware, server, alice, bob) == [1, 1]
    assert (await middleware(bob, server))["cacheScope"] == "public"
    middleware, server = CacheMiddleware(public=["resources/read"]), Server(cacheScope="private")
    assert await ask(middleware, server, alice, bob) == [1, 2]


async def test_public_tools_are_shared():
    """Rule 3: by name, declared by the operator; the others stay everybody's own."""
    middleware, server = CacheMiddleware(tools={"weather": 5, "inbox": 5}, public_tools=["weather"]), Server(ttlMs=None)
    people = [Principal("a"), Principal("b"), None]
    for name, answered in (("weather", [1, 1, 1]), ("inbox", [2, 3, 4])):
        calls = [Request("tools/call", {"name": name}, principal=who) for who in people]
        assert await ask(middleware, server, *calls) == answered
    middleware, server = CacheMiddleware(annotated_tools=5, public_tools={"weather"}), Server(ttlMs=None)
    call = Request("tools/call", {"name": "weather"}, headers={"authorization": "x"})
    assert await ask(middleware, server, call, call) == [1, 2], "public is not yet cached"


async def test_further_facts_can_be_added_to_the_key():
    """What only the application knows."""
    middleware, server = CacheMiddleware(vary=lambda ctx: ctx.headers.get("accept-language")), Server()
    requests = [dataclasses.replace(A, headers={"accept-language": language}) for language in ("de", "en", "de")]
    assert await ask(middleware, server, *requests) == [1, 2, 1]
    middleware = CacheMiddleware(vary=lambda ctx: object())
    assert await ask(middleware, server, A, A) == [3, 4], "no key, no caching"


@pytest.mark.parametrize(
    "request_",
    [
        Request(params={"uri": "memo://a", "inputResponses": {}}),
        Request(params={"uri": "memo://a", "requestState": "x"}),
        Request("tools/list", None, internal=True),
        Request("tools/list", None, headers={"mcp-method": "tools/call"}),
        Request("subscriptions/listen"),
        Request("completion/complete"),
        Request("prompts/get"),
        Request("initialize"),
        Request(params={"uri": "memo://a", "x": {1: 2}}),
    ],
)
async def test_what_is_never_cached(request_):
    """Continuations, internal calls, streams, and whatever is not on the list."""
    assert await ask(CacheMiddleware(), Server(), request_, request_) == [1, 2]


@pytest.mark.parametrize(
    ("notification", "forgotten"),
    [
        (Request("notifications/tools/list_changed", None), {"tools/list"}),
        (Request("notifications/prompts/list_changed", None), {"prompts/list"}),
        (Request("notifications/resources/list_changed", None), {"resources/list", "resources/templates/list"}),
        (Request("notifications/resources/updated", {"uri": "memo://a"}), {"resources/read"}),
        (Request("notifications/resources/updated", {"uri": "memo://b"}), set()),
        (Request("notifications/initialized", None), set()),
    ],
)
async def test_change_notifications_invalidate(notification, forgotten):
    """Rule 4: what they are about, at once, and nothing else."""
    middleware, server = CacheMiddleware(), Server()
    methods = ["tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"]
    requests = [Request(method, {"uri": "memo://a"} if method == "resources/read" else None) for method in methods]
    assert await ask(middleware, server, *requests) == [1, 2, 3, 4, 5]
    await middleware(notification, server)
    answers = await ask(middleware, server, *requests)
    assert {method for method, answer in zip(methods, answers, strict=True) if answer > 5} == forgotten
    assert server.asked[:6] == [*methods, notification.method], "it passes on"


class Session:
    """Sends notifications, as the SDK's sessions do."""

    client_params = None

    def __init__(self):
        self.sent = []

    async def send_notification(self, notification, related=None):
        self.sent.append((notification, related))


@pytest.mark.parametrize("wrapped", [False, True])
async def test_notifications_of_the_session_are_overheard(wrapped):
    """Rule 4: the server itself says that something changed; it passes on, and is heeded before it leaves."""
    middleware, server, session = CacheMiddleware(), Server(), Session()
    one, other = (dataclasses.replace(A, session=session, params={"uri": f"memo://{name}"}) for name in "ab")
    listed = Request("prompts/list", None, session=session)
    assert await ask(middleware, server, one, one, other, listed) == [1, 1, 2, 3]
    updated = SimpleNamespace(method="notifications/resources/updated", params=SimpleNamespace(uri="memo://a"))
    changed = SimpleNamespace(method="notifications/prompts/list_changed", params=None)
    for told, answers in ((updated, [4, 2, 3]), (changed, [4, 2, 5]), (object(), [4, 2, 5])):
        notification = SimpleNamespace(root=told) if wrapped else told
        await session.send_notification(notification, 7)
        await session.send_notification(notification, related=7)
        assert session.sent[-2:] == [(notification, 7)] * 2
        assert await ask(middleware, server, one, other, listed) == answers


async def test_session_is_overheard_once_and_not_kept_alive():
    """Also where FastMCP hides it; an invalidation for each request before would pile up, and so would sessions."""
    middleware, server, session = CacheMiddleware(), Server(), Session()
    hidden = SimpleNamespace(method="tools/call", fastmcp_context=SimpleNamespace(request_context=A))
    hidden.fastmcp_context.request_context = dataclasses.replace(A, session=session)
    await middleware(hidden, server)
    overheard = session.send_notification
    await ask(middleware, server, hidden, dataclasses.replace(A, session=session), hidden)
    assert session.send_notification is overheard
    gone = weakref.ref(session)
    del session, overheard, hidden
    gc.collect()
    assert gone() is None
    assert not middleware._heard


async def test_notification_by_another_name_is_not_answered():
    """What FastMCP marks as a notification passes, whatever its method: nobody waits for what is cached."""
    middleware, server = CacheMiddleware(), Server()
    told = SimpleNamespace(method="tools/list", type="notification", params=None)
    assert await ask(middleware, server, told, told) == [1, 2]


async def test_handler_that_raises_uncacheable_runs_once():
    """It may use a cache of its own: what it raises is an exception like any other."""
    middleware, calls = CacheMiddleware(ttl=5), []

    async def handler(_):
        calls.append(1)
        raise Uncacheable("of its own")

    with pytest.raises(Uncacheable, match="of its own"):
        await middleware(A, handler)
    assert calls == [1]


async def test_own_call_of_one_who_waited_raises_without_a_trace_of_that(clock):
    """Rule 2: who asked meanwhile calls for himself; what is raised then has nothing to do with the other's result."""
    middleware, raised = CacheMiddleware(Cache(isolation="copy", clock=clock), ttl=5), []

    async def handler(_):
        await anyio.sleep(1)
        if clock() > 1:
            raise ValueError("later")
        return {"isError": True}

    async def one():
        try:
            await middleware(A, handler)
        except ValueError as error:
            raised.append(error)

    async with anyio.create_task_group() as tg:
        tg.start_soon(one)
        tg.start_soon(one)
    assert [error.__context__ for error in raised] == [None]


@dataclass
class Result:
    """A model, as far as the cache looks at it."""

    ttl_ms: int
    text: str

    def model_copy(self, *, update):
        return dataclasses.replace(self, **update)


async def test_fastmcp_context():
    """Its messages are models, its results are, too; what the SDK knows lies one deeper."""

    @dataclass
    class Message:
        name: str
        arguments: dict[str, Any]
        meta: Any = None

    class Meta:
        def model_dump(self, **_):
            return {"fastmcp": {"version": "2"}, "progressToken": 1}

    class Capabilities:
        def model_dump(self, **_):
            return {"roots": {}}

    calls = []

    async def answer(ctx):
        calls.append(ctx)
        return Result(0, "x")

    session = SimpleNamespace(client_params=SimpleNamespace(protocol_version="2025-06-18", capabilities=Capabilities()))
    inner = SimpleNamespace(session=session, request=None)
    make = partial(SimpleNamespace, method="tools/call", fastmcp_context=SimpleNamespace(request_context=inner))
    middleware = CacheMiddleware(tools={"look": 5})
    for message in (Message("look", {"a": 1}), Message("look", {"a": 1}), Message("look", {"a": 1}, Meta())):
        assert (await middleware(make(message=message), answer)).text == "x"
    assert len(calls) == 2
    reading = make(message=SimpleNamespace(uri="memo://a"))
    reading.method = "resources/read"
    middleware = CacheMiddleware(ttl=7)
    assert 6900 <= (await middleware(reading, answer)).ttl_ms <= 7000


SECONDS = "0 < seconds < inf for"
METHODS = (
    "prompts/list, resources/list, resources/read, resources/templates/list, server/discover, tools/list, prompts/get"
)
NAMES_OF_TOOLS = "public_tools to be a collection of names in tools=, got"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"cache": Cache()}, ValueError, "needs Cache(isolation='copy'), got 'share'"),
        ({"cache": 3}, TypeError, "needs a Cache, got 3"),
        ({"ttl": 0}, ValueError, f"needs {SECONDS} prompts/list, got 0"),
        ({"ttl": True}, ValueError, f"needs {SECONDS} prompts/list, got True"),
        ({"ttl": {"tools/call": 1}}, ValueError, f"can cache a collection of {METHODS}, got 'tools/call'"),
        ({"tools": {"look": -1}}, ValueError, f"needs {SECONDS} look, got -1"),
        ({"annotated_tools": float("inf")}, ValueError, f"needs {SECONDS} annotated_tools, got inf"),
        ({"annotated_tools": 0}, ValueError, f"needs {SECONDS} annotated_tools, got 0"),
        ({"vary": 3}, TypeError, "needs vary to be callable or None, got 3"),
        ({"public": ["tools/call"]}, ValueError, f"can cache a collection of {METHODS}, got 'tools/call'"),
        ({"public": "tools/list"}, ValueError, f"can cache a collection of {METHODS}, got 'tools/list'"),
        ({"tools": {"look": 1}, "public_tools": ["touch"]}, ValueError, f"needs {NAMES_OF_TOOLS} 'touch'"),
        ({"tools": {"look": 1}, "public_tools": "look"}, ValueError, f"needs {NAMES_OF_TOOLS} 'look'"),
    ],
)
def test_nonsense_is_refused(options, error, message):
    """At construction, naming the argument and the value."""
    with pytest.raises(error) as caught:
        CacheMiddleware(**options)
    assert str(caught.value) == f"CacheMiddleware {message}"
