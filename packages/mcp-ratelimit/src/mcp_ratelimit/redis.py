"""Ask Redis or Valkey: one round trip for any number of decisions, by the server's clock.

    requests ──JSON──▶ EVALSHA ──▶ all limits of all requests, decided in one step ──▶ answers

Nothing here knows a client library: it takes the user's own client, and calls what all of them have.

1. One decision, or one batch of them, is one round trip; a second only after the server has lost its scripts.
2. Time is the server's alone: a client whose clock is wrong neither gains nor loses.
3. Every key has a time to live, not shorter than its state matters.
4. All keys carry one hash tag, so that a cluster keeps what is decided together in one place.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from ._algorithms import Algorithm, algorithm_for
from ._calendar import FixedWindow
from ._core import MARGIN
from ._script import SCRIPT, SHA
from .decision import Decision
from .limit import Limit

__all__ = ["RedisStore", "Request"]


@dataclass(frozen=True)
class Request:
    """Take from every limit, under its key, at least *cost* and at most *most*; or give back; or forget."""

    limits: tuple[Limit, ...]
    keys: tuple[str, ...]
    cost: int
    most: int
    op: Literal["take", "refund", "reset"] = "take"


class RedisStore:
    """Limits that all processes share which talk to one Redis or Valkey (6.2 or later), or to one cluster.

    Args:
        client: An async client of redis-py, valkey-py or coredis (which runs on trio too), plain or of a cluster; or an
            async function that sends a command, given as separate strings, and returns the reply.
        prefix: What all keys begin with; also their hash tag.  Stores with one prefix share limits of the same name.
    """

    mark: str = "~"

    def __init__(self, client: Any, *, prefix: str = "ratelimit") -> None:
        if not prefix or not set("{}").isdisjoint(str(prefix)) or str(prefix) != prefix:
            raise ValueError(f"RedisStore needs prefix to be a non-empty string without braces, got {prefix!r}")
        self._execute = _executor(client)
        self._prefix = f"{{{prefix}}}"
        self._algorithms: dict[str, tuple[Limit, Algorithm]] = {}

    async def send(self, requests: Sequence[Request]) -> list[tuple[int, Decision]]:
        """Decide all *requests* in one step; return for each what was granted and the decision.

        Raises whatever the client raises.
        """
        now, *answers = await self.run(requests, time.time())
        if not answers:  # the calendar by this machine's clock did not reach to the server's time
            _, *answers = await self.run(requests, float(now.split()[0]))
        return [self._decision(request, answer) for request, answer in zip(requests, answers, strict=True)]

    async def run(self, requests: Sequence[Request], around: float) -> Any:
        """Send *requests*, with the calendar around that time, and return the script's reply."""
        places: dict[str, int] = {}
        limits: dict[int, tuple[int, Limit]] = {}  # by identity, which is faster to compare than nine figures
        described = [self._described(request, places, limits) for request in requests]
        figures = ",".join([self._figures(limit, around) for _, limit in limits.values()])
        asked = f'{{"limits":[{figures}],"requests":[{",".join(described)}]}}'
        arguments = [str(len(places)), *places, asked]
        try:
            return await self._execute("EVALSHA", SHA, *arguments)
        except Exception as error:
            if not (type(error).__name__ == "NoScriptError" or str(error).startswith("NOSCRIPT")):
                raise
        return await self._execute("EVAL", SCRIPT, *arguments)

    def algorithm(self, limit: Limit) -> Algorithm:
        """Return what counts *limit*, made once."""
        algorithm = self._algorithms.get(limit.name)
        if algorithm is None or algorithm[0] is not limit:
            algorithm = self._algorithms[limit.name] = (limit, algorithm_for(limit))
        return algorithm[1]

    def _described(self, request: Request, places: dict[str, int], limits: dict[int, tuple[int, Limit]]) -> str:
        rows: list[str] = []
        for limit, key in zip(request.limits, request.keys, strict=True):
            name = f"{self._prefix}:{limit.name}:{limit.algorithm}:{key}"
            place = places.setdefault(name, len(places) + 1)
            rows.append(f"[{limits.setdefault(id(limit), (len(limits) + 1, limit))[0]},{place}]")
        return f'{{"op":"{request.op}","cost":{request.cost},"most":{request.most},"rows":[{",".join(rows)}]}}'

    def _figures(self, limit: Limit, around: float) -> str:
        algorithm: Any = self.algorithm(limit)
        unit = algorithm.interval if hasattr(algorithm, "interval") else algorithm.window
        figures = {"name": limit.algorithm, "hz": algorithm.hz, "unit": unit, "capacity": algorithm.capacity}
        if isinstance(algorithm, FixedWindow) and limit.calendar:
            figures["edges"] = algorithm.edges(around * algorithm.hz)
        return json.dumps(figures)

    def _decision(self, request: Request, answer: bytes | str) -> tuple[int, Decision]:
        granted, *fields = map(float, answer.split())
        rows = [
            _Answer(limit, self.algorithm(limit), *fields[3 * place : 3 * place + 3])
            for place, limit in enumerate(request.limits)
        ]
        violated = tuple(row.limit.name for row in rows if row.wait > 0)
        tightest = rows[0]
        if len(rows) > 1:
            tightest = max(rows, key=_Answer.delay) if violated else min(rows, key=_Answer.remaining)
        reset_after = tightest.reset / tightest.algorithm.hz
        decision = (not violated, tightest.limit, tightest.remaining(), tightest.delay(), reset_after, violated)
        return int(granted), Decision(*decision)


class _Answer(NamedTuple):
    limit: Limit
    algorithm: Algorithm
    wait: float
    used: float
    reset: float

    def delay(self) -> float:
        return (self.wait + MARGIN) / self.algorithm.hz if self.wait > 0 else 0.0

    def remaining(self) -> int:
        return max(0, math.floor(self.algorithm.capacity - self.used))


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
