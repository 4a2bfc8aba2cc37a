"""The decision itself: deny rules, then the limits of the token, then allow rules, and if none speaks, no.

    Subject ──▶ View: the rules of his roles, inherited ones too, indexed       built once for each set of roles
    permission ──▶ View.settle ──▶ True | False | Open                         once for each permission, remembered
    arguments, time ──▶ Open: the few rules with conditions that are left       each time

Everything here is synchronous, and what is remembered lives and dies with one policy.

Invariants, each a property in ``tests/rbac``:

1. A rule that denies wins over every rule that allows; a rule that cannot be evaluated denies if it may deny, and does
   not allow if it may allow.
2. What no rule allows is denied; what no scope of the token covers is denied, whatever the roles grant.
3. Adding a grant never takes access away, adding a denial never gives any.
4. Roles that exclude each other give nothing when they come together.
5. The memory is bounded: ``VIEWS`` sets of roles, ``REMEMBERED`` decisions, none of more than ``MEMORABLE`` characters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, cast

from .checks import ancestors, unmet
from .conditions import Key, Request, Subject
from .permission import LONGEST, Patterns
from .rules import Parts
from .view import Open, Rule, View, compiled

__all__ = ["Decision", "Engine", "Reason", "Statistics"]

VIEWS, REMEMBERED = 1024, 65_536  # whichever is full, all is forgotten, so that keeping it costs nothing on the way
MEMORABLE = 256  # characters; names are shorter, and what a caller makes up must not be stored by the megabyte

Reason: TypeAlias = Literal[
    "granted", "denied", "scope", "condition", "obligation", "default", "separation", "invalid", "anonymous"
]


@dataclass(frozen=True)
class Decision:
    """What was decided, and why.

    ``rule`` decided, or is the one that came nearest; ``path`` leads from the role the subject has to the role that has
    the rule.  ``scopes``, ``roles`` and ``obligations`` say what is lacking: all of the scopes and obligations, any one
    of the roles.  ``version`` is the policy's.
    """

    allowed: bool
    reason: Reason
    permission: str
    rule: str | None = None
    path: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    obligations: tuple[str, ...] = ()
    version: str = ""


@dataclass(frozen=True)
class Statistics:
    """How large a policy is, and how much it remembers: sets of roles and scopes, and decisions of all of them."""

    roles: int
    rules: int
    sets: int
    remembered: int


class Engine:
    """A compiled policy."""

    def __init__(self, parts: Parts, clock: Callable[[], float]) -> None:
        self.parts = parts
        self.rules: tuple[Rule, ...] = tuple(compiled(parts))
        self._clock = clock
        self._by_role: dict[str | None, list[Rule]] = {}
        for rule in self.rules:
            self._by_role.setdefault(rule.role, []).append(rule)
        self._exclusive = [*parts.ssd, *parts.dsd]
        self._views: dict[Key, View] = {}
        self.memories: dict[Key, dict[str, bool]] = {}  # what is settled in the views, one step nearer
        self._remembered = 0
        self.grants: Patterns[str] = Patterns(  # the roles that are granted something
            (pattern, rule.role)
            for rule in self.rules
            if not rule.denies and rule.role is not None
            for pattern in self.meaning(rule)
        )

    def allowed(self, subject: Subject, permission: str, arguments: Mapping[str, Any] | None) -> bool:
        """Decide what is not in the memory, or depends on more than the permission."""
        view = self._views.get(subject.key) or self.view(subject.key)
        verdict = self._verdict(view, permission)
        if not isinstance(verdict, Open):
            return verdict
        request, now = Request(subject, permission, arguments or {}), self._moment()
        if now is None or _denier(verdict.denies, request, now) is not None:
            return False
        return any(self._shortfall(view, rule, request, now, ()).reason == "granted" for rule in verdict.allows)

    def visible(self, subject: Subject, permission: str, scopes_aside: bool) -> bool:
        """Say whether some arguments, and any scopes if they stand aside, would be allowed."""
        key = (subject.key[0], None) if scopes_aside else subject.key
        view = self._views.get(key) or self.view(key)
        verdict = self._verdict(view, permission)
        if not isinstance(verdict, Open):
            return verdict
        now = self._moment()
        if now is None or any(rule.test is None and not _is_over(rule, now) for rule in verdict.denies):
            return False
        return any(
            not _is_over(rule, now) and (view.held is None or view.held.issuperset(rule.grant.scopes))
            for rule in verdict.allows
        )

    def decide(
        self, subject: Subject, permission: str, arguments: Mapping[str, Any] | None, fulfilled: Collection[str]
    ) -> Decision:
        """Decide, and say why; the version, and the roles that would do, are for the caller to add."""
        view = self._views.get(subject.key) or self.view(subject.key)
        if view.excluded or not _is_permission(permission):
            return Decision(False, "separation" if view.excluded else "invalid", f"{permission}"[:LONGEST])
        request, now = Request(subject, permission, arguments or {}), self._moment()
        denies, allows = view.found(permission)
        if now is None:
            if any(rule.is_open for rule in (*denies, *allows)):
                return Decision(False, "condition", permission)
            now = 0.0  # which none of them looks at
        denier = _denier(denies, request, now)
        if denier is not None:
            return Decision(False, "denied", permission, denier.id, view.way_to(denier))
        found = [(self._shortfall(view, rule, request, now, fulfilled), rule) for rule in allows]
        if not found:
            return Decision(False, "default", permission)
        nearest, rule = min(found, key=lambda pair: _NEAREST.index(pair[0].reason))
        return Decision(
            nearest.reason == "granted",
            nearest.reason,
            permission,
            rule.id,
            view.way_to(rule),
            scopes=nearest.scopes,
            obligations=nearest.obligations,
        )

    def now(self) -> float:
        """Return the time by the policy's clock; raises what that raises, and ValueError for what is no time."""
        now = cast("object", self._clock())
        if not isinstance(now, (int, float)) or not math.isfinite(now):
            raise ValueError(f"the clock of the policy needs to return seconds, got {now!r}")
        return now

    def _moment(self) -> float | None:
        try:
            return self.now()
        except Exception:  # noqa: BLE001  # without a time, what may have ended is denied
            return None

    def statistics(self) -> Statistics:
        """Count; two policies with equal counts are not equal."""
        return Statistics(len(self.parts.roles), len(self.rules), len(self._views), self._remembered)

    def meaning(self, rule: Rule) -> Sequence[str]:
        """Return the patterns that *rule* stands for."""
        return self.parts.aliases.get(rule.grant.permission, (rule.grant.permission,))

    def rules_of(self, subject: Subject) -> list[Rule]:
        """Return the rules of all roles that *subject* has, inherited ones and those for everyone among them."""
        return self._rules_under(ancestors(self.parts.roles, subject.roles))

    def _rules_under(self, roles: Iterable[str]) -> list[Rule]:
        return [rule for name in (None, *roles) for rule in self._by_role.get(name, ())]

    def _verdict(self, view: View, permission: str) -> bool | Open:
        """Return what is settled about *permission* or what it depends on, from the memory or into it."""
        if not _is_permission(permission):
            return False
        verdict = view.settled.get(permission)
        found = view.unsettled.get(permission) if verdict is None else verdict
        if found is not None:
            return found
        found = view.settle(permission)
        if len(permission) <= MEMORABLE:
            self._remember(view, permission, found)
        return found

    def _remember(self, view: View, permission: str, verdict: bool | Open) -> None:
        if self._remembered >= REMEMBERED:
            for one in list(self._views.values()):
                one.forget()
            self._remembered = 0
        self._remembered += 1
        if isinstance(verdict, Open):
            view.unsettled[permission] = verdict
        else:
            view.settled[permission] = verdict

    def _shortfall(
        self, view: View, rule: Rule, request: Request, now: float, fulfilled: Collection[str]
    ) -> _Shortfall:
        """Say what keeps *rule* from allowing; scopes are named only to one for whom the rest holds."""
        if _is_over(rule, now) or not _holds(rule, request):
            return _Shortfall("condition")
        scopes = [scope for scope in rule.grant.scopes if view.held is not None and scope not in view.held]
        if view.covers is not None and not view.covers.find(request.permission):
            scopes += [scope for scope in self._covering(request.permission) if scope not in scopes]
            return _Shortfall("scope", tuple(scopes))
        if scopes:
            return _Shortfall("scope", tuple(scopes))
        lacking = tuple(name for name in rule.grant.obligations if name not in fulfilled)
        return _Shortfall("obligation", obligations=lacking) if lacking else _Shortfall("granted")

    def _covering(self, permission: str) -> Sequence[str]:
        """Return the scope to ask for: the first in the policy that covers *permission*."""
        return next(([name] for name in self.parts.scopes if Patterns(self.coverage([name])).find(permission)), ())

    def view(self, key: Key) -> View:
        """Return what one set of roles and scopes may do, built if it is not at hand."""
        roles, scopes = key
        path = ancestors(self.parts.roles, roles)
        held = None if scopes is None else self.held(scopes)
        excluded = unmet(self._exclusive, path) is not None
        rules = () if excluded else self._rules_under(path)
        view = View(
            path,
            rules=Patterns((pattern, rule) for rule in rules for pattern in self.meaning(rule)),
            covers=None if held is None or not self.parts.scopes else Patterns(self.coverage(held)),
            held=held,
            excluded=excluded,
        )
        if len(self._views) >= VIEWS:
            self._views.clear()
            self.memories.clear()
            self._remembered = 0
        self._views[key] = view
        self.memories[key] = view.settled
        return view

    def held(self, scopes: Collection[str]) -> frozenset[str]:
        """Return *scopes* and all they imply."""
        declared, found, front = self.parts.scopes, set(scopes), list(scopes)
        while front:
            name = front.pop()
            implied = [*declared[name].implies] if name in declared else []
            if name.endswith(":*"):
                implied += [other for other in declared if other.startswith(name[:-1])]
            front += [other for other in implied if other not in found]
            found.update(implied)
        return frozenset(found)

    def coverage(self, scopes: Iterable[str]) -> list[tuple[str, str]]:
        """Return the patterns that *scopes* cover, each with the scope that does."""
        declared, aliases = self.parts.scopes, self.parts.aliases
        names = [name for name in self.held(list(scopes)) if name in declared]
        patterns = [(pattern, name) for name in names for pattern in declared[name].allow]
        return [(meaning, name) for pattern, name in patterns for meaning in aliases.get(pattern, (pattern,))]


class _Shortfall(NamedTuple):
    reason: Reason
    scopes: tuple[str, ...] = ()
    obligations: tuple[str, ...] = ()


_NEAREST: Sequence[Reason] = ("granted", "obligation", "scope", "condition")


def _is_permission(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST


def _denier(rules: Sequence[Rule], request: Request, now: float) -> Rule | None:
    return next((rule for rule in rules if not _is_over(rule, now) and _holds(rule, request)), None)


def _is_over(rule: Rule, now: float) -> bool:
    return rule.until is not None and now >= rule.until


def _holds(rule: Rule, request: Request) -> bool:
    """Ask the rule's condition; an exception, or an answer that is no bool, holds against the request."""
    if rule.test is None:
        return True
    try:
        answer = cast("object", rule.test(request))
    except Exception:  # noqa: BLE001  # whatever it is, the rule cannot be evaluated
        return rule.denies
    return answer if isinstance(answer, bool) else rule.denies
