"""Decisions: the order of evaluation, the three levels of INCITS 359, and everything that narrows a grant."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from mcp_rbac import (
    Assignment,
    Decision,
    Exclusive,
    Grant,
    Policy,
    PolicyError,
    Request,
    Role,
    Scope,
    SeparationOfDuty,
    Statistics,
    Subject,
)
from mcp_rbac.conditions import condition_from

NOON = datetime(2030, 1, 1, 12, tzinfo=timezone.utc)


def policy(**parts):
    return Policy(**parts)


def can(roles, permission, subject=None, arguments=None, **more):
    """Ask both ways, which must agree."""
    one, asked = policy(roles=roles, **more), (subject or Subject("ann", {"r"}), permission, arguments)
    answer = one.allowed(*asked)
    assert one.decide(*asked).allowed is answer
    return answer


def test_nothing_is_allowed_unless_it_is_granted():
    """Deny by default, for a user without roles, a role without rules, and a user who is called like a role."""
    one = policy(roles={"admin": Role(allow=["**"]), "idle": Role()})
    for subject in (Subject(), Subject("", ()), Subject("admin"), Subject("x", {"idle"}), Subject("x", {"Admin"})):
        decision = one.decide(subject, "tools/call:x")
        assert (decision.allowed, decision.reason) == (False, "default")
        assert not one.allowed(subject, "tools/call:x")
    assert one.decide(Subject(), "tools/call:x").roles == ("admin",)
    assert not Policy().allowed(Subject("", ()), "")


def test_denial_wins_over_every_grant():
    """Of the same role, of an inherited one, of another, and for everyone."""
    roles = {
        "base": Role(deny=["tools/call:drop"]),
        "heir": Role(inherits=["base"], allow=["tools/call:drop", "tools/call:read"]),
        "other": Role(allow=["**"]),
    }
    one = policy(roles=roles, deny=["tools/call:format"])
    both = Subject("ann", {"heir", "other"})
    assert one.allowed(both, "tools/call:read")
    assert not one.allowed(both, "tools/call:drop")
    assert not one.allowed(Subject("bob", {"other"}), "tools/call:format")
    decision = one.decide(both, "tools/call:drop")
    assert (decision.reason, decision.permission) == ("denied", "tools/call:drop")
    assert (decision.rule, decision.path) == ("roles.base.deny[0]", ("heir", "base"))


def test_ended_rule_and_absent_condition():
    """A denial that is for ever and one that is over, both with the same permission."""
    roles = {"r": Role(allow=["x"], deny=[Grant("x", until=NOON)])}
    assert can(roles, "x", clock=lambda: NOON.timestamp() + 1)


def test_inheritance_of_any_depth():
    """pycasbin loses what is more than ten levels away."""
    roles = {f"r{n}": Role(inherits=[f"r{n + 1}"]) for n in range(2000)}
    roles["r2000"] = Role(allow=["tools/call:x"])
    decision = policy(roles=roles).decide(Subject("ann", {"r0"}), "tools/call:x")
    assert decision.allowed
    assert len(decision.path) == 2001
    assert decision.path[::2000] == ("r0", "r2000")


def test_way_through_a_diamond_is_the_shortest():
    """Several ways lead to a rule; the reader sees one, the same each time."""
    roles = {
        "a": Role(inherits=["b", "c"]),
        "b": Role(inherits=["d"]),
        "c": Role(inherits=["d"]),
        "d": Role(allow=["x"]),
    }
    assert policy(roles=roles).decide(Subject("ann", {"a"}), "x").path == ("a", "b", "d")


def test_aliases_stand_for_permissions():
    """The style of a short word for several methods."""
    one = policy(roles={"r": Role(allow=["read:resources"])}, aliases={"read:resources": ["resources/list", "x:*"]})
    subject = Subject("ann", {"r"})
    assert one.allowed(subject, "resources/list")
    assert one.allowed(subject, "x:y")
    assert not one.allowed(subject, "read:resources"), "the word itself is no permission"


@pytest.mark.parametrize(
    ("when", "arguments", "expected"),
    [
        ({"args.n": {"le": 5}}, {"n": 5}, True),
        ({"args.n": {"le": 5}}, {"n": 6}, False),
        ({"args.n": {"lt": 5}}, {"n": 4.5}, True),
        ({"args.n": {"gt": 5, "ge": 6}}, {"n": 6}, True),
        ({"args.n": {"gt": 5}, "user": {"eq": "bob"}}, {"n": 6}, False),
        ({"args.a.b": {"eq": True}}, {"a": {"b": True}}, True),
        ({"args.t": {"ne": "x"}}, {"t": "y"}, True),
        ({"args.t": {"ne": True}}, {"t": False}, True),
        ({"args.t": {"in": ["x", 1]}}, {"t": 1}, True),
        ({"args.t": {"in": ["x", 1]}}, {"t": True}, False),
        ({"args.t": {"same_as": "tenant"}}, {"t": "acme"}, True),
        ({"args.t": {"same_as": "attributes.team"}}, {"t": "red"}, True),
        ({"args.t": {"same_as": "args.u"}}, {"t": "red", "u": "blue"}, False),
        ({"tenant": {"eq": "acme"}}, {}, True),
        (lambda request: request.arguments["n"] == 1, {"n": 1}, True),
        (lambda request: request.subject.user == "bob", {}, False),
    ],
)
def test_condition(when, arguments, expected):
    """A grant counts when its condition holds, a denial as well."""
    subject = Subject("ann", {"r"}, tenant="acme", attributes={"team": "red"})
    assert can({"r": Role(allow=[Grant("x", when=when)])}, "x", subject, arguments) is expected
    assert can({"r": Role(allow=["**"], deny=[Grant("x", when=when)])}, "x", subject, arguments) is not expected


@pytest.mark.parametrize(
    "when",
    [
        {"args.n": {"le": 5}},
        {"args.none": {"eq": 1}},
        {"args.text.deeper": {"eq": 1}},
        {"args.nan": {"ge": 0}},
        {"args.null": {"ne": "x"}},
        {"args.list": {"in": ["x"]}},
        {"args.true": {"le": 1}},
        {"args.text": {"same_as": "tenant"}},
        {"user": {"eq": "nobody"}, "args.none": {"eq": 1}},
        lambda request: 1 / 0,
        lambda request: "yes",
        lambda request: None,
        lambda request: 1,
    ],
)
def test_condition_that_cannot_be_evaluated_denies(when):
    """In a grant and in a denial: false would be safe in the one and an open door in the other."""
    arguments = {"n": "5", "text": "t", "nan": float("nan"), "null": None, "list": [1], "true": True}
    assert not can({"r": Role(allow=[Grant("x", when=when)])}, "x", arguments=arguments)
    assert not can({"r": Role(allow=["**"], deny=[Grant("x", when=when)])}, "x", arguments=arguments)


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ({"args.n": {"le": 5}}, "le compares str with int"),
        ({"args.list": {"in": [1]}}, "in compares list with list"),
        ({"args.n.deeper": {"eq": 1}}, "args.n.deeper goes through str"),
    ],
)
def test_condition_says_why_it_cannot_be_evaluated(when, said):
    """To whoever tries it out; in a policy it denies."""
    condition, faults = condition_from(when)
    with pytest.raises(TypeError, match=said):
        condition(Request(Subject(), "x", {"n": "5", "list": []}))
    assert not faults


def test_faulty_condition_is_none():
    """Every fault is told, and nothing half-made is returned."""
    condition, faults = condition_from({"args.n": {"eqq": 1, "lee": 2}, "n": {}, "args.m": {"eq": 1}})
    assert condition is None
    assert [place for place, _ in faults] == ["args.n.eqq", "args.n.lee", "n"]


def test_subject_has_sets():
    """Whatever collections it was given."""
    subject = Subject("ann", ["r", "r"], ("s",))
    assert (subject.roles, subject.scopes) == (frozenset({"r"}), frozenset({"s"}))
    assert Subject("ann", {"r": 1}.keys()).roles == frozenset({"r"})


def test_condition_may_stop_the_program():
    """Only errors are taken for answers."""

    def interrupted(request):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        can({"r": Role(allow=[Grant("x", when=interrupted)])}, "x")


def test_rule_ends():
    """``until`` is the first moment at which the rule is no more; a denial ends likewise."""
    now = [NOON.timestamp() - 1]
    roles = {"r": Role(allow=[Grant("x", until=NOON), "y"], deny=[Grant("y", until=NOON)])}
    one = policy(roles=roles, clock=lambda: now[0])
    subject = Subject("ann", {"r"})
    assert [one.allowed(subject, name) for name in "xy"] == [True, False]
    now[0] += 1
    assert [one.allowed(subject, name) for name in "xy"] == [False, True]
    assert one.decide(subject, "x").reason == "condition"


def test_scopes_limit_what_roles_grant():
    """They never grant by themselves, and a token without any may do nothing."""
    one = policy(
        roles={"r": Role(allow=["files:read:*", "mail:send"])},
        scopes={
            "files:read": Scope(allow=["files:read:*"]),
            "files:write": Scope(allow=["files:write:*"]),
            "all": Scope(implies=["files:*"]),
            "files:*": Scope(),
        },
    )
    expected = {(): [], ("files:read",): ["r"], ("all",): ["r"], ("files:*",): ["r"], ("files:write",): [], ("x",): []}
    for scopes, allowed in expected.items():
        subject = Subject("ann", {"r"}, scopes)
        assert ["r" for _ in range(1) if one.allowed(subject, "files:read:a")] == allowed, scopes
        assert not one.allowed(subject, "files:write:a")
        assert not one.allowed(subject, "mail:send"), "no scope covers it"
    assert one.allowed(Subject("ann", {"r"}), "mail:send"), "there is no token to limit it"
    decision = one.decide(Subject("ann", {"r"}, {"files:write"}), "files:read:a")
    assert (decision.reason, decision.scopes) == ("scope", ("files:read",))
    assert one.decide(Subject("ann", {"r"}, ()), "mail:send").scopes == ()


def test_scopes_contain_each_other():
    """All that is implied, of every branch and to any depth; a name before the star ends at its colon."""
    allows = {"read": Scope(allow=["short"]), "files:read": Scope(allow=["r"]), "files:list": Scope(allow=["l"])}
    one = policy(
        roles={"r": Role(allow=["**"])},
        aliases={"short": ["a", "b"]},
        scopes={
            **allows,
            "files": Scope(allow=["f"]),
            "filesystem:x": Scope(allow=["fs"]),
            "fonts": Scope(allow=["fo"]),
            "files:*": Scope(implies=["read"]),
            "left": Scope(implies=["files:read"]),
            "right": Scope(implies=["files:list"]),
            "both": Scope(implies=["left", "right"]),
        },
    )
    names = ["a", "b", "short", "r", "l", "f", "fs", "fo"]
    expected = {"read": "a b", "files:*": "a b r l", "both": "r l", "right": "l", "f:*": "", "fonts": "fo"}
    for scope, permissions in expected.items():
        subject = Subject("ann", {"r"}, {scope})
        assert [name for name in names if one.allowed(subject, name)] == permissions.split(), scope


def test_undeclared_wildcard_scope_contains_declared_ones():
    """An authorisation server may issue ``files:*`` where the policy knows its parts alone."""
    one = policy(roles={"r": Role(allow=["x"])}, scopes={"files:read": Scope(allow=["x"])})
    assert one.allowed(Subject("ann", {"r"}, {"files:*"}), "x")
    assert not one.allowed(Subject("ann", {"r"}, {"mail:*"}), "x")


def test_all_missing_scopes_are_named():
    """A client that learns of them one by one asks its user again and again."""
    one = policy(
        roles={"r": Role(allow=[Grant("move", scopes=["read", "write"])])},
        scopes={"read": Scope(), "write": Scope(), "use": Scope(allow=["move"]), "more": Scope(allow=["**"])},
    )
    assert one.decide(Subject("ann", {"r"}, {"read"}), "move").scopes == ("write", "use")
    assert one.decide(Subject("ann", {"r"}, {"read", "more"}), "move").scopes == ("write",)
    assert one.decide(Subject("ann", {"r"}, {"read", "write"}), "move").scopes == ("use",)
    assert one.allowed(Subject("ann", {"r"}, {"read", "write", "use"}), "move")


def test_scopes_are_not_told_to_one_whose_condition_fails():
    """What would be needed is nobody's business who would not get it then."""
    roles = {"r": Role(allow=[Grant("x", scopes=["s"], when={"user": {"eq": "bob"}})])}
    decision = policy(roles=roles).decide(Subject("ann", {"r"}, ()), "x")
    assert (decision.reason, decision.scopes) == ("condition", ())


def test_obligations_are_met_before_the_grant_counts():
    """``allowed`` cannot know, so it says no; another grant without them is enough."""
    roles = {"r": Role(allow=[Grant("pay", obligations=["approve", "log"])]), "boss": Role(allow=["pay"])}
    one, subject = policy(roles=roles), Subject("ann", {"r"})
    assert not one.allowed(subject, "pay")
    assert one.decide(subject, "pay").obligations == ("approve", "log")
    assert one.decide(subject, "pay", fulfilled=["log"]).obligations == ("approve",)
    assert one.decide(subject, "pay", fulfilled=["log", "approve"]).allowed
    assert one.allowed(Subject("eve", {"boss", "r"}), "pay")


@pytest.mark.parametrize(
    ("roles", "reason"), [("c", "condition"), ("cs", "scope"), ("cso", "obligation"), ("csog", "granted")]
)
def test_nearest_rule_is_told(roles, reason):
    """Of several that do not allow, the one for which least is lacking, whatever their order."""
    rules = {
        "c": Grant("x", when={"user": {"eq": "bob"}}),
        "s": Grant("x", scopes=["s"]),
        "o": Grant("x", obligations=["approve"]),
        "g": "x",
    }
    one = policy(roles={name: Role([rule]) for name, rule in rules.items()})
    decision = one.decide(Subject("ann", set(roles), ()), "x")
    assert (decision.reason, decision.rule) == (reason, f"roles.{roles[-1]}.allow[0]")


def test_visible_gives_a_condition_the_benefit_of_the_doubt():
    """A list shows what could be called with the right arguments, and hides what never could."""
    allow = [
        Grant("args", when={"args.n": {"eq": 1}}),
        Grant("over", until=NOON),
        Grant("scoped", scopes=["s"]),
        Grant("duty", obligations=["approve"]),
        "plain",
        "take*",
    ]
    roles = {"r": Role(allow=allow, deny=[Grant("plain", when={"args.n": {"eq": 1}})])}
    one = policy(roles=roles, deny=["taken*"], clock=NOON.timestamp)
    subject = Subject("ann", {"r"}, ())
    shown = [grant if isinstance(grant, str) else grant.permission for grant in allow[:-1]] + ["taken"]
    assert [name for name in shown if one.visible(subject, name)] == ["args", "duty", "plain"]
    assert [name for name in shown if one.visible(subject, name, scopes_aside=True)] == [
        "args",
        "scoped",
        "duty",
        "plain",
    ]
    assert one.allowed(subject, "plain", {"n": 2})
    assert one.visible(subject, "plain"), "remembered as well"


def test_scopes_stand_aside_for_what_is_remembered_too():
    """It was denied for want of them alone."""
    one = policy(roles={"r": Role(allow=["x"])}, scopes={"s": Scope(allow=["x"])})
    subject = Subject("ann", {"r"}, ())
    assert not one.allowed(subject, "x")
    assert one.visible(subject, "x", scopes_aside=True)
    assert not one.visible(subject, "x")
    assert not one.visible(subject, "y", scopes_aside=True)


def test_what_is_denied_for_a_time_is_not_seen():
    """There are no arguments that would help; afterwards it is there again."""
    now = [NOON.timestamp() - 1]
    roles = {"r": Role(allow=["x"], deny=[Grant("x", until=NOON)])}
    one = policy(roles=roles, clock=lambda: now[0])
    assert not one.visible(Subject("ann", {"r"}), "x")
    now[0] += 1
    assert one.visible(Subject("ann", {"r"}), "x")


def test_assignments():
    """Roles of users: of any tenant or of one, up to a time, from the policy and from elsewhere."""
    users = {"ann": ["base", Assignment("there", tenant="acme"), {"role": "brief", "until": NOON}]}
    now = [NOON.timestamp() - 1]
    roles = {name: Role(allow=[name]) for name in ("base", "there", "brief", "given", "not_given")}
    one = policy(
        roles={**roles, "not_given": Role()},
        users={**users, "bob": ["not_given"]},
        external=["given"],
        clock=lambda: now[0],
    )
    assert one.subject("ann").roles == {"base", "brief"}
    assert one.subject("ann", tenant="acme").roles == {"base", "there", "brief"}
    now[0] += 1
    assert one.subject("ann", external={"given", "not_given", "other"}).roles == {"base", "given"}
    assert one.subject("ann", tenant="other").roles == {"base"}
    assert one.subject("base").roles == one.subject(None).roles == frozenset()
    assert one.subject("ann", active=["base"]).roles == {"base"}
    with pytest.raises(ValueError, match=r"active roles that 'ann' has, got other, there$"):
        one.subject("ann", active=["there", "other", "base"])


def test_external_roles_without_users():
    """Where the policy assigns nothing, it takes the roles it knows from whoever assigns them."""
    assert policy(roles={"a": Role()}).subject("ann", external={"a", "b"}).roles == {"a"}
    one = policy(roles={"a": Role()}, users={"bob": ["a"]})
    assert one.subject("ann", external={"a"}).roles == frozenset(), "where it assigns, nobody else does"


def test_separation_of_duty():
    """At activation and at every decision, inherited roles counted."""
    roles = {
        "clerk": Role(allow=["file"]),
        "payer": Role(allow=["pay"]),
        "chief": Role(inherits=["payer"], allow=["sign"]),
        "asker": Role(allow=["ask"]),
    }
    one = policy(
        roles=roles,
        users={"ann": ["clerk", "chief"], "bob": ["asker"]},
        external=["asker", "payer"],
        dsd=[Exclusive(["clerk", "payer"])],
        ssd=[Exclusive(["asker", "payer"])],
    )
    assert one.subject("ann", active=["chief"]).roles == {"chief"}
    with pytest.raises(SeparationOfDuty, match="at most 1 of clerk, payer") as caught:
        one.subject("ann")
    assert caught.value.exclusive.roles == ("clerk", "payer")
    with pytest.raises(SeparationOfDuty):
        one.subject("bob", external={"payer"})
    for roles in ({"clerk", "chief"}, {"asker", "chief"}):
        decision = one.decide(Subject("ann", roles), "sign")
        assert (decision.allowed, decision.reason) == (False, "separation")
        assert not one.allowed(Subject("ann", roles), "sign")


def test_separation_by_number():
    """``max`` of several."""
    roles = {name: Role(allow=["x"]) for name in "abc"}
    one = policy(roles=roles, dsd=[{"roles": ["a", "b", "c"], "max": 2}])
    assert one.allowed(Subject("ann", {"a", "b"}), "x")
    assert not one.allowed(Subject("ann", {"a", "b", "c"}), "x")


@pytest.mark.parametrize("permission", ["x" * 5000, "tools/call:" + "/" * 5000])
def test_endless_permission_is_nobodys(permission):
    """Nor does it take long to say so."""
    one = policy(roles={"r": Role(allow=["**"]), "s": Role(inherits=["r"], allow=["tools/call:**"])})
    decision = one.decide(Subject("ann", {"s"}), permission)
    assert (decision.allowed, decision.reason, len(decision.permission)) == (False, "invalid", 4096)
    assert not one.allowed(Subject("ann", {"s"}), permission)
    assert one.allowed(Subject("ann", {"s"}), permission[:4096]), "as long as one may be"


def counted(one):
    """What is remembered, looked at one by one."""
    return sum(len(view.settled) + len(view.unsettled) for view in one._engine._views.values())


def test_memory_is_bounded(monkeypatch):
    """5. A caller who asks for ever new things, or comes with ever new roles, makes it forget and not grow."""
    monkeypatch.setattr("mcp_rbac.engine.VIEWS", 8)
    monkeypatch.setattr("mcp_rbac.engine.REMEMBERED", 4)
    one = policy(roles={"r": Role(allow=["x:*"])})
    for number in range(100):
        assert one.allowed(Subject("ann", {"r"}), f"x:{number}")
        assert one.allowed(Subject("ann", {"r", str(number)}), "x:y")
        memories = one._memories
        assert len(memories) <= 8
        assert all(len(memory) <= 4 for memory in memories.values())
        assert one.statistics().remembered == counted(one)


def test_memory_is_bounded_in_all(monkeypatch):
    """5. Not for each set of roles by itself; and no name is stored that is longer than names are."""
    monkeypatch.setattr("mcp_rbac.engine.REMEMBERED", 11)
    one = policy(roles={"r": Role(allow=["x:*", Grant("y:*", obligations=["o"])])})
    for number in range(25):
        subject = Subject("ann", {"r", str(number % 5)}, ())
        for _ in range(2):  # the second time from memory
            assert one.allowed(subject, f"x:{number}")
            assert one.visible(subject, f"y:{number}")
            assert one.visible(subject, f"x:aside{number}", scopes_aside=True)
            assert one.statistics().remembered == counted(one) <= 11
        assert one.statistics().sets <= 10
    one = policy(roles={"r": Role(allow=["x:*"])})
    before = one.statistics().remembered
    assert one.allowed(subject, "x:" + "a" * 254)
    assert one.statistics().remembered == before + 1
    assert one.allowed(subject, "x:" + "a" * 255)
    assert one.statistics().remembered == before + 1
    assert max(len(name) for memory in one._memories.values() for name in memory) == 256


@pytest.mark.parametrize("permission", [None, 5, ["x"], {}, b"x", ("x",)])
def test_what_is_no_permission_is_denied(permission):
    """Whatever it is, nobody was granted it, and asking raises nothing."""
    one = policy(roles={"r": Role(allow=["**"])})
    subject = Subject("ann", {"r"})
    assert not one.allowed(subject, permission)
    assert not one.visible(subject, permission)
    assert one.decide(subject, permission).reason == "invalid"


def test_advice_is_given_on_demand():
    """How many roles would do takes time to find out, and that time would tell it."""
    one = policy(roles={"a": Role(allow=["x"]), "b": Role(allow=["*"])})
    assert one.decide(Subject("ann"), "x").roles == ("a", "b")
    assert one.decide(Subject("ann"), "x", advise=False).roles == ()


def test_condition_that_counts_as_nothing_is_still_one():
    """An object with a length of zero is false, and a condition."""

    class Never(list):
        def __call__(self, request):
            return False

    assert not can({"r": Role(allow=[Grant("x", when=Never())])}, "x")


def test_one_decision_has_one_time():
    """A denial that has just ended must not meet a grant that has not yet: the clock may go back between two looks."""
    times = [NOON.timestamp(), NOON.timestamp() - 1]
    roles = {"r": Role(allow=[Grant("x", until=NOON)], deny=[Grant("x", until=NOON)])}
    for ask in (Policy.allowed, lambda *asked: Policy.decide(*asked).allowed):
        clock = iter(times)
        assert not ask(policy(roles=roles, clock=clock.__next__), Subject("ann", {"r"}), "x")
        assert len(list(clock)) == 1


def test_one_session_has_one_time():
    """The roles that a user has at one moment, not some of one moment and some of the next."""
    clock = iter([NOON.timestamp() - 1, NOON.timestamp()])
    users = {"ann": [Assignment(name, until=NOON) for name in "ab"]}
    one = policy(roles={"a": Role(), "b": Role()}, users=users, clock=clock.__next__)
    assert one.subject("ann").roles == {"a", "b"}


def test_statistics():
    """What an operator watches: the memory is the one thing that grows."""
    one = policy(roles={"r": Role(allow=["x", "y"])}, deny=["z"])
    assert one.statistics() == Statistics(roles=1, rules=3, sets=0, remembered=0)
    for roles in ({"r"}, ()):
        for name in "xyz":
            one.allowed(Subject("ann", roles), name)
    assert one.statistics() == Statistics(roles=1, rules=3, sets=2, remembered=6)


@pytest.mark.parametrize("ask", [Policy.allowed, Policy.visible, Policy.decide])
def test_a_set_of_roles_is_compiled_once(ask):
    """Whatever is asked of it afterwards, of what is settled and of what is not."""
    one, subject = policy(roles={"r": Role(allow=["x", Grant("y", until=NOON)])}), Subject("ann", {"r"})
    one.allowed(subject, "x")
    memory = one._memories[subject.key]
    for permission in "xyz":
        ask(one, subject, permission)
    assert one._memories[subject.key] is memory


def test_decision_carries_the_version():
    """An audit log must tell by which policy."""
    one = policy(roles={"r": Role(allow=["x"])})
    assert one.decide(Subject("ann", {"r"}), "x") == Decision(
        True, "granted", "x", "roles.r.allow[0]", ("r",), version=one.version
    )
    assert len(one.version) == 16
    assert one.current is one


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"user": 7}, "user to be a string or None, got 7"),
        ({"tenant": b"x"}, "tenant to be a string or None, got b'x'"),
        ({"roles": "editor"}, "roles to be a collection of names, such as {'editor'}, got 'editor'"),
        ({"roles": {"editor": True}}, "roles to be a collection"),
        ({"roles": None}, "roles to be a collection"),
        ({"roles": [1]}, "every one of its roles to be a string, got [1]"),
        ({"scopes": "a b"}, "scopes to be a collection"),
        ({"scopes": [None]}, "every one of its scopes"),
        ({"attributes": 5}, "attributes to be a mapping, got 5"),
        ({"attributes": None}, "attributes to be a mapping, got None"),
    ],
)
def test_nonsense_subject(arguments, said):
    """A string of roles would be taken for its letters."""
    with pytest.raises(TypeError) as caught:
        Subject(**arguments)
    assert said in str(caught.value)


def test_policy_error_is_a_value_error():
    """Whoever catches bad configuration catches this."""
    with pytest.raises(ValueError, match=r"1 problem in the policy\n  roles\.r\.allow") as caught:
        policy(roles={"r": Role(allow=[""])})
    assert isinstance(caught.value, PolicyError)
    with pytest.raises(PolicyError) as caught:
        policy(ssd=[{}, {}])
    assert str(caught.value) == "2 problems in the policy\n  ssd[0]: needs 'roles'\n  ssd[1]: needs 'roles'"


@pytest.mark.parametrize("fulfilled", ["approved", "", b"approve", 5, None])
def test_nonsense_fulfilled(fulfilled):
    """A name that is part of a text has not been met."""
    one = policy(roles={"r": Role(allow=[Grant("x", obligations=["approve"])])})
    with pytest.raises(TypeError, match="decide needs fulfilled to be a collection of names, such as"):
        one.decide(Subject("ann", {"r"}), "x", fulfilled=fulfilled)


async def slow_clock():
    return 1.0


@pytest.mark.parametrize("clock", [5, None, slow_clock, float])
def test_nonsense_clock(clock):
    """At construction, and not when the first rule may have ended."""
    with pytest.raises(TypeError, match="Policy needs clock to be a sync function, got"):
        Policy(clock=clock)


def fails():
    raise OSError("no clock")


@pytest.mark.parametrize("clock", [fails, lambda: float("nan"), lambda: "noon", lambda: None, lambda: float("inf")])
def test_clock_that_fails_denies(clock):
    """What may have ended has, what denies does not; what no time can change stays."""
    roles = {"r": Role(allow=[Grant("x", until=NOON), "y", "z"], deny=[Grant("y", until=NOON)])}
    one, subject = policy(roles=roles, clock=clock), Subject("ann", {"r"})
    for name, expected in (("x", False), ("y", False), ("z", True)):
        assert one.allowed(subject, name) is expected
        assert one.visible(subject, name) is expected
        assert one.decide(subject, name).allowed is expected
    assert one.decide(subject, "x") == Decision(False, "condition", "x", version=one.version)
    timed = policy(roles=roles, users={"ann": [Assignment("r", until=NOON)]}, clock=clock)
    said = "^(no clock|the clock of the policy needs to return seconds, got (nan|'noon'|None|inf))$"
    with pytest.raises((OSError, ValueError), match=said):
        timed.subject("ann")
    assert policy(roles=roles, users={"ann": ["r"]}, clock=clock).subject("ann").roles == {"r"}


@pytest.mark.parametrize("subject", [None, "ann", {"roles": {"r"}}, Subject])
def test_what_is_no_subject_may_nothing(subject):
    """Asking raises nothing."""
    one = policy(roles={"r": Role(allow=["**"])})
    assert not one.allowed(subject, "x")
    assert not one.visible(subject, "x")
    assert one.decide(subject, "x") == Decision(False, "anonymous", "x", version=one.version)
