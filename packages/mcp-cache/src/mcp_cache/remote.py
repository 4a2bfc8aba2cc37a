"""A store as the engine sees it: it may be down, and what it returns may be corrupt, but it never breaks a call.

    up ──(the store raises)──▶ down: for *retry_after* seconds it is not asked, the cache lives on its own memory
    down ──(one caller asks again, and it answers)──▶ up: the invalidations that it has missed were made up for

While nobody listens to the store's invalidations, or something may have been missed, nothing is kept in process, and
what was kept while the store was down is forgotten: an opened cache (``async with cache``) listens.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import anyio

from .config import Config, Tags, Ttl, checked_tags
from .events import CacheUnavailable, Event, NotStored, StoreDown, StoreUp
from .flight import Space
from .keys import stored_name
from .store import By, Heard, Made, Serializer, Store, Stored

__all__ = ["OnStoreError", "Remote"]

OnStoreError = Literal["local", "deny"]

PENDING = 1000  # invalidations to be made up for; one more, and everything in the store is invalidated instead
_UNSET: Any = object()

Call = Callable[[], Awaitable[Any]]
Lasting = tuple[Any, float, tuple[str, ...]]
"""A value, the seconds for which it is fresh or may be kept in process, and its tags."""


class Remote:
    """One store, and whether it answers."""

    def __init__(
        self,
        store: Store,
        config: Config,
        *,
        serializer: Serializer,
        clock: Callable[[], float],
        on_event: Callable[[Event], None] | None,
        on_error: OnStoreError,
        retry_after: float,
    ) -> None:
        self._store = store
        self._serializer = serializer
        self._config = config
        self._clock = clock
        self._on_event = on_event
        self._on_error = on_error
        self._retry_after = retry_after
        self._down_until: float | None = None
        self._missed: list[tuple[By, Any]] = []
        self.is_heard = False
        self.forget: Callable[[], None]  # told by the cache what is in process
        self.places: dict[str, tuple[Space, Any]] = {}
        """Where a name of the store belongs, for what other processes will say of it."""

    async def load(self, space: Space, key: Any, call: Call, ttl: Ttl, tags: Tags) -> Lasting:
        """Return the stored value, or compute it with *call* and store it, with the seconds to be kept in process."""
        name, computed, failed, is_down = self.name(space, key), list[Lasting](), list[Exception](), False

        async def compute() -> Made:
            self._rise()  # it has answered, however long this takes
            try:
                computed.append(await self._computed(call, ttl, tags))
            except Exception as error:  # noqa: BLE001  # kept apart from what the store raises
                failed.append(error)
                raise _Computing from None
            return self._made(space, key, *computed[0])

        try:
            stored = await self._ask(lambda: self._store.load(name, compute))
            value = _UNSET if stored is None else self._value(space, key, stored)
            if stored is not None and value is not _UNSET:
                return value, self._near(stored.expires_in), stored.tags
            if stored is not None:  # corrupt
                await self._ask(lambda: self._store.invalidate("key", name))
        except _Computing:
            pass
        except _Down:
            is_down = True
        if failed:  # raised out here, so that nothing of the store's is its context
            raise failed.pop()  # kept nowhere, so that its traceback holds no circle
        value, seconds, names = computed[0] if computed else await self._computed(call, ttl, tags)
        if not is_down:
            seconds = self._near(seconds) if computed else await self.write(space, key, value, seconds, names)
        return value, seconds, names

    async def read(self, space: Space, keys: Sequence[Any]) -> dict[Any, Lasting]:
        """Return what the store has of the *keys*, with the seconds to be kept in process."""
        names = [self.name(space, key) for key in keys]
        values = dict[Any, Lasting]()
        with suppress(_Down):
            for key, name, stored in zip(keys, names, await self._ask(lambda: self._store.read(names)), strict=True):
                value = stored and self._value(space, key, stored)
                if stored is not None and value is not _UNSET:
                    values[key] = value, self._near(stored.expires_in), stored.tags
                elif stored is not None:  # corrupt
                    await self._ask(partial(self._store.invalidate, "key", name))
        return values

    async def write(self, space: Space, key: Any, value: Any, seconds: float, tags: tuple[str, ...]) -> float:
        """Store *value*; return for how long it may be kept in process."""
        name, made = self.name(space, key), self._made(space, key, value, seconds, tags)
        try:
            await self._ask(lambda: self._store.write(name, made))
        except _Down:
            self._miss("key", name)
            return seconds
        return self._near(seconds)

    async def invalidate(self, by: By, what: str | Callable[[str], bool]) -> None:
        """Invalidate in the store and everywhere; what it cannot be told now, it is told before it is asked again."""
        try:
            await self._ask(lambda: self._store.invalidate(by, what))
        except _Down:
            self._miss(by, what)

    async def listen(self, heard: Heard) -> None:
        """Pass on what others invalidate; after a failure, begin again."""

        def noted(by: Literal["ready", "lost", "key", "tag"], what: str) -> None:
            self.is_heard = by != "lost" and (self.is_heard or by == "ready")
            heard(by, what)

        while True:
            try:
                return await self._store.listen(noted)
            except Exception as error:  # noqa: BLE001  # whatever the client raises
                noted("lost", "")
                self._fall(error)
            await anyio.sleep(self._retry_after)

    def remember(self, space: Space, key: Any) -> None:
        """Note the place of a name; those of entries that have left are dropped when there are too many."""
        if len(self.places) > 4 * self._config.maxsize:
            live = {name: at for name, at in self.places.items() if at[1] in at[0].entries or at[1] in at[0].flights}
            self.places = live
        self.places[self.name(space, key)] = space, key

    def name(self, space: Space, key: Any) -> str:
        """Return the key as the store knows it. Raises Unkeyable for one that is no JSON value."""
        return f"{space.name}{stored_name(key)}"

    async def _ask(self, operation: Callable[[], Awaitable[Any]]) -> Any:
        """Await *operation*. Raises _Down, or CacheUnavailable if the cache is to refuse.

        While the store is down, one caller asks it now and then, so that no other has to wait for it.
        """
        if self._down_until is not None:
            if self._clock() < self._down_until:
                raise self._refusal()
            self._down_until = self._clock() + self._retry_after
        try:
            await self._make_up()
            answer = await operation()
        except _Computing:
            raise
        except Exception as error:  # whatever the client raises
            self._fall(error)
            raise self._refusal() from error
        self._rise()
        return answer

    async def _make_up(self) -> None:
        while self._missed:
            missed = self._missed[0]
            await self._store.invalidate(*missed)
            if self._missed and self._missed[0] is missed:  # else another caller has made up for it meanwhile
                self._missed.pop(0)

    def _miss(self, by: By, what: Any) -> None:
        self._missed.append((by, what))
        if len(self._missed) > PENDING:
            self._missed = [("match", _everything)]

    def _fall(self, error: Exception) -> None:
        was_up = self._down_until is None
        self._down_until = self._clock() + self._retry_after
        if was_up:
            self._tell(StoreDown(error))

    def _rise(self) -> None:
        if self._down_until is not None:
            self._down_until = None
            if not self.is_heard:
                self.forget()
            self._tell(StoreUp())

    def _tell(self, event: Event) -> None:
        if self._on_event is not None:
            self._on_event(event)

    def _refusal(self) -> Exception:
        return CacheUnavailable("the store does not answer") if self._on_error == "deny" else _Down()

    def _near(self, seconds: float) -> float:
        return seconds if self.is_heard else 0.0

    async def _computed(self, call: Call, ttl: Ttl, tags: Tags) -> Lasting:
        value = await call()
        return value, self._config.lifetime(value, ttl), checked_tags(tags, value)

    def _made(self, space: Space, key: Any, value: Any, seconds: float, tags: tuple[str, ...]) -> Made:
        payload = None
        if seconds > 0:
            try:
                payload = self._serializer.dumps(space.codec.pack(value) if space.codec else value)
            except Exception as error:  # noqa: BLE001  # whatever the serializer raises
                self._tell(NotStored(key, f"it cannot be serialized: {error!r}"))
        return Made(payload, seconds, tags)

    def _value(self, space: Space, key: Any, stored: Stored) -> Any:
        why = "it is no entry of the store's"
        if stored.payload is not None:
            try:
                value, seconds = self._serializer.loads(stored.payload), stored.expires_in
                return space.codec.unpack(value, seconds, self._clock() + seconds) if space.codec else value
            except Exception as error:  # noqa: BLE001  # whatever the serializer raises
                why = repr(error)
        self._tell(NotStored(key, f"what is stored is corrupt: {why}"))
        return _UNSET


class _Down(Exception):  # noqa: N818  # a signal
    """The store is not to be asked now."""


class _Computing(Exception):  # noqa: N818  # a signal
    """The computation has raised something, which is no failure of the store."""


def _everything(_: str) -> bool:
    return True
