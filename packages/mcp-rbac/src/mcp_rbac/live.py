"""A policy that can be replaced while it decides.

    load() ──▶ Policy ──▶ validate ──▶ current        one reference is set: no request sees half of either policy
       └─ anything wrong ──▶ the last good one stays, and ``PolicyRejected`` says why

A request takes ``current`` once and is decided by that, so that replacing needs no lock and fails nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from inspect import isawaitable
from pathlib import Path
from typing import TypeAlias, cast

import anyio
from anyio import to_thread

from .conditions import is_async, is_sync
from .policy import Policy

__all__ = ["LivePolicy", "PolicyRejected", "PolicyReplaced", "load_file"]


@dataclass(frozen=True)
class PolicyReplaced:
    """Another policy is in force."""

    old: str
    new: str


@dataclass(frozen=True)
class PolicyRejected:
    """A policy was not taken, and the one of *version* stays; *reason* is the text of the error."""

    version: str
    reason: str


LiveEvent: TypeAlias = PolicyReplaced | PolicyRejected


def load_file(path: str | Path) -> Policy:
    """Read a policy from a ``.json`` or ``.toml`` file; raises OSError, PolicyError, and ValueError for other names."""
    path = Path(path)
    if path.suffix == ".json":
        return Policy.from_json(path.read_bytes())
    if path.suffix == ".toml":
        return Policy.from_toml(path.read_bytes().decode())
    raise ValueError(f"load_file reads .json and .toml, got {str(path)!r}; for others use Policy.from_dict")


class LivePolicy:
    """The policy of the moment.

    *load* makes one, and is called at once: what it raises then is raised here.  *validate* raises for a policy that
    must not be taken, as ``check_methods`` does for a server's.  *on_event* is told of replacements and failures; what
    it raises is dropped, since the policy has been taken or refused by then.

    Raises TypeError for an async *load*, *validate* or *on_event*, for which nobody would wait, and a sync *sleep*.
    """

    def __init__(
        self,
        load: Callable[[], Policy],
        *,
        validate: Callable[[Policy], object] | None = None,
        on_event: Callable[[LiveEvent], None] | None = None,
        sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
    ) -> None:
        for name, value in {"load": load, "validate": validate, "on_event": on_event}.items():
            if not is_sync(value) and (value is not None or name == "load"):
                raise TypeError(f"LivePolicy needs {name} to be a sync function, got {value!r}")
        if not is_async(sleep):
            raise TypeError(f"LivePolicy needs sleep to be an async function, got {sleep!r}")
        self._load, self._validate = load, validate
        self._on_event = on_event
        self._sleep = sleep
        self._current = self._loaded()

    @property
    def current(self) -> Policy:
        """The last policy that was good."""
        return self._current

    def reload(self) -> bool:
        """Load again, and take the policy if it is good; say whether it was.  Never raises what *load* raises."""
        old = self._current
        try:
            new = self._loaded()
        except Exception as error:  # noqa: BLE001  # whatever is wrong with it, the last good one is better
            self._tell(PolicyRejected(old.version, str(error)))
            return False
        self._current = new
        if new.version != old.version:
            self._tell(PolicyReplaced(old.version, new.version))
        return True

    async def watch(self, path: str | Path, *, every: float = 1.0) -> None:
        """Reload at once, for what has changed since the last time, and whenever the file at *path* changes again.

        Looks every so many seconds, for ever, and reloads in a worker thread.  Raises ValueError unless *every* is
        positive.
        """
        if not every > 0:
            raise ValueError(f"watch needs every > 0, in seconds, got {every!r}")
        seen = None
        while True:
            found = _stamp(path)
            if found != seen:
                seen = found
                await to_thread.run_sync(self.reload)
            await self._sleep(every)

    def _loaded(self) -> Policy:
        policy = self._load()
        if not isinstance(cast("object", policy), Policy):
            raise TypeError(f"LivePolicy needs load to return a Policy, got {policy!r}")
        answer = None if self._validate is None else self._validate(policy)
        if isawaitable(answer):
            raise TypeError(f"LivePolicy needs validate to be a sync function, and it returned {answer!r}")
        return policy

    def _tell(self, event: LiveEvent) -> None:
        if self._on_event is not None:
            with suppress(Exception):
                self._on_event(event)


def _stamp(path: str | Path) -> tuple[int, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
