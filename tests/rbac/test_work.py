"""The work of a decision, counted in bytecodes: it must not grow unnoticed, nor with the size of the policy."""

from __future__ import annotations

from functools import partial

import pytest
from mcp_rbac import Policy, Subject

from tests.support.measure import count_instructions, no_growth

pytestmark = pytest.mark.uninstrumented


def of(roles, *, wild=False):
    """A policy of so many roles with ten rules each; the caller's have stars in them if *wild*."""
    star = "_*" if wild else ""
    rules = {f"r{n}": {"allow": [f"tools/call:t{n}_{k}{star}" for k in range(10)]} for n in range(roles)}
    if wild:
        rules["r0"]["deny"] = ["tools/call:*_prod"]
    return Policy(roles=rules)


ME = Subject("me", {"r0"}, {"s"})


def test_remembered_decision_is_two_look_ups():
    """With the call and the two tests of the answer; 100,000 rules would be the same."""
    sizes = [1, 1000]
    work = [count_instructions(partial(of(size).allowed, ME, "tools/call:t0_3")) for size in sizes]
    assert work[0] == work[1]
    assert work[0] <= 40, "two look-ups, two comparisons"


def test_work_of_a_first_decision_does_not_grow():
    """Wildcards and a denial, none of it remembered."""
    work = []
    for size in (1, 1000):
        view = of(size, wild=True)._engine.view(ME.key)
        work.append(count_instructions(partial(view.settle, "tools/call:t0_3_x")))
    assert work[0] == work[1]
    assert work[0] <= 250


async def test_decisions_keep_nothing():
    """Once they are remembered."""
    policy = of(3, wild=True)
    await no_growth(lambda: policy.decide(ME, "tools/call:t0_3_x"))
    await no_growth(lambda: policy.allowed(ME, "tools/call:t1_3"))


def test_filtering_asks_once_a_tool():
    """A list of a hundred costs a hundred remembered decisions, and nothing that depends on the policy."""
    policy = of(10)
    names = [f"tools/call:t0_{n}" for n in range(100)]
    work = count_instructions(lambda: [name for name in names if policy.visible(ME, name)])
    assert work <= 100 * 60
