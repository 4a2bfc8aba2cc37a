"""What the middleware keeps of a result: sealed, so that no caller can change another's, and in a form for a store.

    result ──seal──▶ data: models, dataclasses, lists, dictionaries … ──▶ bytes, read anew for every caller
                     all else: functions, clients, servers, classes … ──▶ shared, as it is

What can go over the wire is data, and copied. A FastMCP list also refers to what the tools run; nobody could pickle
that, and nobody should have a client or a server of his own because a list was cached.

A store is given the result's JSON form if the result can be made from it again, exactly; what has none (a FastMCP list,
whose tools are more than they say on the wire) is handed to the serializer as it is, and JSON refuses it.
"""

from __future__ import annotations

import dataclasses
import io
import pickle
import sys
from contextlib import suppress
from typing import Any, cast

from .isolation import Unchanging

__all__ = ["RESULTS", "Sealed"]

ATOMS = frozenset({str, int, float, bool, bytes, complex, type(None)})
CONTAINERS = frozenset({list, dict, tuple, set, frozenset, bytearray})
AS_IT_IS = "as it is"
SDKS = frozenset({"mcp", "mcp_types", "fastmcp"})  # whose classes a store may name


class Sealed(Unchanging):
    """A result that is fresh for *seconds*, until the cache's clock says *ends*; its length is that of its bytes."""

    __slots__ = ("_bytes", "_shared", "ends", "seconds")

    seconds: float
    ends: float

    def __init__(self, result: object, seconds: float, ends: float) -> None:
        """Raise whatever pickling the result raises."""
        self.seconds = seconds
        self.ends = ends
        self._shared: list[Any] = []
        stream = io.BytesIO()
        _Sealer(stream, result, self._shared).dump(result)
        self._bytes = stream.getvalue()

    def __len__(self) -> int:
        return len(self._bytes)

    def open(self) -> Any:
        """Return the result, a new copy each time."""
        if self._shared:
            return _Opener(io.BytesIO(self._bytes), self._shared).load()
        return pickle.loads(self._bytes)  # noqa: S301  # pickled by this process


class _Sealer(pickle.Pickler):
    def __init__(self, stream: io.BytesIO, result: object, shared: list[Any]) -> None:
        super().__init__(stream)
        self._result = result
        self._shared = shared

    def persistent_id(self, obj: Any) -> int | None:
        """Return the place of what is shared, None for what is copied."""
        kind = _kind(obj)
        if kind in ATOMS or kind in CONTAINERS or obj is self._result or _is_model(kind):
            return None
        self._shared.append(obj)
        return len(self._shared) - 1


class _Opener(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO, shared: list[Any]) -> None:
        super().__init__(stream)
        self._shared = shared

    def persistent_load(self, pid: int) -> Any:
        """Return what is shared."""
        return self._shared[pid]


class _Results:
    """How a store's serializer is handed a sealed result, and what is made of what it returns."""

    def pack(self, sealed: Sealed) -> Any:
        """Return JSON values, or the result itself where they would not be exact."""
        result = sealed.open()
        with suppress(Exception):  # whatever a model raises that does not understand what it has said itself
            plain = _plain(result)
            if _is_same(_made_of(plain), result):
                return plain
        return [AS_IT_IS, result]

    def unpack(self, plain: Any, seconds: float, ends: float) -> Sealed:
        """Raise if *plain* is nothing that ``pack`` has returned."""
        return Sealed(_made_of(plain), seconds, ends)


RESULTS = _Results()


def _kind(value: object) -> Any:
    return type(value)


def _is_model(kind: Any) -> bool:
    return hasattr(kind, "model_validate") or dataclasses.is_dataclass(kind)


def _is_validated(kind: Any) -> bool:
    """Say whether it is a model that has no constructor of its own, which would not understand what it validates."""
    return hasattr(kind, "model_validate") and "__init__" not in vars(kind)


def _plain(result: Any) -> Any:
    """Return a pair: how to make it again, and what of."""
    kind = _kind(result)
    if kind is list:
        return ["list", [_plain(item) for item in result]]
    if kind in ATOMS or kind in CONTAINERS:
        return [AS_IT_IS, result]
    name = f"{kind.__module__}:{kind.__qualname__}"
    if _is_validated(kind):
        return [name, result.model_dump(mode="json", by_alias=True, exclude_unset=True)]
    return [name, {field: _plain(value) for field, value in _fields(result).items()}]


def _fields(result: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", result.__dict__)


def _made_of(plain: Any) -> Any:
    name, content = cast("tuple[str, Any]", plain)
    if name == AS_IT_IS:
        return content
    if name == "list":
        return [_made_of(item) for item in content]
    kind = _class(name)
    if _is_validated(kind):
        return kind.model_validate(content)
    fields: dict[str, Any] = content
    return kind(**{field: _made_of(value) for field, value in fields.items()})


def _class(name: str) -> Any:
    """Return a class of results that an SDK has loaded: a store must not have the choice of any other."""
    module, _, path = name.partition(":")
    found: Any = getattr(sys.modules[module], path) if module.partition(".")[0] in SDKS else None
    if not (isinstance(found, type) and (_is_model(found) or path == "ToolResult")):
        raise ValueError(f"{name} is no class of results")
    return found


def _is_same(one: Any, other: Any) -> bool:
    if _kind(one) is list:
        return all(map(_is_same, one, other))
    if _kind(one).__eq__ is object.__eq__:
        return _fields(one) == _fields(other)
    same: bool = one == other
    return same
