"""Which requests count, and which names for them are slips.

A misspelt method is one that never comes: what it was meant to limit would pass without anybody noticing.  A server
may have methods of its own, so not every name that the protocol lacks is refused, only one that resembles a method of
the protocol.  Whoever means it names that method too, and then nothing passes uncounted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import cast

__all__ = ["COUNTED_METHODS", "checked_methods"]

COUNTED_METHODS = frozenset({"tools/call", "prompts/get", "resources/read", "completion/complete"})
"""The requests that make a server work.  Lists, ping, the handshake and notifications pass uncounted."""

_UNCOUNTED = """
    initialize server/discover ping logging/setLevel tools/list prompts/list resources/list resources/templates/list
    resources/subscribe resources/unsubscribe subscriptions/listen tasks/get tasks/list tasks/result tasks/cancel
"""
PROTOCOL = COUNTED_METHODS.union(_UNCOUNTED.split())
ALIKE = 0.85
"""Of 1, by ``difflib``: one or two letters of a name may differ."""


def checked_methods(methods: object) -> frozenset[str]:
    """Return *methods* as a set.

    Raises TypeError for one string, whose letters would be the methods, and for what holds anything but strings;
    ValueError for no method at all, and for a slip.
    """
    if isinstance(methods, (str, bytes)) or not isinstance(methods, Iterable):
        raise TypeError(f"RateLimitMiddleware needs methods to be several, as in ('tools/call',), got {methods!r}")
    given = tuple(cast("Iterable[object]", methods))
    names = [name for name in given if isinstance(name, str)]
    if len(names) < len(given):
        raise TypeError(f"RateLimitMiddleware needs methods to be names such as 'tools/call', got {given!r}")
    if not names:
        raise ValueError("RateLimitMiddleware needs methods to name at least one; without any it limits nothing")
    spelt = {_words(method): method for method in PROTOCOL.difference(names)}
    for name in sorted({*names} - PROTOCOL):
        for meant in get_close_matches(_words(name), spelt, 1, ALIKE):
            raise ValueError(
                f"RateLimitMiddleware knows no method {name!r}; did you mean {spelt[meant]!r}? "
                "A method of your own that is called like that needs both named"
            )
    return frozenset(names)


def _words(method: str) -> str:
    """Return the words of *method* in an order of their own, so that ``call_tool`` is like ``tools/call``."""
    return " ".join(sorted(re.findall("[a-z]+", method.lower())))
