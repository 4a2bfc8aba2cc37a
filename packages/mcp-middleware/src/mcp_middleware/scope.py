"""Let a middleware see some calls only; the others go past it untouched.

Chain(audit, for_tools("delete_*", confirm), for_methods("tools/call", skip(limit)))
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from fnmatch import translate
from typing import Any, TypeVar

from ._seam import CallContext, is_internal, is_stream, target
from .checked import AnyMiddleware, checked

__all__ = ["for_methods", "for_tools", "skip", "when"]

C = TypeVar("C", bound=CallContext)
R = TypeVar("R")


class _Scoped:
    """A middleware for the calls that *applies* picks; ``layer`` is the inner one's, for the check of the order."""

    def __init__(self, applies: Callable[[Any], bool], middleware: AnyMiddleware, description: str) -> None:
        self.middleware: AnyMiddleware = checked(middleware)
        self.layer: str | None = getattr(middleware, "layer", None)
        self._applies = applies
        self._description = description

    async def __call__(self, ctx: C, call_next: Callable[[C], Awaitable[R]]) -> R:
        if self._applies(ctx):
            return await self.middleware(ctx, call_next)  # type: ignore[no-any-return]  # it answers for its own type
        return await call_next(ctx)

    def __repr__(self) -> str:
        return f"{self._description}, {self.middleware!r})"


def when(predicate: Callable[[Any], bool], middleware: AnyMiddleware) -> _Scoped:
    """Run *middleware* for the calls for which *predicate(ctx)* is true; what the predicate raises fails the call."""
    if not callable(predicate):
        raise TypeError(f"when needs a predicate, a function of ctx, got {predicate!r}")
    return _Scoped(predicate, middleware, f"when({predicate!r}")


def for_methods(patterns: str | Iterable[str], middleware: AnyMiddleware) -> _Scoped:
    """Run *middleware* for the JSON-RPC methods that match a glob, such as ``"resources/*"``, or any of several."""
    matches = _matcher("for_methods", patterns)
    return _Scoped(lambda ctx: matches(ctx.method), middleware, f"for_methods({patterns!r}")


def for_tools(patterns: str | Iterable[str], middleware: AnyMiddleware) -> _Scoped:
    """Run *middleware* for calls (``tools/call``) of the tools whose name matches a glob, or any of several.

    Globs compare upper and lower case as written: ``*``, ``?``, ``[seq]`` and ``[!seq]``.
    """
    matches = _matcher("for_tools", patterns)
    return _Scoped(
        lambda ctx: ctx.method == "tools/call" and matches(target(ctx)), middleware, f"for_tools({patterns!r}"
    )


def skip(middleware: AnyMiddleware, *, internal: bool = True, streams: bool = True) -> _Scoped:
    """Spare *middleware* the calls that the SDK makes itself, and streams that last as long as the client listens."""
    if not (internal or streams):
        raise ValueError("skip needs internal=True or streams=True: with neither it skips nothing")
    return _Scoped(
        lambda ctx: not ((internal and is_internal(ctx)) or (streams and is_stream(ctx))),
        middleware,
        f"skip(internal={internal}, streams={streams}",
    )


def _matcher(where: str, patterns: str | Iterable[str]) -> Callable[[str | None], bool]:
    globs = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    if not globs or not all(type(glob) is str and glob for glob in globs):
        raise ValueError(f"{where} needs one glob or several, none of them empty, got {patterns!r}")
    match = re.compile("|".join(map(translate, globs))).match
    return lambda name: name is not None and match(name) is not None
