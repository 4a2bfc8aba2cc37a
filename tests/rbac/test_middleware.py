"""Every message is decided, and what is denied leaves no trace of what it would have found."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from mcp_rbac import (
    CODE,
    METHODS,
    AccessDecided,
    Grant,
    Policy,
    PolicyError,
    Principal,
    RBACMiddleware,
    Role,
    Subject,
    from_token,
    hiding,
)
from mcp_rbac._seam import Refused
from mcp_rbac.asking import Asked, asked_by

from tests.rbac.world import ME, POLICY, Ctx, Server, guarded, over_http, tool
from tests.support.schedule import run_shuffled
from tests.support.sweep import Victim, sweep


async def refused(middleware, ctx, server):
    """Return what was raised, as its code, message and data."""
    with pytest.raises(Exception) as caught:  # looked at by the callers
        await middleware(ctx, server)
    error: Any = caught.value
    return error.code, error.message, error.data


async def test_granted_call_passes_untouched():
    """The context and the result are the same objects."""
    server, ctx = Server(open_x={"ok": 1}), tool("open_x")
    assert await guarded()(ctx, server) is server.results["open_x"]
    assert server.seen == [ctx]
    assert server.seen[0] is ctx


async def test_hidden_is_unknown():
    """2. The server never hears the name, and the caller never hears another."""
    server = Server(secret={"leak": 1})
    hidden, absent = [await guarded()(tool(name), server) for name in ("secret", "absent")]
    assert hidden["content"][0]["text"] == "Unknown tool: 'secret' (secret)"
    assert absent["content"][0]["text"] == "Unknown tool: 'absent' (absent)"
    assert {ctx.params["name"] for ctx in server.seen} == {hiding.NOWHERE}


@pytest.mark.parametrize("name", ["it's", 'say "hi"', "a\nb", "\u202e", "", "é", "e\u0301", "x" * 5000, "open_e\u0301"])
async def test_odd_names_are_unknown_in_the_servers_own_words(name):
    """Quotes are where an imitation would differ."""
    server = Server()
    result = await guarded()(tool(name), server)
    assert result == await Server()(tool(name))
    assert server.seen[0].params["name"] == hiding.NOWHERE


async def test_error_of_a_hidden_object_has_its_name():
    """Resources and prompts are unknown by exception."""
    ctx = Ctx("resources/read", {"uri": "mem://secret"})
    with pytest.raises(LookupError) as caught:
        await guarded()(ctx, Server())
    assert caught.value.args == ("no such thing: mem://secret", {"name": "mem://secret"})


class Model:
    """As pydantic's models, in so far as they are touched."""

    def __init__(self, **fields):
        vars(self).update(fields)

    def model_copy(self, *, update):
        copied = type(self)(**{**vars(self), **update})
        vars(copied)["updated"] = set(update)
        return copied


class SdkError(Exception):
    def __init__(self, error):
        super().__init__(error.message)
        self.error = error


async def test_names_are_put_back_wherever_they_stand():
    """In models, in an SDK's error with its data, in tuples; what is no text stays."""

    async def sdk(ctx):
        name = ctx.params["uri"]
        raise SdkError(Model(code=-32602, message=f"Unknown: {name}", data={"uri": [name], "n": (name, 5, None)}))

    with pytest.raises(SdkError) as caught:
        await guarded()(Ctx("resources/read", {"uri": "a://b"}), sdk)
    error = caught.value.error
    assert (error.code, error.message, error.data) == (
        -32602,
        "Unknown: a://b",
        {"uri": ["a://b"], "n": ("a://b", 5, None)},
    )

    async def wrapped(ctx):
        return Model(root=Model(text=f"<{ctx.params['name']}>", count=3))

    result = await guarded()(tool("secret"), wrapped)
    assert (result.root.text, result.root.count) == ("<secret>", 3)
    assert result.root.updated == {"text"}, "what was not set must not seem to be"


@dataclass(frozen=True)
class Message:
    """A context of FastMCP's kind."""

    method: str
    message: Any
    fastmcp_context: Any = None


async def test_contexts_with_a_message():
    """FastMCP keeps the parameters there, in a model or, for what has no handler of its own, in a mapping."""
    seen = []

    async def server(ctx):
        seen.append(ctx.message)
        return []

    class Url:
        unicode_string = "x"

        def __str__(self):
            return "docs://a"

    await guarded()(Message("tools/call", Model(name="open_x", arguments={})), server)
    await guarded()(Message("tools/call", Model(name="secret", arguments={})), server)
    await guarded()(Message("resources/read", Model(uri=Url())), server)
    await guarded()(Message("completion/complete", {"ref": {"type": "ref/prompt", "name": "no"}}), server)
    assert [getattr(one, "name", None) for one in seen[:2]] == ["open_x", hiding.NOWHERE]
    assert str(seen[2].uri) == "docs://a"
    assert len(seen) == 3


async def test_no_field_but_the_servers_own_counts():
    """A name beside the URI must not be what is judged."""
    server = Server(**{"mem://secret": "leak"})
    with pytest.raises(LookupError):
        await guarded()(Ctx("resources/read", {"uri": "mem://secret", "name": "docs://a"}), server)


@pytest.mark.parametrize(
    ("method", "target", "is_allowed"),
    [
        ("prompts/get", {"name": "hi"}, True),
        ("prompts/get", {"name": "other"}, False),
        ("resources/read", {"uri": "DOCS://a/b"}, True),
        ("resources/read", {"uri": "docs://a/../../etc"}, False),
        ("resources/read", {"uri": "docs://a?q"}, True),
        ("resources/subscribe", {"uri": "docs://a"}, True),
        ("resources/subscribe", {"uri": "mem://a"}, False),
        ("resources/unsubscribe", {"uri": "docs://a"}, False),
    ],
)
async def test_objects(method, target, is_allowed):
    """By what each method names."""
    server = Server(**{method: {"ok": 1}})
    await guarded()(Ctx(method, target), server)
    nowhere = {"uri": f"{hiding.NOWHERE}:none"} if "uri" in target else {"name": hiding.NOWHERE}
    assert server.seen[0].params == (target if is_allowed else nowhere)


@pytest.mark.parametrize(
    ("ref", "is_allowed"),
    [
        ({"type": "ref/prompt", "name": "hi"}, True),
        ({"type": "ref/prompt", "name": "other"}, False),
        ({"type": "ref/resource", "uri": "docs://{x}"}, True),
        ({"type": "ref/resource", "uri": "mem://{x}"}, False),
    ],
)
async def test_completion_is_judged_by_its_ref(ref, is_allowed):
    """1. Or it would complete what the caller cannot see; a handler may answer whatever it is asked for."""
    server = Server(**{"completion/complete": {"completion": {"values": ["alice"]}}})
    answer = await guarded()(Ctx("completion/complete", {"ref": ref, "argument": {}}), server)
    assert answer == {"completion": {"values": ["alice"] if is_allowed else []}}
    assert len(server.seen) == is_allowed


@dataclass(frozen=True)
class Modern(Ctx):
    """A context of the 2.x SDK."""

    protocol_version: str = ""


OF_SECRET = {"ref": {"type": "ref/prompt", "name": "secret"}, "argument": {}}
META = {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}


HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "mcp-rbac", "version": "1"}}


@pytest.mark.parametrize(
    ("method", "params", "asked"),
    [("initialize", OF_SECRET, HELLO), ("server/discover", {**OF_SECRET, "_meta": META}, {"_meta": META})],
)
async def test_denied_completion_is_wrapped_as_the_server_does(method, params, asked):
    """1, 2. It says what that is, and whether it completes; its handler of completions is not asked."""
    said = {"capabilities": {"completions": {}}, "resultType": "complete", "_meta": {"by": "me"}, "ttlMs": 5}
    server, ctx = Server(**{method: said}), Modern("completion/complete", params)
    empty = {"completion": {"values": []}, "resultType": "complete", "_meta": {"by": "me"}}
    assert await guarded()(ctx, server) == empty
    assert [(one.method, one.params) for one in server.seen] == [(method, asked)]
    without = Server(**{method: {**said, "capabilities": {}}})
    assert await refused(guarded(), ctx, without) == (-32601, "Method not found", "completion/complete")


@pytest.mark.parametrize("meta", [{}, META])
async def test_denied_completion_of_fastmcp(meta):
    """1, 2. Its server is at hand, and its chain would not pass another method on."""
    stamp = {"resultType": "complete", "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "x"}}} if meta else {}
    for handlers in ({"completion/complete": object()}, {}):
        lowlevel = SimpleNamespace(get_request_handler=handlers.get, server_info_stamp={"name": "x"})
        server, ctx = Server(), Message("completion/complete", {**OF_SECRET, "_meta": meta})
        ctx = replace(ctx, fastmcp_context=SimpleNamespace(fastmcp=SimpleNamespace(_mcp_server=lowlevel)))
        if handlers:
            assert await guarded()(ctx, server) == {"completion": {"values": []}, **stamp}
        else:
            assert (await refused(guarded(), ctx, server))[0] == -32601
        assert not server.seen


@pytest.mark.parametrize("params", [None, {}, {"ref": 5}, {"ref": {"type": "ref/prompt", "uri": "docs://a"}}, []])
async def test_malformed_completion(params):
    """A reference of one kind with the name of another is none."""
    server = Server()
    assert (await refused(guarded(), Ctx("completion/complete", params), server))[0] == -32601
    assert not server.seen


@pytest.mark.parametrize("params", [None, {}, {"name": 7}, {"name": None}, {"name": ["open_x"]}, [], "open_x"])
@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read"])
async def test_malformed_request(method, params):
    """Nothing of the server runs."""
    server, events = Server(), []
    assert (await refused(guarded(on_event=events.append), Ctx(method, params), server))[0] == -32601
    assert not server.seen
    (event,) = events
    assert (event.allowed, event.reason, event.permission, event.version) == (False, "invalid", method, POLICY.version)


@pytest.mark.parametrize(
    "method", ["logging/setLevel", "acme/anything", "", None, 5, [], "tools", "tools/call/x", "Tools/Call", "x:y"]
)
async def test_unknown_method(method):
    """A method without a grant is one that the server does not have."""
    server = Server()
    code, message, data = await refused(guarded(), Ctx(method), server)
    assert (code, message, data) == (-32601, "Method not found", method)
    assert not server.seen


async def test_custom_method():
    """May be granted, once it was announced."""
    policy = Policy(roles={"r": Role(["acme/reindex"])})
    with pytest.raises(PolicyError, match="unknown method 'acme/reindex'"):
        guarded(policy)
    server = Server(**{"acme/reindex": {"done": 1}})
    assert await guarded(policy, methods=["acme/reindex"])(Ctx("acme/reindex"), server) == {"done": 1}


async def test_handshake_passes_unless_it_must_not():
    """Without it there would be no connection to refuse anything on."""
    server = Server(initialize={"serverInfo": {}})
    assert await guarded(local=None)(Ctx("initialize"), server) == {"serverInfo": {}}
    assert (await refused(guarded(public=()), Ctx("initialize"), server))[0] == -32601


@pytest.mark.parametrize("on_deny", ["hide", "explain", "challenge"])
async def test_denied_notification_is_dropped(on_deny):
    """And audited, since nobody would hear a refusal."""
    server, events = Server(), []
    ctx = Ctx("notifications/roots/list_changed", request_id=None)
    assert await guarded(on_deny=on_deny, on_event=events.append)(ctx, server) is None
    assert not server.seen
    assert [(event.method, event.allowed) for event in events] == [(ctx.method, False)]


def listing(key, *names, identity="name"):
    return {key: [{identity: name, "n": n} for n, name in enumerate(names)], "nextCursor": "2", "cacheScope": "public"}


@pytest.mark.parametrize(
    ("method", "result", "kept"),
    [
        ("tools/list", listing("tools", "open_b", "secret", "open_a", "open_v1."), [0, 2, 3]),
        ("prompts/list", listing("prompts", "hi", "other"), [0]),
        ("resources/list", listing("resources", "mem://x", "DOCS://x", "docs://a/../b", identity="uri"), [1]),
        (
            "resources/templates/list",
            listing("resourceTemplates", "mem://{x}", "docs://{x}", identity="uriTemplate"),
            [1],
        ),
    ],
)
async def test_lists_are_filtered(method, result, kept):
    """Order, pages and everything else kept; never to be cached for others."""
    key = next(iter(result))
    found = await guarded()(Ctx(method), Server(**{method: result}))
    assert [item["n"] for item in found[key]] == kept
    assert found == {**result, key: found[key], "cacheScope": "private"}
    assert result["cacheScope"] == "public", "the server's own is not touched"


async def test_lists_of_models():
    """As mcp 1.x and FastMCP return them."""

    def of(*names):
        return [SimpleNamespace(name=name) for name in names]

    for result in (
        of("open_a", "no"),
        Model(root=Model(tools=of("open_a", "no"), nextCursor=None)),
        Model(tools=of("open_a", "no"), cache_scope="public"),
    ):
        found: Any = await guarded()(Ctx("tools/list"), Server(**{"tools/list": result}))
        assert getattr(found, "cache_scope", "private") == "private"
        found = getattr(found, "root", found)
        assert [item.name for item in getattr(found, "tools", found)] == ["open_a"]
    templates = Model(
        resource_templates=[SimpleNamespace(uri_template="mem://{x}", name="docs://a"), SimpleNamespace()]
    )
    found = await guarded()(Ctx("resources/templates/list"), Server(**{"resources/templates/list": templates}))
    assert found.resource_templates == []


@pytest.mark.parametrize("result", [None, {}, {"tools": None}, "tools", 5])
async def test_list_that_cannot_be_filtered_does_not_pass(result):
    """Whatever it is, it may hold what the caller must not see."""
    with pytest.raises(TypeError, match=f"is {type(result).__name__}, in which nothing can be filtered"):
        await guarded()(Ctx("tools/list"), Server(**{"tools/list": result}))


async def test_item_without_a_name_is_nobodys():
    """It is judged by the name it has, which is none, and does not stop the others."""
    result = {"tools": [{"title": "x"}, {"name": "open_a"}]}
    assert (await guarded()(Ctx("tools/list"), Server(**{"tools/list": result})))["tools"] == [{"name": "open_a"}]
    asked = []
    hiding.filtered("tools/list", [object(), {}], asked.append)
    assert asked == ["", ""]


async def test_uri_that_is_no_string_is_nobodys():
    """On the wire it is none, and its text must not be taken for one."""
    result = {"resources": [{"uri": 5}, {"uri": "docs://a"}]}
    one = guarded(Policy(roles={"r": Role(["**"])}))
    found = await one(Ctx("resources/list"), Server(**{"resources/list": result}))
    assert found["resources"] == [{"uri": "docs://a"}]


async def test_list_without_a_grant_is_empty():
    """As for somebody who may use nothing of it; with reasons, it is refused."""
    server, nobody = Server(**{"tools/list": listing("tools", "open_a")}), Subject("nobody")
    assert (await guarded(local=nobody)(Ctx("tools/list"), server))["tools"] == []
    assert (await refused(guarded(local=nobody, on_deny="explain"), Ctx("tools/list"), server))[0] == CODE


async def test_list_of_the_sdk_is_filtered_and_never_refused():
    """Its header can be forged, so it gains nothing: not even what the caller may call."""
    server = Server(**{"tools/list": listing("tools", "open_a", "secret")})
    policy = Policy(roles={"r": Role(["tools/call:open_a"])})
    for on_deny in ("hide", "explain", "challenge"):
        one = guarded(policy, on_deny=on_deny)
        assert (await one(Ctx("tools/list", internal=True), server))["tools"] == []
    assert [tool["name"] for tool in (await guarded()(Ctx("tools/list", internal=True), server))["tools"]] == ["open_a"]


async def test_reads_are_private():
    """A cache must not carry them to someone who may not read."""
    server = Server(**{"docs://a": {"contents": [], "cacheScope": "public"}})
    assert (await guarded()(Ctx("resources/read", {"uri": "docs://a"}), server))["cacheScope"] == "private"


async def test_listening_is_narrowed():
    """To what the caller may list, and to the resources he may subscribe to."""
    wanted = {
        "toolsListChanged": True,
        "promptsListChanged": True,
        "resourcesListChanged": True,
        "resourceSubscriptions": ["docs://a", "mem://b", 7],
        "taskIds": ["x"],
    }
    server = Server(**{"subscriptions/listen": {}})
    await guarded()(Ctx("subscriptions/listen", {"notifications": wanted}), server)
    assert server.seen[0].params["notifications"] == {
        "toolsListChanged": True,
        "promptsListChanged": True,
        "resourcesListChanged": True,
        "resourceSubscriptions": ["docs://a"],
    }
    only = Policy(roles={"r": Role(["subscriptions/listen", "prompts/list"])})
    await guarded(only)(Ctx("subscriptions/listen", {"notifications": {**wanted, "resourceSubscriptions": 5}}), server)
    assert server.seen[1].params["notifications"] == {"promptsListChanged": True}
    await guarded(only)(Ctx("subscriptions/listen", {}), server)
    assert server.seen[2].params == {"notifications": {}}


CONDITIONAL = Policy(
    roles={
        "r": Role(
            [
                "tools/list",
                Grant("tools/call:pay", when={"args.n": {"le": 5}}),
                Grant("tools/call:ship", obligations=["approve", "log"]),
                Grant("tools/call:move", scopes=["files:read", "files:write"]),
            ]
        )
    }
)


async def test_seen_and_refused():
    """What a list shows exists: a wrong argument is told as a refusal, without the reason."""
    server = Server(pay={"paid": 1}, **{"tools/list": listing("tools", "pay", "secret")})
    one = guarded(CONDITIONAL)
    assert [tool["name"] for tool in (await one(Ctx("tools/list"), server))["tools"]] == ["pay"]
    assert await one(tool("pay", n=5), server) == {"paid": 1}
    assert await refused(one, tool("pay", n=6), server) == (CODE, "access denied", None)
    assert await refused(one, tool("pay", n="5"), server) == (CODE, "access denied", None)


@pytest.mark.parametrize("on_event", [None, lambda event: None])
async def test_a_query_does_not_escape_a_denial(on_event):
    """Each of the permissions that a URI needs is decided, with an audit and without."""
    policy = Policy(roles={"r": Role(["resources/read:docs://**"], deny=["resources/read:docs://secret"])})
    server = Server(**{"docs://secret?x": "leak"})
    with pytest.raises(LookupError):
        await guarded(policy, on_event=on_event)(Ctx("resources/read", {"uri": "docs://secret?x"}), server)


@pytest.mark.parametrize("on_event", [None, lambda event: None])
async def test_a_denial_sees_the_arguments(on_event):
    """A function that finds none may well answer no."""
    large = Grant("tools/call:pay", when=lambda request: request.arguments.get("n", 0) > 5)
    one = guarded(Policy(roles={"r": Role(["tools/call:pay"], deny=[large])}), on_event=on_event)
    assert await one(tool("pay", n=5), Server(pay={"paid": 1})) == {"paid": 1}
    assert (await refused(one, tool("pay", n=6), Server(pay={"paid": 1})))[0] == CODE


@pytest.mark.parametrize(("on_deny", "advises"), [("hide", False), ("explain", True), ("challenge", False)])
async def test_no_time_is_spent_on_advice_that_is_not_given(on_deny, advises):
    """It would tell how many roles have what the caller may not know of."""
    asked = []

    class Watched(Policy):
        def decide(self, *arguments, advise=True, **options):
            asked.append(advise)
            return super().decide(*arguments, advise=advise, **options)

    policy = Watched(roles={"r": Role(["tools/list"]), "s": Role(["tools/call:x"])})
    with contextlib.suppress(Refused):
        await guarded(policy, on_deny=on_deny)(tool("x"), Server())
    assert asked == [advises]


async def test_arguments_of_what_takes_none_do_not_count():
    """A caller could add to the parameters whatever a condition wants to see."""
    objects = ("resources/read:docs://a", "prompts/get:hi")
    one = guarded(Policy(roles={"r": Role([Grant(name, when={"args.key": {"eq": 1}}) for name in objects])}))
    ctx = Ctx("resources/read", {"uri": "docs://a", "arguments": {"key": 1}})
    assert (await refused(one, ctx, Server(**{"docs://a": {"leak": 1}})))[0] == CODE
    assert await one(Ctx("prompts/get", {"name": "hi", "arguments": {"key": 1}}), Server(hi={"ok": 1})) == {"ok": 1}


async def test_explained():
    """For servers whose users are trusted with the policy."""
    one = guarded(CONDITIONAL, on_deny="explain")
    assert await refused(one, tool("ship"), Server()) == (
        CODE,
        "access denied",
        {"permission": "tools/call:ship", "reason": "obligation", "obligations": ["approve", "log"]},
    )
    limited = guarded(CONDITIONAL, on_deny="explain", local=Subject("me", {"r"}, {"files:read"}))
    assert (await refused(limited, tool("move"), Server()))[2] == {
        "permission": "tools/call:move",
        "reason": "scope",
        "scopes": ["files:write"],
    }
    code, _, data = await refused(one, tool("absent"), Server())
    assert (code, data) == (CODE, {"permission": "tools/call:absent", "reason": "default"})
    assert (await refused(guarded(on_deny="explain", local=Subject()), tool("open_x"), Server()))[2] == {
        "permission": "tools/call:open_x",
        "reason": "default",
        "roles": ["r"],
    }


async def test_challenge():
    """All missing scopes, for what the token alone stands in the way of; the rest is hidden."""
    caller = Subject("me", {"r"}, ())
    one = guarded(CONDITIONAL, local=caller, on_deny="challenge")
    server = Server(move={"leak": 1}, **{"tools/list": listing("tools", "move", "secret")})
    assert await refused(one, tool("move"), server) == (
        CODE,
        "insufficient scope",
        {"error": "insufficient_scope", "scope": "files:read files:write"},
    )
    assert (await one(tool("secret"), server))["isError"]
    assert [tool["name"] for tool in (await one(Ctx("tools/list"), server))["tools"]] == ["move"]
    hidden = guarded(CONDITIONAL, local=caller)
    assert (await hidden(tool("move"), server))["isError"], "without challenges it does not exist"


@pytest.mark.parametrize(("on_deny", "shown"), [("hide", []), ("explain", []), ("challenge", ["docs://a"])])
async def test_resources_that_other_scopes_would_open(on_deny, shown):
    """They are listed where asking for them tells which scopes."""
    policy = Policy(roles={"r": Role(["resources/list", Grant("resources/read:docs://**", scopes=["files:read"])])})
    one = guarded(policy, local=Subject("me", {"r"}, ()), on_deny=on_deny)
    result = {"resources": [{"uri": "docs://a"}, {"uri": "mem://b"}]}
    found = await one(Ctx("resources/list"), Server(**{"resources/list": result}))
    assert [item["uri"] for item in found["resources"]] == shown


async def test_obligations():
    """Each in turn, all of them, and by the policy that is in force when they are met."""
    asked = []

    def handler(answer):
        async def fulfil(ctx, decision):
            asked.append((ctx.params["name"], decision.obligations))
            if isinstance(answer, Exception):
                raise answer
            return answer

        return fulfil

    server = Server(ship={"shipped": 1})
    both = {"approve": handler(True), "log": handler(True)}
    assert await guarded(CONDITIONAL, obligations=both)(tool("ship"), server) == {"shipped": 1}
    assert asked == [("ship", ("approve", "log"))] * 2
    for others in (
        {},
        {"approve": handler(True)},
        *({**both, "log": handler(no)} for no in (False, "yes", None, OSError())),
    ):
        assert (await refused(guarded(CONDITIONAL, obligations=others), tool("ship"), server))[0] == CODE
    assert len(server.seen) == 1


async def test_obligation_is_no_shield_against_a_new_policy():
    """An approval may take an hour, in which the right may be gone."""
    source = SimpleNamespace(current=CONDITIONAL)

    async def approve(ctx, decision):
        source.current = POLICY
        return True

    one = RBACMiddleware(source, local=ME, obligations={"approve": approve, "log": approve})
    assert await refused(one, tool("ship"), Server(ship={"leak": 1})) == (CODE, "access denied", None)


async def test_obligation_is_met_for_all_that_is_asked():
    """A URI with a query asks for two things; an approval of the one is none of the other."""
    policy = Policy(roles={"r": Role([Grant("resources/read:docs://a?*", obligations=["approve"])])})

    async def approve(ctx, decision):
        return True

    server = Server(**{"docs://a?q": {"leak": 1}})
    with pytest.raises(LookupError, match="docs://a"):
        await guarded(policy, obligations={"approve": approve})(Ctx("resources/read", {"uri": "docs://a?q"}), server)


async def test_obligation_is_no_shield_against_a_lost_role():
    """Who he is by then counts, too."""
    users = {"ann": ["r"]}
    old = Policy(roles={"r": Role([Grant("tools/call:ship", obligations=["approve"])])}, users=users)
    new = Policy(roles={**old.dump()["roles"], "s": {}}, users={"ann": ["s"], "bob": ["r"]})
    source = SimpleNamespace(current=old)

    async def approve(ctx, decision):
        source.current = new
        return True

    one = RBACMiddleware(source, obligations={"approve": approve})
    assert (await one(over_http(tool("ship"), user="ann"), Server(ship={"leak": 1})))["isError"]


async def test_obligation_of_one_without_a_token():
    """Whom he counts as is the same before and after."""
    policy = Policy(roles={"r": Role([Grant("tools/call:ship", obligations=["approve"])])})
    one = RBACMiddleware(policy, anonymous=ME, obligations={"approve": approve})
    assert await one(over_http(tool("ship")), Server(ship={"ok": 1})) == {"ok": 1}


async def test_audit():
    """3. One event a decision, with the names and without the values."""
    events: list[AccessDecided] = []
    me = replace(ME, tenant="acme")
    one = guarded(on_event=events.append, audit_arguments=["path", "absent"], subject=lambda ctx, policy: me)
    ctx = replace(tool("open_x", path="/a", password="hunter2"), principal=Principal("app", "iss", "ann"))
    await one(ctx, Server(open_x={}))
    await one(tool("secret"), Server())
    await one(Ctx("tools/list", internal=True), Server(**{"tools/list": {"tools": []}}))
    assert events[0] == AccessDecided(
        "tools/call",
        "tools/call:open_x",
        True,
        "granted",
        "roles.r.allow[1]",
        POLICY.version,
        user="me",
        client_id="app",
        issuer="iss",
        tenant="acme",
        roles=("r",),
        obligations=(),
        internal=False,
        arguments={"path": "/a"},
    )
    assert (events[1].permission, events[1].allowed, events[1].reason) == ("tools/call:secret", False, "default")
    assert [event.internal for event in events] == [False, False, True]
    assert "hunter2" not in repr(events)


async def test_who_calls_is_asked_once():
    """A resolver may cost something, and a second answer might be another."""
    asked = []
    one = RBACMiddleware(POLICY, subject=lambda ctx, policy: asked.append(ctx) or ME)
    await one(tool("open_x"), Server(open_x={}))
    await one(tool("secret"), Server())
    assert len(asked) == 2


async def test_failing_audit_denies():
    """What cannot be recorded must not happen, and the error is not the client's to read."""

    def broken(event):
        raise OSError("disk full: /var/audit")

    server = Server(open_x={})
    assert await refused(guarded(on_event=broken), tool("open_x"), server) == (CODE, "access denied", None)
    assert not server.seen


def test_callers_do_not_mix_in_any_order_of_tasks():
    """One object serves all of them at once: each is answered by his own rights, and audited under his own name."""

    async def run():
        events, heard = [], {}
        one = RBACMiddleware(POLICY, subject=lambda ctx, policy: ctx.request, on_event=events.append)

        async def slow(ctx):
            await anyio.lowlevel.checkpoint()
            heard[ctx.request.user] = ctx.params["name"]
            return {}

        async def call(user, roles):
            await anyio.lowlevel.checkpoint()
            await one(replace(tool("open_x"), request=Subject(user, roles)), slow)
            assert heard[user] == ("open_x" if roles else hiding.NOWHERE)

        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(call, str(number), {"r"} if number % 2 else ())
        assert sorted((event.user, event.allowed) for event in events) == [(str(n), n % 2 == 1) for n in range(10)]

    run_shuffled(run)


async def test_failing_audit_does_not_stand_in_for_a_cancellation():
    """What cancels the call must see it cancelled."""

    async def ask(ctx, decision):
        scope.cancel()
        await anyio.lowlevel.checkpoint()

    def broken(event):
        raise OSError("disk full")

    one = guarded(CONDITIONAL, obligations={"approve": ask, "log": ask}, on_event=broken)
    with anyio.CancelScope() as scope:
        await one(tool("ship"), Server(ship={}))
    assert scope.cancelled_caught


def test_cancelled_call_is_audited():
    """3. At every point where it may be cancelled, an obligation included."""
    events = []

    async def approve(ctx, decision):
        await anyio.sleep(1)
        return True

    async def slow(ctx):
        await anyio.sleep(1)

    async def scenario(victim: Victim):
        events.clear()
        one = guarded(CONDITIONAL, obligations={"approve": approve, "log": approve}, on_event=events.append)
        await victim(one, tool("ship"), slow)
        return victim

    points = sweep(scenario, lambda victim: [event.user for event in events] == ["me"])
    assert min(points.values()) == 3


async def test_who_calls():
    """A token, no token, no HTTP: each stated or denied, and never taken for another."""
    roles = Policy(roles={"r": Role(["tools/call:open_*"]), "guest": Role(["tools/call:open_a"])})
    guest, server = Subject("guest", {"guest"}), Server(open_a={"a": 1}, open_b={"b": 1})

    async def may(ctx, **options):
        one = RBACMiddleware(roles, **{"subject": from_token(roles="groups"), **options})
        return "isError" not in await one(ctx, server)

    events = []
    assert not await may(tool("open_a"), on_event=events.append)
    assert [(event.reason, event.roles) for event in events] == [("anonymous", ())]
    assert await may(tool("open_b"), local=ME)
    assert not await may(over_http(tool("open_b")), local=ME), "HTTP without a token is not local"
    assert not await may(over_http(tool("open_b"), headers={}), local=ME), "not even without headers"
    assert await may(over_http(tool("open_a")), anonymous=guest)
    assert not await may(over_http(tool("open_b")), anonymous=guest)
    assert await may(over_http(tool("open_b"), user="ann", groups=["r"]))
    assert not await may(over_http(tool("open_b"), user="ann"), local=ME, anonymous=ME), "a token speaks for itself"


@pytest.mark.parametrize("groups", ["r", {"r": 1}, 5, True, [1], [None], ["r", []]])
async def test_odd_claims_deny(groups):
    """Roles that are no list of strings are not guessed at."""
    policy = Policy(roles={"r": Role(["**"])})
    one = RBACMiddleware(policy, subject=from_token(roles="groups"), anonymous=ME, on_event=(events := []).append)
    assert (await one(over_http(tool("x"), user="ann", groups=groups), Server(x={})))["isError"]
    (event,) = events
    assert (event.reason, event.permission, event.version) == ("invalid", "tools/call:x", policy.version)


async def test_claims():
    """Roles inside of objects, the tenant, the issuer, and all of them for conditions."""
    policy = Policy(
        roles={"r": Role([Grant("tools/call:x", when={"tenant": {"eq": "acme"}, "attributes.level": {"ge": 3}})])},
        users={"ann": ["r"], "app": ["r"]},
        external=["r"],
    )

    async def may(claims, user="eve", **options):
        one = RBACMiddleware(policy, subject=from_token(roles="realm.roles", tenant="org", **options))
        result = await one(over_http(tool("x"), user=user, **claims), Server(x={"ok": 1}))
        return result == {"ok": 1}

    claims = {"realm": {"roles": ["r"]}, "org": "acme", "level": 3}

    async def told(*arguments, **options):
        try:
            return await may(*arguments, **options)
        except Refused:  # what he sees and may not do
            return False

    assert await told(claims)
    assert await told({**claims, "realm": {}}, user="ann")
    assert not await told({**claims, "realm": {}})
    assert not await told({**claims, "realm": None})
    assert not await told({**claims, "realm": "r"})
    assert not await told({**claims, "org": "other"})
    assert not await told({**claims, "org": ["acme"]})
    assert not await told({**claims, "level": "9"})
    assert await told(claims, issuer="i")
    assert await told(claims, issuer=["h", "i"])
    assert not await told(claims, issuer="h")


@pytest.mark.parametrize(
    ("ctx", "expected"),
    [
        (Ctx(5), Asked((), "")),
        (Ctx("ping"), Asked(("ping",), "ping")),
        (tool("é"), Asked(("tools/call:é",), "tools/call", "name", "é")),
        (tool("e\u0301"), Asked((), "tools/call", "name", "e\u0301")),
        (tool(5), Asked((), "tools/call")),
        (Ctx("resources/read", {"uri": "A://B"}), Asked(("resources/read:a://b",), "resources/read", "uri", "A://B")),
        (Ctx("resources/read", {"uri": ""}), Asked((), "resources/read")),
        (Ctx("completion/complete", {}), Asked((), "completion/complete")),
        (
            Ctx("completion/complete", {"ref": {"type": "ref/resource", "uri": "A://{x}"}}),
            Asked(("resources/read:a://{x}",), "resources/read", "ref", "A://{x}"),
        ),
    ],
)
def test_what_is_asked(ctx, expected):
    """Permissions, method, and where the name stands that may have to be another."""
    assert asked_by(ctx) == expected


def test_token_that_is_no_good_is_told():
    """To whoever calls a resolver by hand; a middleware denies."""
    ctx, policy = over_http(tool("x"), user="ann", groups=5, scopes=["s"]), Policy(roles={"r": Role()})
    assert from_token()(ctx, policy).scopes == {"s"}
    for issuer in ("xix", ["xix"], "I"):
        with pytest.raises(ValueError, match=r"^the token is from another issuer$"):
            from_token(issuer=issuer)(ctx, policy)
    with pytest.raises(TypeError, match=r"^the claim groups is no list$"):
        from_token(roles="groups")(ctx, policy)
    with pytest.raises(TypeError, match=r"^the claim groups\.inner goes through no object$"):
        from_token(roles="groups.inner")(ctx, policy)


def test_principal_without_a_token_has_no_claims():
    """That of a context which brings its own, or of a token that has none."""
    own = Principal("app", "i", "ann")
    for ctx in (
        replace(tool("x"), principal=own),
        replace(over_http(tool("x")), principal=own),
        replace(tool("x"), request=SimpleNamespace(scope={"user": SimpleNamespace(access_token=Bare())})),
    ):
        subject = from_token()(ctx, Policy())
        assert (subject.user, subject.attributes) == ("ann", {})


class Bare:
    """A token with the least that one has."""

    client_id, subject, scopes = "app", "ann", ()


async def test_users_may_be_clients():
    """For machines, whose tokens have no subject."""
    from mcp_rbac import by_client

    policy = Policy(roles={"r": Role(["tools/call:x"])}, users={"app": ["r"]})
    for user, expected in ((by_client, True), (None, False)):
        subject = from_token(user=user) if user else from_token()
        result = await RBACMiddleware(policy, subject=subject)(over_http(tool("x"), user="ann"), Server(x={"ok": 1}))
        assert (result == {"ok": 1}) is expected


async def test_conflicting_roles_deny():
    """With the reason in the audit log."""
    policy = Policy(roles={"a": Role(["**"]), "b": Role(["ping"])}, dsd=[{"roles": ["a", "b"]}])
    events = []
    one = RBACMiddleware(policy, subject=from_token(roles="groups"), on_event=events.append)
    assert (await one(over_http(tool("x"), user="ann", groups=["a", "b"]), Server(x={})))["isError"]
    assert events[0].reason == "separation"


@pytest.mark.parametrize("subject", [lambda ctx, policy: "me", lambda ctx, policy: 1 / 0, lambda ctx: None])
async def test_odd_subject_denies(subject):
    """Whatever a resolver of one's own does."""
    one = RBACMiddleware(POLICY, subject=subject, local=ME, anonymous=ME, on_event=(events := []).append)
    assert (await one(tool("open_x"), Server(open_x={})))["isError"]
    assert [event.reason for event in events] == ["invalid"]


async def approve(ctx, decision):
    return True


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"policy": None}, TypeError, "policy to be a Policy or LivePolicy, got None"),
        ({"policy": {"roles": {}}}, TypeError, "policy to be a Policy"),
        ({"policy": Policy}, TypeError, "policy to be a Policy"),
        ({"policy": Policy(roles={"r": Role(["tools/call"])})}, PolicyError, "names no object"),
        ({"on_deny": "ignore"}, ValueError, "on_deny to be one of hide, explain, challenge, got 'ignore'"),
        ({"local": "me"}, TypeError, "local to be a Subject or None, got 'me'"),
        ({"subject": approve}, TypeError, "subject to be a sync function, got <function approve"),
        ({"subject": ME}, TypeError, "subject to be a sync function, got Subject"),
        ({"on_event": approve}, TypeError, "on_event to be a sync function, got <function approve"),
        ({"obligations": {"o": print}}, TypeError, "obligations['o'] to be an async function, got <built-in"),
        ({"obligations": {"o": Server}}, TypeError, "obligations['o'] to be an async function, got <class"),
        ({"obligations": {"o": None}}, TypeError, "obligations['o'] to be an async function, got None"),
        ({"obligations": [approve]}, TypeError, "obligations to be a mapping, got [<function approve"),
        ({"obligations": "approve"}, TypeError, "obligations to be a mapping, got 'approve'"),
        ({"public": "ping"}, TypeError, "public to be a collection of strings, got 'ping'"),
        ({"methods": b"x"}, TypeError, "methods to be a collection of strings, got b'x'"),
        ({"methods": [1]}, TypeError, "methods to be a collection of strings, got [1]"),
        ({"audit_arguments": "path"}, TypeError, "audit_arguments to be a collection of strings, got 'path'"),
        ({"audit_arguments": None}, TypeError, "audit_arguments to be a collection of strings, got None"),
        ({"anonymous": Subject}, TypeError, "anonymous to be a Subject or None, got <class"),
    ],
)
def test_nonsense(options, error, said):
    """At construction, with the name of the argument."""
    with pytest.raises(error) as caught:
        RBACMiddleware(**{"policy": POLICY, **options})
    assert said in str(caught.value)


def test_protect_is_for_servers_with_a_chain():
    """The others have another way, which the message names."""
    with pytest.raises(TypeError, match="protect takes a server of mcp 2"):
        guarded().protect(object())


class Lowlevel:
    """What ``protect`` touches of the SDK's server."""

    def __init__(self):
        self.middleware, self.get_tool_input_schema = [], {"open_x": "schema", "secret": "schema"}.get
        self.cache_hints = {"tools/list": Hint("public", 5), "prompts/list": Hint("private", 6)}


@dataclass(frozen=True)
class Hint:
    scope: str
    ttl_ms: int


@pytest.mark.parametrize("attribute", ["_lowlevel_server", "_mcp_server", ""])
def test_protect(attribute):
    """The doors beside the chain: schemas before it, cache marks after it."""
    lowlevel, one = Lowlevel(), guarded(anonymous=ME, local=None)
    one.protect(SimpleNamespace(**{attribute: lowlevel}) if attribute else lowlevel)
    assert lowlevel.middleware == [one]
    assert lowlevel.cache_hints == {"tools/list": Hint("private", 5), "prompts/list": Hint("private", 6)}
    assert [lowlevel.get_tool_input_schema(name) for name in ("open_x", "secret", "absent")] == ["schema", None, None]
    lowlevel.get_tool_input_schema = None
    guarded(local=None).protect(lowlevel)
    assert lowlevel.get_tool_input_schema is None


def test_protect_with_the_chain_around_it():
    """Who has more layers than this one must not leave the doors open."""

    async def chain(ctx, call_next): ...

    lowlevel = Lowlevel()
    guarded().protect(lowlevel, chain=chain)
    assert lowlevel.middleware == [chain]
    assert lowlevel.get_tool_input_schema("secret") is None


def test_protect_fastmcp(monkeypatch):
    """Through its own chain."""
    monkeypatch.setattr("mcp_rbac.middleware.as_fastmcp", lambda middleware: ("adapted", middleware))
    added, lowlevel, one = [], Lowlevel(), guarded()
    one.protect(SimpleNamespace(_mcp_server=lowlevel, add_middleware=added.append))
    assert (added, lowlevel.middleware) == ([("adapted", one)], [])


async def test_errors_of_both_sdks(monkeypatch):
    """The SDK's own class, without which code and data would be lost."""

    class McpError(Exception):
        def __init__(self, error):
            self.error = error

    old = SimpleNamespace(McpError=McpError, ErrorData=lambda code, message: (code, message))
    new = SimpleNamespace(MCPError=LookupError)
    for sdk, expected in ((old, McpError), (new, LookupError)):
        monkeypatch.setitem(sys.modules, "mcp.shared.exceptions", sdk)
        with pytest.raises(expected) as caught:
            await guarded()(Ctx("acme/x"), Server())
        data = () if sdk is old else ("acme/x",)
        assert getattr(caught.value, "error", caught.value.args) == (-32601, "Method not found", *data)


async def test_token_in_a_context_variable(monkeypatch):
    """Of the 2.x SDK, where a decorated function has no request."""
    token = SimpleNamespace(client_id="app", scopes=[], subject="ann", claims={"groups": ["r"]})
    monkeypatch.setitem(
        sys.modules, "mcp.server.auth.middleware.auth_context", SimpleNamespace(get_access_token=lambda: token)
    )
    one = RBACMiddleware(POLICY, subject=from_token(roles="groups"))
    assert await one(tool("open_x"), Server(open_x={"ok": 1})) == {"ok": 1}
    lowlevel = Lowlevel()
    one.protect(lowlevel)
    assert [lowlevel.get_tool_input_schema(name) for name in ("open_x", "secret")] == ["schema", None]


def test_schema_is_not_for_local_callers():
    """It is looked up over HTTP alone, where whoever has no token is anonymous."""
    lowlevel = Lowlevel()
    guarded().protect(lowlevel)
    assert lowlevel.get_tool_input_schema("open_x") is None


def test_handshake_and_rest_are_all_methods():
    """What is public has no object."""
    assert {"initialize", "ping"} < METHODS
    assert isinstance(METHODS, frozenset), "nobody may add to it"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"issuer": 5}, "issuer to be a string or a collection of strings, got 5"),
        ({"issuer": ["i", 5]}, "issuer to be a string or a collection of strings, got ['i', 5]"),
        ({"issuer": b"i"}, "issuer to be a string or a collection of strings, got b'i'"),
        ({"user": 5}, "user to be a sync function of a Principal, got 5"),
        ({"user": None}, "user to be a sync function of a Principal, got None"),
        ({"user": approve}, "user to be a sync function of a Principal, got <function approve"),
        ({"roles": 5}, "roles to be the name of a claim or None, got 5"),
        ({"roles": ""}, "roles to be the name of a claim or None, got ''"),
        ({"tenant": ["org"]}, "tenant to be the name of a claim or None, got ['org']"),
    ],
)
def test_nonsense_from_token(options, said):
    """At construction, and not as a denial of every request."""
    with pytest.raises(TypeError) as caught:
        from_token(**options)
    assert f"from_token needs {said}" in str(caught.value)


async def test_clock_that_fails_denies():
    """And raises nothing that is another's."""

    def fails():
        raise OSError("no clock")

    until = "2030-01-01T00:00:00Z"
    policy = Policy(roles={"r": Role([Grant("tools/call:x", until=until)])}, clock=fails)
    assert (await guarded(policy)(tool("x"), Server(x={"ran": 1})))["isError"]


async def test_all_missing_scopes_of_a_uri_are_named():
    """One with a query asks for two things, and a client that learns of the second later asks its user twice."""
    policy = Policy(
        roles={
            "r": Role(
                [Grant("resources/read:docs://a", scopes=["base"]), Grant("resources/read:docs://a?*", scopes=["q"])]
            )
        }
    )
    ctx, caller = Ctx("resources/read", {"uri": "docs://a?q"}), Subject("me", {"r"}, ())
    *_, data = await refused(guarded(policy, local=caller, on_deny="challenge"), ctx, Server())
    assert data == {"error": "insufficient_scope", "scope": "q base"}


async def test_scopes_are_not_named_where_they_would_not_help():
    """The one thing lacks a scope, the other a grant."""
    policy = Policy(roles={"r": Role([Grant("resources/read:docs://a?*", scopes=["q"])])})
    one = guarded(policy, local=Subject("me", {"r"}, ()), on_deny="challenge", on_event=(events := []).append)
    with pytest.raises(LookupError):
        await one(Ctx("resources/read", {"uri": "docs://a?q"}), Server())
    assert [(event.reason, event.permission) for event in events] == [("default", "resources/read:docs://a")]
    explaining = guarded(policy, local=Subject("me", {"r"}, ()), on_deny="explain")
    *_, data = await refused(explaining, Ctx("resources/read", {"uri": "docs://a?q"}), Server())
    assert (data["reason"], data.get("scopes")) == ("default", None)


async def test_approval_is_not_asked_for_in_vain():
    """What lacks a scope as well is not put before anybody."""
    policy = Policy(
        roles={
            "r": Role(
                [
                    Grant("resources/read:docs://a?*", obligations=["approve"]),
                    Grant("resources/read:docs://a", scopes=["base"]),
                ]
            )
        }
    )
    asked = []

    async def ask(ctx, decision):
        asked.append(decision)

    one = guarded(policy, local=Subject("me", {"r"}, ()), on_deny="explain", obligations={"approve": ask})
    *_, data = await refused(one, Ctx("resources/read", {"uri": "docs://a?q"}), Server())
    assert (data["reason"], data["scopes"]) == ("scope", ["base"])
    assert not asked


@pytest.mark.parametrize("method", ["x" * 10_000, b"x" * 10_000, {"x": "x" * 10_000}, None])
async def test_audited_method_is_bounded(method):
    """Like the permission: a log must not be filled by the megabyte."""
    events = []
    await refused(guarded(on_event=events.append), Ctx(method), Server())
    assert events[0].method == str(method)[:4096]
