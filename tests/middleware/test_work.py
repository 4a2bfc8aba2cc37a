"""What a chain costs in bytecodes, and that it keeps apart what runs at once."""

from __future__ import annotations

import anyio
import pytest
from mcp_middleware import Call, Chain, RequestValue, outcome

from tests.support.measure import count_instructions, no_growth
from tests.support.schedule import run_shuffled
from tests.support.sweep import sweep

caller = RequestValue[int]("caller")
CALL = Call("tools/call", {"name": "add"})


async def through(ctx, call_next):
    return await call_next(ctx)


async def handler(ctx):
    return ctx


def bytecodes(layers, *, bound=False):
    chain = Chain(*[through] * layers)
    run = chain.bind(handler) if bound else lambda ctx: chain(ctx, handler)

    async def call():
        return await run(CALL)

    return count_instructions(call)


@pytest.mark.uninstrumented
@pytest.mark.parametrize("bound", [False, True])
def test_each_layer_costs_the_same_few_bytecodes(bound):
    """The gate: the most that any Python needs for a pass-through layer and the link to it (3.11)."""
    slope = bytecodes(2, bound=bound) - bytecodes(1, bound=bound)
    assert bytecodes(20, bound=bound) == bytecodes(1, bound=bound) + 19 * slope
    assert slope <= (16 if bound else 20)


@pytest.mark.uninstrumented
def test_classifying_a_result_is_cheap():
    """The gate of the one accessor that runs on every call of every package."""
    assert count_instructions(lambda: outcome({"content": [], "isError": False})) <= 66


async def test_calls_leave_nothing_behind():
    """A chain keeps no state between calls."""
    chain = Chain(through, through)
    await no_growth(lambda: chain(CALL, handler))


async def bind_caller(ctx, call_next):
    with caller.bind(ctx.request_id):
        return await call_next(ctx)


async def slow(ctx, call_next):
    await anyio.lowlevel.checkpoint()
    result = await call_next(ctx)
    await anyio.lowlevel.checkpoint()
    return result


async def who(ctx):
    await anyio.lowlevel.checkpoint()
    return caller.get()


def test_concurrent_calls_never_see_each_others_values():
    """Many callers through one chain, in twenty random orders."""
    chain = Chain(slow, bind_caller, slow)

    async def main():
        found = {}

        async def call(number):
            found[number] = await chain(Call("x", request_id=number), who)

        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(call, number)
        return found

    assert run_shuffled(main) == [{number: number for number in range(10)}] * 20


def test_a_call_cancelled_anywhere_takes_its_value_back():
    """The sweep: at each checkpoint of a call, on both backends, in every way."""
    chain = Chain(slow, bind_caller, slow)

    async def scenario(victim):
        async def call():
            try:
                await chain(Call("x", request_id=1), who)
            finally:
                left_behind.append(caller.get(default=None))

        left_behind = []
        await victim(call)
        return left_behind

    sweep(scenario, lambda left_behind: left_behind == [None])
