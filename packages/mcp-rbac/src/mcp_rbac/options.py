"""What a ``RBACMiddleware`` takes and tells: the types, and the checks of what it is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, cast, get_args

from .conditions import Subject, is_async, is_mapping, is_sync, mapping_of
from .engine import Decision
from .policy import Policy

__all__ = ["CODE", "AccessDecided", "Fulfil", "OnDeny", "PolicySource", "check", "check_callables", "check_names"]

CODE = -31003
"""The code of a refusal, outside of the range that JSON-RPC and MCP reserve."""
OnDeny: TypeAlias = Literal["hide", "explain", "challenge"]
Fulfil: TypeAlias = Callable[[Any, Decision], Awaitable[bool]]


class PolicySource(Protocol):
    """A ``Policy``, or what has the one of the moment, as a ``LivePolicy``."""

    @property
    def current(self) -> Policy:
        """The policy to decide by now."""
        ...


@dataclass(frozen=True)
class AccessDecided:
    """One decision, for the audit log; ``arguments`` are those that the middleware was told to show, and no others."""

    method: str
    permission: str
    allowed: bool
    reason: str
    rule: str | None
    version: str
    user: str | None
    client_id: str | None
    issuer: str | None
    tenant: str | None
    roles: tuple[str, ...]
    obligations: tuple[str, ...]
    internal: bool
    arguments: Mapping[str, Any]


def check(policy: object, on_deny: object, **subjects: object) -> None:
    """Raise TypeError or ValueError for what is no policy, way to deny, or subject."""
    if not isinstance(getattr(policy, "current", None), Policy):
        raise TypeError(f"RBACMiddleware needs policy to be a Policy or LivePolicy, got {policy!r}")
    if on_deny not in get_args(OnDeny):
        raise ValueError(f"RBACMiddleware needs on_deny to be one of {', '.join(get_args(OnDeny))}, got {on_deny!r}")
    for name, subject in subjects.items():
        if not isinstance(subject, (Subject, type(None))):
            raise TypeError(f"RBACMiddleware needs {name} to be a Subject or None, got {subject!r}")


def check_callables(subject: object, on_event: object, obligations: object) -> None:
    """Raise TypeError for an async function where nobody would wait for it, and for a sync one where somebody does."""
    for name, value in {"subject": subject, "on_event": on_event}.items():
        if value is not None and not is_sync(value):
            raise TypeError(f"RBACMiddleware needs {name} to be a sync function, got {value!r}")
    if obligations is not None and not is_mapping(obligations):
        raise TypeError(f"RBACMiddleware needs obligations to be a mapping, got {obligations!r}")
    for name, value in mapping_of(obligations).items():
        if not is_async(value):
            raise TypeError(f"RBACMiddleware needs obligations[{name!r}] to be an async function, got {value!r}")


def check_names(**collections: object) -> None:
    """Raise TypeError for a string, which would be taken for its letters, and for what is no collection of strings."""
    for name, value in collections.items():
        is_collection = isinstance(value, Collection) and not isinstance(value, (str, bytes))
        if not is_collection or not all(isinstance(one, str) for one in cast("Collection[object]", value)):
            raise TypeError(f"RBACMiddleware needs {name} to be a collection of strings, got {value!r}")
