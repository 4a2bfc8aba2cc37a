"""What is worth another attempt."""

from __future__ import annotations

import asyncio
import sys

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from mcp_retry.failures import LIMIT, Failures, note

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup, ExceptionGroup

needs_notes = pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no notes on exceptions")


def caused(error: Exception, cause: BaseException | None) -> Exception:
    error.__cause__ = cause
    return error


def test_types_and_predicates():
    """One or several, mixed, subclasses included."""
    assert Failures(OSError)(ConnectionError())
    assert not Failures(OSError)(ValueError())
    mixed = Failures([ConnectionError, lambda error: "busy" in str(error)])
    assert [mixed(error) for error in (ConnectionResetError(), ValueError("busy"), ValueError("bad"))] == [1, 1, 0]


def test_causes_are_looked_through():
    """Libraries and SDKs wrap what happened."""
    wrapped = caused(RuntimeError(), caused(LookupError(), ConnectionError()))
    assert Failures(ConnectionError)(wrapped)
    assert Failures(lambda error: isinstance(error, ConnectionError))(wrapped)
    assert not Failures(ValueError)(wrapped)


def test_context_is_no_cause():
    """What happened to be handled at the time is not why it failed."""
    error = ValueError()
    error.__context__ = ConnectionError()
    assert not Failures(ConnectionError)(error)


def test_group_needs_all_its_members():
    """One that must not be repeated forbids it for all."""
    failures = Failures(ConnectionError)
    assert failures(ExceptionGroup("", [ConnectionError(), caused(RuntimeError(), ConnectionError())]))
    assert not failures(ExceptionGroup("", [ConnectionError(), ValueError()]))
    assert failures(ExceptionGroup("", [ExceptionGroup("", [ConnectionError()])]))
    assert Failures(ExceptionGroup)(ExceptionGroup("", [ValueError()]))


def test_the_same_member_twice():
    """Tasks that wait for one failed future all raise the same object."""
    shared = ConnectionError()
    assert Failures(ConnectionError)(ExceptionGroup("", [shared, shared]))


def test_cancellation_never_matches():
    """Not even inside of something else, whatever the predicate says."""
    failures = Failures(lambda error: not isinstance(error, ValueError))
    for error in (asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(), trio.Cancelled.__new__(trio.Cancelled)):
        assert not failures(error)
        assert not Failures(ConnectionError)(caused(RuntimeError(), error))
    assert not Failures(ConnectionError)(BaseExceptionGroup("", [ConnectionError(), KeyboardInterrupt()]))


def test_timeout_caused_by_cancellation_is_judged_by_itself():
    """asyncio.timeout raises TimeoutError from CancelledError."""
    assert Failures(TimeoutError)(caused(TimeoutError(), asyncio.CancelledError()))


def test_walk_is_bounded():
    """Rings, long chains and wide groups end; what is out of reach is not retried."""
    ring = caused(RuntimeError(), caused(LookupError(), None))
    ring.__cause__.__cause__ = ring
    assert not Failures(ConnectionError)(ring)
    chain = ConnectionError()
    for _ in range(LIMIT - 1):
        chain = caused(RuntimeError(), chain)
    assert Failures(ConnectionError)(chain)
    assert not Failures(ConnectionError)(caused(RuntimeError(), chain))
    assert not Failures(ConnectionError)(ExceptionGroup("", [ConnectionError() for _ in range(LIMIT)]))


def test_something_else_called_exceptions_is_no_group():
    """Foreign errors have attributes of their own."""
    for value in ((), ("text",), [ConnectionError()], None):
        error = RuntimeError()
        error.exceptions = value
        assert not Failures(ConnectionError)(error)


def test_faulty_predicate_means_no():
    """It is told on the error, in whose place nothing may come."""
    error = ValueError("busy")
    assert not Failures(lambda error: error.missing)(error)
    if sys.version_info >= (3, 11):
        text = "not retried: the predicate raised AttributeError: 'ValueError' object has no attribute 'missing'"
        assert error.__notes__ == [text]


@needs_notes
def test_note_where_none_is_taken():
    """A frozen error, and one whose notes are something else."""

    class Frozen(Exception):
        def __setattr__(self, name, value):
            raise AttributeError(name)

    note(Frozen(), "text")
    odd = ValueError()
    odd.__notes__ = "odd"
    note(odd, "text")
    assert odd.__notes__ == "odd"


async def later(error):
    return True


class Later:
    async def __call__(self, error):
        return True


@pytest.mark.parametrize(
    ("on", "fault", "message"),
    [
        ([], ValueError, r"at least one exception type or predicate, got \[\]"),
        ((), ValueError, "at least one"),
        (BaseException, ValueError, "got BaseException, which is never retried"),
        ([asyncio.CancelledError], ValueError, "got CancelledError"),
        (KeyboardInterrupt, ValueError, "got KeyboardInterrupt"),
        (str, TypeError, "the class str"),
        (ConnectionError(), TypeError, r"the instance ConnectionError\(\); use ConnectionError"),
        ("ConnectionError", TypeError, "got 'ConnectionError'"),
        (None, TypeError, "got None"),
        ([ConnectionError, 3], TypeError, "got 3"),
        (later, TypeError, "async function"),
        (Later(), TypeError, "async function"),
    ],
)
def test_nonsense_is_refused(on, fault, message):
    """At construction, with the value."""
    with pytest.raises(fault, match=message):
        Failures(on)


@st.composite
def trees(draw, depth=3):
    """Errors with causes and members."""
    error = draw(st.sampled_from([ConnectionError, ValueError]))()
    if depth and draw(st.booleans()):
        error = ExceptionGroup("", draw(st.lists(trees(depth=depth - 1), min_size=1, max_size=3)))
    if depth and draw(st.booleans()):
        error.__cause__ = draw(trees(depth=depth - 1))
    return error


def model(error) -> bool:
    """The three rules, without any bound."""
    if error is None:
        return False
    members = getattr(error, "exceptions", ())
    inside = bool(members) and all(map(model, members))
    return isinstance(error, ConnectionError) or inside or model(error.__cause__)


def size(error) -> int:
    return 0 if error is None else 1 + sum(map(size, getattr(error, "exceptions", ()))) + size(error.__cause__)


@given(trees())
def test_any_tree_is_judged_by_the_rules(error):
    """The picture in the module's docstring."""
    if size(error) <= LIMIT:
        assert Failures(ConnectionError)(error) == model(error)
