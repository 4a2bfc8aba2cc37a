"""The order in which middleware belongs, as data, and a warning for what is certainly wrong.

A middleware says what it is by a class attribute ``layer``; one without it may stand anywhere.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

__all__ = ["NEIGHBOURS", "RECOMMENDED_ORDER", "Neighbours", "OrderWarning", "warn_of_wrong_order"]

RECOMMENDED_ORDER: tuple[str, ...] = (
    "metrics",
    "logging",
    "auth",
    "rbac",
    "ratelimit",
    "cache",
    "retry",
    "circuit",
    "timeout",
    "pool",
)
"""Outermost first; the handler comes after the last."""


class Neighbours(NamedTuple):
    """*outer* belongs outside *inner*, for a reason."""

    outer: str
    inner: str
    reason: str


NEIGHBOURS: tuple[Neighbours, ...] = (
    Neighbours("metrics", "rbac", "metrics must see refusals too"),
    Neighbours("metrics", "ratelimit", "metrics must see refusals too"),
    Neighbours("metrics", "cache", "metrics must see the calls that the cache answers"),
    Neighbours("auth", "rbac", "a permission belongs to a caller who is already known"),
    Neighbours("auth", "ratelimit", "a limit is kept by the verified caller"),
    Neighbours("auth", "cache", "a cached answer belongs to the caller it was computed for"),
    Neighbours("rbac", "cache", "a cached answer must not reach a caller who may not ask"),
    Neighbours("retry", "circuit", "every attempt must be counted by the breaker, and stop when it opens"),
    Neighbours("circuit", "timeout", "a call that runs into its deadline must count as a failure"),
    Neighbours("ratelimit", "pool", "a refused or waiting call must not hold a resource"),
    Neighbours("cache", "pool", "a cached answer needs no resource"),
    Neighbours("retry", "pool", "a call that sleeps between attempts must not hold a resource"),
)
"""The pairs of which the other order is certainly wrong; the rest of ``RECOMMENDED_ORDER`` is advice."""


class OrderWarning(UserWarning):
    """Two middleware of a chain are in an order that is certainly wrong."""


def warn_of_wrong_order(layers: Sequence[object], *, stacklevel: int) -> None:
    """Warn once for each pair of *layers*, outermost first, that ``NEIGHBOURS`` wants the other way round."""
    names = [name for layer in layers if isinstance(name := getattr(layer, "layer", None), str)]
    pairs = set(combinations(names, 2))
    for outer, inner, reason in NEIGHBOURS:
        if (inner, outer) in pairs and (outer, inner) not in pairs:
            message = f"{outer} belongs outside {inner}: {reason}; Chain(..., check_order=False) silences this"
            warnings.warn(message, OrderWarning, stacklevel=stacklevel + 1)
