"""Chain: order, re-entrance, nesting, transparency, and what it refuses to be built from."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Awaitable
from dataclasses import replace

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_middleware import NEIGHBOURS, RECOMMENDED_ORDER, Call, Chain, OrderWarning, for_tools, skip, when

CALL = Call("tools/call", {"name": "add", "arguments": {"a": 1}})


def tagging(tag, log):
    """A middleware that logs when a call passes it, on the way in and on the way out."""

    async def tagged(ctx, call_next):
        log.append(f">{tag}")
        result = await call_next(ctx)
        log.append(f"<{tag}")
        return result

    return tagged


async def echo(ctx):
    return ctx


async def test_first_middleware_is_outermost():
    """Invariant 1: the order of the arguments is the order of the layers."""
    log = []
    chain = Chain(tagging("a", log), tagging("b", log), tagging("c", log))
    assert await chain(CALL, echo) is CALL
    assert log == [">a", ">b", ">c", "<c", "<b", "<a"]


async def test_bound_chain_runs_the_same_layers():
    """Invariant 1 holds for the row that is composed for one handler."""
    log = []
    handler = Chain(tagging("a", log), tagging("b", log)).bind(echo)
    assert await handler(CALL) is CALL
    assert log == [">a", ">b", "<b", "<a"]


@pytest.mark.parametrize("bound", [False, True])
async def test_empty_chain_is_the_handler(bound):
    """Invariant 3, at its edge: nothing around the call."""
    chain = Chain()
    assert await (chain.bind(echo)(CALL) if bound else chain(CALL, echo)) is CALL


async def test_second_call_next_runs_every_inner_layer_again():
    """Invariant 2: a shared index, as the usual reference implementation has it, skips them."""
    log = []

    async def twice(ctx, call_next):
        await call_next(ctx)
        return await call_next(ctx)

    await Chain(twice, tagging("b", log), tagging("c", log))(CALL, echo)
    assert log == [">b", ">c", "<c", "<b"] * 2


async def test_concurrent_call_next_keeps_the_branches_apart():
    """Invariant 2: hedging needs it."""
    seen = []

    async def hedge(ctx, call_next):
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(call_next, replace(ctx, request_id=number))

    async def slow(ctx, call_next):
        await anyio.lowlevel.checkpoint()
        return await call_next(ctx)

    async def record(ctx):
        seen.append(ctx.request_id)

    await Chain(hedge, slow, slow)(CALL, record)
    assert sorted(seen) == [0, 1, 2]


async def test_call_next_kept_after_the_call_reaches_its_own_handler():
    """Invariant 2: a background refresh must not run another caller's handler."""
    kept = []

    async def keep(ctx, call_next):
        kept.append(call_next)
        return await call_next(ctx)

    async def other(ctx):
        return "other"

    async def through(ctx, call_next):
        return await call_next(ctx)

    chain = Chain(keep, through)
    await chain(CALL, echo)
    await chain(CALL, other)
    assert [await kept[0](CALL), await kept[1](CALL)] == [CALL, "other"]


async def test_replaced_context_reaches_the_layers_further_in():
    """A rewrite is a new context handed on."""

    async def rename(ctx, call_next):
        return await call_next(replace(ctx, method="renamed"))

    assert (await Chain(rename)(CALL, echo)).method == "renamed"


async def test_a_chain_in_a_chain_is_flattened():
    """Invariant 3, and it costs nothing."""
    a, b, c = (tagging(tag, []) for tag in "abc")
    assert Chain(a, Chain(b, Chain(c))).layers == (a, b, c)


async def test_exception_arrives_as_the_same_object():
    """Invariant 4, for what is raised."""
    error = ValueError("mine")

    async def fail(ctx):
        raise error

    with pytest.raises(ValueError, match="mine") as caught:
        await Chain(tagging("a", []), tagging("b", []))(CALL, fail)
    assert caught.value is error
    assert error.__cause__ is None
    assert error.__context__ is None


async def test_cancellation_passes_through():
    """Invariant 4, for cancellation: a layer cannot tell that a chain is there."""
    log = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        await Chain(tagging("a", log), tagging("b", log))(CALL, lambda ctx: anyio.sleep_forever())
    assert scope.cancelled_caught
    assert log == [">a", ">b"]


layer_lists = st.recursive(
    st.lists(st.integers(0, 9), max_size=4),
    lambda inner: st.lists(inner | st.integers(0, 9), max_size=4),
    max_leaves=12,
)


@given(layer_lists, st.integers(1, 3))
def test_nesting_and_repetition_match_a_plain_fold(tree, repeats):
    """Invariants 1 to 3 against a model: fold the leaves by hand around the handler, *repeats* times from outside."""

    def leaves(node):
        return [node] if isinstance(node, int) else [leaf for child in node for leaf in leaves(child)]

    async def main():
        log = []

        def build(node):
            return tagging(node, log) if isinstance(node, int) else Chain(*map(build, node))

        async def again(ctx, call_next):
            return [await call_next(ctx) for _ in range(repeats)]

        results = await Chain(again, build(tree))(CALL, echo)
        names = leaves(tree)
        assert log == ([f">{name}" for name in names] + [f"<{name}" for name in reversed(names)]) * repeats
        assert all(result is CALL for result in results)

    anyio.run(main)


class Fine:
    async def __call__(self, ctx, call_next):
        return await call_next(ctx)


async def two_words(ctx, following):
    return await following(ctx)


async def one(ctx):
    return ctx


async def three(ctx, call_next, extra):
    return ctx


async def anything(*args):
    return args


async def keyword_only(ctx, call_next, *, extra):
    return ctx


def sync(ctx, call_next):
    return call_next(ctx)


async def generator(ctx, call_next):
    yield ctx


@pytest.mark.parametrize(
    ("nonsense", "says"),
    [
        (Fine, r"Fine is a class; a chain takes an instance: Fine\(\.\.\.\)"),
        (sync, "sync is not async; did you forget 'async def'"),
        (generator, "generator is not async"),
        (one, r"one must take \(ctx, call_next\), but takes \(ctx\)"),
        (three, r"three must take \(ctx, call_next\)"),
        (anything, r"anything must take \(ctx, call_next\), but takes \(\*args\)"),
        (keyword_only, r"keyword_only must take \(ctx, call_next\)"),
        (two_words, "some SDKs pass the second parameter as call_next=..., so it cannot be called following"),
        (None, "None is not callable"),
        ("audit", "'audit' is not callable"),
        (object(), "is not callable"),
    ],
)
@pytest.mark.parametrize("place", [Chain, lambda mw: when(bool, mw), lambda mw: for_tools("*", mw), skip])
def test_what_cannot_be_a_middleware_is_refused_when_the_chain_is_built(place, nonsense, says):
    """Not at the first request, and with the fix in the message."""
    with pytest.raises(TypeError, match=says):
        place(nonsense)


async def extra_default(ctx, call_next, level="info"):
    return await call_next(ctx)


def plain(ctx, call_next) -> Awaitable[object]:
    return call_next(ctx)


@pytest.mark.parametrize(
    "good",
    [Fine(), Fine().__call__, Chain(Fine()), extra_default, functools.partial(extra_default, level="debug"), plain],
)
async def test_every_way_to_write_a_middleware_is_taken(good):
    """Objects, functions, partials, bound methods, chains, and what says that it returns an awaitable."""
    assert await Chain(good)(CALL, echo) is CALL
    assert await Chain(when(lambda ctx: True, good))(CALL, echo) is CALL


class Layer(Fine):
    def __init__(self, layer):
        self.layer = layer


@pytest.mark.parametrize("pair", NEIGHBOURS, ids=str)
def test_a_certainly_wrong_order_warns_with_its_reason(pair):
    """Each pair of the table, the wrong way round, also through when() and a nested chain."""
    inner, outer = Layer(pair.inner), Layer(pair.outer)
    with pytest.warns(OrderWarning, match=f"{pair.outer} belongs outside {pair.inner}: {pair.reason}; Chain"):
        Chain(Chain(Fine(), inner), Fine(), when(bool, outer))
    Chain(inner, outer, check_order=False)
    Chain(outer, inner)


@pytest.mark.uninstrumented
def test_the_warning_points_at_whoever_built_the_chain():
    """Not at a line of ours."""
    with pytest.warns(OrderWarning) as caught:
        Chain(Layer("cache"), Layer("rbac"))
    assert caught[0].filename == __file__


def test_the_recommended_order_never_warns():
    """The data agree with one another."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Chain(*map(Layer, RECOMMENDED_ORDER))
        Chain(Layer("retry"), Layer("circuit"), Layer("retry"))  # a second retry further in is the user's to have
        Chain(Layer(["not", "a", "name"]), Fine())
    positions = {name: place for place, name in enumerate(RECOMMENDED_ORDER)}
    assert all(positions[pair.outer] < positions[pair.inner] for pair in NEIGHBOURS)


def test_a_chain_shows_its_layers():
    """A repr is what one sees in a debugger."""
    assert repr(Chain(for_tools("a*", Chain()), skip(Chain()))) == (
        "Chain(for_tools('a*', Chain()), skip(internal=True, streams=True, Chain()))"
    )
