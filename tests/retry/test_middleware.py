"""The MCP face: what is sent again, and what never."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace

import anyio
import pytest
from mcp_retry import AttemptTimeout, Budget, Hedge, Retry, RetryMiddleware, Throttle, constant
from mcp_retry._seam import refuse
from mcp_retry.safety import LIMIT, READS, Safety

from tests.retry.slow import SlowServer
from tests.support.sweep import sweep

READ_ONLY = {"readOnlyHint": True}
OK = {"content": [], "resultType": "complete"}
FAILED = {"content": [], "isError": True}
EMPTY = {"content": [], "structuredContent": None}


def request(method="tools/call", name="tool", **more):
    return SimpleNamespace(method=method, params={"name": name, **more}, headers={})


def listing(*tools):
    return {"tools": [{"name": name, "annotations": annotations} for name, annotations in tools]}


def sdk_error(code=-31029, message="slow down", data=None):
    """As of mcp 2.x and 1.x: the details are an object in ``error``."""
    error = Exception(message)
    error.error = SimpleNamespace(code=code, message=message, data=data)
    return error


class ToolError(Exception):
    """As FastMCP's: it says nothing itself, and has what happened as its cause."""

    def __init__(self, cause):
        super().__init__("Error calling tool")
        self.__cause__ = cause


class Server:
    """Answers each request with the next of its answers, the last one for ever."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.seen = []

    async def __call__(self, ctx):
        self.seen.append(ctx)
        answer = self.answers[min(len(self.seen), len(self.answers)) - 1]
        if isinstance(answer, BaseException):
            raise answer
        return answer


def middleware(*, safe=("safe",), budget=False, on=ConnectionError, tool_errors=True, hedge=None, **options):
    retry = Retry(on=on, backoff=constant(0), budget=budget, **options)
    return RetryMiddleware(retry, safe=safe, tool_errors=tool_errors, hedge=hedge)


async def attempts(ctx, *answers, through=None):
    """How often the server was asked."""
    server = Server(*answers)
    try:
        await (through or middleware())(ctx, server)
    except BaseException as error:
        if error is not answers[-1]:
            raise
    return len(server.seen)


SAFE, UNSAFE = request(name="safe"), request(name="unsafe")


async def test_defaults():
    """Results marked isError count, and no tool is safe by itself."""
    through = RetryMiddleware(Retry(on=ConnectionError, backoff=constant(0)), safe=["safe"])
    assert await attempts(SAFE, FAILED, through=through) == 3
    assert await attempts(SAFE, ConnectionError(), through=RetryMiddleware(Retry(on=ConnectionError))) == 1


async def test_what_it_does_not_touch_is_passed_on():
    """The very context, and the very result."""
    server, ping = Server(OK), request("ping")
    assert await middleware()(ping, server) is OK
    assert server.seen[0] is ping


async def test_success_is_passed_on():
    """The very context in, the very result out."""
    server = Server(OK)
    assert await middleware()(UNSAFE, server) is OK
    assert server.seen == [UNSAFE]
    assert server.seen[0] is UNSAFE


async def test_each_request_is_counted_once():
    """It pays for the retries; and a success reads no clock."""
    through = middleware(budget=True, clock=lambda: pytest.fail("read"))
    for _ in range(3):
        assert await through(UNSAFE, Server(OK)) is OK
    assert through.retry.statistics().budget.calls == 3


async def test_safe_tool_is_tried_again():
    """Until it succeeds, or the failure itself comes out."""
    assert await attempts(SAFE, ConnectionError(), OK) == 2
    assert await attempts(SAFE, ConnectionError()) == 3
    assert await attempts(SAFE, ValueError()) == 1


async def test_unsafe_tool_is_not():
    """A payment may have gone through before the connection broke."""
    assert await attempts(UNSAFE, ConnectionError()) == 1
    assert await attempts(UNSAFE, FAILED) == 1


@pytest.mark.parametrize("method", sorted(READS))
async def test_methods_that_read_are_safe(method):
    """By what they are."""
    assert await attempts(request(method), ConnectionError(), OK) == 2


@pytest.mark.parametrize(
    "ctx",
    [
        request("initialize"),
        request("notifications/initialized"),
        request("subscriptions/listen"),
        request("logging/setLevel"),
        request("tasks/cancel"),
        SimpleNamespace(method=None, message=None),
        request(name="safe", inputResponses={}),
        request(name="safe", requestState="sealed"),
        SimpleNamespace(method="tools/list", params=None, headers={"mcp-method": "tools/call"}),
        SimpleNamespace(method="tools/list", params=None, headers={}, internal=True),
    ],
)
@pytest.mark.parametrize("failure", [ConnectionError(), sdk_error(data={"retry_after": 0})])
async def test_never(ctx, failure):
    """No stream, notification, continuation or question of the SDK's own, not even when told to come back."""
    assert await attempts(ctx, failure) == 1


@pytest.mark.parametrize("annotations", [{"idempotentHint": True}, READ_ONLY, {"idempotentHint": True, "title": "x"}])
async def test_hints_are_learned(annotations):
    """From a tools/list that passes by."""
    through = middleware(safe=())
    assert await attempts(request(name="a"), ConnectionError(), through=through) == 1
    assert await through(request("tools/list"), Server(listing(("a", annotations), ("b", {})))) is not None
    assert await attempts(request(name="a"), ConnectionError(), through=through) == 3
    assert await attempts(request(name="b"), ConnectionError(), through=through) == 1


@pytest.mark.parametrize(
    "form",
    [
        listing(("a", READ_ONLY)),
        [SimpleNamespace(name="a", annotations=SimpleNamespace(readOnlyHint=True))],
        SimpleNamespace(tools=[SimpleNamespace(name="a", annotations=SimpleNamespace(read_only_hint=True))]),
        SimpleNamespace(root=SimpleNamespace(tools=[SimpleNamespace(name="a", annotations={"idempotent_hint": True})])),
    ],
)
def test_hints_in_every_form(form):
    """Wire, FastMCP's list, the SDK's models, the 1.x wrapper."""
    safety = Safety(())
    safety.learn(form)
    assert safety.may_repeat("tools/call", "a")


@pytest.mark.parametrize(
    "form",
    [
        None,
        {},
        [],
        {"tools": None},
        {"tools": "a"},
        {"tools": [None, 3, {"name": 3, "annotations": READ_ONLY}, {"annotations": READ_ONLY}]},
        {"tools": [{"name": "a"}, {"name": "a", "annotations": None}]},
        {"tools": [{"name": "a", "annotations": {"readOnlyHint": "yes", "idempotentHint": 1}}]},
        listing(("a", {"readOnlyHint": False, "idempotentHint": False, "destructiveHint": True})),
    ],
)
def test_nothing_is_learned_from_nonsense(form):
    """Only a plain True counts, and nothing is raised."""
    safety = Safety(())
    safety.learn(form)
    assert not safety.may_repeat("tools/call", "a")


def test_old_spelling_is_not_read_where_the_new_one_is():
    """FastMCP 4 warns of it on the models of the 2.x SDK."""

    class Annotations:
        read_only_hint = idempotent_hint = False

        @property
        def readOnlyHint(self):  # noqa: N802  # its name
            pytest.fail("read")

        idempotentHint = readOnlyHint  # noqa: N815  # its name

    safety = Safety(())
    safety.learn([SimpleNamespace(name="a", annotations=Annotations())])
    assert not safety.may_repeat("tools/call", "a")


def test_hostile_listing_is_survived():
    """A property of a foreign object may raise."""

    class Hostile:
        @property
        def name(self):
            raise RuntimeError

    safety = Safety(())
    safety.learn([Hostile()])
    assert not safety.may_repeat("tools/call", "a")


def test_newer_listing_counts():
    """A tool that has become dangerous must not be repeated because it was not, once."""
    safety = Safety(["named"])
    safety.learn(listing(("a", READ_ONLY)))
    safety.learn(listing(("a", {}), ("named", {})))
    assert not safety.may_repeat("tools/call", "a")
    assert safety.may_repeat("tools/call", "named")  # what the user has said stays


def test_memory_for_hints_is_bounded():
    """A peer that lists for ever must not fill the memory."""
    safety = Safety(())
    safety.learn(listing(*((str(number), READ_ONLY) for number in range(LIMIT + 5))))
    assert safety.may_repeat("tools/call", str(LIMIT - 1))
    assert not safety.may_repeat("tools/call", str(LIMIT))


REFUSALS = [
    refuse(-31029, "slow down", {"retry_after": 0}),
    refuse(-31029, "slow down", {"retryAfter": 0, "retryAfterMs": 0}),
    sdk_error(data={"retry_after": 0}),
    ToolError(sdk_error(data={"retry_after": 0})),
    SimpleNamespace(code=-31029, message="slow down", data={"retry_after": 0}),
]


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_refusal_with_retry_after_is_for_every_tool(refusal):
    """It was not carried out, whatever the tool does."""
    assert await attempts(UNSAFE, refusal, OK) == 2
    assert await attempts(UNSAFE, refusal) == 3


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_refusal_says_how_long_to_wait(refusal, clock):
    """Raised or returned, in every form."""
    through = middleware(sleep=anyio.sleep, retry_after=lambda failure: 7 if failure is refusal else None)
    assert await attempts(UNSAFE, refusal, OK, through=through) == 2
    assert clock() == 7


@pytest.mark.parametrize(
    "failure",
    [
        refuse(-31029, "slow down"),
        refuse(-31029, "slow down", {"other": 1}),
        refuse(-31003, "denied", ["retry_after"]),
        sdk_error(),
        ToolError(ConnectionError()),
        SimpleNamespace(code=-32603, message="broken", data=None),
        SimpleNamespace(isError=True, data={"retry_after": 0}),
        SimpleNamespace(content=[], data={"retry_after": 0}),
    ],
)
async def test_refusal_without_it_is_not(failure):
    """Nobody has said that it was not carried out."""
    assert await attempts(UNSAFE, failure) == 1


async def test_retry_after_of_a_tools_own_error_proves_nothing():
    """The third request that a tool makes may be the one that is refused: the first two are done."""
    downstream = Exception()
    downstream.retry_after = 0
    assert await attempts(UNSAFE, downstream) == 1
    assert await attempts(UNSAFE, ToolError(downstream)) == 1


async def test_failed_result_is_returned_in_the_end():
    """The result itself, after the first attempt as after the last."""
    for limit in (1, 3):
        server = Server(FAILED)
        assert await middleware(attempts=limit)(SAFE, server) is FAILED
        assert len(server.seen) == limit


@pytest.mark.parametrize("ctx", [SAFE, UNSAFE])
async def test_open_circuit_stops_it(ctx):
    """Behind a breaker that has opened, further attempts are refused as well."""
    refusal = refuse(-31103, "circuit open", {"retry_after": 1})
    assert await attempts(ctx, refusal, through=middleware(on=Exception)) == 1


async def test_cause_of_fastmcps_error_is_judged():
    """ToolError says nothing; what it was raised from does."""
    assert await attempts(SAFE, ToolError(ConnectionError()), OK) == 2
    assert await attempts(SAFE, ToolError(ValueError())) == 1


@pytest.mark.parametrize("result", [FAILED, SimpleNamespace(isError=True), SimpleNamespace(is_error=True, content=[])])
async def test_is_error_results_of_safe_tools(result):
    """In every form; the last one is returned, since the model is to see it."""
    assert await attempts(SAFE, result, OK) == 2
    server = Server(result)
    assert await middleware()(SAFE, server) is result
    assert len(server.seen) == 3
    assert await attempts(SAFE, result, through=middleware(tool_errors=False)) == 1


async def test_predicate_on_results_is_asked_too():
    """What the user calls a failure is one, of a safe request."""
    empty, stale = {"content": []}, SimpleNamespace(content=[])
    through = middleware(on_result=lambda result: result in (empty, stale))
    for result in (empty, stale):
        assert await attempts(SAFE, result, OK, through=through) == 2
        assert await attempts(UNSAFE, result, through=through) == 1
    question = {"resultType": "input_required", "content": []}
    assert await attempts(SAFE, question, through=middleware(on_result=lambda result: True)) == 1


async def test_question_is_no_failure():
    """input_required is an answer: asking again would ask a human twice."""
    assert await attempts(SAFE, {"resultType": "input_required", "inputRequests": {}}) == 1


async def test_cancellation_passes(clock):
    """Neither success nor failure."""
    server = Server(OK)

    async def slow(ctx):
        await anyio.sleep(5)
        return await server(ctx)

    with anyio.move_on_after(2):
        await middleware(on=lambda error: True)(SAFE, slow)
    assert (clock(), server.seen) == (2, [])


async def test_called_by_keyword():
    """FastMCP 2.14 does."""
    assert await middleware()(SAFE, call_next=Server(OK)) is OK


async def test_what_the_throttle_holds_back_is_refused():
    """With a code and facts that a client can read."""
    through = middleware(throttle=Throttle(random=lambda: -1.0, clock=lambda: 0.0))
    server = Server(OK)
    with pytest.raises(Exception, match=r"^not sent: the server accepts too little$") as caught:
        await through(UNSAFE, server)
    assert (caught.value.code, caught.value.data) == (-31103, {"probability": 0.5})
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert server.seen == []


async def test_failure_of_an_unsafe_tool_is_no_answer():
    """That it must not be repeated does not make it a success for the throttle."""
    throttle = Throttle(clock=lambda: 0.0, random=lambda: 1.0)
    through = middleware(throttle=throttle)
    assert await attempts(UNSAFE, ConnectionError(), through=through) == 1
    assert throttle.probability == 0.5
    assert await attempts(UNSAFE, ValueError(), through=through) == 1
    assert throttle.probability == 0


async def test_attempt_that_takes_too_long_is_refused(clock):
    """Once for an unsafe tool, since it may still be at it; several times for a safe one."""
    through = middleware(attempt_timeout=2)
    for ctx, until in ((UNSAFE, 2), (SAFE, 8)):
        with pytest.raises(Exception, match=r"^no answer in time$") as caught:
            await through(ctx, lambda ctx: anyio.sleep_forever())
        assert (caught.value.code, caught.value.data, clock()) == (-31104, {"seconds": 2.0}, until)
        assert not isinstance(caught.value, AttemptTimeout)


async def test_streams_have_no_deadline(clock):
    """They last as long as the client listens."""
    await middleware(attempt_timeout=2)(request("subscriptions/listen"), lambda ctx: anyio.sleep(50))
    assert clock() == 50


async def test_hedging_is_for_safe_requests(clock):
    """Sharing the retry's budget, which counts each call once."""
    budget = Budget()
    through = middleware(budget=budget, hedge=Hedge(after=1, budget=budget))

    async def slow_at_first(ctx):
        assert ctx is expected
        seen.append(clock())
        await anyio.sleep(60 if len(seen) == 1 else 1)
        return OK

    continuation = request(name="safe", requestState="x")
    for ctx, calls, seconds in ((SAFE, 2, 2), (UNSAFE, 1, 60), (continuation, 1, 60), (request("ping"), 1, 60)):
        seen, began, expected = [], clock(), ctx
        assert await through(ctx, slow_at_first) is OK
        assert (len(seen), clock() - began) == (calls, seconds)
    assert (budget.statistics().calls, budget.statistics().spent) == (3, 1)


async def test_question_wins_a_race(clock):
    """input_required is an answer, whatever the predicate says: another would ask a human twice."""
    question = {"resultType": "input_required", "inputRequests": {}}
    through, delays = middleware(hedge=Hedge(after=1), on_result=lambda result: True), iter([2, 60])

    async def server(ctx):
        await anyio.sleep(next(delays))
        return question

    assert await through(SAFE, server) is question
    assert clock() == 2


@pytest.mark.parametrize("on_result", [None, lambda result: result is EMPTY])
async def test_hedge_that_answers_badly_does_not_win(clock, on_result):
    """The quick answer of a broken server must not cancel the slow one of a good server."""
    bad = FAILED if on_result is None else EMPTY
    through, started = middleware(hedge=Hedge(after=1), on_result=on_result), []

    async def slow_at_first(ctx):
        started.append(ctx)
        is_first = len(started) == 1
        await anyio.sleep(5 if is_first else 1)
        return OK if is_first else bad

    assert await through(SAFE, slow_at_first) is OK
    assert clock() == 5


@pytest.mark.parametrize("options", [{}, {"attempt_timeout": 5}])
def test_cancelled_anywhere_nothing_goes_on(options):
    """At every checkpoint of a request that is hedged and sent again: nothing is in flight then, and nothing begins."""

    async def scenario(victim):
        through = middleware(clock=anyio.current_time, hedge=Hedge(after=0.5), **options)
        server = SlowServer(3, OK)
        await victim(attempts_until, through, server)
        before = server.began
        await anyio.sleep(10)
        assert (server.began, server.running) == (before, 0)
        assert await through(SAFE, server) is OK

    assert all(count > 3 for count in sweep(scenario).values())


async def attempts_until(through, server):
    with suppress(ConnectionError):
        await through(SAFE, server)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RetryMiddleware(None), "retry must be a Retry, got None"),
        (lambda: RetryMiddleware(Retry), "retry must be a Retry, got <class"),
        (lambda: middleware(safe="search"), r"got the string 'search'; did you mean \['search'\]\?"),
        (lambda: middleware(safe=[3]), r"names of tools, got \[3\]"),
        (lambda: middleware(safe=None), "safe needs a collection of names of tools, got None"),
        (lambda: middleware(safe=3), "safe needs a collection of names of tools, got 3"),
        (lambda: middleware(safe=[""]), r"names of tools, got \[''\]"),
        (lambda: middleware(hedge=3), "hedge must be a Hedge, got 3"),
    ],
)
def test_nonsense_is_refused(make, message):
    """At construction, with the value."""
    with pytest.raises(TypeError, match=message):
        make()


def test_place_in_the_order():
    """A chain warns when it stands in the wrong place."""
    assert RetryMiddleware.layer == "retry"
