"""What the end of a call says about the service."""

from __future__ import annotations

import asyncio
import logging
import sys

import pytest
import trio
from mcp_circuit import CircuitBreaker, CircuitOpen, State

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup


def judge(**options):
    return CircuitBreaker(**options).core.judge


class TransientError(ConnectionError):
    pass


def group(*members):
    return ExceptionGroup("several", list(members))


def logged(record):
    """Return what a predicate has raised, by a record that says so."""
    assert (record.name, record.levelno) == ("mcp_circuit.judge", logging.ERROR)
    assert record.message == "a predicate of the circuit breaker failed; the call counts as a failure"
    return record.exc_info[0]


@pytest.mark.parametrize(
    "error",
    [
        asyncio.CancelledError(),
        KeyboardInterrupt(),
        SystemExit(),
        GeneratorExit(),
        CircuitOpen("inner", State.OPEN, 1.0),
        group(CircuitOpen("inner", State.OPEN, 1.0), group(CircuitOpen("other", State.OPEN, 1.0))),
    ],
    ids=repr,
)
@pytest.mark.parametrize("options", [{}, {"failures": BaseException}, {"failures": lambda error: True}])
def test_what_says_nothing_is_ignored(error, options):
    """Invariant 1: not even a predicate that takes everything can turn a cancellation into a failure."""
    assert judge(**options).error(error) == "ignored"


def test_group_with_a_cancellation_is_ignored():
    """A task group that was cancelled and failed at the same time tells nothing certain."""
    both = BaseExceptionGroup("both", [asyncio.CancelledError(), ConnectionError()])
    assert judge(failures=BaseException).error(both) == "ignored"


def test_cancellation_of_trio_is_ignored():
    """It is no Exception there either."""
    seen = []

    async def main():
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except BaseException as error:
                seen.append(judge().error(error))
                raise

    trio.run(main)
    assert seen == ["ignored"]


@pytest.mark.parametrize(
    ("options", "error", "verdict"),
    [
        ({}, ValueError(), "failure"),
        ({"failures": ConnectionError}, TransientError(), "failure"),
        ({"failures": ConnectionError}, ValueError(), "ignored"),
        ({"failures": (ConnectionError, ValueError)}, ValueError(), "failure"),
        ({"failures": ()}, ValueError(), "ignored"),
        ({"ignored": ValueError}, ValueError(), "ignored"),
        ({"ignored": (KeyError, ValueError)}, KeyError(), "ignored"),
        ({"ignored": ConnectionError, "failures": TransientError}, TransientError(), "ignored"),
        ({"failures": lambda error: error.args == (503,)}, ValueError(503), "failure"),
        ({"failures": lambda error: error.args == (503,)}, ValueError(404), "ignored"),
        ({"ignored": lambda error: error.args == (404,)}, ValueError(404), "ignored"),
        ({"failures": ConnectionError}, group(ValueError(), group(TransientError())), "failure"),
        ({"failures": ConnectionError}, group(ValueError()), "ignored"),
        ({"ignored": ValueError}, group(ValueError(), ConnectionError()), "failure"),
        ({"ignored": ValueError}, group(ValueError(), group(ValueError())), "ignored"),
        ({}, group(CircuitOpen("inner", State.OPEN, 1.0), ValueError()), "failure"),
    ],
)
def test_error(options, error, verdict):
    """Invariant 3 and the configuration: classes with their subclasses, predicates, leaves of groups."""
    assert judge(**options).error(error) == verdict


@pytest.mark.parametrize(("result", "verdict"), [({"isError": True}, "failure"), ({}, "success"), (None, "failure")])
def test_result(result, verdict, caplog):
    """A predicate that raises, here on None, has judged failure, and says so in the log (invariant 2)."""
    assert judge(failed_result=lambda value: value.get("isError")).result(result) == verdict
    assert [logged(record) for record in caplog.records] == ([AttributeError] if result is None else [])


@pytest.mark.parametrize("argument", ["failures", "ignored"])
def test_predicate_that_raises_is_a_failure(argument, caplog):
    """Invariant 2: anything else would let a probe keep its place, or the user's slip reach the caller."""
    assert judge(**{argument: lambda error: 1 / 0}).error(ValueError()) == "failure"
    assert [logged(record) for record in caplog.records] == [ZeroDivisionError]


@pytest.mark.parametrize("members", [(), ["a text"], None], ids=repr)
def test_error_that_only_looks_like_a_group_is_its_own_leaf(members):
    """Its attribute of that name may hold anything."""
    error = ValueError()
    error.exceptions = members
    assert judge().error(error) == "failure"


def test_without_a_predicate_every_result_is_a_success():
    """Whatever it looks like."""
    assert judge().result({"isError": True}) == "success"
    assert judge().result(ValueError()) == "success"


@pytest.mark.parametrize("argument", ["failures", "ignored"])
@pytest.mark.parametrize("value", [None, "ConnectionError", 5, int, (ValueError, int), [ValueError]], ids=repr)
def test_nonsense_is_refused(argument, value):
    """No class that could ever be raised, and no predicate."""
    with pytest.raises(TypeError, match=f"exception classes or a predicate as {argument}, got"):
        CircuitBreaker(**{argument: value})


async def predicate(value):
    return True


@pytest.mark.parametrize("argument", ["failures", "ignored", "failed_result", "on_event", "clock", "cooldown"])
def test_what_is_not_awaited_must_not_be_async(argument):
    """A coroutine is true whatever it would have said, and nobody would ever run it."""
    with pytest.raises(
        TypeError, match=f"CircuitBreaker does not await {argument}, which must not be async, got <func"
    ):
        CircuitBreaker(**{argument: predicate})


def test_failed_result_must_be_a_predicate():
    """A value to compare with is a likely slip."""
    with pytest.raises(TypeError, match="CircuitBreaker needs a callable as failed_result, got 'error'"):
        CircuitBreaker(failed_result="error")
