"""Questions about a policy that no request waits for: who may, what may he, why, what is never used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .checks import ancestors
from .conditions import Subject, is_mapping
from .engine import Decision, Engine
from .outlook import Verdict, outlook, session, situations, verdict_of
from .permission import Patterns
from .rules import Problem
from .witness import depth_of, instances

__all__ = ["Holders", "explain", "lint", "permissions_of", "who_can"]

_Kind: TypeAlias = Literal["role", "user"]


@dataclass(frozen=True)
class Holders:
    """Who may, with all his roles active: always, or under conditions, in some tenants, or up to a time."""

    roles: tuple[str, ...]
    users: tuple[str, ...]
    conditional_roles: tuple[str, ...] = ()
    conditional_users: tuple[str, ...] = ()


def explain(decision: Decision, subject: Subject) -> str:
    """Put *decision* into lines."""
    who = subject.user or "someone"
    roles = ", ".join(sorted(subject.key[0])) or "none"
    lines = [
        f"{'ALLOWED' if decision.allowed else 'DENIED'} {decision.permission} to {who} (roles: {roles})",
        f"  because: {_BECAUSE[decision.reason]}",
    ]
    for name, value in {
        "rule": decision.rule,
        "through": " → ".join(decision.path),
        "missing scopes": " ".join(decision.scopes),
        "would allow, any of the roles": ", ".join(decision.roles),
        "would allow, when done": ", ".join(decision.obligations),
        "policy": decision.version,
    }.items():
        lines += [f"  {name}: {value}"] if value else []
    return "\n".join(lines)


_BECAUSE = {
    "granted": "a rule allows it",
    "denied": "a rule denies it, or could not be evaluated",
    "scope": "a rule allows it, and the token's scopes do not",
    "condition": "a rule would allow it, and its condition does not hold",
    "obligation": "a rule allows it once its obligations are met",
    "default": "no rule allows it",
    "separation": "active roles exclude each other, so that none of them counts",
    "invalid": "the request is no permission",
    "anonymous": "nobody is known to ask",
}


def who_can(engine: Engine, permission: str) -> Holders:
    """Return who may do *permission*."""
    granting = set(engine.grants.find(permission))
    found: dict[tuple[_Kind, Verdict], list[str]] = {}
    for kind, holder, sessions in _holders(engine):
        if any(not granting.isdisjoint(ancestors(engine.parts.roles, subject.roles)) for subject in sessions):
            verdict = verdict_of(outlook(engine.view(subject.key), permission) for subject in sessions)
            found.setdefault((kind, verdict), []).append(holder)
    return Holders(
        roles=tuple(sorted(found.get(("role", "allowed"), ()))),
        users=tuple(sorted(found.get(("user", "allowed"), ()))),
        conditional_roles=tuple(sorted(found.get(("role", "conditional"), ()))),
        conditional_users=tuple(sorted(found.get(("user", "conditional"), ()))),
    )


def permissions_of(engine: Engine, subject: Subject) -> tuple[str, ...]:
    """Return the patterns that allow *subject* something."""
    own = [pattern for rule in engine.rules_of(subject) if not rule.denies for pattern in engine.meaning(rule)]
    depth = depth_of(_patterns(engine, subject))
    return tuple(pattern for pattern in sorted(set(own)) if not _is_denied(engine, subject, pattern, depth))


def lint(engine: Engine, objects: Mapping[str, Iterable[object]]) -> tuple[Problem, ...]:
    """Return what does not fit to the *objects* of a server, by action; and grants that a denial always overrides."""
    problems: list[Problem] = []
    for action, items in objects.items():
        names = sorted({_name(item) for item in items})
        if names:
            problems += _unused(engine, action, [f"{action}:{name}" for name in names])
    return (*problems, *_undone(engine))


def _unused(engine: Engine, action: str, permissions: list[str]) -> Iterator[Problem]:
    used: set[int] = set()
    everything = Patterns((pattern, rule) for rule in engine.rules for pattern in engine.meaning(rule))
    for permission in permissions:
        if not engine.grants.find(permission):
            yield Problem(permission, "no role is granted this")
        used.update(id(rule) for rule in everything.find(permission))
    for rule in engine.rules:
        patterns = [pattern for pattern in engine.meaning(rule) if pattern.startswith(f"{action}:")]
        if patterns and id(rule) not in used:
            yield Problem(rule.id, f"{rule.grant.permission!r} matches nothing that the server has")


def _undone(engine: Engine) -> Iterator[Problem]:
    for rule in engine.rules:
        if not rule.denies and rule.role is not None:
            holder = Subject(roles=[rule.role])
            depth = depth_of(_patterns(engine, holder))
            if all(_is_denied(engine, holder, pattern, depth) for pattern in engine.meaning(rule)):
                yield Problem(rule.id, f"{rule.grant.permission!r} is denied to every holder of {rule.role!r}")


def _holders(engine: Engine) -> Iterator[tuple[_Kind, str, Sequence[Subject]]]:
    for role in engine.parts.roles:
        yield "role", role, [Subject(roles=[role])]
    now = engine.now()
    for user, assignments in engine.parts.users.items():
        yield "user", user, [session(assignments, one) for one in situations(assignments, now)]


def _patterns(engine: Engine, subject: Subject) -> set[str]:
    return {pattern for rule in engine.rules_of(subject) for pattern in engine.meaning(rule)}


def _is_denied(engine: Engine, subject: Subject, pattern: str, depth: int) -> bool:
    view = engine.view(subject.key)
    return all(outlook(view, one).verdict == "denied" for one in instances(pattern, depth))


def _name(item: object) -> str:
    fields = ("uri", "uriTemplate", "uri_template", "name")
    if is_mapping(item):
        found = [item.get(field) for field in fields]
    else:
        found = [getattr(item, field, None) for field in fields]
    return str(next((value for value in found if value is not None), item))
