"""A weather service behind a cache: a crowd asks at once, the source fails for a while, and nobody notices.

python examples/cache_weather.py
"""

from __future__ import annotations

import anyio
from mcp_cache import Cache, Event, Failed, ServedStale


class Source:
    """A slow service that can be switched off."""

    def __init__(self) -> None:
        self.calls = 0
        self.is_down = False

    async def forecast(self, city: str) -> str:
        """Ask for the forecast of *city*."""
        self.calls += 1
        await anyio.sleep(0.05)
        if self.is_down:
            raise ConnectionError("the weather service is down")
        return f"sunny in {city}"


async def main() -> None:
    """Tell the story."""
    source, seen = Source(), list[Event]()
    async with Cache(ttl=0.2, stale_while_revalidate=0.2, stale_if_error=5, on_event=seen.append) as cache:
        forecast = cache(source.forecast)
        async with anyio.create_task_group() as crowd:
            for _ in range(100):
                crowd.start_soon(forecast, "Paris")
        print(f"100 callers, {source.calls} call")
        await anyio.sleep(0.25)
        print(f"a moment too old: {await forecast('Paris')}, refreshed behind our back")
        await anyio.sleep(0.1)
        source.is_down = True
        await anyio.sleep(0.45)
        print(f"the service is down: {await forecast('Paris')}")
    print(f"{sum(isinstance(event, ServedStale) for event in seen)} stale answers,", end=" ")
    print(f"{sum(isinstance(event, Failed) for event in seen)} failure that nobody saw")


if __name__ == "__main__":
    anyio.run(main)
