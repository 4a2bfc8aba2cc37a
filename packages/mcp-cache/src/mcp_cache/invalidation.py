"""Forgetting: by key, by tag, by whatever matches; in process, in the store, and on behalf of other processes.

Whatever is forgotten takes along what is being computed: a flight that began earlier lands without being stored, and
its followers start again.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from typing import Any, Literal

import anyio.lowlevel

from .config import check_callable
from .engine import Engine
from .events import Invalidated
from .flight import Space
from .keys import parsed

__all__ = ["check_kind", "forget", "forget_everything", "forget_matching", "forget_tag", "hear", "matches"]

BATCH = 256  # entries that are taken out between two checkpoints, in about 0.2 ms

Match = Callable[[Any], bool]


async def forget(engine: Engine, space: Space, key: Any) -> bool:
    """Forget one key everywhere; say whether it was in process."""
    was_there = engine.remove(space, key)
    if engine.remote is not None:
        await engine.remote.invalidate("key", engine.remote.name(space, key))
        engine.remove(space, key)  # what was loaded while the store was being told
    engine.tell(Invalidated("key", key))
    return was_there


async def forget_tag(engine: Engine, tag: str) -> None:
    """Forget everything with *tag* everywhere."""
    engine.table.invalidate_tag(tag)
    if engine.remote is not None:
        await engine.remote.invalidate("tag", tag)
        engine.table.invalidate_tag(tag)
    engine.tell(Invalidated("tag", tag))


async def forget_matching(engine: Engine, space: Space, match: Match) -> None:
    """Forget every key of *space* that *match* says yes to, everywhere; what comes while this runs may stay."""
    engine.table.tick += 1
    tick = engine.table.tick
    _doom_matching(space, match)
    for count, entry in enumerate(engine.table.matching(match, space), 1):
        if entry.born < tick:
            engine.table.drop(entry)
        if not count % BATCH:
            await anyio.lowlevel.checkpoint()
    if engine.remote is not None:
        await engine.remote.invalidate("match", partial(_names, space, match))
        _doom_matching(space, match)
        for entry in engine.table.matching(match, space):
            engine.table.drop(entry)


def forget_everything(engine: Engine) -> None:
    """Forget all of every space, in process alone."""
    for space in engine.table.spaces:
        for key in [*space.flights, *space.entries]:
            engine.remove(space, key)


def hear(engine: Engine, by: Literal["ready", "lost", "key", "tag"], what: str) -> None:
    """Forget in process what another process has forgotten, or everything if a message may have been missed."""
    if by == "tag":
        engine.table.invalidate_tag(what)
    elif by == "key":
        place = engine.remote and engine.remote.places.get(what)
        if place:
            engine.remove(*place)
    else:
        forget_everything(engine)


def matches(
    prefix: str | tuple[Hashable, ...] | None, glob: str | None, where: Match | None
) -> Iterator[tuple[Literal["prefix", "glob", "where"], object, Match]]:
    """Yield what each of the given arguments means: its name, itself, and a function of the key."""
    if prefix is not None:
        check_kind("prefix", prefix, str, tuple)
        kind, length = type(prefix), len(prefix)
        yield "prefix", prefix, lambda key: isinstance(key, kind) and key[:length] == prefix
    if glob is not None:
        check_kind("glob", glob, str)
        found = re.compile(fnmatch.translate(glob)).match
        yield "glob", glob, lambda key: isinstance(key, str) and found(key) is not None
    if where is not None:
        check_callable("invalidate()", "where", where)
        yield "where", where, where


def check_kind(name: str, value: object, *kinds: type) -> None:
    """Raise TypeError for what would match nothing, and leave the caller thinking that it is gone."""
    if not isinstance(value, kinds):
        raise TypeError(f"invalidate() needs {name}= to be a {' or '.join(k.__name__ for k in kinds)}, got {value!r}")


def _doom_matching(space: Space, match: Match) -> None:
    for key in [key for key in space.flights if match(key)]:
        space.doom(key)


def _names(space: Space, match: Match, name: str) -> bool:
    """Say whether a key of the store belongs to *space* and matches; one that cannot be read counts as matching."""
    if not name.startswith(space.name):
        return False
    try:
        key = parsed(name[len(space.name) :])
    except ValueError:
        return True
    return match(key)
