"""A client that speaks JSON-RPC by hand over the SDK's own transports, and remembers every message.

A client library would repair, validate or hide what this test is about: the messages themselves, malformed ones too.
``StreamPeer`` works on the pair of streams that every transport of every SDK yields; ``DirectPeer`` on the 2.x
in-memory dispatcher, which has no messages but calls: requests, answers, notifications and progress are written down.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

LEGACY, MODERN = "2025-11-25", "2026-07-28"
PATIENCE = 10.0
"""Seconds after which a message that should have come fails the scenario; nothing here takes a tenth of it."""
_META = "io.modelcontextprotocol/"
_CAPABILITIES: dict[str, Any] = {"elicitation": {"form": {}}}
_NAME_FIELDS = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}


class Peer:
    """What both peers share: the transcript, answers to the server's questions, and waiting for a notification."""

    def __init__(self, modern: bool) -> None:
        self.modern = modern
        self.transcript: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, Any] = {"elicitation/create": {"action": "accept", "content": {"sure": True}}}
        self._ids = 0
        self._arrival = anyio.Event()

    def note(self, direction: str, message: dict[str, Any]) -> None:
        """Write a message down, as it is now."""
        self.transcript.append((direction, json.loads(json.dumps(message))))
        self._arrival.set()
        self._arrival = anyio.Event()

    def params(self, params: dict[str, Any] | None, meta: dict[str, Any]) -> dict[str, Any] | None:
        """Add what every request of the protocol version must carry in ``_meta``."""
        if self.modern:
            client = {"name": "peer", "version": "1"}
            era = {"protocolVersion": MODERN, "clientInfo": client, "clientCapabilities": _CAPABILITIES}
            meta = {**{_META + key: value for key, value in era.items()}, **meta}
        return {**(params or {}), "_meta": meta} if meta else params

    async def heard(self, method: str, times: int = 1) -> None:
        """Wait until the server has sent `method` so many times over this connection."""
        with anyio.fail_after(PATIENCE):
            while sum(message.get("method") == method for arrow, message in self.transcript if arrow == "<") < times:
                await self._arrival.wait()

    async def request(self, method: str, params: dict[str, Any] | None = None, **meta: Any) -> dict[str, Any]:
        """Send a request and return the message that answers it; `meta` joins ``_meta``."""
        with anyio.fail_after(PATIENCE):
            return await self.send(self.next_id(), method, self.params(params, meta))

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool."""
        return await self.request("tools/call", {"name": tool, "arguments": arguments})

    def next_id(self) -> int:
        """Return a fresh request id."""
        self._ids += 1
        return self._ids

    async def send(self, request_id: int, method: str, params: dict[str, Any] | None) -> dict[str, Any]:
        """Send one request under `request_id` and wait for its answer."""
        raise NotImplementedError

    async def notify(self, method: str, params: dict[str, Any] | None = None) -> None:
        """Send a notification."""
        raise NotImplementedError

    async def cancel(self, request_id: int) -> None:
        """Give up a request as the protocol version says, and give a last answer 0.2 s to arrive."""
        raise NotImplementedError


class StreamPeer(Peer):
    """A peer over the read and write streams of a transport."""

    def __init__(self, modern: bool, read: Any, write: Any) -> None:
        super().__init__(modern)
        self._read, self._write = read, write
        self._replies: dict[int, tuple[anyio.Event, list[dict[str, Any]]]] = {}
        self._encode, self._wrap, self._metadata = _codec()

    async def send(self, request_id: int, method: str, params: dict[str, Any] | None) -> dict[str, Any]:
        event, reply = self._replies[request_id] = anyio.Event(), []
        await self._put({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
        await event.wait()
        return reply[0]

    async def notify(self, method: str, params: dict[str, Any] | None = None) -> None:
        await self._put({"jsonrpc": "2.0", "method": method, "params": params})

    async def cancel(self, request_id: int) -> None:
        await self.notify("notifications/cancelled", {"requestId": request_id})
        with anyio.move_on_after(0.2):
            await self._replies[request_id][0].wait()

    async def _put(self, message: dict[str, Any]) -> None:
        message = {key: value for key, value in message.items() if value is not None}
        self.note(">", message)
        headers = self._headers(message) if self.modern and "method" in message else None
        metadata = self._metadata(headers=headers) if headers else None
        await self._write.send(self._wrap(self._encode(message), metadata))

    def _headers(self, message: dict[str, Any]) -> dict[str, str]:
        method, params = message["method"], message.get("params", {})
        name = params.get(_NAME_FIELDS.get(method, ""))
        return {
            "mcp-protocol-version": params.get("_meta", {}).get(_META + "protocolVersion", MODERN),
            "mcp-method": method,
            **({"mcp-name": name} if isinstance(name, str) else {}),
        }

    async def listen(self) -> None:
        """Take every message that comes, until the stream ends."""
        async for item in self._read:
            if isinstance(item, Exception):
                self.note("!", {"error": type(item).__name__})
                continue
            message = item.message.model_dump(by_alias=True, mode="json", exclude_unset=True)
            self.note("<", message)
            if "method" not in message:
                event, reply = self._replies[message["id"]]
                reply.append(message)
                event.set()
            elif "id" in message:
                result = self.answers.get(message["method"], {})
                await self._put({"jsonrpc": "2.0", "id": message["id"], "result": result})


def _codec() -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., Any]]:
    from mcp.shared.message import ClientMessageMetadata, SessionMessage

    try:
        from mcp_types import jsonrpc_message_adapter
    except ImportError:
        from mcp.types import JSONRPCMessage

        return JSONRPCMessage.model_validate, SessionMessage, ClientMessageMetadata
    return jsonrpc_message_adapter.validate_python, SessionMessage, ClientMessageMetadata


class DirectPeer(Peer):
    """A peer on the client's end of the 2.x in-memory dispatcher: 2026-07-28 without a wire."""

    def __init__(self, dispatcher: Any) -> None:
        super().__init__(modern=True)
        self._dispatcher = dispatcher
        self._scopes: dict[int, anyio.CancelScope] = {}

    async def send(self, request_id: int, method: str, params: dict[str, Any] | None) -> dict[str, Any]:
        from mcp.shared.exceptions import MCPError

        self.note(">", {"id": request_id, "method": method, "params": params})

        async def progress(*report: Any) -> None:
            self.note("<", {"method": "notifications/progress", "params": report})

        with anyio.CancelScope() as self._scopes[request_id]:
            options = {"request_id": request_id, "on_progress": progress}
            try:
                answer = {"result": await self._dispatcher.send_raw_request(method, params, options)}
            except MCPError as error:
                answer = {"error": {"code": error.code, "message": error.message, "data": error.data}}
            self.note("<", {"id": request_id, **answer})
            return answer
        return {"cancelled": True}

    async def notify(self, method: str, params: dict[str, Any] | None = None) -> None:
        self.note(">", {"method": method, "params": params})
        await self._dispatcher.notify(method, params)

    async def cancel(self, request_id: int) -> None:
        self._scopes[request_id].cancel()

    async def on_request(self, _: Any, method: str, params: Any) -> dict[str, Any]:
        """Answer the server's question, where there is a way back."""
        self.note("<", {"method": method, "params": params})
        return self.answers.get(method, {})

    async def on_notify(self, _: Any, method: str, params: Any) -> None:
        """Take a notification of the server."""
        self.note("<", {"method": method, "params": params})


@asynccontextmanager
async def over_streams(transport: Any, modern: bool) -> AsyncIterator[StreamPeer]:
    """Connect a peer through any transport: an async context manager of (read, write, …)."""
    async with transport as streams, anyio.create_task_group() as tasks:
        peer = StreamPeer(modern, streams[0], streams[1])
        tasks.start_soon(peer.listen)
        yield peer
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def in_memory(server: Any) -> AsyncIterator[StreamPeer]:
    """Connect to a handler-style server of any SDK over a pair of memory streams, with the handshake protocols."""
    from mcp.shared.memory import create_client_server_memory_streams

    async with create_client_server_memory_streams() as (client, streams), anyio.create_task_group() as tasks:
        tasks.start_soon(server.run, *streams, server.create_initialization_options())
        async with over_streams(_already(client), modern=False) as peer:
            yield peer
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def directly(server: Any) -> AsyncIterator[DirectPeer]:
    """Connect to a 2.x handler-style server as its own in-memory client does, without a wire."""
    from mcp.server.runner import modern_on_request
    from mcp.shared.direct_dispatcher import create_direct_dispatcher_pair

    near, far = create_direct_dispatcher_pair(raise_handler_exceptions=False)
    peer = DirectPeer(near)

    async def ignore(*_: Any) -> None:
        """Take a notification that the protocol does not have."""

    async with server.lifespan(server) as state, anyio.create_task_group() as tasks:
        await tasks.start(far.run, modern_on_request(server, state), ignore)
        await tasks.start(near.run, peer.on_request, peer.on_notify)
        yield peer
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def _already(streams: Any) -> AsyncIterator[Any]:
    yield streams
