"""Who may do what: a policy that is checked when it is made, and answers the same until it is replaced.

    policy = Policy(roles={"viewer": Role(allow=["tools/list", "tools/call:search"])})
    policy.allowed(Subject("ann", roles={"viewer"}), "tools/call:search")

The model is role-based access control as INCITS 359 describes it: core (users, roles, sessions with active roles, which
are called subjects here), hierarchical (roles inherit from any number of roles, to any depth), and constrained (static
and dynamic separation of duty).  To it come denials, conditions, and the scopes of access tokens as an upper limit.

Rejected: the highest or the most specific rule wins, which makes the meaning of a rule depend on its neighbours; an
effect of its own for each role, which lets a second role undo a denial; rules in the order of the file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from . import difference, document, review
from .checks import ancestors, problems_in, unmet
from .conditions import Subject, is_sync, with_roles
from .engine import Decision, Engine, Statistics
from .permission import LONGEST
from .rules import Assignment, Exclusive, Grant, PolicyError, Problem, Role, Scope

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Policy", "SeparationOfDuty"]


class SeparationOfDuty(ValueError):  # noqa: N818  # the standard's word
    """Roles that exclude each other were to be active together; ``exclusive`` is the constraint."""

    def __init__(self, exclusive: Exclusive) -> None:
        self.exclusive: Exclusive = exclusive
        super().__init__(f"at most {exclusive.max} of {', '.join(exclusive.roles)} may be active together")


class Policy:
    """Roles, users, aliases, scopes and constraints, compiled; immutable, and safe for tasks and threads.

    The keyword arguments are the keys of a document, and take its tables or the dataclasses of the same names:

    - ``roles``: name → ``Role``, or a table of ``allow``, ``deny`` and ``inherits``;
    - ``deny``: rules for everyone, whatever his roles;
    - ``users``: user → roles, each a name or an ``Assignment``; when there are users, roles come from here alone, but
      for those named in ``external``, which a token may bring;
    - ``aliases``: a word → the permissions it stands for in rules;
    - ``scopes``: scope of an access token → ``Scope``; when there are any, a token limits what roles grant;
    - ``ssd``, ``dsd``: ``Exclusive`` sets of roles, that nobody may have, or have active, together.

    *clock* returns the seconds since 1970, for rules that end; when it fails, what depends on the time is denied.
    Raises PolicyError with everything that is wrong.
    """

    def __init__(
        self,
        *,
        roles: Mapping[str, Role | Mapping[str, object]] | None = None,
        deny: Iterable[str | Grant | Mapping[str, object]] = (),
        users: Mapping[str, Iterable[str | Assignment | Mapping[str, object]]] | None = None,
        external: Iterable[str] | None = None,
        aliases: Mapping[str, Iterable[str]] | None = None,
        scopes: Mapping[str, Scope | Mapping[str, object]] | None = None,
        ssd: Iterable[Exclusive | Mapping[str, object]] = (),
        dsd: Iterable[Exclusive | Mapping[str, object]] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        tables = {"roles": roles, "users": users, "aliases": aliases, "scopes": scopes}
        given = {key: table for key, table in tables.items() if table is not None}
        self._become({**given, "deny": deny, "external": external, "ssd": ssd, "dsd": dsd}, clock)

    def _become(self, source: object, clock: Callable[[], float]) -> None:
        if not is_sync(clock):
            raise TypeError(f"Policy needs clock to be a sync function, got {clock!r}")
        parts, problems = document.read(source)
        problems += problems_in(parts)
        if problems:
            raise PolicyError(problems)
        self._parts = parts
        self._admitted = parts.admitted
        self._engine = Engine(parts, clock)
        self._memories = self._engine.memories

    @classmethod
    def from_dict(cls, source: object, *, clock: Callable[[], float] = time.time) -> Self:
        """Make a policy of the mapping that any parser returned, of YAML for example; raises PolicyError."""
        policy = cls.__new__(cls)
        cls._become(policy, source, clock)
        return policy

    @classmethod
    def from_json(cls, text: str | bytes, *, clock: Callable[[], float] = time.time) -> Self:
        """Make a policy of JSON, in which no key is repeated; raises PolicyError."""
        return cls.from_dict(document.parse_json(text), clock=clock)

    @classmethod
    def from_toml(cls, text: str, *, clock: Callable[[], float] = time.time) -> Self:
        """Make a policy of TOML; raises PolicyError, and ModuleNotFoundError on Python 3.10, which cannot read it."""
        return cls.from_dict(document.parse_toml(text), clock=clock)

    @property
    def current(self) -> Self:
        """This policy: what a ``LivePolicy`` has under the same name may change."""
        return self

    @cached_property
    def version(self) -> str:
        """A hash of what the policy says, 16 hexadecimal digits; a condition in Python counts by its name alone."""
        return document.version_of(self.dump())

    def statistics(self) -> Statistics:
        """Return how large the policy is and how much it remembers."""
        return self._engine.statistics()

    def dump(self) -> dict[str, Any]:
        """Return the canonical document, of which ``from_dict`` makes an equal policy if it has no Python in it."""
        return document.dump(self._parts)

    @property
    def aliases(self) -> Collection[str]:
        """The words that stand for permissions."""
        return self._parts.aliases.keys()

    def patterns(self) -> Iterator[tuple[str, str]]:
        """Yield the place and the text of every pattern, aliases and scopes included."""
        parts = self._parts
        found = [(rule.id, rule.grant.permission) for rule in self._engine.rules]
        found += [(f"scopes.{name}.allow", pattern) for name, scope in parts.scopes.items() for pattern in scope.allow]
        yield from ((place, pattern) for place, pattern in found if pattern not in parts.aliases)
        yield from ((f"aliases.{name}", pattern) for name, meaning in parts.aliases.items() for pattern in meaning)

    def subject(
        self,
        user: str | None,
        *,
        external: Collection[str] = (),
        active: Collection[str] | None = None,
        scopes: Collection[str] | None = None,
        tenant: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> Subject:
        """Begin a session: the roles assigned to *user*, and those of *external* that the policy lets others assign.

        *active* chooses among them; without it all are active.  The roles are those of this policy at this time: begin
        another session when either may have changed.  Raises ValueError for a role he does not have, SeparationOfDuty
        for roles that exclude each other, and what the clock raises.
        """
        given = Subject(user, external, scopes, tenant, attributes or {})
        roles = self._assigned(user, tenant) | (given.key[0] & self._admitted)
        chosen = roles if active is None else frozenset(active)
        if strangers := chosen - roles:
            raise ValueError(f"subject needs active roles that {user!r} has, got {', '.join(sorted(strangers))}")
        exclusives = [*self._parts.ssd, *self._parts.dsd]
        if exclusives and (broken := unmet(exclusives, ancestors(self._parts.roles, chosen))):
            raise SeparationOfDuty(broken)
        return with_roles(given, chosen)

    def allowed(self, subject: Subject, permission: str, arguments: Mapping[str, Any] | None = None) -> bool:
        """Say whether *subject* may; a grant with obligations does not count.  Never waits, never raises."""
        # Flat, and through the exception: the usual case is two look-ups, 0.6 of what any further call would make it.
        try:
            return self._memories[subject.key][permission]
        except (KeyError, TypeError):  # not remembered, or nothing that can be
            return self._engine.allowed(subject, permission, arguments)
        except AttributeError:  # it is no subject
            return False

    def visible(self, subject: Subject, permission: str, *, scopes_aside: bool = False) -> bool:
        """Say whether *subject* may, or would with other arguments, an obligation met, or other scopes if so wished.

        This is what a list shows: a condition is given the benefit of the doubt, here alone.
        """
        try:
            verdict = self._memories[subject.key][permission]
        except (KeyError, TypeError):
            return self._engine.visible(subject, permission, scopes_aside)
        except AttributeError:
            return False
        return verdict or (scopes_aside and self._engine.visible(subject, permission, scopes_aside))

    def decide(
        self,
        subject: Subject,
        permission: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        fulfilled: Collection[str] = (),
        advise: bool = True,
    ) -> Decision:
        """Decide like ``allowed``, with the reason and what is lacking; *fulfilled* names obligations that are met.

        Without *advise*, no time is spent on the roles that would allow what no rule does: how long it takes tells how
        many there are.  Raises TypeError if *fulfilled* is a text, of which many a name is a part.
        """
        names = cast("object", fulfilled)
        if isinstance(names, (str, bytes)) or not isinstance(names, Collection):
            raise TypeError(f"decide needs fulfilled to be a collection of names, such as ['approve'], got {names!r}")
        if not isinstance(cast("object", subject), Subject):
            return Decision(False, "anonymous", f"{permission}"[:LONGEST], version=self.version)
        decision = self._engine.decide(subject, permission, arguments, fulfilled)
        roles = set(self._engine.grants.find(permission)) if advise and decision.reason == "default" else ()
        return replace(decision, version=self.version, roles=tuple(sorted(roles)))

    def explain(self, subject: Subject, permission: str, arguments: Mapping[str, Any] | None = None) -> str:
        """Return the decision as lines of text: verdict, rule and way to it, and what would allow."""
        return review.explain(self.decide(subject, permission, arguments), subject)

    def expect(
        self,
        subject: Subject,
        *,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """Raise AssertionError that explains each permission decided otherwise: the unit test of a policy."""
        wrong = [name for name in allow if not self.allowed(subject, name, arguments)]
        wrong += [name for name in deny if self.allowed(subject, name, arguments)]
        if wrong:
            raise AssertionError("\n\n".join(self.explain(subject, name, arguments) for name in wrong))

    def who_can(self, permission: str) -> review.Holders:
        """Return the roles and users that may, and those that may under conditions, in some tenants or for a time."""
        return review.who_can(self._engine, permission)

    def permissions_of(self, subject: Subject) -> tuple[str, ...]:
        """Return the patterns that allow *subject* something, conditions aside, those that a denial covers left out."""
        return review.permissions_of(self._engine, subject)

    def diff(self, newer: Policy) -> tuple[difference.Change, ...]:
        """Return who gains and loses what when *newer* takes the place of this policy; empty if nobody does.

        A condition in Python is another unless it is the same object.
        """
        return difference.diff(self._engine, newer._engine)

    def lint(
        self,
        tools: Iterable[object] = (),
        *,
        prompts: Iterable[object] = (),
        resources: Iterable[object] = (),
    ) -> tuple[Problem, ...]:
        """Compare with what a server has: what nobody may use, and rules that match nothing there.

        Takes names and URIs, or the SDK's objects and wire dicts that have them.  A kind that is empty is not compared.
        """
        objects = {"tools/call": tools, "prompts/get": prompts, "resources/read": resources}
        return review.lint(self._engine, objects)

    def _assigned(self, user: str | None, tenant: str | None) -> frozenset[str]:
        mine = self._parts.users.get(cast("str", user), ())  # None is nobody's name
        now = self._engine.now() if any(one.until for one in mine) else 0.0
        return frozenset(one.role for one in mine if one.holds(tenant, now))
