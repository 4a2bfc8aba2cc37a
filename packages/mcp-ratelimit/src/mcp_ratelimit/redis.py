"""Ask Redis or Valkey: one round trip for any number of decisions, by the server's clock.

    requests ──JSON──▶ EVALSHA ──▶ all limits of all requests, decided in one step ──▶ numbers ──▶ decisions

Nothing here knows a client library: it takes the user's own client, and calls what all of them have.

1. One decision, or one batch of them, is one round trip; a second only after the server has lost its scripts.
2. Time is the server's alone: a client whose clock is wrong neither gains nor loses.  Where that steps back, it stands
   still for each key until it has caught up with the key's last change, which ``reset`` forgets.
3. Every key has a time to live, not shorter than its state matters.
4. All keys carry one hash tag, so that a cluster keeps what is decided together in one place.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Literal, NamedTuple, cast

from ._algorithms import Algorithm, Gcra, algorithm_for
from ._calendar import FixedWindow
from ._core import MARGIN
from ._script import SCRIPT, SHA
from ._windows import Window
from .decision import Decision
from .limit import Limit

__all__ = ["RedisStore", "Request"]


class Request(NamedTuple):
    """Take from every limit, under its key, at least *cost* and at most *most*; or give back; or forget."""

    limits: tuple[Limit, ...]
    keys: tuple[str, ...]
    cost: int = 0
    most: int = 0
    op: Literal["take", "refund", "reset"] = "take"


class _Counted(NamedTuple):
    """What is known of a limit; *head* is what the names of its keys begin with."""

    limit: Limit
    algorithm: Algorithm
    head: str


class RedisStore:
    """Limits that all processes share which talk to one Redis or Valkey (6.2 or later), or to one cluster.

    Args:
        client: An async client of redis-py, valkey-py or coredis (which runs on trio too), plain or of a cluster; or an
            async function that sends a command, given as separate strings, and returns the reply.  A limiter uses two
            of its connections at most.
        prefix: What all keys begin with; also their hash tag.  Stores with one prefix share limits of the same name.
    """

    mark: str = "~"

    def __init__(self, client: Any, *, prefix: str = "mcp-ratelimit") -> None:
        if not prefix or not set("{}").isdisjoint(str(prefix)) or str(prefix) != prefix:
            raise ValueError(f"RedisStore needs prefix to be a non-empty string without braces, got {prefix!r}")
        self._execute = _executor(client)
        self._prefix = f"{{{prefix}}}"
        self._counted: dict[str, _Counted] = {}

    async def send(self, requests: Sequence[Request]) -> list[tuple[int, Decision]]:
        """Decide all *requests* in one step; return for each what was granted and the decision.

        Raises whatever the client raises.
        """
        now, *numbers = await self.run(requests, time.time())
        if not numbers:  # the calendar by this machine's clock did not reach to the server's time
            _, *numbers = await self.run(requests, float(now.split()[0]))
        fields = map(float, numbers[0].split())
        return [(int(next(fields)), self._decision(request, fields)) for request in requests]

    async def run(self, requests: Sequence[Request], around: float) -> Any:
        """Send *requests*, with the calendar around that time, and return the script's reply."""
        places: dict[str, int] = {}
        limits: dict[int, tuple[str, str]] = {}
        described = ",".join([self._described(request, places, limits, around) for request in requests])
        figures = ",".join([figures for _, figures in limits.values()])
        arguments = [str(len(places)), *places, f"[[{figures}],[{described}]]"]
        try:
            return await self._execute("EVALSHA", SHA, *arguments)
        except Exception as error:
            if not (type(error).__name__ == "NoScriptError" or str(error).startswith("NOSCRIPT")):
                raise
        return await self._execute("EVAL", SCRIPT, *arguments)

    def counted(self, limit: Limit) -> _Counted:
        """Return what counts *limit*, made once."""
        counted = self._counted.get(limit.name)
        if counted is None or counted.limit is not limit:
            head = f"{self._prefix}:{limit.name}:{limit.algorithm}:"
            counted = self._counted[limit.name] = _Counted(limit, algorithm_for(limit), head)
        return counted

    def _described(
        self, request: Request, places: dict[str, int], limits: dict[int, tuple[str, str]], around: float
    ) -> str:
        rows = ""
        for limit, key in zip(request.limits, request.keys, strict=True):
            counted = self.counted(limit)
            known = limits.get(id(limit))  # by identity: while a limit changes, there are two of one name
            if known is None:
                known = limits[id(limit)] = f",{len(limits) + 1},", _figures(counted, around)
            rows += known[0] + str(places.setdefault(counted.head + key, len(places) + 1))
        return f'["{request.op}",{request.cost},{request.most}{rows}]'

    def _decision(self, request: Request, fields: Iterator[float]) -> Decision:
        decisions = [_of_one(self.counted(limit), next(fields), next(fields), next(fields)) for limit in request.limits]
        if len(decisions) == 1:
            return decisions[0]
        violated = tuple(name for decision in decisions for name in decision.violated)
        tightest = max(decisions, key=_retry_after) if violated else min(decisions, key=_remaining)
        return tightest._replace(violated=violated)


_retry_after = attrgetter("retry_after")
_remaining = attrgetter("remaining")


def _of_one(counted: _Counted, wait: float, used: float, reset: float) -> Decision:
    limit, algorithm, _ = counted
    remaining = max(0, math.floor(algorithm.capacity - used))
    if wait:
        return Decision(False, limit, remaining, (wait + MARGIN) / algorithm.hz, reset / algorithm.hz, (limit.name,))
    return Decision(True, limit, remaining, 0.0, reset / algorithm.hz)


def _figures(counted: _Counted, around: float) -> str:
    limit, algorithm, _ = counted
    unit = algorithm.interval if isinstance(algorithm, Gcra) else cast("Window", algorithm).window
    edges = ""
    if isinstance(algorithm, FixedWindow) and limit.calendar:
        edges = f",{algorithm.edges(around * algorithm.hz)}"
    return f'["{limit.algorithm}",{algorithm.hz},{unit},{algorithm.capacity}{edges}]'


def _executor(client: Any) -> Callable[..., Awaitable[Any]]:
    if type(client).__module__.startswith("coredis"):

        async def execute(command: str, script: str, count: str, *rest: str) -> Any:
            method = client.evalsha if command == "EVALSHA" else client.eval
            return await method(script, rest[: int(count)], rest[int(count) :])

        return execute
    if hasattr(client, "execute_command"):
        return client.execute_command  # type: ignore[no-any-return]  # redis-py and valkey-py
    if isinstance(client, type) or not callable(client):
        raise TypeError(f"RedisStore needs an async client, or an async function that sends a command, got {client!r}")
    return client  # type: ignore[no-any-return]  # whoever hands it over answers for it
