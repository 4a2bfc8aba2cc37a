"""What is wrong with a policy that is well written: names of nothing, circles, contradictions, dead rules.

Each check reports all it finds.  None depends on what another found, so that one run shows everything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TypeAlias, cast

from .conditions import condition_from, is_mapping
from .permission import Patterns, fault_in
from .rules import Exclusive, Grant, Parts, Problem, Role, meant

__all__ = ["ancestors", "problems_in", "rules", "unmet"]

HINTS = 20  # "did you mean" for so many names; one takes 0.2 s where there are 10,000 roles


def problems_in(parts: Parts) -> list[Problem]:
    """Return every fault of *parts*."""
    return [problem for check in _CHECKS for problem in check(parts)]


def unmet(exclusives: Sequence[Exclusive], roles: Collection[str]) -> Exclusive | None:
    """Return the first of *exclusives* that *roles*, inherited ones among them, break."""
    return next((one for one in exclusives if sum(role in roles for role in one.roles) > one.max), None)


def ancestors(roles: Mapping[str, Role], names: Collection[str]) -> dict[str, str | None]:
    """Return the known ones of *names* and all they inherit from, each with the role that brought it, nearest first."""
    found: dict[str, str | None] = {name: None for name in sorted(names) if name in roles}
    waiting = list(found)
    for heir in waiting:  # which grows on the way
        above = [name for name in roles[heir].inherits if name in roles and name not in found]
        found.update(dict.fromkeys(above, heir))
        waiting += above
    return found


def _unknown_names(parts: Parts) -> Iterator[Problem]:
    hints: dict[str, str] = {}
    for place, names, known, kind in _references(parts):
        for number, name in [(number, name) for number, name in enumerate(names) if name not in known]:
            if len(hints) < HINTS:
                hints.setdefault(name, meant(name, known))
            yield Problem(f"{place}[{number}]", f"unknown {kind} {name!r}{hints.get(name, '')}")


def _references(parts: Parts) -> Iterator[tuple[str, Sequence[str], Collection[str], str]]:
    roles, scopes = parts.roles, parts.scopes
    for name, role in roles.items():
        yield f"roles.{name}.inherits", role.inherits, roles, "role"
    for user, assignments in parts.users.items():
        yield f"users.{user}", [assignment.role for assignment in assignments], roles, "role"
    yield "external", parts.external or (), roles, "role"
    for kind, exclusives in (("ssd", parts.ssd), ("dsd", parts.dsd)):
        for number, exclusive in enumerate(exclusives):
            yield f"{kind}[{number}].roles", exclusive.roles, roles, "role"
    for name, scope in scopes.items():
        yield f"scopes.{name}.implies", scope.implies, scopes, "scope"


def rules(parts: Parts) -> Iterator[tuple[str, bool, str | None, Grant]]:
    """Yield of every rule its place, whether it denies, its role and its text; a denial for everyone has no role."""
    for number, grant in enumerate(parts.deny):
        yield f"deny[{number}]", True, None, grant
    for name, role in parts.roles.items():
        for number, grant in enumerate(cast("Sequence[Grant]", role.deny)):
            yield f"roles.{name}.deny[{number}]", True, name, grant
        for number, grant in enumerate(cast("Sequence[Grant]", role.allow)):
            yield f"roles.{name}.allow[{number}]", False, name, grant


def _bad_rules(parts: Parts) -> Iterator[Problem]:
    names: dict[str, str] = {}
    for place, denies, _, grant in rules(parts):
        if grant.permission not in parts.aliases and (fault := fault_in(grant.permission)):
            yield Problem(place, fault + meant(grant.permission, parts.aliases))
        if grant.when is not None and is_mapping(grant.when):
            for where, fault in condition_from(grant.when)[1]:
                yield Problem(".".join(filter(None, (place, "when", where))), fault)
        if grant.name is not None and names.setdefault(grant.name, place) is not place:
            yield Problem(f"{place}.name", f"{grant.name!r} is the name of {names[grant.name]} already")
        if denies and (grant.scopes or grant.obligations):
            yield Problem(place, "a denial takes neither scopes nor obligations: it would hold for some tokens only")
        for number, scope in enumerate(grant.scopes if parts.scopes else ()):
            if scope not in parts.scopes:
                yield Problem(f"{place}.scopes[{number}]", f"unknown scope {scope!r}{meant(scope, parts.scopes)}")


def _bad_patterns(parts: Parts) -> Iterator[Problem]:
    patterns: list[tuple[str, str]] = [
        (f"aliases.{name}", pattern) for name, meaning in parts.aliases.items() for pattern in meaning
    ]
    for name, scope in parts.scopes.items():
        patterns += [(f"scopes.{name}.allow", pattern) for pattern in scope.allow if pattern not in parts.aliases]
    yield from (Problem(place, fault) for place, pattern in patterns if (fault := fault_in(pattern)))
    for name, meaning in parts.aliases.items():
        if not meaning or not parts.aliases.keys().isdisjoint(meaning):
            yield Problem(f"aliases.{name}", "an alias stands for one permission or more, and for no alias")
        if "*" in name or "/" in name.partition(":")[0]:
            # A rule that reads like a permission must be about that permission, or a denial of it denies another.
            yield Problem(
                f"aliases.{name}", f"{name!r} is a permission or a pattern, and an alias is a word for others"
            )


def _circles(parts: Parts) -> Iterator[Problem]:
    parents = {name: role.inherits for name, role in parts.roles.items()}
    implied = {name: scope.implies for name, scope in parts.scopes.items()}
    for kind, verb, above in (("roles", "inherits from", parents), ("scopes", "implies", implied)):
        for circle in _circles_of(above):
            yield Problem(f"{kind}.{circle[0]}", f"{verb} itself: {' → '.join([*circle, circle[0]])}")


def _circles_of(above: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    left = dict.fromkeys(_behind_circles(above))
    while left:
        path = [next(iter(left))]
        while (following := next((name for name in above[path[-1]] if name in left), None)) is not None:
            if following in path:
                yield path[path.index(following) :]
                break
            path.append(following)
        for name in path:
            del left[name]


def _behind_circles(above: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the names that cannot be put after all that they rest on."""
    below: dict[str, list[str]] = {}
    waiting = {name: sum(other in above for other in others) for name, others in above.items()}
    for name, others in above.items():
        for other in others:
            below.setdefault(other, []).append(name)
    ready = [name for name, count in waiting.items() if not count]
    while ready:
        for name in below.get(ready.pop(), ()):
            waiting[name] -= 1
            if not waiting[name]:
                ready.append(name)
    return [name for name, count in waiting.items() if count]


def _useless_exclusives(parts: Parts) -> Iterator[Problem]:
    for kind, exclusives in (("ssd", parts.ssd), ("dsd", parts.dsd)):
        for number, one in enumerate(exclusives):
            if one.max >= len(one.roles):
                yield Problem(f"{kind}[{number}]", f"max = {one.max} of {len(one.roles)} roles forbids nothing")


def _broken_duties(parts: Parts) -> Iterator[Problem]:
    if not (parts.ssd or parts.dsd):
        return
    both = [*parts.ssd, *parts.dsd]
    for name in parts.roles:
        if one := unmet(both, ancestors(parts.roles, [name])):
            yield Problem(f"roles.{name}", f"nobody can hold it: with what it inherits {_broken(one)}")
    for user, assignments in parts.users.items():
        for tenant in dict.fromkeys([None, *(assignment.tenant for assignment in assignments)]):
            names = [assignment.role for assignment in assignments if assignment.tenant in (None, tenant)]
            if one := unmet(parts.ssd, ancestors(parts.roles, names)):
                yield Problem(f"users.{user}", f"has roles that exclude each other: {_broken(one)}")
                break


def _broken(one: Exclusive) -> str:
    return f"more than {one.max} of {', '.join(one.roles)} come together"


def _unreachable_roles(parts: Parts) -> Iterator[Problem]:
    if not parts.users:
        return
    assigned = [assignment.role for assignments in parts.users.values() for assignment in assignments]
    reached = ancestors(parts.roles, [*assigned, *(parts.external or ())])
    for name in parts.roles:
        if name not in reached:
            yield Problem(f"roles.{name}", "nobody can have it: no user has it or inherits it, nor is it external")


def _shadowed_rules(parts: Parts) -> Iterator[Problem]:
    everyone = _placed("deny", parts.deny)
    yield from _shadowed(parts, "", everyone, [Patterns(_first(parts, everyone))])
    above: _Index = Patterns(_first(parts, [(f"{place} for everyone", grant) for place, grant in everyone]))
    for name, role in parts.roles.items():
        is_plain = not role.deny and _all_literal(parts, cast("Sequence[Grant]", role.allow))
        if is_plain and not everyone:
            continue  # the usual case, and most of the time it takes to make a large policy
        denied, allowed = _placed("deny", role.deny), _placed("allow", role.allow)
        own = [] if is_plain else [Patterns(_first(parts, [*denied, *allowed]))]
        yield from _shadowed(parts, f"roles.{name}.", denied, [above, Patterns(_first(parts, denied))])
        yield from _shadowed(parts, f"roles.{name}.", allowed, [above, *own])


_Placed: TypeAlias = Sequence[tuple[str, Grant]]
_Index: TypeAlias = Patterns[tuple[str, str]]  # of places, each with one of its patterns


def _placed(effect: str, grants: Sequence[str | Grant]) -> _Placed:
    return [(f"{effect}[{number}]", grant) for number, grant in enumerate(cast("Sequence[Grant]", grants))]


def _first(parts: Parts, rules: _Placed) -> Iterator[tuple[str, tuple[str, str]]]:
    """Return where each pattern stands first without conditions."""
    first: dict[str, str] = {}
    for place, grant in rules:
        for pattern in _meaning(parts, grant) if _is_unconditional(grant) else ():
            first.setdefault(pattern, place)
    return ((pattern, (place, pattern)) for pattern, place in first.items())


def _shadowed(parts: Parts, prefix: str, own: _Placed, indexes: Sequence[_Index]) -> Iterator[Problem]:
    for place, grant in own:
        covers = [_cover(indexes, pattern, place) for pattern in _meaning(parts, grant)]
        if all(covers):
            yield Problem(f"{prefix}{place}", f"{grant.permission!r} changes nothing beside {covers[0]}")


def _is_unconditional(grant: Grant) -> bool:
    return grant.when is None and grant.until is None and not grant.scopes and not grant.obligations


def _all_literal(parts: Parts, grants: Sequence[Grant]) -> bool:
    permissions = {grant.permission for grant in grants}
    is_literal = all("*" not in permission for permission in permissions)
    return is_literal and len(permissions) == len(grants) and permissions.isdisjoint(parts.aliases)


def _cover(indexes: Sequence[_Index], pattern: str, own: str) -> str | None:
    """Name the place of a rule, not the *own*, that matches all that *pattern* does: with one segment, and with two."""
    found = [rule for index in indexes for rule in index.find(pattern)]
    if pattern.endswith("**"):
        longer = [rule for index in indexes for rule in index.find(f"{pattern}/*")]
        found = [rule for rule in found if rule in longer]
    return next((place for place, _ in found if place != own), None)


def _meaning(parts: Parts, grant: Grant) -> Sequence[str]:
    return parts.aliases.get(grant.permission, (grant.permission,))


_CHECKS: tuple[Callable[[Parts], Iterator[Problem]], ...] = (
    _unknown_names,
    _bad_rules,
    _bad_patterns,
    _circles,
    _useless_exclusives,
    _broken_duties,
    _unreachable_roles,
    _shadowed_rules,
)
