"""Policies as data: everything wrong is reported, in its place; what is right comes out as it went in."""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime, timedelta, timezone

import pytest
from mcp_rbac import Assignment, Exclusive, Grant, Policy, PolicyError, Role, Scope, Subject

TOML = """
external = ["guest"]

[roles.viewer]
allow = ["tools/list", "read:resources", "tools/call:search_*"]

[roles.editor]
inherits = ["viewer"]
allow = [
    "tools/call:edit",
    { permission = "tools/call:publish", name = "publishing", until = 2030-01-31T12:00:00+01:00, obligations = ["o"] },
    { permission = "tools/call:pay", when = { "args.amount" = { le = 1000 } }, scopes = ["pay"] },
]
deny = ["tools/call:edit_prod"]

[roles.guest]

[users]
ann = ["editor", { role = "guest", tenant = "acme" }]

[aliases]
"read:resources" = ["resources/list", "resources/read:**"]

[scopes.pay]
allow = ["tools/call:pay"]

[scopes."all"]
allow = ["**"]
implies = ["pay"]

[[dsd]]
roles = ["editor", "guest"]
"""
IN_PYTHON = Policy(
    roles={
        "viewer": Role(["tools/list", "read:resources", "tools/call:search_*"]),
        "editor": Role(
            [
                "tools/call:edit",
                Grant(
                    "tools/call:publish",
                    name="publishing",
                    until=datetime(2030, 1, 31, 12, tzinfo=timezone(timedelta(hours=1))),
                    obligations=["o"],
                ),
                Grant("tools/call:pay", when={"args.amount": {"le": 1000}}, scopes=["pay"]),
            ],
            deny=["tools/call:edit_prod"],
            inherits=["viewer"],
        ),
        "guest": Role(),
    },
    users={"ann": ["editor", Assignment("guest", tenant="acme")]},
    external=["guest"],
    aliases={"read:resources": ["resources/list", "resources/read:**"]},
    scopes={"pay": Scope(["tools/call:pay"]), "all": Scope(["**"], implies=["pay"])},
    dsd=[Exclusive(["editor", "guest"])],
)


def problems(source):
    with pytest.raises(PolicyError) as caught:
        Policy.from_dict(source)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no tomllib")
def test_toml_is_what_it_says_in_python():
    """One policy, one canonical form, one version."""
    read = Policy.from_toml(TOML)
    assert read.dump() == IN_PYTHON.dump()
    assert read.version == IN_PYTHON.version


def test_toml_on_python_3_10(monkeypatch):
    """The message says what to do instead."""
    monkeypatch.setitem(sys.modules, "tomllib", None)
    said = r"^TOML needs Python 3\.11; read it as you like and use Policy\.from_dict$"
    with pytest.raises(ModuleNotFoundError, match=said):
        Policy.from_toml(TOML)


def test_dump_is_a_document():
    """What was dumped is read again, from JSON too, and means the same."""
    again = Policy.from_json(json.dumps(IN_PYTHON.dump()))
    assert again.dump() == IN_PYTHON.dump()
    assert IN_PYTHON.dump()["roles"]["editor"]["allow"][1]["until"] == "2030-01-31T11:00:00Z"


def test_dump_is_the_same_in_any_time_zone(monkeypatch):
    """Two servers of one policy have one version."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        there = Policy.from_dict(IN_PYTHON.dump())
    finally:
        monkeypatch.undo()
        time.tzset()
    assert there.dump() == IN_PYTHON.dump()
    assert there.version == IN_PYTHON.version


def test_version_is_of_what_the_policy_says():
    """Not of the order of tables; of the order of rules, which their places come from."""
    one = Policy(roles={"a": Role(["x", "y"]), "b": Role()})
    assert one.version == Policy(roles={"b": {}, "a": {"allow": ["x", {"permission": "y"}]}}).version
    assert one.version != Policy(roles={"a": Role(["y", "x"]), "b": Role()}).version
    assert Policy(users={"zo\u00eb \udc80": []}).version == "431427a78d792ebc", "today, tomorrow, on any machine"


def test_python_in_a_policy_is_named_in_its_dump():
    """It cannot be read again, and says so."""
    dump = Policy(roles={"r": Role([Grant("x", when=test_dump_is_a_document)])}).dump()
    assert dump["roles"]["r"]["allow"] == [
        {"permission": "x", "when": {"callable": f"{__name__}.test_dump_is_a_document"}},
    ]
    assert problems(dump)
    dump = Policy(roles={"r": Role([Grant("x", when=Knows())])}).dump()
    assert dump["roles"]["r"]["allow"][0]["when"] == {"callable": f"{__name__}.Knows"}


class Knows:
    """A condition with a state."""

    def __call__(self, request):
        return True


def test_every_problem_is_reported_with_its_place():
    """One run shows all, so that a policy is mended in one go."""
    assert problems(
        {
            "roles": {
                "viewer": {"allow": ["tools/list", "tools/call:", 5], "dney": []},
                "editor": {"inherits": ["veiwer"], "allow": [{"permission": "x", "untill": "2030"}, {"when": {}}]},
                "a": {"inherits": ["b"], "deny": [{"permission": "x", "scopes": ["s"]}]},
                "b": {"inherits": ["a"]},
            },
            "users": {"ann": ["edtor", {"tenant": "x"}]},
            "user": {},
        }
    ) == [
        "policy: unknown key 'user', did you mean 'users'?",
        "roles.viewer: unknown key 'dney', did you mean 'deny'?",
        "roles.viewer.allow[2]: wants a table, got 5",
        "roles.editor.allow[0]: unknown key 'untill', did you mean 'until'?",
        "roles.editor.allow[1]: needs 'permission'",
        "users.ann[1]: needs 'role'",
        "roles.editor.inherits[0]: unknown role 'veiwer', did you mean 'viewer'?",
        "users.ann[0]: unknown role 'edtor', did you mean 'editor'?",
        "roles.viewer.allow[1]: 'tools/call:' names no object after the colon; '**' stands for any",
        "roles.a.deny[0]: a denial takes neither scopes nor obligations: it would hold for some tokens only",
        "roles.a: inherits from itself: a → b → a",
        "roles.viewer: nobody can have it: no user has it or inherits it, nor is it external",
        "roles.editor: nobody can have it: no user has it or inherits it, nor is it external",
        "roles.a: nobody can have it: no user has it or inherits it, nor is it external",
        "roles.b: nobody can have it: no user has it or inherits it, nor is it external",
    ]


def test_a_fault_is_told_once():
    """Reading goes on with a value in its place, in which no check finds another fault."""
    said = "ssd[0].max: wants an integer of at least 1, got 0"
    assert problems({"roles": {"r": {}, "s": {}}, "ssd": [{"roles": ["r", "s"], "max": 0}]}) == [said]


def test_shadowed_rules_are_told_once_each():
    """Whatever shadows them, and of two that are alike the second."""
    document = role(allow=["x:*", "x:y", "x:z", "w", "w", "both", "**"], deny=["x:y", "v", "v"])
    assert problems({**document, "aliases": {"both": ["x:y", "x:a"]}, "deny": ["q", "q"]}) == [
        "deny[1]: 'q' changes nothing beside deny[0]",
        "roles.r.deny[2]: 'v' changes nothing beside deny[1]",
        "roles.r.allow[0]: 'x:*' changes nothing beside allow[6]",
        "roles.r.allow[1]: 'x:y' changes nothing beside deny[0]",
        "roles.r.allow[2]: 'x:z' changes nothing beside allow[6]",
        "roles.r.allow[3]: 'w' changes nothing beside allow[6]",
        "roles.r.allow[4]: 'w' changes nothing beside allow[3]",
        "roles.r.allow[5]: 'both' changes nothing beside deny[0]",
    ]


def test_circles_are_told_one_by_one():
    """Each in its order, and none of what leads to one or away from it."""
    above = {"up": "a", "a": "end b", "b": "c", "c": "end a", "d": "e", "e": "d", "me": "me"}
    above |= {"end": "later", "later": "last", "last": ""}
    assert problems({"roles": {name: {"inherits": others.split()} for name, others in above.items()}}) == [
        "roles.a: inherits from itself: a → b → c → a",
        "roles.d: inherits from itself: d → e → d",
        "roles.me: inherits from itself: me → me",
    ]


def test_hints_are_for_the_first_unknown_names(monkeypatch):
    """A table that is missing makes all that refer to it unknown, and looking for each would take minutes."""
    monkeypatch.setattr("mcp_rbac.checks.HINTS", 2)
    document = {"roles": {"aa": {}}, "users": {name: ["aab", name] for name in ("aac", "aad", "aae")}}
    found = problems(document)
    assert [problem.endswith("did you mean 'aa'?") for problem in found[:6]] == [True, True, True, False, True, False]
    assert found[3] == "users.aad[1]: unknown role 'aad'"


def role(**rules):
    return {"roles": {"r": rules, "s": {}}}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (None, "policy: wants a table, got None"),
        ([], "policy: wants a table, got []"),
        ({"clock": 1}, "policy: unknown key 'clock'"),
        ({1: 2}, "policy: 1 is no name"),
        ({"roles": {"": {}}}, "roles: '' is no name"),
        ({"roles": {" r": {}}}, "roles: ' r' is no name"),
        ({"roles": []}, "roles: wants a table, got []"),
        ({"roles": {"r": None}}, "roles.r: wants a table, got None"),
        (role(allow="x"), "roles.r.allow: wants a list, got 'x'"),
        (role(allow={"x", 5}), "roles.r.allow[0]: wants a table, got 5"),
        (role(allow={"x": 1}), "roles.r.allow: wants a list, got {'x': 1}"),
        (role(allow=[{"permission": 7}]), "roles.r.allow[0].permission: wants a string, got 7"),
        (role(allow=[{"permission": ""}]), "roles.r.allow[0].permission: wants a string, got ''"),
        (role(allow=[{"permission": "x", "name": 7}]), "roles.r.allow[0].name: wants a string, got 7"),
        (role(allow=[{"permission": "x", "until": 7}]), "roles.r.allow[0].until: wants a date and time with its zone"),
        (role(allow=[{"permission": "x", "until": "soon"}]), "roles.r.allow[0].until: wants a date"),
        (role(allow=[{"permission": "x", "until": "2030-01-01T00:00:00"}]), "roles.r.allow[0].until: wants a date"),
        (
            role(allow=[{"permission": "x", "until": "9999-12-31T23:00:00-01:00"}]),
            "roles.r.allow[0].until: wants a date and time with its zone",
        ),
        (role(allow=[{"permission": "x", "scopes": "a"}]), "roles.r.allow[0].scopes: wants a list, got 'a'"),
        (role(allow=[{"permission": "x", "scopes": [""]}]), "roles.r.allow[0].scopes[0]: wants a name, got ''"),
        (role(allow=[{"permission": "x", "when": 7}]), "roles.r.allow[0].when: wants a sync function"),
        (role(allow=[{"permission": "x", "when": {5: {}}}]), "roles.r.allow[0].when: 5 is no name"),
        (role(allow=[{"permission": "x", "when": {}}]), "roles.r.allow[0].when: an empty condition holds always"),
        (
            role(allow=[{"permission": "x", "when": {"arg.n": {"eq": 1}}}]),
            "when.arg.n: 'arg.n' is no path: it begins with user, tenant, attributes, args",
        ),
        (role(allow=[{"permission": "x", "when": {"args": {"eq": 1}}}]), "when.args: 'args' is no path"),
        (role(allow=[{"permission": "x", "when": {"user.x": {"eq": 1}}}]), "when.user.x: 'user.x' is no path"),
        (role(allow=[{"permission": "x", "when": {"args..n": {"eq": 1}}}]), "'args..n' is no path"),
        (role(allow=[{"permission": "x", "when": {"args.n": 5}}]), "when.args.n: a comparison is a table"),
        (
            role(allow=[{"permission": "x", "when": {"args.n": {"eqq": 5}}}]),
            "'eqq' is no comparison: there are eq, ne, lt, le, gt, ge, in, same_as",
        ),
        (
            role(allow=[{"permission": "x", "when": {"args.n": {"le": True}}}]),
            "le needs a string or a number, got True",
        ),
        (
            role(allow=[{"permission": "x", "when": {"args.n": {"eq": None}}}]),
            "eq needs a string or a number, got None",
        ),
        (role(allow=[{"permission": "x", "when": {"args.n": {"le": float("nan")}}}]), "got nan"),
        (role(allow=[{"permission": "x", "when": {"args.n": {"in": "ab"}}}]), "in needs a list of strings, numbers"),
        (role(allow=[{"permission": "x", "when": {"args.n": {"in": [[]]}}}]), "in needs a list of strings, numbers"),
        (
            role(allow=[{"permission": "x", "when": {"args.n": {"same_as": 5}}}]),
            "same_as needs a path that begins with user, tenant, attributes, args, got 5",
        ),
        (role(allow=["tools/cal l:x"]), "roles.r.allow[0]: 'tools/cal l:x' needs an action"),
        (role(allow=["x", "x"]), "roles.r.allow[1]: 'x' changes nothing beside allow[0]"),
        ({"roles": {"plain": {}, "r": {"allow": ["x", "x"]}}}, "roles.r.allow[1]: 'x' changes nothing beside allow[0]"),
        (role(allow=["x:*", "x:y"]), "roles.r.allow[1]: 'x:y' changes nothing beside allow[0]"),
        (role(allow=["x:a/b*", "x:a/**"]), "roles.r.allow[0]: 'x:a/b*' changes nothing beside allow[1]"),
        (role(allow=["x:y"], deny=["x:*"]), "roles.r.allow[0]: 'x:y' changes nothing beside deny[0]"),
        (role(deny=["x:y", "x:*"]), "roles.r.deny[0]: 'x:y' changes nothing beside deny[1]"),
        (role(allow=["x", {"permission": "x", "obligations": ["a"]}]), "roles.r.allow[1]: 'x' changes nothing"),
        (role(allow=[{"permission": "x", "obligations": ["a"]}, "x"]), "roles.r.allow[0]: 'x' changes nothing"),
        (role(allow=["**", "**"]), "roles.r.allow[1]: '**' changes nothing beside allow[0]"),
        (role(allow=["**"], deny=["**"]), "roles.r.allow[0]: '**' changes nothing beside deny[0]"),
        (
            {**role(allow=["x", "y", "both"]), "aliases": {"both": ["x", "y"]}},
            "roles.r.allow[2]: 'both' changes nothing beside allow[0]",
        ),
        ({**role(), "deny": ["x", "x"]}, "deny[1]: 'x' changes nothing beside deny[0]"),
        ({**role(), "deny": ["x:y", "x:*"]}, "deny[0]: 'x:y' changes nothing beside deny[1]"),
        (
            {**role(allow=["x:y"]), "deny": ["x:*"]},
            "roles.r.allow[0]: 'x:y' changes nothing beside deny[0] for everyone",
        ),
        (
            {**role(deny=["x:y"]), "deny": ["z", "x:*"]},
            "roles.r.deny[0]: 'x:y' changes nothing beside deny[1] for everyone",
        ),
        ({**role(allow=["x:a*", "z"]), "deny": ["x:*"]}, "roles.r.allow[0]: 'x:a*' changes nothing beside deny[0] for"),
        (
            {**role(allow=[{"permission": "x", "obligations": ["a"]}]), "deny": ["**"]},
            "roles.r.allow[0]: 'x' changes nothing beside deny[0] for everyone",
        ),
        (
            {**role(allow=["both"], deny=["x"]), "deny": ["y"], "aliases": {"both": ["x", "y"]}},
            "roles.r.allow[0]: 'both' changes nothing beside deny[0]",
        ),
        ({**role(), "users": {"ann": ["r", "s", "r"]}}, "users.ann[2]: 'r' stands there twice"),
        (
            {**role(), "users": {"ann": ["r", {"role": "s", "tenant": "t"}, {"tenant": "t", "role": "s"}]}},
            "users.ann[2]: {'role': 's', 'tenant': 't'} stands there twice",
        ),
        (
            {**role(), "ssd": [{"roles": ["r", "s"]}], "dsd": [{"roles": ["r", "s"]}, {"roles": ["r", "s"], "max": 1}]},
            "dsd[1]: {'roles': ['r', 's'], 'max': 1} stands there twice",
        ),
        (role(inherits=["s", "s"]), "roles.r.inherits[1]: 's' stands there twice"),
        (role(inherits=["r"]), "roles.r: inherits from itself: r → r"),
        ({**role(), "external": ["t"]}, "external[0]: unknown role 't'"),
        ({**role(), "ssd": [{"roles": ["r", "t"]}]}, "ssd[0].roles[1]: unknown role 't'"),
        ({**role(), "dsd": [{"roles": ["r", "t"]}]}, "dsd[0].roles[1]: unknown role 't'"),
        ({**role(), "ssd": [{"roles": ["r", "s"], "max": 0}]}, "ssd[0].max: wants an integer of at least 1, got 0"),
        (
            {**role(), "dsd": [{"roles": ["r", "s"], "max": True}]},
            "dsd[0].max: wants an integer of at least 1, got True",
        ),
        ({**role(), "dsd": [{"roles": ["r", "s"], "max": 2}]}, "dsd[0]: max = 2 of 2 roles forbids nothing"),
        ({**role(), "ssd": [{"roles": ["r"]}]}, "ssd[0]: max = 1 of 1 roles forbids nothing"),
        ({**role(), "dsd": [{}]}, "dsd[0]: needs 'roles'"),
        ({**role(), "dsd": ["r"]}, "dsd[0]: wants a table, got 'r'"),
        (
            {**role(inherits=["s"]), "dsd": [{"roles": ["r", "s"]}]},
            "roles.r: nobody can hold it: with what it inherits",
        ),
        (
            {**role(), "users": {"ann": ["r", "s"], "bob": ["r", "s"]}, "ssd": [{"roles": ["r", "s"]}]},
            "users.bob: has roles that exclude each other: more than 1 of r, s come together",
        ),
        (
            {
                **role(),
                "users": {"ann": ["r", {"role": "s", "tenant": "acme"}]},
                "ssd": [{"roles": ["r", "s"]}],
            },
            "users.ann: has roles that exclude each other",
        ),
        (
            {"scopes": {"a": {"implies": ["b"]}, "b": {"implies": ["a"]}, "c": {"implies": ["a"]}}},
            "scopes.a: implies itself: a → b → a",
        ),
        ({"aliases": {"a": ["b c"]}, "scopes": {"s": {}}}, "aliases.a: 'b c' needs an action"),
        ({"aliases": {"a": []}}, "aliases.a: an alias stands for one permission or more, and for no alias"),
        ({"aliases": {"a": ["x", "b"], "b": ["y"]}}, "aliases.a: an alias stands for one permission or more, and for"),
        ({"aliases": {"x/y": ["z"]}}, "aliases.x/y: 'x/y' is a permission or a pattern, and an alias is a word"),
        ({"aliases": {"x/y:z": ["z"]}}, "aliases.x/y:z: 'x/y:z' is a permission or a pattern"),
        ({"aliases": {"x:*": ["z"]}}, "aliases.x:*: 'x:*' is a permission or a pattern"),
        ({"aliases": {"**": ["z"]}}, "aliases.**: '**' is a permission or a pattern"),
        ({"scopes": {"a": {"allow": ["b c"]}}}, "scopes.a.allow: 'b c' needs an action"),
        ({"scopes": {"a": {"implies": ["b"]}}}, "scopes.a.implies[0]: unknown scope 'b'"),
        ({"scopes": {"a": {"implies": ["b"]}, "b": {"implies": ["a"]}}}, "scopes.a: implies itself: a → b → a"),
        (
            {**role(allow=[{"permission": "x", "scopes": ["reed"]}]), "scopes": {"read": {}}},
            "roles.r.allow[0].scopes[0]: unknown scope 'reed', did you mean 'read'?",
        ),
        (
            role(allow=[{"permission": "x", "name": "n"}, {"permission": "y", "name": "n"}]),
            "roles.r.allow[1].name: 'n' is the name of roles.r.allow[0] already",
        ),
    ],
)
def test_problem(source, said):
    """Each fault is refused where it stands."""
    found = problems(source)
    assert any(said in problem for problem in found), found


@pytest.mark.parametrize(
    "parts",
    [
        role(allow=["x:a*", "x:*b"]),
        role(allow=["x:a/*", "x:a/**"][:1], deny=["x:a/b"]),
        role(allow=["x:a/**"], deny=["x:a/*"]),
        role(allow=["**", {"permission": "x", "obligations": ["a"]}][:1]),
        role(allow=["x:*", "x"]),
        role(allow=["*"], deny=["*/*"]),
        {**role(allow=["two deep", "x:**"]), "aliases": {"two deep": ["x:*", "x:*/*", "z"]}},
        {**role(allow=["mine"]), "aliases": {"mine": ["x:*", "x:y", "z"]}},
        role(allow=["x", {"permission": "y", "until": "2030-01-01T00:00:00Z"}]),
        role(allow=[{"permission": "x", "obligations": ["a"]}, {"permission": "x", "obligations": ["b"]}]),
        {"roles": {"r": {"allow": ["a", "y"]}}, "aliases": {"a": ["x", "y"]}} | {"roles": {"r": {"allow": ["a", "z"]}}},
        {"roles": {"r": {"deny": ["x"]}, "s": {"inherits": ["r"], "allow": ["x"]}}},
        {"scopes": {"a": {"allow": ["read"]}}, "aliases": {"read": ["x"]}},
        {"aliases": {"read:a/b": ["x"]}},
        {**role(allow=["x:*", "y"]), "deny": ["x:a"]},
        {**role(allow=["x:a"], deny=["y"]), "deny": [{"permission": "x:*", "until": "2030-01-01T00:00:00Z"}]},
        {**role(), "users": {"ann": ["r", {"role": "r", "tenant": "t"}], "bob": ["r", "s"]}},
        {"roles": {"r": {"allow": {"x", "y"}}}},
    ],
)
def test_no_problem(parts):
    """What only resembles a fault passes."""
    Policy.from_dict(parts)


async def slow(request):
    return True


class Asks:
    async def __call__(self, request):
        return True


@pytest.mark.parametrize("when", [slow, Asks(), Asks, int, "x", 5])
def test_condition_must_be_a_sync_function(when):
    """The answer of an async one would be an object, and no answer at all."""
    with pytest.raises(PolicyError, match=r"roles\.r\.allow\[0\]\.when: wants a sync function"):
        Policy(roles={"r": Role([Grant("x", when=when)])})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"roles": {"r": {}, "r": {}}}', "JSON: 'r' stands there twice"),
        ('{"roles": NaN}', "JSON: NaN is no JSON"),
        ("{", "JSON: Expecting"),
        ("[" * 100_000, "JSON: "),
        (b"\xff", "JSON: "),
        ("5", "policy: wants a table, got 5"),
    ],
)
def test_bad_json(text, said):
    """A repeated key, which Python's json lets win, and everything else that is no policy."""
    with pytest.raises(PolicyError) as caught:
        Policy.from_json(text)
    assert said in str(caught.value)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no tomllib")
def test_bad_toml():
    """A syntax error is a problem of the policy like others."""
    with pytest.raises(PolicyError, match="TOML: Expected"):
        Policy.from_toml("[roles\n")


@pytest.mark.parametrize("read", ["from_dict", "from_json", "from_toml"])
def test_every_way_of_reading_takes_a_clock(read):
    """It is the policy's own, whatever it was made of."""
    if read == "from_toml" and sys.version_info < (3, 11):
        pytest.skip("Python 3.10 has no tomllib")
    rule = {"permission": "x", "until": "2030-01-01T00:00:00Z"}
    source = {
        "from_dict": role(allow=[rule]),
        "from_json": json.dumps(role(allow=[rule])),
        "from_toml": f'[[roles.r.allow]]\npermission = "x"\nuntil = "{rule["until"]}"',
    }[read]
    now = [datetime(2029, 12, 31, tzinfo=timezone.utc).timestamp()]
    one = getattr(Policy, read)(source, clock=lambda: now[0])
    assert one.allowed(Subject(roles={"r"}), "x")
    now[0] += 86_400
    assert not one.allowed(Subject(roles={"r"}), "x")


def test_sets_are_lists_in_order():
    """YAML has sets, and a version must not depend on their order."""
    assert Policy.from_dict({"roles": {"r": {"allow": {"b", "a", "c"}}}}).dump() == {
        "roles": {"r": {"allow": ["a", "b", "c"]}}
    }


def test_conditions_are_remembered_as_written():
    """A dump shows the table, not what became of it."""
    grant = IN_PYTHON.dump()["roles"]["editor"]["allow"][2]
    assert grant == {"permission": "tools/call:pay", "when": {"args.amount": {"le": 1000}}, "scopes": ["pay"]}
    subject = Subject("ann", {"editor"}, {"pay"})
    assert IN_PYTHON.allowed(subject, "tools/call:pay", {"amount": 999})
