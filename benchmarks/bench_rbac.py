# /// script
# requires-python = ">=3.10"
# dependencies = ["fastmcp>=4,<5", "pycasbin", "cedarpy", "oslo.policy"]
# ///
"""What one decision costs at 10, 1,000 and 100,000 rules, beside four peers; and compiling, filtering, reloading.

Every policy has ten rules a role; the caller has the last role, and is allowed by one of its rules.

- *an empty method*: a method with the arguments of a decision and nothing in it, called as all of the following are;
- *remembered*: ``Policy.allowed``, asked before;
- *first time*: the same without the memory, for a caller whose rules have stars and a denial beside them; and the same
  for what is denied by it;
- *exact, first time*: without the memory, for rules without stars;
- *pycasbin*: ``Enforcer.enforce`` with its RBAC model, one policy line a rule;
- *cedarpy*: ``is_authorized`` with policies and entities parsed beforehand;
- *oslo.policy*: ``Enforcer.enforce`` of one rule among as many;
- *FastMCP*: ``run_auth_checks`` of ``require_scopes`` with as many scopes in the token (at most 1,000).

A peer that takes longer than a millisecond is called a few times, and only at sizes that it finishes.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import cedarpy
from _ratio import compare, figure
from casbin import Enforcer, Model
from casbin.persist.adapters import FileAdapter
from fastmcp.server.auth import require_scopes
from fastmcp.utilities.authorization import AuthContext, run_auth_checks
from mcp_rbac import LivePolicy, Policy, RBACMiddleware, Subject
from oslo_config import cfg
from oslo_policy import policy as oslo

SIZES = (10, 1_000, 100_000)
PEERS = ["pycasbin", "cedarpy", "oslo.policy", "fastmcp"]
MODEL = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = g(r.sub, p.sub) && r.obj == p.obj && r.act == p.act
"""

Run = Callable[[], object]


def document(rules: int, *, wild: bool = False) -> dict[str, Any]:
    star = "_*" if wild else ""
    roles: dict[str, Any] = {
        f"r{n}": {"allow": [f"tools/call:t{n}_{k}{star}" for k in range(10)]} for n in range(rules // 10)
    }
    if wild:
        roles[f"r{rules // 10 - 1}"]["deny"] = ["tools/call:*_prod"]
    return {"roles": roles}


def me(rules: int) -> Subject:
    return Subject("me", {f"r{rules // 10 - 1}"}, {"s"})


def asked(rules: int) -> str:
    return f"t{rules // 10 - 1}_3"


def ours(rules: int) -> dict[str, Run]:
    exact, wild = (Policy.from_dict(document(rules, wild=wild)) for wild in (False, True))
    caller, permission = me(rules), f"tools/call:{asked(rules)}"
    plain, starred = exact._engine.view(caller.key), wild._engine.view(caller.key)  # past the memory
    return {
        "an empty method": partial(Nothing().allowed, caller, permission),
        "remembered": partial(exact.allowed, caller, permission),
        "first time": partial(starred.settle, f"{permission}_x"),
        "first time, denied": partial(starred.settle, f"{permission}_prod"),
        "exact, first time": partial(plain.settle, permission),
    }


class Nothing:
    def allowed(self, subject: Subject, permission: str, arguments: object = None) -> None: ...


def pycasbin(rules: int) -> Run:
    lines = [f"p, r{n}, t{n}_{k}, call" for n in range(rules // 10) for k in range(10)]
    with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        file.write("\n".join([*lines, f"g, me, r{rules // 10 - 1}"]))
        file.flush()
        model = Model()
        model.load_model_from_text(MODEL)
        enforcer = Enforcer(model, FileAdapter(file.name))
    return partial(enforcer.enforce, "me", asked(rules), "call")


def cedar(rules: int) -> Run:
    text = "\n".join(
        f'permit(principal in Role::"r{n}", action == Action::"t{n}_{k}", resource);'
        for n in range(rules // 10)
        for k in range(10)
    )
    role = {"type": "Role", "id": f"r{rules // 10 - 1}"}
    entities = [
        {"uid": role, "attrs": {}, "parents": []},
        {"uid": {"type": "User", "id": "me"}, "attrs": {}, "parents": [role]},
    ]
    request = {
        "principal": 'User::"me"',
        "action": f'Action::"{asked(rules)}"',
        "resource": 'Server::"it"',
        "context": {},
    }
    policies, parsed = cedarpy.PolicySet.from_str(text), cedarpy.Entities.from_json_str(json.dumps(entities))
    return partial(cedarpy.is_authorized, request, policies, parsed)


def oslo_policy(rules: int) -> Run:
    conf = cfg.ConfigOpts()
    conf([])
    enforcer = oslo.Enforcer(conf, policy_file="none.yaml")
    enforcer.suppress_default_change_warnings = True
    enforcer.register_defaults(
        [oslo.RuleDefault(f"t{n}_{k}", f"role:r{n}") for n in range(rules // 10) for k in range(10)]
    )
    return partial(enforcer.enforce, asked(rules), {}, {"roles": [f"r{rules // 10 - 1}"], "user_id": "me"})


def fastmcp(rules: int) -> Run:
    token = SimpleNamespace(scopes=[f"s{n}" for n in range(min(rules, 1000))])
    context: Any = AuthContext(token=token, component=None)  # type: ignore[arg-type]  # a stand-in

    async def check() -> object:
        return await run_auth_checks(require_scopes("s3"), context)

    return check


def decisions() -> None:
    for rules in SIZES:
        slow = {"pycasbin": pycasbin, "cedarpy": cedar, "oslo.policy": oslo_policy}
        fitting = {name: make(rules) for name, make in slow.items() if rules <= 1000 or name == "pycasbin"}
        candidates = {**ours(rules), "FastMCP": fastmcp(rules), **fitting}
        rounds = 25 if rules <= 1000 else 9
        title = f"one decision, {rules:,} rules"
        rows = {row.name: row for row in compare(candidates, title=title, rounds=rounds, calls=3000, peers=PEERS)}
        for name, most in {"remembered": 1, "first time": 6, "first time, denied": 6}.items():
            less = rows[name].ratio - rows["an empty method"].ratio
            figure(f"{rules:,} rules, {name}, less an empty method", less, "bare awaits", at_most=most)


def the_rest() -> None:
    big, starred = document(100_000), document(100_000, wild=True)
    taken = best(partial(Policy.from_dict, big), 5)
    figure("compiling 10,000 roles with 100,000 rules", taken * 1e3, "ms", at_most=1000)
    figure("the same with a star in every rule", best(partial(Policy.from_dict, starred), 3) * 1e3, "ms")
    one = RBACMiddleware(
        Policy.from_dict({"roles": {"r": {"allow": ["tools/list", "tools/call:a*"]}}}), local=Subject(roles=["r"])
    )
    tools = {"tools": [{"name": f"{'ab'[n % 2]}{n}"} for n in range(100)]}
    context: Any = SimpleNamespace(method="tools/list", params={})

    async def handler(_: object) -> dict[str, Any]:
        return tools

    def filter_list() -> None:
        coroutine = one(context, handler)
        try:
            coroutine.send(None)
        except StopIteration:
            return

    figure("a list of 100 tools, filtered", best(filter_list, 300) * 1e6, "µs", at_most=60)
    small = [Policy.from_dict(document(1_000)), Policy.from_dict(document(1_000, wild=True))]
    live = LivePolicy(lambda: small[0])

    def reload() -> None:
        small.reverse()
        live.reload()

    figure("replacing a policy that is at hand", best(reload, 300) * 1e6, "µs")


def under_load() -> None:
    """Reload a thousand times from a file while four tasks decide what both policies allow."""
    texts = [json.dumps({"roles": {"r": {"allow": ["tools/call:x", f"tools/call:{other}"]}}}) for other in "yz"]
    caller, failed, decided = Subject("me", {"r"}), 0, 0
    live = LivePolicy(lambda: Policy.from_json(texts[0]))

    async def decide() -> None:
        nonlocal failed, decided
        while not done:
            failed += not live.current.allowed(caller, "tools/call:x")
            decided += 1
            await asyncio.sleep(0)

    async def run() -> None:
        nonlocal done
        deciding = [asyncio.create_task(decide()) for _ in range(4)]
        for _ in range(1000):
            texts.reverse()
            live.reload()
            await asyncio.sleep(0)
        done = True
        await asyncio.gather(*deciding)

    done = False
    asyncio.run(run())
    figure(f"decisions that failed, of {decided:,} during 1,000 reloads", failed, at_most=0)


def memory() -> None:
    """Ask for ever new names, as a caller who means ill would."""
    policy = Policy.from_dict({"roles": {"r": {"allow": ["tools/call:*"]}}})
    callers = [Subject("me", {"r", str(number)}) for number in range(500)]
    most = 0
    for number in range(200_000):
        policy.allowed(callers[number % 500], f"tools/call:{number}")
        most = max(most, policy.statistics().remembered)
    figure("decisions remembered after 200,000 names by 500 sets of roles", most, at_most=65_536)


def best(fn: Run, times: int) -> float:
    taken = []
    for _ in range(times):
        began = time.process_time()
        fn()
        taken.append(time.process_time() - began)
    return min(taken)


def bench_rbac() -> None:
    decisions()
    the_rest()
    under_load()
    memory()


if __name__ == "__main__":
    bench_rbac()
