"""RateLimitMiddleware: what counts, for whom, what a refused caller learns, and what nobody gets for free."""

from __future__ import annotations

import contextlib
import math
import sys
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import anyio
import pytest
from mcp_ratelimit import (
    COUNTED_METHODS,
    SEP_3304,
    CallRefused,
    Decision,
    Limit,
    MemoryStore,
    RateLimiter,
    RateLimitMiddleware,
    Refused,
    _rules,
    caller_of,
    charge,
)
from mcp_ratelimit.continuations import OPEN, ROUNDS, Rides
from mcp_ratelimit.refusals import refusal_data

from tests.ratelimit.walks import Time


@pytest.fixture(autouse=True)
def _no_sdk(monkeypatch):
    """Refusals are checked as a program without an SDK sees them; the seam matrix has the SDKs."""
    monkeypatch.delitem(sys.modules, "mcp.shared.exceptions", raising=False)


@dataclass
class Call:
    method: str | None = "tools/call"
    params: Any = field(default_factory=lambda: {"name": "search"})
    request: Any = None


def http(client, token=None):
    return SimpleNamespace(scope={"client": client, "user": SimpleNamespace(access_token=token)}, headers={})


def token(client_id, subject=None, issuer="https://issuer"):
    return SimpleNamespace(client_id=client_id, claims={"iss": issuer, "sub": subject}, scopes=[])


async def answer(ctx):
    return {"resultType": "complete"}


async def passes(limits, *calls):
    """How many of *calls* pass."""
    passed = 0
    for call in calls:
        with contextlib.suppress(Refused):
            await limits(call, answer)
            passed += 1
    return passed


async def test_only_what_works_counts():
    """The handshake, lists, ping and notifications must not eat the budget of the tools, nor be refused by it."""
    limits = RateLimitMiddleware("2/h")
    free = ["initialize", "server/discover", "ping", "tools/list", "resources/list", "notifications/cancelled", None]
    assert await passes(limits, *(Call(method, None) for method in free * 5)) == 35
    assert await passes(limits, *(Call(method) for method in sorted(COUNTED_METHODS))) == 2
    assert await passes(limits, *(Call(method, None) for method in free)) == 7


async def test_the_handler_gets_the_call_itself():
    """Whether it counts or not, and whoever charges for it afterwards."""

    async def echo(ctx):
        return ctx

    for limits in (RateLimitMiddleware(), RateLimitMiddleware(post_charge=True)):
        for call in (Call(), Call("ping")):
            assert await limits(call, echo) is call


async def test_what_is_not_asked_for_is_not_done(clock, monkeypatch):
    """By default handlers charge nothing, nobody waits, and no header is prepared."""
    noted = []
    monkeypatch.setattr("mcp_ratelimit.middleware.note_decision", lambda *decision: noted.append(decision))
    limiter = RateLimiter("2/s burst 2", store=MemoryStore(clock=clock))
    limits = RateLimitMiddleware(limiter, key=lambda ctx: "ann")

    async def costly(ctx):
        charge(1)

    await limits(Call(), costly)
    assert await passes(limits, Call(), Call()) == 1
    assert (clock(), noted) == (0.0, [])
    assert [limit.name for limit in RateLimitMiddleware()._rules.usual.limiter.limits] == ["60/min burst 20"]


async def test_methods_can_be_chosen():
    """For whoever wants lists counted too."""
    limits = RateLimitMiddleware("1/h", methods={"tools/list"})
    assert await passes(limits, Call(), Call("tools/list"), Call("tools/list")) == 2


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("tool/call", "tools/call"),
        ("tools/cal", "tools/call"),
        ("Tools/Call", "tools/call"),
        ("call_tool", "tools/call"),
        ("resource/read", "resources/read"),
        ("prompts/list ", "prompts/list"),
        ("completions/complete", "completion/complete"),
    ],
)
async def test_a_slip_lifts_no_limit(slip, meant):
    """A method that never comes would be limited, and the one that was meant would not be."""
    with pytest.raises(ValueError, match="knows no method") as raised:
        RateLimitMiddleware("1/h", methods={"server/discover", slip})
    assert str(raised.value) == (
        f"RateLimitMiddleware knows no method {slip!r}; did you mean {meant!r}? "
        "A method of your own that is called like that needs both named"
    )
    limits = RateLimitMiddleware("1/h", methods=[slip, meant])
    assert await passes(limits, Call(meant), Call(slip)) == 1


async def test_methods_of_ones_own():
    """A server may have any; they count as those of the protocol do."""
    limits = RateLimitMiddleware("1/h", methods={"acme/run", "reports/get", "tools/cancel", "x"})
    assert await passes(limits, Call("acme/run"), Call("reports/get"), Call("tools/cancel"), Call("x")) == 1


async def test_a_header_of_the_caller_makes_nothing_free():
    """The seam knows an internal list by a header; here that is no reason to let it pass uncounted."""
    limits = RateLimitMiddleware("1/h", methods={"tools/list"})
    forged = Call("tools/list", {}, SimpleNamespace(headers={"mcp-method": "tools/call"}, scope={}))
    assert await passes(limits, *[forged] * 3) == 1


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (http(("10.0.0.1", 4711), token("app", "ann")), "principal 'app' 'https://issuer' 'ann'"),
        (http(("10.0.0.1", 4711)), "peer 10.0.0.1"),
        (http(("2001:db8:1:2:3:4:5:6", 4711)), "peer 2001:db8:1:2::/64"),
        (http(("::ffff:10.0.0.1", 4711)), "peer 10.0.0.1"),
        (http(("unix:/run/server", 0)), "peer unix:/run/server"),
        (http(("testclient", 50000)), "peer testclient"),
        (http(None), "anonymous"),
        (SimpleNamespace(), "anonymous"),
        (None, "anonymous"),
    ],
)
def test_callers(request_, expected):
    """The token, else the peer, else everybody; one IPv6 customer has 2**64 addresses and is still one."""
    assert caller_of(Call(request=request_)) == expected
    outer = SimpleNamespace(request_context=SimpleNamespace(request=request_))
    assert caller_of(SimpleNamespace(fastmcp_context=outer)) == expected
    assert caller_of(SimpleNamespace()) == caller_of(SimpleNamespace(fastmcp_context=Call())) == "anonymous"


def test_callers_cannot_be_confused():
    """Client, issuer and subject are told apart whatever they contain."""
    ann, other = (caller_of(Call(request=http(None, who))) for who in (token("a", "b' 'c"), token("a' 'b", "c")))
    assert ann != other


async def test_each_caller_has_his_own_allowance():
    """One shared bucket would let any client shut out all others."""
    limits = RateLimitMiddleware("2/h")
    ann, bob = (Call(request=http(("10.0.0.1", 1), token("app", name))) for name in ("ann", "bob"))
    forged = Call(params={"name": "search", "_meta": {"client_id": "x"}}, request=ann.request)
    assert await passes(limits, ann, ann, ann, forged) == 2
    assert await passes(limits, bob, bob, bob) == 2
    with pytest.raises(Refused) as caught:
        await limits(bob, answer)
    assert caught.value.data["remaining"] == 0


async def test_tools_have_limits_of_their_own():
    """By glob, for each caller and tool, on top of the caller's; a refusal charges none of them."""
    limits = RateLimitMiddleware("5/h", tools={"search*": "1/h", "*": "3/h"}, key=lambda ctx: "ann")
    search, slow, add = (Call(params={"name": name}) for name in ("search", "searching", "add"))
    assert await passes(limits, search, search, slow, slow) == 2
    assert await passes(limits, *[add] * 4) == 3
    assert await passes(limits, Call("prompts/get")) == 0
    assert await passes(RateLimitMiddleware("5/h", tools={"search": "1/h"}), *[add] * 6) == 5


@pytest.mark.parametrize("params", [None, {}, {"name": 7}, {"name": ["x"]}, SimpleNamespace(name="search"), [], "x"])
async def test_odd_params_are_counted_like_any(params):
    """What a peer sends never raises a foreign error, and is never free."""
    limits = RateLimitMiddleware("3/h", tools={"search": "1/h"}, overall="9/h")
    assert await passes(limits, *[Call(params=params)] * 4) in (1, 3)


@pytest.mark.parametrize(
    ("call", "passed"),
    [
        (Call(), 1),
        (Call(params=SimpleNamespace(name="search")), 1),
        (Call(params={"name": 7}), 3),
        (SimpleNamespace(method="tools/call"), 3),
        (Call("prompts/get"), 3),
    ],
)
async def test_only_a_tool_with_a_name_has_limits_of_its_own(call, passed):
    """A glob for all of them matches no prompt."""
    assert await passes(RateLimitMiddleware("3/h", tools={"*": "1/h"}), *[call] * 4) == passed


async def test_a_tool_may_have_several_limits():
    """As a caller may; and its glob any characters."""
    tools = {"søk*": "2/min; 3/h", "x" * 99: "1/h"}
    limits = RateLimitMiddleware("9/h", tools=tools, overall="99/h", key=lambda ctx: "ann")
    assert await passes(limits, *[Call(params={"name": "søk"})] * 4) == 2
    assert await passes(limits, *[Call()] * 9) == 7
    assert [limit.name for limit in limits._rules.of("ann", "søk")[0].limiter.limits] == [
        "9/h",
        r"2/min for s\xf8k*",
        r"3/h for s\xf8k*",
        "99/h",
    ]


async def test_a_limiter_of_several_limits_counts_under_the_caller():
    """Given as it is, it gets a key for all of them."""
    assert await passes(RateLimitMiddleware(RateLimiter("2/h", "9/h")), *[Call()] * 4) == 2


async def test_rules_for_invented_tools_are_bounded(monkeypatch):
    """Names come from callers; what is forgotten is found again, and charges what it charged before."""
    monkeypatch.setattr(_rules, "KNOWN", 10)
    limits = RateLimitMiddleware("9999/s", tools={"a*": "1/h"})
    assert await passes(limits, Call(params={"name": "a"})) == 1
    for number in range(25):
        assert await passes(limits, Call(params={"name": f"x{number}"})) == 1
        assert len(limits._rules._known) <= 10
    assert await passes(limits, Call(params={"name": "a"})) == 0


async def test_long_names_are_not_remembered():
    """A caller writes them, refused or not, and megabytes of them would be kept."""
    limits = RateLimitMiddleware("2/h", tools={"a*": "1/h"}, key=lambda ctx: "ann")
    calls = [Call(params={"name": f"{number}{'x' * 1000}"}) for number in range(50)]
    assert await passes(limits, *calls, *calls) == 2
    assert await passes(limits, *(Call(params={"name": "a" * 1000, "size": size}) for size in range(2))) == 0
    assert not limits._rules._known
    rules = limits._rules
    assert rules.of("ann", "a" * 254) is not rules.of("ann", "a" * 254)
    assert not rules._known
    assert rules.of("ann", "a" * 253) is rules.of("ann", "a" * 253)
    assert len(rules._known) == 1


async def test_all_together_share_the_overall_limit():
    """And learn nothing from it of what the others do."""
    limits = RateLimitMiddleware(
        "3/h", overall=Limit("4/h", name="server"), tools={"other": "1/h"}, key=lambda ctx: ctx.request
    )
    ann, bob = Call(request="ann"), Call(request="bob")
    assert await passes(limits, ann, ann, ann, ann, bob, bob) == 4
    with pytest.raises(Refused) as caught:
        await limits(bob, answer)
    assert caught.value.data == {
        "policy": "server",
        "retryAfter": 900,
        "retryAfterMs": pytest.approx(900_000, abs=2000),
    }
    assert caught.value.message == "Rate limit 'server' exceeded; try again in 900 s"


async def test_a_refusal_says_when_to_come_back():
    """Machine-readable, rounded up, and about nobody but the caller."""
    time = Time()
    limiter = RateLimiter(Limit("30/min burst 1", name="yours"), store=MemoryStore(clock=time))
    limits = RateLimitMiddleware(limiter, key=lambda ctx: "ann-the-secret-id")
    await limits(Call(), answer)
    time.now += 0.5
    with pytest.raises(Refused) as caught:
        await limits(Call(), answer)
    assert caught.value.data == {
        "policy": "yours",
        "retryAfter": 2,
        "retryAfterMs": 1501,
        "limit": 30,
        "remaining": 0,
        "resetAfter": 2,
    }
    assert "ann" not in str(caught.value) + str(caught.value.data)
    time.now += 1.501
    await limits(Call(), answer)


def test_a_time_to_come_back_is_never_now():
    """It is rounded up, in both units."""
    decision = Decision(False, Limit("9/s"), 0, 0.0004, 1.0, ("9/s",))
    assert refusal_data(decision, shared=True) == {"policy": "9/s", "retryAfter": 1, "retryAfterMs": 1}


async def test_anonymous_callers_learn_nothing_of_each_other():
    """They share a bucket, so its count is what the others did."""
    limits = RateLimitMiddleware("1/h")
    await limits(Call(), answer)
    with pytest.raises(Refused) as caught:
        await limits(Call(), answer)
    assert set(caught.value.data) == {"policy", "retryAfter", "retryAfterMs"}


async def test_cost_by_call():
    """A cost of 0 is free; one that can never pass is refused without a time to come back."""
    events = []
    limits = RateLimitMiddleware(
        "5/h", key=lambda ctx: "ann", cost=lambda ctx: ctx.params["size"], on_event=events.append
    )
    calls = [Call(params={"name": "x", "size": size}) for size in (3, 0, 3, 2, 0)]
    assert await passes(limits, *calls) == 4
    for size in (True, 1.0, -1):
        with pytest.raises((TypeError, ValueError), match=f"got {size!r}"):
            await limits(Call(params={"name": "x", "size": size}), answer)
    with pytest.raises(Refused, match="can never let a call of this cost pass") as caught:
        await limits(Call(params={"name": "x", "size": 6}), answer)
    assert "retryAfter" not in caught.value.data
    assert events[-1].decision == Decision(False, Limit("5/h"), 0, math.inf, 0.0, ("5/h",))


async def test_handlers_charge_what_only_they_know():
    """Also when they fail afterwards, in tasks of theirs, and never more than is left."""
    limits = RateLimitMiddleware("10/h", key=lambda ctx: "ann", post_charge=True)
    limiter = limits._rules.usual.quick

    async def costly(ctx):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(anyio.to_thread.run_sync, charge), 2)
            charge(2)
        raise KeyError

    with pytest.raises(KeyError):
        await limits(Call(), costly)
    assert limiter.peek("ann").remaining == 5
    charge(3)

    async def greedy(ctx):
        charge(99)

    await limits(Call(), greedy)
    assert limiter.peek("ann").remaining == 0
    with pytest.raises(ValueError, match="charge needs cost >= 0, got -1"):
        charge(-1)


async def test_what_was_used_is_charged_though_the_call_is_cancelled(clock):
    """Also where charging takes a round trip."""
    taken = []

    class Far(RateLimiter):
        async def take_up_to(self, key, most, *, past_line=False):
            await anyio.sleep(0.1)
            taken.append(most)

    async def costly(ctx):
        charge(2)
        await anyio.sleep_forever()

    with anyio.move_on_after(1):
        await RateLimitMiddleware(Far("9/h"), post_charge=True)(Call(), costly)
    assert taken == [2]


async def test_what_was_used_is_charged_past_the_line(clock):
    """Who waits has had nothing yet; who is charged afterwards has had it, so it is his debt whoever waits."""
    limiter = RateLimiter("1/s burst 10", store=MemoryStore(clock=clock))
    limits = RateLimitMiddleware(
        limiter, key=lambda ctx: "ann", cost=lambda ctx: ctx.params["size"], post_charge=True, max_wait=60.0
    )

    async def costly(ctx):
        await anyio.sleep(1)
        charge(2)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(limits, Call(params={"size": 7}), costly)
        await anyio.sleep(0.5)
        tasks.start_soon(limits, Call(params={"size": 9}), answer)
        await clock.advance(0.9)
        assert limiter.statistics().waiting == 1
        assert limiter.peek("ann").remaining == 2
        assert limiter.take_up_to("ann", 1) == 0
    assert clock() == pytest.approx(8.0, abs=0.01)


async def test_shadow_mode_holds_nothing_up(clock):
    """What would have waited is reported, and passes now."""
    events = []
    limiter = RateLimiter("2/s burst 1", store=MemoryStore(clock=clock))
    limits = RateLimitMiddleware(limiter, mode="shadow", max_wait=9.0, key=lambda ctx: "ann", on_event=events.append)
    assert await passes(limits, Call(), Call(), Call()) == 3
    assert clock() == 0.0
    assert [event.decision.retry_after for event in events] == [pytest.approx(0.5, abs=1e-3)] * 2


async def test_shadow_mode_only_reports():
    """To try limits out on real traffic."""
    events = []
    limits = RateLimitMiddleware("1/h", mode="shadow", key=lambda ctx: "ann", on_event=events.append)
    assert await passes(limits, Call(), Call(), Call("completion/complete", {"ref": {"name": "p"}})) == 3
    assert [(e.key, e.method, e.target, e.enforced) for e in events] == [
        ("ann", "tools/call", "search", False),
        ("ann", "completion/complete", "p", False),
    ]
    assert isinstance(events[0], CallRefused)
    assert events[0].decision.retry_after > 3599


async def test_max_wait_delays_instead_of_refusing(clock):
    """Up to a point."""
    limiter = RateLimiter("1/s burst 1", store=MemoryStore(clock=clock))
    limits = RateLimitMiddleware(limiter, key=lambda ctx: "ann", max_wait=1.5)
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(limits, Call(), answer)
        await anyio.sleep(0.1)
        assert await passes(limits, Call()) == 0
    assert clock() == pytest.approx(1.0, abs=1e-3)


async def test_refused_tools_can_answer_the_model():
    """A result marked isError reaches the model, which can wait; other methods have only errors."""
    limits = RateLimitMiddleware("1/h", key=lambda ctx: "ann", refuse_as="result")
    await limits(Call(), answer)
    result = await limits(Call(), answer)
    assert (result["isError"], result["resultType"]) == (True, "complete")
    assert result["content"] == [{"type": "text", "text": "Rate limit '1/h' exceeded; try again in 3600 s"}]
    assert result["_meta"]["mcp-ratelimit/refusal"]["retryAfter"] == 3600
    assert await passes(limits, Call("resources/read")) == 0


async def test_what_has_no_connection_gets_the_error():
    """A decorated function would return the result as its value, as if it had been called."""
    limits = RateLimitMiddleware("1/h", key=lambda ctx: "ann", refuse_as="result")
    call = SimpleNamespace(method="tools/call", params={"name": "search"}, request_id=None)
    await limits(call, answer)
    with pytest.raises(Refused, match="try again in 3600 s"):
        await limits(call, answer)
    call.request_id = 0
    assert (await limits(call, answer))["isError"] is True


async def test_refused_tools_answer_the_model_in_each_sdk(monkeypatch):
    """FastMCP wants its own exception, the 1.x SDK its own model."""
    limits = RateLimitMiddleware("1/h", key=lambda ctx: "ann", refuse_as="result")
    await limits(Call(), answer)
    types, errors, fastmcp = (
        ModuleType("mcp.types"),
        ModuleType("mcp.shared.exceptions"),
        ModuleType("fastmcp.exceptions"),
    )
    types.ServerResult = lambda root: ("ServerResult", root)
    types.CallToolResult = SimpleNamespace(model_validate=lambda wire: wire["isError"])
    errors.McpError = Refused
    fastmcp.ToolError = type("ToolError", (Exception,), {})
    for module in (types, errors, fastmcp):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    assert await limits(Call(), answer) == ("ServerResult", True)
    context = SimpleNamespace(method="tools/call", fastmcp_context=None, message=None)
    with pytest.raises(fastmcp.ToolError, match="try again in 3600 s"):
        await limits(context, answer)


async def test_the_2x_sdk_takes_the_form_of_the_wire(monkeypatch):
    """It has a module of types too, and wants none of its models."""
    monkeypatch.setitem(sys.modules, "mcp.types", ModuleType("mcp.types"))
    limits = RateLimitMiddleware("1/h", key=lambda ctx: "ann", refuse_as="result")
    await limits(Call(), answer)
    assert (await limits(Call(), answer))["isError"] is True


async def test_the_code_can_be_chosen():
    """Any legal one, and the one that the protocol may get."""
    for code in (-31000, 429, SEP_3304):
        limits = RateLimitMiddleware("1/h", code=code)
        await limits(Call(), answer)
        with pytest.raises(Refused) as caught:
            await limits(Call(), answer)
        assert caught.value.code == code
        assert caught.value.message == "Rate limit '1/h' exceeded; try again in 3600 s"
        assert caught.value.data["retryAfter"] == 3600


async def test_the_proposed_code_in_the_1x_sdk(monkeypatch):
    """Its error keeps the code one level further in."""
    sdk = ModuleType("mcp.shared.exceptions")
    sdk.ErrorData = SimpleNamespace
    sdk.McpError = type("McpError", (Exception,), {"__init__": lambda self, error: setattr(self, "error", error)})
    monkeypatch.setitem(sys.modules, sdk.__name__, sdk)
    limits = RateLimitMiddleware("1/h", code=SEP_3304)
    await limits(Call(), answer)
    with pytest.raises(sdk.McpError) as caught:
        await limits(Call(), answer)
    assert caught.value.error.code == SEP_3304


CONTINUATION = {"name": "search", "requestState": "s", "inputResponses": {}}


async def ask(ctx):
    return {"resultType": "input_required"}


async def test_the_answer_to_a_question_is_free():
    """One call to its user is one charge, through all of its questions."""
    limits = RateLimitMiddleware("1/h", key=lambda ctx: "ann")
    await limits(Call(), ask)
    assert await passes(limits, Call()) == 0
    await limits(Call(params=CONTINUATION), ask)
    await limits(Call(params=CONTINUATION), answer)
    assert await passes(limits, Call(params=CONTINUATION)) == 0
    assert await passes(limits, Call()) == 0


async def test_what_only_looks_like_an_answer_is_charged():
    """The caller writes those fields: unasked, of another, for another tool, or twice, they are worth nothing."""
    limits = RateLimitMiddleware("2/h", key=lambda ctx: ctx.request)
    forged = [Call(params=CONTINUATION, request="eve")] * 9
    assert await passes(limits, *forged) == 2
    await limits(Call(request="ann"), ask)
    assert await passes(limits, *forged) == 0
    assert await passes(limits, Call("prompts/get", {**CONTINUATION, "name": "search"}, "ann")) == 1
    assert await passes(limits, *[Call(params={**CONTINUATION, "name": "other"}, request="ann")] * 9) == 0
    assert await passes(limits, *[Call(params=CONTINUATION, request="ann")] * 9) == 1


async def test_free_rounds_end():
    """A tool that asks for ever, because it gets nonsense for an answer, is not free for ever."""
    limits = RateLimitMiddleware("1/h", key=lambda ctx: "ann")
    await limits(Call(), ask)
    for _ in range(ROUNDS):
        await limits(Call(params=CONTINUATION), ask)
    assert await passes(limits, Call(params=CONTINUATION)) == 0


async def test_a_model_that_asks_counts_as_a_question():
    """The other SDKs' results are models."""
    limits = RateLimitMiddleware("1/h", key=lambda ctx: "ann")

    async def ask_by_model(ctx):
        return SimpleNamespace(result_type="input_required")

    async def nothing(ctx):
        return None

    await limits(Call(), ask_by_model)
    assert await limits(Call(params=CONTINUATION), nothing) is None


def test_rides_are_bounded():
    """For each caller and target, and in all."""
    rides = Rides(most=2)
    for _ in range(OPEN + 5):
        rides.earn(("ann",))
    assert sum(bool(rides.take(("ann",))) for _ in range(OPEN + 5)) == OPEN
    for name in ("ann", "bob", "carol"):
        rides.earn((name,))
    assert [rides.take((name,)) for name in ("ann", "bob", "carol")] == [0, ROUNDS, ROUNDS]
    rides.earn(("dave",), 0)
    rides.earn(("eve", "u" * 998))
    assert not rides.open
    rides.earn(("eve", "u" * 997))
    assert rides.take(("eve", "u" * 997)) == ROUNDS


BESIDE = "^RateLimitMiddleware takes tools=, overall= and make= beside limits, not beside a limiter$"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"limits": 60}, TypeError, "limits such as '60/min', or a limiter, got 60"),
        ({"limits": RateLimiter}, TypeError, "or a limiter, got <class"),
        ({"limits": "60/fortnight"}, ValueError, "cannot read"),
        ({"limits": RateLimiter("1/s"), "tools": {"x": "1/s"}}, TypeError, BESIDE),
        ({"limits": RateLimiter("1/s"), "overall": "1/s"}, TypeError, BESIDE),
        ({"limits": RateLimiter("1/s"), "make": RateLimiter}, TypeError, BESIDE),
        ({"make": 3}, TypeError, "make to be a function, got 3"),
        ({"tools": ["x"]}, TypeError, r"tools to be limits by glob, .* got \['x'\]"),
        ({"tools": {3: "1/s"}}, TypeError, r"tools to be limits by glob, .* got \{3: '1/s'\}"),
        ({"tools": {"x": 3}}, TypeError, "a limit is a Limit or a string such as '100/min', got 3"),
        ({"post_charge": "yes"}, ValueError, r"post_charge to be one of \(False, True\), got 'yes'"),
        ({"http_fields": 3}, ValueError, r"http_fields to be one of \(False, True\), got 3"),
        ({"methods": "tools/call"}, TypeError, r"several, as in \('tools/call',\), got 'tools/call'"),
        ({"methods": b"tools/call"}, TypeError, "got b'tools/call'"),
        ({"methods": 3}, TypeError, "methods to be several.* got 3"),
        ({"methods": ["tools/call", 3]}, TypeError, r"methods to be names .* got \('tools/call', 3\)"),
        ({"methods": [["tools/call"]]}, TypeError, "methods to be names"),
        ({"methods": []}, ValueError, "^RateLimitMiddleware .* name at least one; without any it limits nothing$"),
        ({"key": "ann"}, TypeError, "key to be a function, got 'ann'"),
        ({"cost": 3}, TypeError, "cost to be a function, got 3"),
        ({"on_event": 3}, TypeError, "on_event to be a function"),
        ({"mode": "log"}, ValueError, "mode to be one of .* got 'log'"),
        ({"refuse_as": "raise"}, ValueError, "refuse_as to be one of .* got 'raise'"),
        ({"max_wait": -1}, ValueError, "timeout needs to be >= 0"),
        ({"max_wait": math.nan}, ValueError, "got nan"),
        ({"max_wait": -1, "mode": "shadow"}, ValueError, "timeout needs to be >= 0"),
        ({"code": -32000}, ValueError, "outside -32768..-32000"),
        ({"code": True}, ValueError, "got True"),
    ],
)
def test_nonsense(arguments, error, message):
    """Refused at construction."""
    with pytest.raises(error, match=message):
        RateLimitMiddleware(**arguments)
