"""Rules as they are evaluated, and those of one set of roles, indexed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from .checks import rules
from .conditions import Condition, condition_from, is_mapping
from .permission import Patterns
from .rules import Grant, Parts

__all__ = ["Open", "Rule", "View", "compiled"]


@dataclass(eq=False, slots=True)
class Rule:
    """One rule as it is evaluated; ``id`` is its name, or its place in the policy."""

    id: str
    denies: bool
    role: str | None
    grant: Grant
    test: Condition | None
    until: float | None
    is_open: bool


@dataclass(frozen=True)
class Open:
    """The rules that must be asked each time: all that may deny, and then all that may allow."""

    denies: Sequence[Rule]
    allows: Sequence[Rule]


@dataclass(frozen=True)
class View:
    """What one set of roles may do with one set of scopes."""

    path: Mapping[str, str | None]
    rules: Patterns[Rule]  # none where the roles exclude each other
    covers: Patterns[str] | None
    held: frozenset[str] | None
    excluded: bool
    settled: dict[str, bool] = field(default_factory=dict[str, bool])
    unsettled: dict[str, Open] = field(default_factory=dict[str, Open])

    def way_to(self, rule: Rule) -> tuple[str, ...]:
        """Return the roles from one that the subject has down to the one that has *rule*."""
        way: list[str] = []
        name = rule.role
        while name is not None:
            way.append(name)
            name = self.path[name]
        return tuple(reversed(way))

    def forget(self) -> None:
        """Remember nothing."""
        self.settled.clear()
        self.unsettled.clear()

    def settle(self, permission: str) -> bool | Open:
        """Return the answer, or what it depends on."""
        verdict = is_open = False
        for rule in self.rules.find(permission):
            if rule.is_open:
                is_open = True
            elif rule.denies:
                return False
            else:
                verdict = True
        if self.covers is not None and not self.covers.find(permission):
            return False
        return Open(*self.found(permission)) if is_open else verdict

    def found(self, permission: str) -> tuple[list[Rule], list[Rule]]:
        """Return the rules that may deny, and those that may allow."""
        found = self.rules.find(permission)
        return [rule for rule in found if rule.denies], [rule for rule in found if not rule.denies]


def compiled(parts: Parts) -> Iterator[Rule]:
    """Yield the rules of *parts*."""
    for place, denies, role, grant in rules(parts):
        when = grant.when  # most rules have none, and for None an abstract class is slow to say no
        test = condition_from(when)[0] if when is not None and is_mapping(when) else cast("Condition | None", when)
        is_open = test is not None or grant.until is not None or bool(grant.scopes or grant.obligations)
        until = None if grant.until is None else grant.until.timestamp()
        yield Rule(grant.name or place, denies, role, grant, test, until, is_open)
