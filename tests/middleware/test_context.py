"""Call, State and RequestValue: what travels with one request."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import anyio
import pytest
from anyio import to_thread
from mcp_middleware import Call, Chain, RequestValue

tenant = RequestValue("tenant")


def binding(value):
    async def bind(ctx, call_next):
        with tenant.bind(value):
            return await call_next(ctx)

    return bind


async def read(ctx):
    return tenant.get()


async def test_a_bound_value_reaches_the_handler_and_nobody_after():
    """The reset happens in the frame that set it, so an in-memory client, in the same task, never sees it."""
    assert await Chain(binding("acme"))(Call("x"), read) == "acme"
    assert tenant.get(default=None) is None


async def test_a_bound_value_is_taken_back_when_the_call_fails_or_is_cancelled():
    """An exception takes the same way out."""

    async def fail(ctx):
        raise OSError

    with pytest.raises(OSError):
        await Chain(binding("acme"))(Call("x"), fail)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await Chain(binding("acme"))(Call("x"), lambda ctx: anyio.sleep_forever())
    assert tenant.get(default=None) is None


async def test_the_innermost_binding_wins_and_the_outer_returns():
    """Scopes nest."""

    async def inner_then_outer(ctx, call_next):
        return [await Chain(binding("inner"))(ctx, call_next), await call_next(ctx)]

    assert await Chain(binding("outer"), inner_then_outer)(Call("x"), read) == ["inner", "outer"]


async def test_a_value_survives_a_replaced_context_a_task_and_a_thread():
    """Attributes on an SDK's context would be lost at the first of the three."""
    found = []

    async def handler(ctx):
        async def in_task():
            found.append(tenant.get())

        async with anyio.create_task_group() as group:
            group.start_soon(in_task)
        found.append(await to_thread.run_sync(tenant.get))

    async def rewrite(ctx, call_next):
        return await call_next(replace(ctx, params={}))

    await Chain(binding("acme"), rewrite)(Call("x"), handler)
    assert found == ["acme", "acme"]


def test_an_unbound_value_says_what_is_missing():
    """The message names the value and the fix."""
    value = RequestValue("quota")
    with pytest.raises(LookupError, match=r"no middleware outside of here has bound 'quota'; use `with"):
        value.get()
    with value.bind(1):
        assert value.get() == 1
    assert (value.get(default=0), value.name, repr(value)) == (0, "quota", "RequestValue('quota')")


def test_state_is_shared_by_the_copies_of_a_call_and_by_no_other():
    """replace() is how a context is rewritten."""
    call, other = Call("x"), Call("x")
    replace(call, method="y").state[tenant] = "acme"
    assert call.state[tenant] == "acme"
    assert tenant in call.state
    assert tenant not in other.state
    assert (call.state.get(tenant, "none"), other.state.get(tenant, "none")) == ("acme", "none")
    with pytest.raises(KeyError):
        other.state[tenant]


def test_a_call_cannot_be_changed_in_place():
    """A change would be visible to the layers further out."""
    with pytest.raises(FrozenInstanceError):
        Call("x").method = "y"
