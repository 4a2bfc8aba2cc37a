"""The same stack everywhere: each example prints what its reader is promised."""

from __future__ import annotations

import pytest

from tests.examples.test_examples import EXAMPLES, Example, need, run

SERVED = ("shown    price, stock", "price    5.0", "price    5.0", "stock    5", "asked    2 times, 1 answer was known")

RUN = [
    Example("stack_fastmcp.py", "fastmcp", (2, 3, 4), (*SERVED, "payroll  Unknown tool: 'payroll'")),
    Example("stack_mcp1.py", "mcp", (1,), (*SERVED, "payroll  Unknown tool: payroll")),
    Example(
        "stack_client.py",
        "mcp",
        (2,),
        (
            "asked        3.0 5.0 6.0",
            "asked again  3.0 5.0 6.0",
            "buy          Unknown tool: buy",
            "the stack    3 retries, 3 hits, 2 tickets",
        ),
    ),
    Example(
        "stack_starlette.py",
        "starlette",
        (),
        (
            "ada /price/ink   200 3.0",
            "ada /price/ink   200 3.0",
            "ada /stock/paper 200 5",
            "ada /stock/ink   429 Rate limit '3/hour' exceeded; try again in 1200 s",
            "bob /stock/ink   404 there is no such thing",
            "eve /stock/ink   404 there is no such thing",
            "upstream was asked 2 times",
        ),
    ),
    Example(
        "stack_trio.py",
        "trio",
        (),
        ("booked   10 jobs for 90 euros, over 2 connections", "asked    10 times, 5 of them again"),
    ),
]


@pytest.mark.parametrize("example", RUN, ids=lambda example: example.script)
def test_the_stack_does_everywhere_what_it_says(example: Example) -> None:
    """Two retries and a hit in one SDK, and none in another, would be two stacks."""
    need(example.package, *example.majors)
    need("httpx")
    done = run(str(EXAMPLES / example.script))
    assert done.returncode == 0, done.stderr
    printed = done.stdout.replace("'", "").splitlines()  # FastMCP 2 quotes a name that it does not know, 3 does not
    assert printed == [line.replace("'", "") for line in example.printed], done.stderr
