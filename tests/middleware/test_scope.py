"""for_methods, for_tools, when and skip: who sees which call."""

from __future__ import annotations

import pytest
from mcp_middleware import Call, Chain, for_methods, for_tools, skip, when


async def mark(ctx, call_next):
    return ["seen", await call_next(ctx)]


async def end(ctx):
    return ctx


async def seen(scoped, ctx):
    result = await Chain(scoped)(ctx, end)
    assert result in (ctx, ["seen", ctx])
    return result is not ctx


def tool(name, method="tools/call"):
    return Call(method, {"name": name})


@pytest.mark.parametrize(
    ("patterns", "ctx", "expected"),
    [
        ("delete_*", tool("delete_file"), True),
        ("delete_*", tool("undelete_file"), False),
        ("delete_*", tool("Delete_file"), False),
        (["read", "del?te"], tool("delete"), True),
        (("a", "b"), tool("ab"), False),
        ("*", tool("x", "prompts/get"), False),
        ("*", Call("tools/call"), False),
        ("*", Call("tools/call", {"name": 7}), False),
        ("a|b", tool("a"), False),
        ("*", tool("two\nlines"), True),
    ],
)
async def test_for_tools(patterns, ctx, expected):
    """Globs over tool names, the whole name, as written."""
    assert await seen(for_tools(patterns, mark), ctx) is expected


@pytest.mark.parametrize(
    ("patterns", "method", "expected"),
    [
        ("tools/call", "tools/call", True),
        ("resources/*", "resources/read", True),
        ("tools/*", "prompts/get", False),
        (["a", "p*"], "ping", True),
    ],
)
async def test_for_methods(patterns, method, expected):
    """Globs over JSON-RPC methods."""
    assert await seen(for_methods(patterns, mark), Call(method)) is expected


async def test_a_context_without_a_method_is_not_matched():
    """FastMCP types it as optional."""
    assert not await seen(for_methods("*", mark), Call(None))


async def test_when_asks_the_predicate():
    """The general case."""
    scoped = when(lambda ctx: ctx.request_id == 1, mark)
    assert await seen(scoped, Call("x", request_id=1))
    assert not await seen(scoped, Call("x", request_id=2))


@pytest.mark.parametrize("internal", [True, False])
@pytest.mark.parametrize("streams", [True, False])
async def test_skip_spares_what_it_is_told_to(internal, streams):
    """Each switch alone."""
    if not (internal or streams):
        with pytest.raises(ValueError, match=r"^skip needs internal=True or streams=True: with neither"):
            skip(mark, internal=internal, streams=streams)
        return
    scoped = skip(mark, internal=internal, streams=streams)
    assert await seen(scoped, tool("x"))
    assert await seen(scoped, Call("tools/list", internal=True)) is not internal
    assert await seen(scoped, Call("subscriptions/listen")) is not streams


@pytest.mark.parametrize("nonsense", ["", [], ["a", ""], [3], ("a", None)])
@pytest.mark.parametrize("scope", [for_tools, for_methods])
def test_nonsense_patterns_are_refused(scope, nonsense):
    """An empty pattern would silently never match."""
    with pytest.raises(ValueError, match=f"{scope.__name__} needs one glob or several"):
        scope(nonsense, mark)


def test_a_predicate_must_be_callable():
    """A glob in the wrong place is the likely slip."""
    with pytest.raises(TypeError, match="when needs a predicate, a function of ctx, got 'delete_"):
        when("delete_*", mark)


def test_scopes_show_what_they_are():
    """For debugging."""
    assert repr(for_methods("tools/*", Chain())) == "for_methods('tools/*', Chain())"
    assert repr(skip(Chain())) == "skip(internal=True, streams=True, Chain())"
    assert repr(when(bool, Chain())) == "when(<class 'bool'>, Chain())"
