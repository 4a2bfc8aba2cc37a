"""What a policy consists of, as frozen values; a document spells the same names.

roles.editor = Role(inherits=["viewer"], allow=["tools/call:edit", Grant("tools/call:publish", until=…)], deny=[…])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

from .conditions import Condition

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Assignment", "Exclusive", "Grant", "Parts", "PolicyError", "Problem", "Role", "Scope", "meant"]


@dataclass(frozen=True)
class Grant:
    """A permission given, or taken, under conditions; in a document a table with these keys.

    *when* is a sync function of a ``Request`` that returns True, or a table of comparisons.  *until* ends the rule; it
    must have a time zone.  *scopes* are those of the access token that this rule needs, all of them.  *obligations* are
    names of what must be done before the permission holds, such as an approval.
    """

    permission: str
    when: Condition | Mapping[str, Any] | None = None
    until: datetime | None = None
    scopes: Sequence[str] = ()
    obligations: Sequence[str] = ()
    name: str | None = None


@dataclass(frozen=True)
class Role:
    """What its holders may do, what they may not whatever else they hold, and the roles whose rules are theirs too."""

    allow: Sequence[str | Grant] = ()
    deny: Sequence[str | Grant] = ()
    inherits: Sequence[str] = ()


@dataclass(frozen=True)
class Scope:
    """What a token with this scope may be used for, by roles that grant it; *implies* names scopes it contains.

    A name that ends in ``:*`` contains every declared scope that begins so.
    """

    allow: Sequence[str] = ()
    implies: Sequence[str] = ()


@dataclass(frozen=True)
class Assignment:
    """A role of a user: in one tenant if *tenant* is given, up to a time if *until* is."""

    role: str
    tenant: str | None = None
    until: datetime | None = None

    def holds(self, tenant: str | None, now: float) -> bool:
        """Say whether the user has the role in *tenant* at *now*, in seconds since 1970."""
        return self.tenant in (None, tenant) and (self.until is None or now < self.until.timestamp())


@dataclass(frozen=True)
class Exclusive:
    """At most *max* of these roles may come together, inherited ones counted."""

    roles: Sequence[str]
    max: int = 1


class Problem(NamedTuple):
    """One thing wrong with a policy: where, and what."""

    place: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class PolicyError(ValueError):
    """A policy that must not be used; ``problems`` has everything that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        count = len(self.problems)
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(f"{count} {'problem' if count == 1 else 'problems'} in the policy\n{lines}")


@dataclass(frozen=True)
class Parts:
    """A policy that has been read: sequences are tuples, rules are ``Grant``, and times are in UTC."""

    roles: Mapping[str, Role] = field(default_factory=dict[str, Role])
    deny: Sequence[Grant] = ()
    users: Mapping[str, Sequence[Assignment]] = field(default_factory=dict[str, "Sequence[Assignment]"])
    external: Sequence[str] | None = None
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict[str, "Sequence[str]"])
    scopes: Mapping[str, Scope] = field(default_factory=dict[str, Scope])
    ssd: Sequence[Exclusive] = ()
    dsd: Sequence[Exclusive] = ()

    @property
    def admitted(self) -> frozenset[str]:
        """The roles that others may assign: those that are named, or all if the policy assigns none itself."""
        if self.external is None:
            return frozenset(() if self.users else self.roles)
        return frozenset(self.external)


def meant(word: str, known: Iterable[str]) -> str:
    """Return ``, did you mean …?`` for the nearest of *known*, or nothing."""
    near = get_close_matches(word, list(known))
    return f", did you mean {near[0]!r}?" if near else ""
