"""What holds for every policy."""

from __future__ import annotations

import contextlib
import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp_rbac import Policy, PolicyError, SeparationOfDuty, Subject
from mcp_rbac.checks import ancestors
from mcp_rbac.document import read

from tests.rbac import naive
from tests.rbac.policies import (
    NOW,
    PERMISSIONS,
    ROLES,
    TENANTS,
    arguments,
    documents,
    mended,
    patterns,
    permissions,
    subject_parts,
)

pytestmark = pytest.mark.hypothesis


def answers(document, subject):
    policy = Policy.from_dict(document)
    return {name for name in PERMISSIONS if policy.allowed(subject, name)}


@given(documents(), subject_parts)
def test_compiled_and_naive_agree(document, parts):
    """1, 2, 4. What is indexed, settled and remembered decides as the rules read, the second time as the first."""
    subject, policy = Subject("ann", *parts), Policy.from_dict(document)
    for permission in PERMISSIONS * 2:
        expected = naive.allowed(read(document)[0], subject, permission, {}, NOW)
        assert policy.allowed(subject, permission) is expected, permission
        assert policy.decide(subject, permission).allowed is expected, permission
        assert policy.visible(subject, permission) is expected, permission


@given(documents(rich=True), subject_parts, arguments)
def test_compiled_and_naive_agree_on_conditions(document, parts, given):
    """1. Conditions, ends, obligations, scopes of rules and aliases, too; what is allowed is seen."""
    subject, policy = Subject("ann", *parts), Policy.from_dict(document, clock=lambda: NOW)
    for permission in PERMISSIONS * 2:
        expected = naive.allowed(read(document)[0], subject, permission, given, NOW)
        assert policy.allowed(subject, permission, given) is expected, permission
        assert policy.decide(subject, permission, given).allowed is expected, permission
        assert policy.visible(subject, permission) or not expected, permission


@given(documents(), subject_parts, st.sampled_from(ROLES), permissions)
def test_a_grant_never_takes_access_away(document, parts, role, pattern):
    """3. Whatever it is, and whoever gets it."""
    subject = Subject("ann", *parts)
    before = answers(document, subject)
    more = copy.deepcopy(document)
    more["roles"].setdefault(role, {"allow": [], "deny": []})
    more["roles"][role]["allow"] = [pattern]
    more["roles"]["extra"] = {"allow": document["roles"].get(role, {}).get("allow", []), "deny": []}
    widened = Subject("ann", {*parts[0], *(["extra"] if role in held(more, parts[0]) else [])}, parts[1])
    assert before <= answers(mended(more), widened)


def held(document, roles):
    return ancestors(read(document)[0].roles, roles)


@given(documents(), subject_parts, st.sampled_from(ROLES), patterns)
def test_a_denial_never_gives_access(document, parts, role, denied):
    """3. Not even one that hides another rule."""
    subject = Subject("ann", *parts)
    before = answers(document, subject)
    more = copy.deepcopy(document)
    if role in more["roles"]:
        more["roles"][role]["deny"] = [*more["roles"][role]["deny"], *denied]
        assert answers(mended(more), subject) <= before


@given(documents(), subject_parts)
def test_fewer_scopes_give_no_more(document, parts):
    """2. The token is a limit."""
    roles, scopes = parts
    if scopes is not None:
        assert answers(document, Subject("ann", roles, ())) <= answers(document, Subject("ann", roles, scopes))
        assert answers(document, Subject("ann", roles, scopes)) <= answers(document, Subject("ann", roles))


@given(documents(rich=True), st.frozensets(st.sampled_from(ROLES)), st.sampled_from(TENANTS), st.booleans())
def test_separation_of_duty_holds_in_every_session(document, chosen, tenant, is_active):
    """4. Whatever roles are asked for: a session begins without a conflict, or not at all."""
    policy, parts = Policy.from_dict(document, clock=lambda: NOW), read(document)[0]
    mine = {one.role for one in parts.users.get("ann", ()) if one.holds(tenant, NOW)}
    active = mine & chosen if is_active else None
    try:
        subject = policy.subject("ann", external=chosen, tenant=tenant, active=active)
    except SeparationOfDuty:
        assert answers(document, Subject("ann", mine | chosen if active is None else active)) == set()
    else:
        for one in [*parts.ssd, *parts.dsd]:
            assert len(set(one.roles) & set(ancestors(parts.roles, subject.roles))) <= one.max


@given(documents())
@settings(max_examples=50)
def test_dump_reads_back(document):
    """Canonical means: once more changes nothing."""
    policy = Policy.from_dict(document)
    again = Policy.from_dict(policy.dump())
    assert again.dump() == policy.dump()
    assert again.version == policy.version
    assert not policy.diff(again)


@given(documents(), documents())
@settings(max_examples=50)
def test_diff_is_empty_only_if_decisions_are_equal(old, new):
    """What changes for a role is told: a reviewer relies on it."""
    before, after = Policy.from_dict(old), Policy.from_dict(new)
    changes = before.diff(after)
    assert {(c.holder, c.permission) for c in after.diff(before)} == {(c.holder, c.permission) for c in changes}
    told = {change.holder for change in changes}
    for role in ROLES:
        subject = Subject(roles=[role])
        if role not in told:
            assert answers(old, subject) == answers(new, subject), role


@st.composite
def neighbours(draw):
    """Two rich policies that differ in a little, or in nothing that counts."""
    old = draw(documents(rich=True))
    new, other = copy.deepcopy(old), draw(documents(rich=True))
    for key in draw(st.sets(st.sampled_from(["deny", "scopes", "aliases", "ssd", "dsd", "a", "ann"]), max_size=2)):
        table = {"a": "roles", "ann": "users"}.get(key)
        if table in new and table in other and key in other[table]:
            mine = set(new["roles"])
            new[table][key] = other[table][key]
            if key == "a":
                new["roles"]["a"]["inherits"] = [name for name in other["roles"]["a"]["inherits"] if name in mine]
            else:
                new["users"]["ann"] = [one for one in other["users"]["ann"] if one["role"] in mine]
        elif table is None and key not in ("ssd", "dsd"):
            new.pop(key, None)
            new.update({key: other[key]} if key in other else {})
            new.setdefault("deny", [])
        elif table is None:
            new.pop(key, None)
    return old, mended(new)


@given(neighbours(), subject_parts, st.sampled_from([None, *TENANTS, "else"]), arguments, st.sampled_from([0, 1e8]))
@settings(max_examples=60)
def test_no_difference_means_equal_decisions(pair, parts, tenant, given, later):
    """Not for any session of anybody, with any token, arguments or tenant, now and later."""
    now = [NOW]
    old, new = (Policy.from_dict(document, clock=lambda: now[0]) for document in pair)
    if old.diff(new):
        return
    now[0] += later
    roles, scopes = parts
    for user in ("ann", "bob", None):
        for permission in PERMISSIONS:
            decided = []
            for policy in (old, new):
                try:
                    subject = policy.subject(user, external=roles, scopes=scopes, tenant=tenant)
                except SeparationOfDuty:
                    decided.append("separation")
                else:
                    decided.append(policy.decide(subject, permission, given).reason == "granted")
            assert decided[0] == decided[1]


@given(documents(), permissions)
@settings(max_examples=50)
def test_who_can(document, permission):
    """The review function names exactly those that are allowed."""
    policy = Policy.from_dict(document)
    expected = tuple(role for role in sorted(document["roles"]) if policy.allowed(Subject(roles=[role]), permission))
    assert policy.who_can(permission).roles == expected


@given(documents(rich=True), permissions, arguments, st.sampled_from([None, *TENANTS]), st.sampled_from([0, 1e8]))
def test_who_can_under_conditions(document, permission, given, tenant, later):
    """Whoever is named may at any time, in any tenant, with any arguments; whoever is not may never."""
    now = [NOW]
    policy = Policy.from_dict(document, clock=lambda: now[0])
    found = policy.who_can(permission)
    now[0] += later
    for user in document.get("users", {}):
        with contextlib.suppress(SeparationOfDuty):
            subject = policy.subject(user, tenant=tenant)
            if user in found.users:
                assert policy.allowed(subject, permission, given)
            if user not in (*found.users, *found.conditional_users):
                assert not policy.decide(subject, permission, given, fulfilled=["approve"]).allowed


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["roles", "users", "allow", "deny", "when", "permission", "ssd", "max", "r"]), inner
            )
        ),
    )
)
def test_no_document_raises_anything_else(document):
    """A policy or a PolicyError, whatever a parser returns."""
    with contextlib.suppress(PolicyError):
        Policy.from_dict(document)
