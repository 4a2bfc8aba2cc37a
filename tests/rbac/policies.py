"""Random policies, and random questions to them."""

from __future__ import annotations

from hypothesis import strategies as st
from mcp_rbac import Policy, PolicyError

ROLES = ["a", "b", "c", "d", "e"]
ACTIONS = ["tools/call", "resources/read", "ping"]
OBJECTS = ["x", "xy", "x/y", "x/y/z", "yx", "z"]
PERMISSIONS = [*ACTIONS, *(f"{action}:{name}" for action in ACTIONS[:2] for name in OBJECTS)]
PATTERNS = [
    *PERMISSIONS,
    "**",
    *(f"{action}:{name}" for action in ACTIONS[:2] for name in ("*", "**", "x*", "*y", "x*y", "x/**", "*/y", "*/*")),
    "*/call:x",
    "tools/*",
]
SCOPES = ["s:read", "s:write", "all"]

patterns = st.lists(st.sampled_from(PATTERNS), max_size=3, unique=True)
permissions = st.sampled_from(PERMISSIONS)
subject_parts = st.tuples(
    st.frozensets(st.sampled_from([*ROLES, "stranger"])),
    st.none() | st.frozensets(st.sampled_from([*SCOPES, "s:*", "strange"])),
)


@st.composite
def documents(draw, *, scopes=True, duties=True):
    """A policy without conditions; roles inherit from later ones, so that there are no circles."""
    number = draw(st.integers(1, len(ROLES)))
    roles = {
        name: {
            "allow": draw(patterns),
            "deny": draw(st.just([]) | patterns),
            "inherits": draw(st.lists(st.sampled_from(ROLES[index + 1 : number]), unique=True, max_size=2))
            if index + 1 < number
            else [],
        }
        for index, name in enumerate(ROLES[:number])
    }
    found = {"roles": roles, "deny": draw(st.just([]) | st.lists(st.sampled_from(PATTERNS), max_size=1))}
    if scopes and draw(st.booleans()):
        found["scopes"] = {name: {"allow": draw(patterns)} for name in SCOPES}
        found["scopes"]["all"]["implies"] = draw(st.lists(st.sampled_from(SCOPES[:2]), unique=True))
    if duties and number > 2 and draw(st.booleans()):
        found["dsd"] = [{"roles": ROLES[:number], "max": draw(st.integers(1, number - 1))}]
    return mended(found)


def mended(document):
    """Leave out the rules that a policy refuses because others make them pointless, and impossible constraints."""
    while True:
        try:
            Policy.from_dict(document)
        except PolicyError as error:
            places = {problem.place for problem in error.problems}
            if any("nobody can hold" in problem.message for problem in error.problems):
                document.pop("dsd")
            for name, role in document["roles"].items():
                for effect in ("allow", "deny"):
                    role[effect] = [
                        rule for n, rule in enumerate(role[effect]) if f"roles.{name}.{effect}[{n}]" not in places
                    ]
        else:
            return document
