"""What the tests of the cache compute."""

from __future__ import annotations

import anyio


class Source:
    """A computation that counts its calls, takes a while, and can be told to fail."""

    def __init__(self, value="value", seconds=0.0, error=None):
        self.value, self.seconds, self.error = value, seconds, error
        self.calls = self.running = self.most = 0

    async def __call__(self):
        self.calls += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await anyio.sleep(self.seconds)
        finally:
            self.running -= 1
        if self.error is not None:
            raise self.error
        return self.value
