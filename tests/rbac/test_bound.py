"""Where what runs behind the chain is fixed, asking for another name would hide nothing."""

from __future__ import annotations

from types import MethodType

import pytest
from mcp_rbac import CODE
from mcp_rbac._seam import Refused
from mcp_rbac.hiding import is_bound

from tests.rbac.world import guarded, tool

RAN = []


async def innermost(ctx):
    """Stands for what the SDK hands to an extension's interceptor."""
    RAN.append(ctx)


innermost.__module__ = "mcp.server.extension"


async def step(terminal, ctx):
    await terminal(ctx)


@pytest.mark.parametrize("call_next", [innermost, MethodType(step, MethodType(step, innermost))])
async def test_a_denied_call_is_refused_and_not_hidden(call_next):
    """Directly, and behind the steps of a chain in a chain."""
    with pytest.raises(Refused, match=r"^access denied$") as caught:
        await guarded()(tool("secret"), call_next)
    assert caught.value.code == CODE
    assert RAN == []


def test_what_is_bound_to_plain_data_is_not():
    """Not everything has a module."""
    assert not is_bound(MethodType(step, ()))


async def test_a_granted_call_runs():
    """The refusal is for what is denied alone."""
    await guarded()(tool("open_x"), innermost)
    assert RAN.pop().params["name"] == "open_x"
