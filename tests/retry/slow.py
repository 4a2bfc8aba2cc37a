"""A server that takes its time, and fails at first."""

from __future__ import annotations

import anyio

__all__ = ["SlowServer"]


class SlowServer:
    """Takes a second, and fails *failures* times before it answers; counts what began, and what is in flight."""

    def __init__(self, failures, answer=None):
        self.failures = failures
        self.answer = answer
        self.began = self.running = 0

    async def __call__(self, *args):
        self.began += 1
        self.running += 1
        try:
            await anyio.sleep(1)
        finally:
            self.running -= 1
        if self.began <= self.failures:
            raise ConnectionError
        return self.answer
