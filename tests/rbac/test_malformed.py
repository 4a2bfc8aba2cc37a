"""Messages without the name that they need, from one who may use any name, get the server's own answer."""

from __future__ import annotations

import contextlib

import pytest
from mcp_rbac import AccessDecided, Grant, Policy, RBACMiddleware, Role, Subject, hiding

from tests.rbac.world import Ctx, Server

ANYTHING = Policy(roles={"all": Role(["**"])})
OF_PROMPTS = Policy(roles={"all": Role(["prompts/get:**", "subscriptions/listen", "prompts/list"])})


def guarded(policy, **options):
    return RBACMiddleware(policy, local=Subject(roles=["all"]), **options)


@pytest.mark.parametrize("params", [None, {}, {"name": 7}, {"name": None}, {"uri": ["open_x"]}, {"ref": 5}])
@pytest.mark.parametrize("method", ["tools/call", "prompts/get", "resources/read", "completion/complete"])
async def test_the_server_says_what_is_wrong(method, params):
    """The message can mean nothing that is forbidden, and the layer must not be noticed."""
    server, events = Server(**{method: {}}), list[AccessDecided]()
    await guarded(ANYTHING, on_event=events.append)(Ctx(method, params), server)
    assert server.seen[0].params == params
    (event,) = events
    assert (event.allowed, event.reason, event.permission) == (True, "granted", method)
    assert event.version == ANYTHING.version


@pytest.mark.parametrize(("number", "reached"), [(1, True), (2, False)])
async def test_conditions_hold_for_it_too(number, reached):
    """One who may use any name with some arguments hears of his mistake with those alone."""
    policy = Policy(roles={"all": Role([Grant("tools/call:**", when={"args.n": {"eq": 1}})])})
    server = Server(**{"tools/call": {}})
    with contextlib.suppress(Exception):
        await guarded(policy)(Ctx("tools/call", {"name": 7, "arguments": {"n": number}}), server)
    assert bool(server.seen) is reached


async def test_a_completion_of_either_kind_needs_both():
    """Malformed, it may be of a prompt or of a resource."""
    server = Server()
    with pytest.raises(Exception, match="Method not found"):
        await guarded(OF_PROMPTS)(Ctx("completion/complete", {"ref": 5}), server)
    assert not server.seen


async def test_a_name_with_two_spellings_is_forbidden_to_all():
    """What a server might read as another name must not pass beside the rules for that name."""
    server = Server()
    await guarded(ANYTHING)(Ctx("tools/call", {"name": "cafe\u0301"}), server)
    assert server.seen[0].params["name"] == hiding.NOWHERE


async def test_a_malformed_subscription_is_not_mended():
    """Narrowed to nothing it would be a valid one, and stay open, where the server refuses it."""
    server = Server(**{"subscriptions/listen": None})
    await guarded(OF_PROMPTS)(Ctx("subscriptions/listen", {"notifications": 7}), server)
    assert server.seen[0].params == {"notifications": 7}
