"""A context for calls that no SDK made, and values that travel with one request.

``Call`` is what the adapters of this package, and programs without an SDK, hand down a chain.
``RequestValue`` passes a value from an outer middleware to an inner one, or to the handler, at every seam alike:

    tenant = RequestValue[str]("tenant")

    async def resolve(ctx, call_next):              async def audit(ctx, call_next):
        with tenant.bind("acme"):         ────▶         log(tenant.get(default="-"))
            return await call_next(ctx)                 return await call_next(ctx)

It rests on a context variable, not on the context: attributes set on an SDK's context are lost by
``dataclasses.replace``, and FastMCP's is frozen.  ``bind`` is a block because an in-memory server runs in its client's
task: a value that is not taken back in the frame that set it would stay behind in the client.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

if TYPE_CHECKING:
    from ._seam import Principal

__all__ = ["Call", "RequestValue", "State"]

T = TypeVar("T")
D = TypeVar("D")
_UNSET: Any = object()


class RequestValue(Generic[T]):
    """A typed value of one request; define it once, at module level, and import it where it is needed.

    It is also the key of a ``State``.
    """

    def __init__(self, name: str) -> None:
        self.name: str = name
        self._variable: ContextVar[T] = ContextVar(name)

    @overload
    def get(self) -> T: ...
    @overload
    def get(self, default: D) -> T | D: ...
    def get(self, default: Any = _UNSET) -> Any:
        """Return the value bound outside of here, else *default*; without a default raise LookupError."""
        value = self._variable.get(default)
        if value is _UNSET:
            raise LookupError(f"no middleware outside of here has bound {self.name!r}; use `with value.bind(...)`")
        return value

    @contextmanager
    def bind(self, value: T) -> Generator[None, None, None]:
        """Give the value to everything called inside the block, tasks and worker threads started there included."""
        token = self._variable.set(value)
        try:
            yield
        finally:
            self._variable.reset(token)

    def __repr__(self) -> str:
        return f"RequestValue({self.name!r})"


class State:
    """Typed values that stay with one ``Call``, also through ``dataclasses.replace``: the copies share it."""

    def __init__(self) -> None:
        self._values: dict[RequestValue[Any], Any] = {}

    def __setitem__(self, key: RequestValue[T], value: T) -> None:
        self._values[key] = value

    def __getitem__(self, key: RequestValue[T]) -> T:
        return cast("T", self._values[key])

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def get(self, key: RequestValue[T], default: D) -> T | D:
        """Return the value under *key*, or *default*."""
        return cast("T | D", self._values.get(key, default))


@dataclass(frozen=True)
class Call:
    """One call on its way down a chain, where no SDK supplies a context of its own.

    ``method`` and ``params`` are as on the wire (``tools/call``, ``{"name": …, "arguments": {…}}``), header names in
    lower case.  ``request`` and ``session`` are the SDK's own objects where there are any; ``internal`` marks what the
    SDK asks itself.
    """

    method: str
    params: Mapping[str, Any] | None = None
    request_id: str | int | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    principal: Principal | None = None
    request: Any = None
    session: Any = None
    internal: bool = False
    state: State = field(default_factory=State)
