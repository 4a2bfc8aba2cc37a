"""Admit names that come from outside as label values: those that are known to exist, and no others.

    given in advance ──┐
    listed by the server, ``tools/list`` ──▶ known ──▶ the name itself
    called with success ┘                   not ──▶ ``_OTHER``

Whoever calls 20 000 tools that do not exist makes no series, because no call succeeds, and takes no room from a tool
that is seen later: names are not admitted by when they come.

Invariants, each tested in ``tests/metrics/test_names.py``:

1. A name that neither was given, nor listed, nor succeeded, is never admitted.
2. There are at most *limit* names; those given in advance are always admitted.
"""

from __future__ import annotations

from collections.abc import Iterable

from .checks import checked_words
from .text import LONGEST_VALUE, OTHER

__all__ = ["Names"]


class Names:
    """The names of tools, or of prompts, that get series of their own.

    Args:
        known: names given in advance.
        learn: also admit what is listed and what succeeds; False for a server that accepts any name.
        limit: of all names.
    """

    def __init__(self, known: Iterable[str] = (), *, learn: bool = True, limit: int = 500) -> None:
        if type(limit) is not int or limit < 0:
            raise ValueError(f"Names needs an int limit >= 0, got {limit!r}")
        self._given = checked_words("Names", "names", known)
        self._known = set(self._given)
        self._learn = learn
        self._limit = max(limit, len(self._known))

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def unlearned(self) -> Names:
        """Return the names given in advance, to learn others anew."""
        return Names(self._given, learn=self._learn, limit=self._limit)

    def listed(self, names: Iterable[object]) -> None:
        """Learn the names in a list that the server gave."""
        for name in names:
            self.admit(name, succeeded=True)

    def admit(self, name: object, *, succeeded: bool) -> str:
        """Return *name* if it may be a label's value, ``_OTHER`` if not; a call that *succeeded* teaches its name."""
        if type(name) is not str:
            return OTHER
        if name in self._known:
            return name
        may_learn = succeeded and self._learn and len(self._known) < self._limit
        if not may_learn or not 0 < len(name) <= LONGEST_VALUE:
            return OTHER
        self._known.add(name)
        return name
