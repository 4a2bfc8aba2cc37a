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
from typing import Any, Literal

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
        client: An async client of redis-py, valkey-py or coredis (which runs on trio too), plain or of a cluster; or any
            async function that sends a command, given as separate strings, and returns the reply.
        prefix: What all keys begin with; also their hash tag.  Stores with one prefix share limits of the same name.
    """

    mark = "~"

    def __init__(self, client: Any, *, prefix: str = "ratelimit") -> None:
        if not isinstance(prefix, str) or not prefix or set(prefix) & set("{}"):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ValueError(f"RedisStore needs prefix to be a non-empty string without braces, got {prefix!r}")
        self._execute = _executor(client)
        self._prefix = f"{{{prefix}}}"
        self._algorithms: dict[Limit, Algorithm] = {}

    async def send(self, requests: Sequence[Request]) -> list[tuple[int, Decision]]:
        """Decide all *requests* in one step; return for each what was granted and the decision.

        Raises whatever the client raises.
        """
        reply = await self._run(requests, time.time())
        if isinstance(reply, (bytes, str)):  # the calendar by the client's clock did not reach to the server's time
            reply = await self._run(requests, float(reply.split()[1]) / 1e6)
        return [self._decision(request, answer) for request, answer in zip(requests, reply, strict=True)]

    async def _run(self, requests: Sequence[Request], around: float) -> Any:
        places: dict[str, int] = {}
        described = [self._described(request, places, around) for request in requests]
        arguments = [str(len(places)), *places, json.dumps(described, separators=(",", ":"))]
        try:
            return await self._execute("EVALSHA", SHA, *arguments)
        except Exception as error:
            if not (type(error).__name__ == "NoScriptError" or str(error).startswith("NOSCRIPT")):
                raise
        return await self._execute("EVAL", SCRIPT, *arguments)

    def _described(self, request: Request, places: dict[str, int], around: float) -> dict[str, Any]:
        rows = []
        for limit, key in zip(request.limits, request.keys, strict=True):
            name = f"{self._prefix}:{limit.name}:{limit.algorithm}:{key}"
            rows.append({"key": places.setdefault(name, len(places) + 1), **self._figures(limit, around)})
        return {"op": request.op, "cost": request.cost, "most": request.most, "rows": rows}

    def _figures(self, limit: Limit, around: float) -> dict[str, Any]:
        algorithm: Any = self._algorithm(limit)
        unit = algorithm.interval if hasattr(algorithm, "interval") else algorithm.window
        figures = {"name": limit.algorithm, "hz": algorithm.hz, "unit": unit, "capacity": algorithm.capacity}
        if isinstance(algorithm, FixedWindow) and limit.calendar:
            figures["edges"] = algorithm.edges(around * algorithm.hz)
        return figures

    def _algorithm(self, limit: Limit) -> Algorithm:
        if limit not in self._algorithms:
            self._algorithms[limit] = algorithm_for(limit)
        return self._algorithms[limit]

    def _decision(self, request: Request, answer: bytes | str) -> tuple[int, Decision]:
        granted, *fields = map(float, answer.split())
        rows = [
            _Answer(limit, self._algorithm(limit), *fields[4 * place : 4 * place + 3])
            for place, limit in enumerate(request.limits)
        ]
        violated = tuple(row.limit.name for row in rows if row.wait > 0)
        tightest = max(rows, key=_Answer.delay) if violated else min(rows, key=_Answer.remaining)
        return int(granted), Decision(
            not violated,
            tightest.limit,
            tightest.remaining(),
            tightest.delay(),
            tightest.reset / tightest.algorithm.hz,
            violated,
        )


@dataclass
class _Answer:
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
