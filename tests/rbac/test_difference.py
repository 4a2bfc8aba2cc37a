"""What a new policy gives and takes, however it does it: a reviewer reads this and not the policies."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from mcp_rbac import Assignment, Change, Exclusive, Grant, Holders, Policy, Role, Scope


def year(number):
    return datetime(number, 1, 1, tzinfo=timezone.utc)


def now():
    return year(2030).timestamp()


def given(*assignments, **more):
    """A policy of one role, and of what ann has of it."""
    return Policy(roles={"r": Role(["x"])}, users={"ann": assignments, "bob": ["r"]}, clock=now, **more)


def granted(**terms):
    return Policy(roles={"r": Role([Grant("x", **terms)])}, clock=now)


@pytest.mark.parametrize(
    ("old", "new", "verdicts"),
    [
        ([Assignment("r", tenant="acme")], ["r"], ("conditional", "allowed")),
        (["r"], [Assignment("r", tenant="acme")], ("allowed", "conditional")),
        ([Assignment("r", tenant="acme")], [Assignment("r", tenant="evil")], ("conditional", "conditional")),
        ([Assignment("r", until=year(2020))], ["r"], ("denied", "allowed")),
        ([Assignment("r", until=year(2020))], [Assignment("r", until=year(2031))], ("denied", "conditional")),
        ([Assignment("r", until=year(2031))], [Assignment("r", until=year(2032))], ("conditional", "conditional")),
        ([Assignment("r", until=year(2031))], ["r"], ("conditional", "allowed")),
        ([Assignment("r", until=year(2020))], [Assignment("r", until=year(2021))], None),
        ([Assignment("r", tenant="acme"), "r"], ["r"], None),
    ],
)
def test_assignments_are_compared_for_each_tenant_and_time(old, new, verdicts):
    """One tenant more, or a year more, is a gain."""
    expected = () if verdicts is None else (Change("user", "ann", "x", *verdicts),)
    assert given(*old).diff(given(*new)) == expected


def condition(request):
    return True


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"when": {"args.n": {"le": 5}}}, {"when": {"args.n": {"le": 5000}}}),
        ({"when": condition}, {"when": lambda request: True}),
        ({"until": year(2031)}, {"until": year(2032)}),
        ({"obligations": ["approve"]}, {"scopes": ["s"]}),
        ({"obligations": ["approve"]}, {"obligations": ["approve", "log"]}),
    ],
)
def test_conditions_are_compared(old, new):
    """The verdict is the same word, and says less than the rule."""
    change = Change("role", "r", "x", "conditional", "conditional")
    assert granted(**old).diff(granted(**new)) == (change,)
    assert granted(**old).diff(granted(**old)) == ()


def test_order_of_what_a_rule_asks_for_is_nothing():
    """Nor is its name, nor a condition beside a rule without any."""
    assert granted(scopes=["a", "b"], name="one").diff(granted(scopes=["b", "a"])) == ()
    both = {"args.a": {"eq": 1}, "args.b": {"eq": 2}}
    assert granted(when=both).diff(granted(when=dict(reversed(both.items())))) == ()
    plain = Policy(roles={"r": Role(["x"])})
    heir = Policy(roles={"s": Role([Grant("x", obligations=["o"])]), "r": Role(["x"], inherits=["s"])})
    assert [change.holder for change in plain.diff(heir)] == ["s"]


def test_denial_that_goes_is_told_where_nothing_was_granted():
    """It was in the way of what other roles grant."""
    old, new = (Policy(roles={"a": Role(deny=deny), "b": Role(["x"])}) for deny in (["x"], []))
    assert old.diff(new) == (Change("role", "a", "x", "denied", "denied"),)


def test_denial_under_conditions_is_told():
    """What was allowed always depends from then on."""
    old, new = (Policy(roles={"r": Role(["x"], deny=deny)}) for deny in ([], [Grant("x", when=condition)]))
    assert old.diff(new) == (Change("role", "r", "x", "allowed", "conditional"),)


def with_scopes(**scopes):
    return Policy(roles={"r": Role(["x", "y"])}, scopes={name: Scope(*parts) for name, parts in scopes.items()})


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"s": [["y"]]}, {"s": [["x"]]}, [("s", "x", "denied", "allowed"), ("s", "y", "allowed", "denied")]),
        ({"s": [["y"]]}, {}, [("s", "**", "denied", "allowed")]),
        ({}, {"s": [["y"]]}, [("s", "**", "allowed", "denied")]),
        ({"s": [], "t": [["x"]]}, {"s": [[], ["t"]], "t": [["x"]]}, [("s", "x", "denied", "allowed")]),
        ({"s": [], "t": []}, {"s": [[], ["t"]], "t": []}, [("s", "**", "conditional", "conditional")]),
        ({"s": [["x"]]}, {"s": [["x"]], "t": []}, []),
        ({"s": [["*:**"]]}, {"s": []}, [("s", "*:**", "allowed", "denied")]),
    ],
)
def test_scopes_are_compared(old, new, expected):
    """They limit what every role grants."""
    assert with_scopes(**old).diff(with_scopes(**new)) == tuple(Change("scope", *change) for change in expected)


def test_scope_that_others_contain_is_compared_with_its_aliases():
    """By what they mean."""
    old, new = (Policy(scopes={"s": Scope(["read"])}, aliases={"read": meaning}) for meaning in (["x"], ["x", "y:*"]))
    assert old.diff(new) == (Change("scope", "s", "y:*", "denied", "allowed"),)


def test_users_who_come_and_go_are_compared():
    """In either policy alone, too."""
    before, after = (Policy(roles={"r": Role(["x"])}, users={name: ["r"]}) for name in ("ann", "bob"))
    assert before.diff(after) == (
        Change("user", "ann", "x", "allowed", "denied"),
        Change("user", "bob", "x", "denied", "allowed"),
    )


def test_roles_that_others_may_assign_are_compared():
    """A token may bring them from now on, or no more."""
    closed, opened, free = given("r"), given("r", external=["r"]), Policy(roles={"r": Role(["x"])})
    change = Change("external", "r", "x", "denied", "allowed")
    assert closed.diff(opened) == (change,)
    assert [one for one in closed.diff(free) if one.kind != "user"] == [change]
    assert opened.diff(closed) == (Change("external", "r", "x", "allowed", "denied"),)


def test_constraints_are_compared():
    """They stand between roles that a token may bring together."""
    roles = {"a": Role(["x"]), "b": Role(["y"]), "c": Role(["z"])}
    old = Policy(roles=roles, dsd=[Exclusive(["a", "b", "c"]), Exclusive(["a", "b"])])
    new = Policy(roles=roles, dsd=[Exclusive(["a", "b", "c"], max=2)], ssd=[Exclusive(["b", "a"])])
    assert old.diff(new) == (
        Change("duty", "at most 1 of a, b, c", "**", "denied", "allowed"),
        Change("duty", "at most 2 of a, b, c", "**", "allowed", "denied"),
    )


def test_who_can_goes_by_tenant_and_time():
    """What is over is nobody's, what holds somewhere is conditional, and roles exclude each other in one session."""
    one = Policy(
        roles={"r": Role(["x"]), "s": Role(["x", "y"]), "no": Role(deny=["x"])},
        users={
            "ended": [Assignment("r", until=year(2020))],
            "ending": [Assignment("r", until=year(2031))],
            "in_acme": [Assignment("r", tenant="acme")],
            "in_both": [Assignment("r", tenant="a"), Assignment("s", tenant="b")],
            "later": ["r", Assignment("no", until=year(2031))],
            "between": [Assignment("r", until=year(2032)), Assignment("no", until=year(2031))],
            "always": ["r", Assignment("s", until=year(2020))],
            "never": ["r", "s"],
        },
        dsd=[Exclusive(["r", "s"])],
        clock=now,
    )
    users = ("between", "ending", "in_acme", "in_both", "later")
    assert one.who_can("x") == Holders(("r", "s"), ("always",), (), users)
    assert one.who_can("y").conditional_users == ("in_both",)
