"""A policy evaluated as it reads, rule by rule: what the compiled one is compared with."""

from __future__ import annotations

from mcp_rbac.checks import ancestors, rules, unmet


def matches(pattern, permission):
    """Compare one pattern with one permission."""
    if pattern == "**":
        return True
    (action, colon, name), (asked, colon_too, object_) = pattern.partition(":"), permission.partition(":")
    return colon == colon_too and _all(action, asked) and (not colon or _all(name, object_))


def _all(pattern, text):
    patterns, segments = pattern.split("/"), text.split("/")
    if patterns[-1] == "**":
        return len(segments) >= len(patterns) and all(map(_one, patterns[:-1], segments))
    return len(patterns) == len(segments) and all(map(_one, patterns, segments))


def _one(pattern, segment):
    before, star, after = pattern.partition("*")
    if not star:
        return pattern == segment
    return len(segment) >= len(before + after) and segment.startswith(before) and segment.endswith(after)


def allowed(parts, subject, permission, arguments, now):
    """Decide: denials first, then scopes, then grants."""
    held = ancestors(parts.roles, subject.roles)
    if unmet([*parts.ssd, *parts.dsd], held):
        return False
    found = [
        (denies, grant, _holds(grant.when, arguments))
        for _, denies, role, grant in rules(parts)
        if (role is None or role in held)
        and any(matches(pattern, permission) for pattern in parts.aliases.get(grant.permission, [grant.permission]))
        and (grant.until is None or now < grant.until.timestamp())
    ]
    if any(denies and holds is not False for denies, _, holds in found):
        return False
    if parts.scopes and subject.scopes is not None and not _covered(parts, subject.scopes, permission):
        return False
    return any(
        holds is True and not grant.obligations and _in_scope(parts, subject.scopes, grant)
        for denies, grant, holds in found
        if not denies
    )


def _holds(when, arguments):
    """Return whether a condition holds, and None where it cannot be said."""
    if when is None:
        return True
    if callable(when):
        return {"agrees": True}.get(when.__name__)
    answers = [
        _compare(operator, arguments.get(path.removeprefix("args.")), value)
        for path, ((operator, value),) in ((path, tuple(table.items())) for path, table in when.items())
    ]
    return None if None in answers else all(answers)


def _compare(operator, given, wanted):
    if type(given) is not int:
        return None
    return {"eq": given == wanted, "ne": given != wanted, "ge": given >= wanted}[operator]


def _in_scope(parts, scopes, grant):
    return scopes is None or all(name in _closure(parts, scopes) for name in grant.scopes)


def _covered(parts, scopes, permission):
    held = [parts.scopes[name] for name in _closure(parts, scopes) if name in parts.scopes]
    return any(matches(pattern, permission) for scope in held for pattern in scope.allow)


def _closure(parts, scopes):
    held = set(scopes)
    while True:
        more = {other for name in held if name in parts.scopes for other in parts.scopes[name].implies}
        more |= {other for name in held if name.endswith(":*") for other in parts.scopes if other.startswith(name[:-1])}
        if more <= held:
            return held
        held |= more
