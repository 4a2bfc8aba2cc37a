"""The decision itself: deny rules, then the limits of the token, then allow rules, and if none speaks, no.

    Subject ──▶ _View: the rules of his roles, inherited ones too, indexed       built once for each set of roles
    permission ──▶ _View.settle ──▶ True | False | _Open                         once for each permission, remembered
    arguments, time ──▶ _Open: the few rules with conditions that are left       each time

Everything here is synchronous, and what is remembered lives and dies with one policy.

Invariants, each a property in ``tests/rbac``:

1. A rule that denies wins over every rule that allows; a rule that cannot be evaluated denies if it may deny, and does
   not allow if it may allow.
2. What no rule allows is denied; what no scope of the token covers is denied, whatever the roles grant.
3. Adding a grant never takes access away, adding a denial never gives any.
4. Roles that exclude each other give nothing when they come together.
5. The memory is bounded: ``VIEWS`` sets of roles, ``REMEMBERED`` permissions for each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias, cast

from .checks import ancestors, rules, unmet
from .conditions import Condition, Key, Request, Subject, condition_from, is_mapping
from .permission import LONGEST, Patterns
from .rules import Grant, Parts

__all__ = ["Decision", "Engine", "Reason", "Rule", "Statistics"]

VIEWS, REMEMBERED = 1024, 4096  # whichever is full is emptied, so that keeping it costs nothing on the way

Reason: TypeAlias = Literal[
    "granted", "denied", "scope", "condition", "obligation", "default", "separation", "invalid", "anonymous"
]


class Rule(NamedTuple):
    """One rule as it is evaluated; ``id`` is its name, or its place in the policy."""

    id: str
    denies: bool
    role: str | None
    grant: Grant
    test: Condition | None
    until: float | None
    is_open: bool


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


@dataclass(frozen=True)
class _Open:
    """The rules that must be asked each time: all that may deny, and then all that may allow."""

    denies: Sequence[Rule]
    allows: Sequence[Rule]


@dataclass(frozen=True)
class _View:
    """What one set of roles may do with one set of scopes."""

    path: Mapping[str, str | None]
    rules: Patterns[Rule]
    covers: Patterns[str] | None
    held: frozenset[str] | None
    excluded: bool
    memory: dict[str, bool | _Open] = field(default_factory=dict[str, "bool | _Open"])

    def way_to(self, rule: Rule) -> tuple[str, ...]:
        """Return the roles from one that the subject has down to the one that has *rule*."""
        way: list[str] = []
        name = rule.role
        while name is not None:
            way.append(name)
            name = self.path[name]
        return tuple(reversed(way))

    def settle(self, permission: str) -> bool | _Open:
        """Return the answer, or what it depends on."""
        verdict = is_open = False
        for rule in self.rules.find(permission):
            if rule.is_open:
                is_open = True
            elif rule.denies:
                return False
            else:
                verdict = True
        if self.excluded or len(permission) > LONGEST:
            return False
        if self.covers is not None and not self.covers.find(permission):
            return False
        return _Open(*self.found(permission)) if is_open else verdict

    def found(self, permission: str) -> tuple[list[Rule], list[Rule]]:
        """Return the rules that may deny, and those that may allow."""
        found = self.rules.find(permission)
        return [rule for rule in found if rule.denies], [rule for rule in found if not rule.denies]


class Engine:
    """A compiled policy."""

    def __init__(self, parts: Parts, clock: Callable[[], float]) -> None:
        self.parts = parts
        self.rules: tuple[Rule, ...] = tuple(_compiled(parts))
        self._clock = clock
        self._by_role: dict[str | None, list[Rule]] = {}
        for rule in self.rules:
            self._by_role.setdefault(rule.role, []).append(rule)
        self._exclusive = [*parts.ssd, *parts.dsd]
        self._views: dict[object, _View] = {}
        self.memories: dict[object, dict[str, bool | _Open]] = {}  # the same as the views', one step nearer
        self.grants: Patterns[Rule] = self._index(rule for rule in self.rules if not rule.denies)

    def allowed(self, subject: Subject, permission: str, arguments: Mapping[str, Any] | None) -> bool:
        """Decide what is not in the memory, or depends on more than the permission."""
        view = self._views.get(subject.key) or self.view(subject.key)
        verdict = view.memory.get(permission)
        if verdict is None:
            verdict = _remembered(view, permission)
        if verdict is True or verdict is False:
            return verdict
        request = Request(subject, permission, arguments or {})
        if self._denier(verdict.denies, request) is not None:
            return False
        return any(self._shortfall(view, rule, request, ()).reason == "granted" for rule in verdict.allows)

    def visible(self, subject: Subject, permission: str, scopes_aside: bool) -> bool:
        """Say whether some arguments, and any scopes if they stand aside, would be allowed."""
        key = (subject.key[0], None) if scopes_aside else subject.key
        view = self._views.get(key) or self.view(key)
        verdict = view.memory.get(permission)
        if verdict is None:
            verdict = _remembered(view, permission)
        if not isinstance(verdict, _Open):
            return verdict
        return any(
            not self._is_over(rule) and (view.held is None or view.held.issuperset(rule.grant.scopes))
            for rule in verdict.allows
        )

    def decide(
        self, subject: Subject, permission: str, arguments: Mapping[str, Any] | None, fulfilled: Collection[str]
    ) -> Decision:
        """Decide, and say why; the version is for the caller to add."""
        view = self._views.get(subject.key) or self.view(subject.key)
        if view.excluded or len(permission) > LONGEST:
            return Decision(False, "separation" if view.excluded else "invalid", permission[:LONGEST])
        request = Request(subject, permission, arguments or {})
        denies, allows = view.found(permission)
        denier = self._denier(denies, request)
        if denier is not None:
            return Decision(False, "denied", permission, denier.id, view.way_to(denier))
        found = [(self._shortfall(view, rule, request, fulfilled), rule) for rule in allows]
        if not found:
            roles = {rule.role for rule in self.grants.find(permission) if rule.role is not None}
            return Decision(False, "default", permission, roles=tuple(sorted(roles)))
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

    def statistics(self) -> Statistics:
        """Count; two policies with equal counts are not equal."""
        remembered = sum(map(len, self.memories.values()))
        return Statistics(len(self.parts.roles), len(self.rules), len(self._views), remembered)

    def meaning(self, rule: Rule) -> Sequence[str]:
        """Return the patterns that *rule* stands for."""
        return self.parts.aliases.get(rule.grant.permission) or (rule.grant.permission,)

    def rules_of(self, subject: Subject) -> list[Rule]:
        """Return the rules of all roles that *subject* has, inherited ones and those for everyone among them."""
        return self._rules_under(ancestors(self.parts.roles, subject.roles))

    def _rules_under(self, roles: Iterable[str]) -> list[Rule]:
        return [rule for name in (None, *roles) for rule in self._by_role.get(name, ())]

    def _index(self, rules: Iterable[Rule]) -> Patterns[Rule]:
        return Patterns((pattern, rule) for rule in rules for pattern in self.meaning(rule))

    def _denier(self, rules: Sequence[Rule], request: Request) -> Rule | None:
        return next((rule for rule in rules if not self._is_over(rule) and _holds(rule, request, in_doubt=True)), None)

    def _is_over(self, rule: Rule) -> bool:
        return rule.until is not None and self._clock() >= rule.until

    def _shortfall(self, view: _View, rule: Rule, request: Request, fulfilled: Collection[str]) -> _Shortfall:
        """Say what keeps *rule* from allowing; scopes are named only to one for whom the rest holds."""
        if self._is_over(rule) or not _holds(rule, request, in_doubt=False):
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
        return next(([name] for name in self.parts.scopes if self._coverage([name]).find(permission)), ())

    def view(self, key: Key) -> _View:
        """Return what one set of roles and scopes may do, built if it is not at hand."""
        roles, scopes = key
        path = ancestors(self.parts.roles, roles)
        held = None if scopes is None else self._held(scopes)
        view = _View(
            path,
            rules=self._index(self._rules_under(path)),
            covers=None if held is None or not self.parts.scopes else self._coverage(held),
            held=held,
            excluded=unmet(self._exclusive, path) is not None,
        )
        if len(self._views) >= VIEWS:
            self._views.clear()
            self.memories.clear()
        self._views[key] = view
        self.memories[key] = view.memory
        return view

    def _held(self, scopes: Collection[str]) -> frozenset[str]:
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

    def _coverage(self, scopes: Iterable[str]) -> Patterns[str]:
        declared, aliases = self.parts.scopes, self.parts.aliases
        names = [name for name in self._held(list(scopes)) if name in declared]
        patterns = [(pattern, name) for name in names for pattern in declared[name].allow]
        return Patterns((meaning, name) for pattern, name in patterns for meaning in aliases.get(pattern, (pattern,)))


class _Shortfall(NamedTuple):
    reason: Reason
    scopes: tuple[str, ...] = ()
    obligations: tuple[str, ...] = ()


_NEAREST: Sequence[Reason] = ("granted", "obligation", "scope", "condition")


def _remembered(view: _View, permission: str) -> bool | _Open:
    verdict = view.settle(permission)
    if len(view.memory) >= REMEMBERED:
        view.memory.clear()
    view.memory[permission] = verdict
    return verdict


def _holds(rule: Rule, request: Request, *, in_doubt: bool) -> bool:
    """Ask the rule's condition; an exception, or an answer that is no bool, counts as *in_doubt*."""
    if rule.test is None:
        return True
    try:
        answer = cast("object", rule.test(request))
    except Exception:  # noqa: BLE001  # whatever it is, the rule cannot be evaluated
        return in_doubt
    return answer if isinstance(answer, bool) else in_doubt


def _compiled(parts: Parts) -> Iterator[Rule]:
    for place, effect, role, grant in rules(parts):
        test = condition_from(grant.when)[0] if is_mapping(grant.when) else cast("Condition | None", grant.when)
        is_open = bool(test or grant.until or grant.scopes or grant.obligations)
        until = None if grant.until is None else grant.until.timestamp()
        yield Rule(grant.name or place, effect == "deny", role, grant, test, until, is_open)
