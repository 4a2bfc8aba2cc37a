"""around(): any function behind a chain, its looks kept."""

from __future__ import annotations

import functools
import inspect
import threading
import typing
from dataclasses import replace
from types import GenericAlias
from typing import TYPE_CHECKING, Annotated

import pytest
from mcp_middleware import Call, Chain, arguments, target, with_arguments

if TYPE_CHECKING:
    from decimal import Decimal

seen: list[Call] = []


async def spy(ctx, call_next):
    seen.append(ctx)
    return await call_next(ctx)


async def double(ctx, call_next):
    return await call_next(with_arguments(ctx, {name: value * 2 for name, value in arguments(ctx).items()}))


chain = Chain(spy)
doubled = Chain(double)


@pytest.fixture(autouse=True)
def fresh_log():
    seen.clear()


async def plain(a: int, b: Annotated[int, "second"] = 2) -> int:
    """Add two numbers."""
    return a + b


@pytest.fixture
def add():
    return chain.around(plain)


@pytest.fixture
def calculator():
    class Calculator:
        factor = 10

        @chain.around
        async def scale(self, a: int) -> int:
            """Scale."""
            return a * self.factor

        @chain.around
        @classmethod
        async def of_class(cls, a: int) -> int:
            return a * cls.factor

        @chain.around
        @staticmethod
        def static(a: int) -> int:
            return a

        @doubled.around
        async def rewritten(self, a: int) -> int:
            return a * self.factor

        @doubled.around
        @classmethod
        async def rewritten_of_class(cls, a: int) -> int:
            return a * cls.factor

    return Calculator


async def test_the_call_is_seen_as_a_tool_call(add):
    """The same middleware as in front of a server sees method, name and arguments."""
    assert await add(1, b=3) == 4
    assert (seen[0].method, target(seen[0]), arguments(seen[0])) == ("tools/call", "plain", {"a": 1, "b": 3})


async def test_method_and_name_can_be_chosen(add):
    """For a function that is no tool."""
    fetch = chain.around(add, method="http/get", name="fetch")
    await fetch(1)
    assert (seen[0].method, target(seen[0])) == ("http/get", "fetch")

    class Site:
        fetch = chain.around(staticmethod(plain), method="http/get", name="fetch_of_site")

    await Site.fetch(1)
    assert (seen[-1].method, target(seen[-1])) == ("http/get", "fetch_of_site")


def test_the_looks_are_kept(add, calculator):
    """What the SDKs read: resolved annotations, no way through to the original."""
    assert inspect.signature(add) == inspect.Signature(
        [
            inspect.Parameter("a", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=int),
            inspect.Parameter(
                "b", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=2, annotation=Annotated[int, "second"]
            ),
        ],
        return_annotation=int,
    )
    assert typing.get_type_hints(add, include_extras=True) == {"a": int, "b": Annotated[int, "second"], "return": int}
    assert (add.__name__, add.__doc__, add.__module__) == ("plain", "Add two numbers.", __name__)
    assert not hasattr(add, "__wrapped__")
    assert inspect.iscoroutinefunction(add)
    assert list(inspect.signature(calculator().scale).parameters) == ["a"]


def test_annotations_for_type_checkers_only_stay_as_they_are():
    """There is nothing to resolve them with; the undecorated function has the same limit."""

    @chain.around
    async def price(amount: Decimal) -> Decimal:
        return amount

    assert inspect.signature(price).parameters["amount"].annotation == "Decimal"
    assert price.__annotations__ == {"amount": "Decimal", "return": "Decimal"}


def test_what_has_no_annotation_gets_none():
    """To an SDK, ``None`` is a type, and none at all is any."""
    assert inspect.signature(chain.around(sum_all)) == inspect.signature(sum_all)


async def test_methods_hide_their_receiver(calculator):
    """The receiver is no argument of the tool."""
    assert await calculator().scale(2) == 20
    assert await calculator.of_class(3) == 30
    assert await calculator.static(4) == 4
    assert [arguments(ctx) for ctx in seen] == [{"a": 2}, {"a": 3}, {"a": 4}]


async def test_rewritten_arguments_reach_the_function(calculator):
    """A middleware may change them, also where one was given by position, and for a method."""

    @doubled.around
    async def show(a, *, b=1, **rest):
        return a, b, rest

    assert await show(1, c=3) == (2, 1, {"c": 6})
    assert await calculator().rewritten(2) == 40
    assert await calculator.rewritten_of_class(2) == 40


async def test_a_rewritten_argument_without_a_name_is_refused():
    """There is no telling where it belongs."""

    @doubled.around
    async def total(*numbers):
        return sum(numbers)

    assert await chain.around(sum_all)(1, 2) == 3
    with pytest.raises(TypeError, match=r"rewritten the arguments of total\(\), which takes some without a name"):
        await total(1, 2)


async def sum_all(*numbers):
    return sum(numbers)


def sdk_class(name, module):
    return type(name, (), {"__module__": module, "__class_getitem__": classmethod(GenericAlias)})


Context = sdk_class("Context", "mcp.server.mcpserver")
FastContext = sdk_class("Context", "fastmcp.server.context")
OwnContext = sdk_class("Context", "my_app")
Session = sdk_class("Session", "mcp.server.session")


@pytest.mark.parametrize(
    ("hint", "injected"),
    [
        (Context, True),
        (FastContext, True),
        (Context[int], True),
        (Annotated[Context, "injected"], True),
        (Context | None, True),
        (typing.Union[None, Context[int]], True),  # noqa: UP007  # what get_type_hints makes of Optional
        (OwnContext | None, False),
        (OwnContext, False),
        (Session, False),
        (None, False),
    ],
)
async def test_an_injected_context_is_no_argument_and_survives_a_rewrite(hint, injected):
    """A cache must not key by it, a log must not print it; what has its name or its module alone is an argument."""

    async def tool(a, ctx):
        return a, ctx

    tool.__annotations__["ctx"] = hint
    assert await Chain(spy, double).around(tool)(a=2, ctx=3) == (4, 3 if injected else 6)
    assert arguments(seen[0]) == ({"a": 2} if injected else {"a": 2, "ctx": 3})


async def test_a_function_without_parameters():
    """There is no first one that could be a receiver."""

    async def one():
        return 1

    assert await doubled.around(one)() == 1


class Nothing:
    async def __call__(self):
        pass


async def nothing():
    pass


@pytest.mark.parametrize("fn", [nothing, Nothing()])
def test_an_async_function_is_called_where_it_is_awaited(fn):
    """It needs no worker thread, and nobody else runs before it: this test has no event loop at all."""
    with pytest.raises(StopIteration):
        chain.around(fn)().send(None)


async def test_sync_functions_leave_the_event_loop():
    """A blocking body must not stop everybody else."""

    @chain.around
    def where(a: int) -> tuple[int, int]:
        return threading.get_ident(), a

    assert inspect.iscoroutinefunction(where)
    for thread, a in (await where(a=1), await where(1)):
        assert (thread != threading.get_ident(), a) == (True, 1)


async def test_callables_of_every_kind(add):
    """Partials, objects with an async or sync __call__, lambdas that return a coroutine."""

    class Adder:
        async def __call__(self, a: int) -> int:
            return a + 1

    assert await chain.around(functools.partial(add, 1))(b=1) == 2
    assert await chain.around(Adder())(1) == 2
    assert await chain.around(lambda a: sum_all(a, 1))(1) == 2
    assert [target(ctx) for ctx in seen if target(ctx) != "plain"] == ["Adder", "<lambda>"]


async def test_wrong_arguments_fail_as_they_do_without_the_chain(add):
    """The function's own TypeError, not one of ours."""
    with pytest.raises(TypeError, match="unexpected keyword argument 'c'"):
        await add(1, c=2)
    with pytest.raises(TypeError, match="takes from 1 to 2 positional arguments but 3 were given"):
        await add(1, 2, 3)


async def generate():
    yield 1


def generate_sync():
    yield 1


@pytest.mark.parametrize(
    ("nonsense", "says"),
    [
        (int, "around needs a function, got <class"),
        (None, "around needs a function, got None"),
        (generate, r"generate\(\) is a generator: its items come after the call"),
        (generate_sync, r"generate_sync\(\) is a generator"),
    ],
)
def test_what_cannot_be_awaited_as_a_whole_is_refused(nonsense, says):
    """At decoration, with the fix."""
    with pytest.raises(TypeError, match=says):
        chain.around(nonsense)


async def hide(ctx, call_next):
    return await call_next(replace(ctx, params={**ctx.params, "name": "nothing"}))


async def test_under_another_name_it_is_not_there():
    """What hides a function asks for a name that does not exist; it must not run all the same."""
    ran = []

    @Chain(hide).around
    async def secret() -> None:
        ran.append(1)

    with pytest.raises(LookupError, match="there is no nothing"):
        await secret()
    assert ran == []
