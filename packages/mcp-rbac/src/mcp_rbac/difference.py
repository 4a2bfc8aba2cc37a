"""Who gains and loses what when one policy takes the place of another.

Compared are roles and users, and what stands between them and their permissions: which roles a token may bring, what
its scopes cover, and which roles exclude each other.  Few questions stand for all (``witness.py``).

Invariant, a property in ``tests/rbac``: where nothing is reported, no session is decided otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

from .conditions import Subject
from .engine import Engine
from .outlook import Outlook, Verdict, outlook, session, situations, terms, verdict_of
from .rules import Parts
from .view import View
from .witness import depth_of, instances, overlaps

__all__ = ["Change", "diff"]

_Kind: TypeAlias = Literal["duty", "external", "role", "scope", "user"]
_Outlooks: TypeAlias = tuple[Outlook, ...]
_Ask: TypeAlias = Callable[[str], _Outlooks]
_YES, _NO = Outlook(frozenset({""}), frozenset()), Outlook(frozenset(), frozenset())


@dataclass(frozen=True)
class Change:
    """What a new policy does to one holder of a permission.

    The holder is a role, a user, an ``external`` role, that is one that a token may bring, a ``scope``, whose
    permissions are what it covers, or a ``duty``, roles that exclude each other.  Where *before* and *after* are equal,
    what stands behind the word is not: other conditions, tenants or times, or a denial that counts beside other roles.
    """

    kind: _Kind
    holder: str
    permission: str
    before: Verdict
    after: Verdict


def diff(old: Engine, new: Engine) -> tuple[Change, ...]:
    """Return who gains and loses what: whole patterns, what two of them have in common, and ``**`` of some depth."""
    duties = _of_duties(old.parts, new.parts)
    changes = [*duties, *_of_scopes(old, new)]
    for kind, holder, before, after in _sessions(old, new):
        touched = {pattern for *_, pattern in _effects(old, before) ^ _effects(new, after)}
        if touched or duties:
            patterns = _patterns(old, before) | _patterns(new, after)
            was, will = (
                partial(_outlooks, [engine.view(subject.key) for subject in sessions])
                for engine, sessions in ((old, before), (new, after))
            )
            changes += _changes(kind, holder, _changed(was, will, patterns, touched))
    return tuple(sorted(changes, key=lambda change: (change.kind, change.holder)))


def _sessions(old: Engine, new: Engine) -> Iterator[tuple[_Kind, str, Sequence[Subject], Sequence[Subject]]]:
    """Yield every holder with the sessions that he has under each policy, in pairs."""
    roles, users = ((getattr(old.parts, name), getattr(new.parts, name)) for name in ("roles", "users"))
    for role in {*roles[0], *roles[1]}:
        yield "role", role, [Subject(roles=[role])], [Subject(roles=[role])]
    for role in (old.parts.admitted ^ new.parts.admitted) & roles[0].keys() & roles[1].keys():
        before, after = (Subject(roles={role} & parts.admitted) for parts in (old.parts, new.parts))
        yield "external", role, [before], [after]
    for user in {*users[0], *users[1]}:
        was, will = (table.get(user, ()) for table in users)
        when = situations([*was, *will], old.now())
        yield "user", user, [session(was, one) for one in when], [session(will, one) for one in when]


def _effects(engine: Engine, sessions: Sequence[Subject]) -> set[tuple[int, bool, str, str]]:
    return {
        (number, rule.denies, terms(rule), pattern)
        for number, subject in enumerate(sessions)
        for rule in engine.rules_of(subject)
        for pattern in engine.meaning(rule)
    }


def _patterns(engine: Engine, sessions: Sequence[Subject]) -> set[str]:
    return {pattern for *_, pattern in _effects(engine, sessions)}


def _outlooks(views: Sequence[View], permission: str) -> _Outlooks:
    return tuple(outlook(view, permission) for view in views)


def _changes(kind: _Kind, holder: str, found: dict[str, tuple[_Outlooks, _Outlooks]]) -> list[Change]:
    return [Change(kind, holder, one, verdict_of(was), verdict_of(will)) for one, (was, will) in sorted(found.items())]


def _changed(
    before: _Ask, after: _Ask, patterns: set[str], touched: set[str]
) -> dict[str, tuple[_Outlooks, _Outlooks]]:
    """Return what is decided otherwise, each once: not the part where the whole has changed alike."""
    depth = depth_of(patterns)
    found: dict[str, tuple[_Outlooks, _Outlooks]] = {}
    for pattern, wholes in {**dict.fromkeys(patterns, ()), **overlaps(touched, patterns)}.items():
        pairs = {one: (before(one), after(one)) for one in instances(pattern, depth)}
        *_, own = pairs.values()
        known = [found.get(whole) for whole in wholes]
        if own not in known:
            found[pattern] = own
        found.update({one: pair for one, pair in pairs.items() if pair not in (own, *known)})
    return {one: pair for one, pair in found.items() if pair[0] != pair[1]}


def _of_duties(old: Parts, new: Parts) -> list[Change]:
    before, after = ({(one.max, frozenset(one.roles)) for one in (*parts.ssd, *parts.dsd)} for parts in (old, new))
    changes: list[tuple[set[tuple[int, frozenset[str]]], Verdict, Verdict]] = [
        (before - after, "denied", "allowed"),
        (after - before, "allowed", "denied"),
    ]
    return [
        Change("duty", f"at most {most} of {', '.join(sorted(roles))}", "**", was, will)
        for duties, was, will in changes
        for most, roles in duties
    ]


def _of_scopes(old: Engine, new: Engine) -> Iterator[Change]:
    for name in {*old.parts.scopes, *new.parts.scopes}:
        before, after = ({pattern for pattern, _ in engine.coverage([name])} for engine in (old, new))
        ends = {"**"} if bool(old.parts.scopes) is not bool(new.parts.scopes) else set[str]()
        was, will = (partial(_covers, engine.view((frozenset(), frozenset([name])))) for engine in (old, new))
        # What is lost where two patterns meet is lost with the whole of either: there are no denials.
        found = _changed(was, will, before | after | ends, touched=set())
        if not found and old.held([name]) != new.held([name]):  # which only rules that name scopes can tell
            yield Change("scope", name, "**", "conditional", "conditional")
        yield from _changes("scope", name, found)


def _covers(view: View, permission: str) -> _Outlooks:
    return (_YES if view.covers is None or view.covers.find(permission) else _NO,)
