"""What the metrics say of a real server's answers: the same as the wire, for every way in which a call can be wrong."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from mcp_metrics import MetricsMiddleware, Registry
from mcp_metrics.semconv import is_server_error
from mcp_metrics.testing import find

from tests.seams import servers
from tests.seams.clients import PATIENCE, Client, connect
from tests.seams.servers import FASTMCP, MCP

pytestmark = [
    pytest.mark.skipif(not MCP, reason="no MCP SDK here: nox -s seams makes an environment for each"),
    pytest.mark.parametrize("anyio_backend", ["uvloop"], indirect=True),
]

BUILD = "fastmcp" if FASTMCP else "mcpserver" if MCP >= 2 else "official_1"
WRONG: list[tuple[str, str, list[Any]]] = [
    ("tools/call", "call_tool", ["missing", {}]),
    ("tools/call", "call_tool", ["add", {"a": "no number", "b": 2}]),
    ("tools/call", "call_tool", ["flawed", {}]),
    ("tools/call", "call_tool", ["broken", {}]),
    ("prompts/get", "get_prompt", ["missing", {}]),
    ("resources/read", "read_resource", ["memo://missing"]),
]


async def answered(client: Client, method: str, arguments: list[Any]) -> int | None:
    """Return the code that the wire says; None for a result, which has to be marked ``isError``."""
    with anyio.fail_after(PATIENCE):
        try:
            result = await getattr(client.session, method)(*arguments)
        except Exception as error:  # noqa: BLE001  # MCPError, or McpError, which has no other name in common
            return error.error.code  # type: ignore[attr-defined,no-any-return]
    assert result.is_error if MCP >= 2 else result.isError
    return None


@pytest.mark.parametrize("modern", [False, True][:MCP])
@pytest.mark.parametrize(("method", "ask", "arguments"), WRONG)
async def test_figures_say_what_the_wire_says(method: str, ask: str, arguments: list[Any], *, modern: bool) -> None:
    """An unknown name or a bad argument is the caller's fault in the figures too, where it is in the answer."""
    registry = Registry()
    server = getattr(servers, BUILD)(MetricsMiddleware(registry))
    async with connect(server, "memory", modern=modern) as client:
        code = await answered(client, ask, arguments)
    (told,) = find(registry, "mcp_server_operation_duration_seconds_count", mcp_method_name=method)
    figures = told.labels.get("error_type", ""), told.labels.get("rpc_response_status_code")
    if code is None:
        assert figures == ("tool_error", None)
    elif is_server_error(code):  # all that these servers say of an exception, whose class says more
        assert figures[0].endswith("Error")
        assert figures[1] is None
    else:
        assert figures == ("", str(code))
    if modern:
        assert told.labels["mcp_protocol_version"] == "2026-07-28"
