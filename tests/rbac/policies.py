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

NOW = 1_900_000_000.0  # 2030-03-17
PAST, FUTURE = "2030-01-01T00:00:00Z", "2031-01-01T00:00:00Z"
TABLES = [{"args.n": {"eq": 1}}, {"args.m": {"ne": 1}}, {"args.n": {"ge": 1}, "args.m": {"eq": 2}}]
USERS, TENANTS = ["ann", "bob"], ["acme", "evil"]

patterns = st.lists(st.sampled_from(PATTERNS), max_size=3, unique=True)
permissions = st.sampled_from(PERMISSIONS)
subject_parts = st.tuples(
    st.frozensets(st.sampled_from([*ROLES, "stranger"])),
    st.none() | st.frozensets(st.sampled_from([*SCOPES, "s:*", "strange"])),
)
arguments = st.dictionaries(st.sampled_from(["n", "m"]), st.sampled_from([1, 2, "1", True]))
moments = st.sampled_from([None, PAST, FUTURE])
assignments = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(ROLES), "tenant": st.sampled_from([None, *TENANTS]), "until": moments}
    ),
    max_size=3,
    unique_by=lambda one: (one["role"], one["tenant"], one["until"]),
)


def raises(request):
    raise OSError


def confuses(request):
    return "yes"


def agrees(request):
    return True


@st.composite
def rules(draw, effect):
    """A few rules, most of them without conditions."""
    terms = {"when": st.sampled_from([*TABLES, raises, confuses, agrees]), "until": moments}
    if effect == "allow":
        terms["scopes"] = st.sampled_from([["s:read"], ["s:read", "s:write"]])
        terms["obligations"] = st.just(["approve"])
    some = st.fixed_dictionaries({"permission": st.sampled_from([*PATTERNS, "word"])}, optional=terms)
    return draw(patterns | st.lists(some, max_size=3))


@st.composite
def documents(draw, *, rich=False):
    """A policy; roles inherit from later ones, so that there are no circles.  Rich ones have conditions and users."""
    number = draw(st.integers(1, len(ROLES)))
    allow, deny = (rules(effect) if rich else patterns for effect in ("allow", "deny"))
    roles = {
        name: {
            "allow": draw(allow),
            "deny": draw(st.just([]) | deny),
            "inherits": draw(st.lists(st.sampled_from(ROLES[index + 1 : number]), unique=True, max_size=2))
            if index + 1 < number
            else [],
        }
        for index, name in enumerate(ROLES[:number])
    }
    found = {"roles": roles, "deny": draw(st.just([]) | st.lists(st.sampled_from(PATTERNS), max_size=1))}
    if draw(st.booleans()):
        found["scopes"] = {name: {"allow": draw(patterns)} for name in SCOPES}
        found["scopes"]["all"]["implies"] = draw(st.lists(st.sampled_from(SCOPES[:2]), unique=True))
    for kind in ("dsd", "ssd") if rich else ("dsd",):
        if number > 2 and draw(st.booleans()):
            found[kind] = [{"roles": ROLES[:number], "max": draw(st.integers(1, number - 1))}]
    if rich:
        found["aliases"] = {"word": draw(patterns.filter(bool))}
        found.update(
            draw(
                st.just({})
                | st.fixed_dictionaries(
                    {"users": st.dictionaries(st.sampled_from(USERS), assignments), "external": st.just(ROLES[:number])}
                )
            )
        )
        for user, given in found.get("users", {}).items():
            found["users"][user] = [one for one in given if one["role"] in roles]
    return mended(found)


def mended(document):
    """Leave out the rules that a policy refuses because others make them pointless, and impossible constraints."""
    while True:
        try:
            Policy.from_dict(document)
        except PolicyError as error:
            before = repr(document)
            places = {problem.place for problem in error.problems}
            if any("nobody can hold" in problem.message for problem in error.problems):
                document.pop("dsd", None)
                document.pop("ssd", None)
            if any("exclude each other" in problem.message for problem in error.problems):
                document.pop("ssd", None)
            document["deny"] = [rule for n, rule in enumerate(document["deny"]) if f"deny[{n}]" not in places]
            for name, role in document["roles"].items():
                for effect in ("allow", "deny"):
                    role[effect] = [
                        rule for n, rule in enumerate(role[effect]) if f"roles.{name}.{effect}[{n}]" not in places
                    ]
            if repr(document) == before:
                raise
        else:
            return document
