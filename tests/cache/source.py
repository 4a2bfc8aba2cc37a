"""What the tests of the cache compute, and where they put it."""

from __future__ import annotations

import anyio
from mcp_cache.store import Stored


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


class Shelf:
    """A store in a dictionary, which fails when told to."""

    def __init__(self):
        self.rows, self.error, self.asked, self.heard = {}, None, [], None

    async def load(self, key, compute):
        (found,) = await self.read([key])
        if found is None:
            made = await compute()
            await self.write(key, made)
        return found

    async def read(self, keys):
        self._ask("read")
        return [self.rows.get(key) for key in keys]

    async def write(self, key, made):
        self._ask("write")
        if made.payload is not None:
            self.rows[key] = Stored(made.payload, made.ttl, made.tags)

    async def invalidate(self, by, what):
        self._ask(by)
        gone = [key for key in self.rows if what == key or (callable(what) and what(key))]
        for key in gone:
            del self.rows[key]

    async def listen(self, heard):
        self.heard = heard
        self._ask("listen")
        heard("ready", "")
        await anyio.sleep_forever()

    def _ask(self, what):
        self.asked.append(what)
        if self.error is not None:
            raise self.error
