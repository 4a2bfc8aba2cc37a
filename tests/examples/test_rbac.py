"""The example of authorisation prints what its reader is promised."""

from __future__ import annotations

from tests.examples.test_examples import need, run

PRINTED = """\
ann     sees find_paper, order, pay
audit   ann tools/call:pay granted by petty cash
ann     pay: paid 80
audit   ann tools/call:pay denied by petty cash
ann     pay: access denied
audit   ann tools/call:books denied by default
ann     books: Unknown tool: books
bob     sees find_paper, books
audit   bob tools/call:books granted by roles.auditor.allow[0]
bob     books: all in order
audit   bob tools/call:order denied by default
bob     order: Unknown tool: order
eve     sees nothing
audit   eve tools/call:find_paper denied by default
eve     find_paper: Unknown tool: find_paper
"""


def test_the_office_lets_each_caller_see_his_own() -> None:
    """Three callers, one server, and an audit log."""
    need("mcp", 2)
    done = run("-m", "examples.rbac_office")
    assert done.returncode == 0, done.stderr
    assert done.stdout == PRINTED
