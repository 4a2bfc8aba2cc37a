"""Keep this package out of tracebacks, down to one frame: who reads one looks for his own code.

A function marked ``hidden`` vanishes from the traceback of what is raised inside ``with unseen:`` further up::

    your caller ─▶ attempts (with unseen:) ─▶ go_on (hidden) ─▶ your function        what happened
    your caller ─▶ attempts ─────────────────────────────────▶ your function        what is shown
"""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType, TracebackType
from typing import Any, TypeVar

__all__ = ["hidden", "unseen"]

F = TypeVar("F", bound=Callable[..., Any])

_HIDDEN: set[CodeType] = set()


def hidden(fn: F) -> F:
    """Take the frames of *fn* out of tracebacks."""
    _HIDDEN.add(fn.__code__)
    return fn


class _Unseen:
    """A context manager without a state, so that one serves all."""

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if traceback is not None:
            shown = traceback.tb_next
            while shown is not None and shown.tb_frame.f_code in _HIDDEN:
                shown = shown.tb_next
            # In place: when an exception is raised again, Python 3.10 does not look at its ``__traceback__``.
            traceback.tb_next = shown


unseen: _Unseen = _Unseen()
