"""What a call's end says about the service: success, failure, or nothing at all.

Invariants, each tested in ``tests/circuit/test_judge.py``:

1. What is no ``Exception`` (cancellation, KeyboardInterrupt, a group that holds one) and a ``CircuitOpen`` from further
   inside (or a group of nothing else) are ignored, whatever the configuration says: they tell nothing of this service.
2. A predicate that raises has judged "failure", and what it raised is logged: the caller sees only the call's own end.
3. A group of exceptions is a failure if any leaf of it is, and ignored only if all are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from .checks import check_callable
from .states import State, Verdict

__all__ = ["CircuitOpen", "ErrorFilter", "Judge"]

_FAILED_PREDICATE = "a predicate of the circuit breaker failed; the call counts as a failure"

ErrorFilter: TypeAlias = type[BaseException] | tuple[type[BaseException], ...] | Callable[[Any], bool]
"""Exception classes, or a predicate of the exception."""


class CircuitOpen(Exception):  # noqa: N818  # the field's word
    """A call was refused, and nothing was called."""

    # The facts live in `args` alone, since a refusal has to be cheap: an `__init__` would double the cost of making it.
    __slots__ = ("source",)

    if TYPE_CHECKING:
        source: object  # the core that refused, so that a fallback answers for its own breaker only

        def __init__(self, name: str, state: State, retry_after: float | None) -> None: ...

    @property
    def name(self) -> str:
        """The name of the breaker."""
        return cast("str", self.args[0])

    @property
    def state(self) -> State:
        """The state that refuses."""
        return cast("State", self.args[1])

    @property
    def retry_after(self) -> float | None:
        """After how many seconds it is worth asking again; None where nobody knows, as while ISOLATED.

        While HALF_OPEN it is the longest that the running probes can take.
        """
        return cast("float | None", self.args[2])

    def __reduce__(self) -> tuple[type[CircuitOpen], tuple[Any, ...]]:
        return type(self), self.args  # without the source, which cannot be pickled

    def __str__(self) -> str:
        when = "" if self.retry_after is None else f", retry after {self.retry_after:.3g} s"
        return f"circuit {self.name!r} is {self.state.value}{when}"


class Judge:
    """The verdict on a result or an error, as configured."""

    def __init__(
        self, failures: ErrorFilter, ignored: ErrorFilter, failed_result: Callable[[Any], bool] | None
    ) -> None:
        self._is_failure = _predicate("failures", failures, any)
        self._is_ignored = _predicate("ignored", ignored, all)
        check_callable("CircuitBreaker", "failed_result", failed_result, optional=True)
        self.failed_result = failed_result

    def error(self, error: BaseException) -> Verdict:
        """Judge a call that raised."""
        if not isinstance(error, Exception):
            return "ignored"
        try:
            if all(isinstance(leaf, CircuitOpen) for leaf in _leaves(error)) or self._is_ignored(error):
                return "ignored"
            return "failure" if self._is_failure(error) else "ignored"
        except Exception:  # a user's code
            logging.getLogger(__name__).exception(_FAILED_PREDICATE)
            return "failure"

    def result(self, result: object) -> Verdict:
        """Judge a call that returned."""
        try:
            return "failure" if self.failed_result is not None and self.failed_result(result) else "success"
        except Exception:  # a user's code
            logging.getLogger(__name__).exception(_FAILED_PREDICATE)
            return "failure"


def _predicate(name: str, given: Any, quantifier: Callable[[Iterator[bool]], bool]) -> Callable[[Exception], bool]:
    types: Any = given
    if not isinstance(given, tuple):
        types = (given,)
    if all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in types):
        return lambda error: quantifier(isinstance(leaf, types) for leaf in _leaves(error))
    if callable(types[0]) and not isinstance(given, (tuple, type)):
        check_callable("CircuitBreaker", name, given)
        return cast("Callable[[Exception], bool]", given)
    raise TypeError(f"CircuitBreaker needs exception classes or a predicate as {name}, got {given!r}")


def _leaves(error: BaseException) -> Iterator[BaseException]:
    members: Any = getattr(error, "exceptions", None)  # of a group; Python 3.10 has no class for it
    if isinstance(members, tuple) and members:
        for member in cast("tuple[BaseException, ...]", members):
            yield from _leaves(member)
    else:
        yield error
