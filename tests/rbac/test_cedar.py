"""Decisions compared with those of Cedar, an engine of its own making with the same semantics of permit and forbid.

Cedar has no segment-wise wildcards, so each pattern is spelt out as the permissions that it matches; what is compared
is inheritance, denial, and the default.
"""

from __future__ import annotations

import json
import random

import pytest
from mcp_rbac import Policy, PolicyError, Subject

from tests.rbac.naive import matches
from tests.rbac.policies import PATTERNS, PERMISSIONS, ROLES

cedarpy = pytest.importorskip("cedarpy", reason="Cedar is not installed here")
POLICIES, SUBJECTS = 160, 11  # and 15 permissions: over 26,000 decisions


def random_document(chance):
    """Draw a policy; one that is refused for a pointless rule is drawn again."""
    while True:
        roles = {
            role: {
                "allow": chance.sample(PATTERNS, chance.randrange(4)),
                "deny": chance.sample(PATTERNS, chance.choice([0, 0, 1])),
                "inherits": [other for other in ROLES[index + 1 :] if chance.random() < 0.3],
            }
            for index, role in enumerate(ROLES)
        }
        document = {"roles": roles, "deny": chance.sample(PATTERNS, chance.choice([0, 0, 0, 1]))}
        try:
            return Policy.from_dict(document), document
        except PolicyError:
            continue


def cedar_policies(document):
    everyone = [("forbid", "principal", pattern) for pattern in document["deny"]]
    for role, rules in document["roles"].items():
        who = f'principal in Role::"{role}"'
        everyone += [("permit", who, pattern) for pattern in rules["allow"]]
        everyone += [("forbid", who, pattern) for pattern in rules["deny"]]
    return "\n".join(
        f'{effect}({who}, action == Action::"{permission}", resource);'
        for effect, who, pattern in everyone
        for permission in PERMISSIONS
        if matches(pattern, permission)
    )


def cedar_entities(document, subjects):
    roles = [
        {"uid": uid("Role", role), "attrs": {}, "parents": [uid("Role", other) for other in rules["inherits"]]}
        for role, rules in document["roles"].items()
    ]
    users = [
        {"uid": uid("User", str(number)), "attrs": {}, "parents": [uid("Role", role) for role in chosen]}
        for number, chosen in enumerate(subjects)
    ]
    return json.dumps([*roles, *users])


def uid(kind, name):
    return {"type": kind, "id": name}


@pytest.mark.uninstrumented
def test_cedar_decides_the_same():
    """Over 20,000 random decisions, none differs."""
    chance, compared, allowed = random.Random(359), 0, 0
    for _ in range(POLICIES):
        policy, document = random_document(chance)
        subjects = [chance.sample(ROLES, chance.randrange(4)) for _ in range(SUBJECTS)]
        asked = [(number, permission) for number in range(SUBJECTS) for permission in PERMISSIONS]
        requests = [
            {
                "principal": f'User::"{number}"',
                "action": f'Action::"{permission}"',
                "resource": 'Server::"it"',
                "context": {},
            }
            for number, permission in asked
        ]
        results = cedarpy.is_authorized_batch(requests, cedar_policies(document), cedar_entities(document, subjects))
        for (number, permission), result in zip(asked, results, strict=True):
            ours = policy.allowed(Subject(str(number), subjects[number]), permission)
            assert ours is result.allowed, (document, subjects[number], permission)
            compared += 1
            allowed += ours
    assert compared >= 20_000
    assert 0.05 < allowed / compared < 0.95, "a comparison of nothing but denials would show little"
