"""What a client and a server say to each other: one list, run bare and behind middleware, and compared.

A scenario drives a ``Peer`` and asserts that it meets what its name says, so that a server which answers nothing but
errors cannot pass for transparent.  ``needs`` names what a seam must offer; the seams say what they have, and what a
seam cannot run is reported with the reason.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import anyio

from tests.seams.peers import LEGACY, MODERN, Peer

NEEDS = {
    "legacy": "a handshake protocol",
    "gate": "a connection that survives a request before its handshake",
    "modern": "protocol 2026-07-28",
    "rich": "a server with tools, resources and prompts of its own",
    "pages": "a server that paginates",
    "plain": "a handler-style server",
    "guard": "InputRequiredResult in a tool",
    "completion": "completions",
    "back channel": "a way for the server to ask the client",
    "stream": "a stream for what the server says unasked",
    "state": "a connection that lasts longer than one request",
    "logging": "log messages within a request",
    "signals": "subscriptions to the server's own events",
}
"""Every word that a scenario may need, and what it means to the reader of a report."""


class Scenario(NamedTuple):
    """One conversation; `needs` are words of ``NEEDS``."""

    name: str
    needs: frozenset[str]
    run: Callable[[Peer], Awaitable[None]]


SCENARIOS: list[Scenario] = []


def scenario(*needs: str) -> Callable[[Callable[[Peer], Awaitable[None]]], Callable[[Peer], Awaitable[None]]]:
    """Add a conversation to the list under the name of the function."""
    unknown = set(needs) - set(NEEDS)
    if unknown:
        raise ValueError(f"scenario needs words of NEEDS, got {sorted(unknown)!r}")

    def add(run: Callable[[Peer], Awaitable[None]]) -> Callable[[Peer], Awaitable[None]]:
        SCENARIOS.append(Scenario(run.__name__, frozenset(needs), run))
        return run

    return add


def succeeded(reply: dict[str, Any]) -> dict[str, Any]:
    """Return the result; a tool that failed is a failure too."""
    result: dict[str, Any] = reply.get("result", {"isError": True})
    assert not result.get("isError"), reply
    return result


def failed(reply: dict[str, Any]) -> None:
    """Assert an error in either form: JSON-RPC's own, or a result marked ``isError``."""
    assert "error" in reply or reply["result"].get("isError"), reply


def text(reply: dict[str, Any]) -> str:
    """Return the text of a tool's answer."""
    return "".join(part["text"] for part in succeeded(reply)["content"])


async def initialize(peer: Peer, version: str = LEGACY) -> dict[str, Any]:
    """Shake hands."""
    client = {
        "protocolVersion": version,
        "capabilities": {"elicitation": {}},
        "clientInfo": {"name": "p", "version": "1"},
    }
    reply = await peer.request("initialize", client)
    await peer.notify("notifications/initialized")
    return reply


# Opening. Over stdio all scenarios share one connection, so these two come first; elsewhere each has its own, and every
# scenario but those with "handshake" in their names is given one that has shaken hands.


@scenario("legacy", "gate")
async def before_the_handshake(peer: Peer) -> None:
    failed(await peer.request("tools/list"))


@scenario("legacy")
async def handshake(peer: Peer) -> None:
    assert succeeded(await initialize(peer))["serverInfo"]["name"] == "specimen"
    succeeded(await peer.request("ping"))


@scenario("legacy")
async def handshake_with_an_unknown_version(peer: Peer) -> None:
    assert succeeded(await initialize(peer, "1999-01-01"))["protocolVersion"] != "1999-01-01"


@scenario("legacy")
async def malformed_handshake(peer: Peer) -> None:
    failed(await peer.request("initialize", {"protocolVersion": 7}))


@scenario("modern")
async def discover(peer: Peer) -> None:
    assert MODERN in succeeded(await peer.request("server/discover"))["supportedVersions"]


@scenario("modern")
async def discover_with_an_unknown_version(peer: Peer) -> None:
    failed(await peer.request("server/discover", **{"io.modelcontextprotocol/protocolVersion": "1999-01-01"}))


@scenario("legacy")
async def ping(peer: Peer) -> None:
    succeeded(await peer.request("ping"))


# Lists


@scenario("rich")
async def lists(peer: Peer) -> None:
    assert succeeded(await peer.request("tools/list"))["tools"]
    assert succeeded(await peer.request("prompts/list"))["prompts"]
    assert succeeded(await peer.request("resources/list"))["resources"]
    assert succeeded(await peer.request("resources/templates/list"))["resourceTemplates"]


@scenario("pages")
async def pages(peer: Peer) -> None:
    page = succeeded(await peer.request("tools/list"))
    turned = 0
    while cursor := page.get("nextCursor"):
        page = succeeded(await peer.request("tools/list", {"cursor": cursor}))
        turned += 1
    assert turned >= 2


@scenario("pages")
async def bad_cursor(peer: Peer) -> None:
    failed(await peer.request("tools/list", {"cursor": "nonsense"}))
    failed(await peer.request("tools/list", {"cursor": 7}))


# Tools


@scenario("rich")
async def call(peer: Peer) -> None:
    assert text(await peer.call("echo", text="héllo")) == "héllo"


@scenario("rich")
async def call_with_structured_answer(peer: Peer) -> None:
    assert succeeded(await peer.call("add", a=40))["structuredContent"] == {"total": 42, "parts": [40, 2]}


@scenario("rich")
async def call_without_arguments(peer: Peer) -> None:
    failed(await peer.request("tools/call", {"name": "echo"}))


@scenario("rich")
async def call_with_wrong_arguments(peer: Peer) -> None:
    failed(await peer.call("add", a="many"))


@scenario("rich")
async def call_that_fails(peer: Peer) -> None:
    failed(await peer.call("fail", reason="out of paper"))


@scenario("rich")
async def call_that_is_forbidden(peer: Peer) -> None:
    failed(await peer.call("forbid"))


@scenario("rich")
async def call_of_an_unknown_tool(peer: Peer) -> None:
    failed(await peer.call("nothing"))


@scenario("plain")
async def call_plain(peer: Peer) -> None:
    assert "tool-0" in text(await peer.call("tool-0", text="said"))


@scenario("plain")
async def call_plain_unknown(peer: Peer) -> None:
    failed(await peer.call("nothing", text="said"))


@scenario()
async def malformed_calls(peer: Peer) -> None:
    for params in (None, {}, {"name": 7}, {"name": "echo", "arguments": "text"}, {"name": None, "arguments": {}}):
        failed(await peer.request("tools/call", params))


@scenario("rich")
async def calls_at_once(peer: Peer) -> None:
    async def one(number: int) -> None:
        reply = await peer.send(
            100 + number, "tools/call", peer.params({"name": "add", "arguments": {"a": number}}, {})
        )
        assert succeeded(reply)["structuredContent"]["total"] == number + 2

    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(one, number)


# Resources, prompts, completions


@scenario("rich")
async def read(peer: Peer) -> None:
    for uri, field in (("memo://hello", "text"), ("memo://blob", "blob"), ("memo://about/ink", "text")):
        assert succeeded(await peer.request("resources/read", {"uri": uri}))["contents"][0][field]


@scenario("rich")
async def read_that_fails(peer: Peer) -> None:
    for params in ({"uri": "memo://broken"}, {"uri": "memo://nothing"}, {"uri": 7}, {}, None):
        failed(await peer.request("resources/read", params))


@scenario("rich")
async def prompt(peer: Peer) -> None:
    reply = await peer.request("prompts/get", {"name": "greet", "arguments": {"name": "Ada"}})
    assert succeeded(reply)["messages"][0]["content"]["text"] == "Greet Ada."


@scenario("rich")
async def prompt_that_fails(peer: Peer) -> None:
    for params in ({"name": "mumble"}, {"name": "greet"}, {"name": "nothing"}, {"name": "greet", "arguments": 7}, {}):
        failed(await peer.request("prompts/get", params))


@scenario("completion")
async def completion(peer: Peer) -> None:
    argument = {"name": "name", "value": "A"}
    for ref in ({"type": "ref/prompt", "name": "greet"}, {"type": "ref/resource", "uri": "memo://about/{topic}"}):
        reply = await peer.request("completion/complete", {"ref": ref, "argument": argument})
        assert succeeded(reply)["completion"]["values"][0] == "A!"
    failed(await peer.request("completion/complete", {"ref": {"type": "ref/nothing"}}))


# What is not there


@scenario()
async def unknown_method(peer: Peer) -> None:
    failed(await peer.request("nothing/here", {"some": "thing"}))


@scenario()
async def unknown_notification(peer: Peer) -> None:
    await peer.notify("notifications/nothing", {"some": "thing"})
    await peer.request("tools/list")


@scenario("state")
async def malformed_notification(peer: Peer) -> None:
    await peer.notify("notifications/progress", {"progress": "far"})
    await peer.notify("notifications/cancelled", {"requestId": 4711})
    await peer.request("tools/list")


# Progress, logging, the server's own events


@scenario("rich")
async def progress(peer: Peer) -> None:
    params = {"name": "count", "arguments": {"to": 3}}
    succeeded(await peer.request("tools/call", params, progressToken="bar"))
    await peer.heard("notifications/progress", 3)


@scenario("rich")
async def progress_that_nobody_asked_for(peer: Peer) -> None:
    before = len(peer.transcript)
    succeeded(await peer.call("count", to=3))
    assert peer.modern or len(peer.transcript) == before + 2


@scenario("rich", "logging")
async def log_messages(peer: Peer) -> None:
    params = {"name": "chat", "arguments": {}}
    succeeded(await peer.request("tools/call", params, **{"io.modelcontextprotocol/logLevel": "info"}))
    await peer.heard("notifications/message", 2)


@scenario("legacy", "plain")
async def log_level(peer: Peer) -> None:
    succeeded(await peer.request("logging/setLevel", {"level": "warning"}))
    failed(await peer.request("logging/setLevel", {"level": "loud"}))


@scenario("legacy", "plain")
async def subscribe(peer: Peer) -> None:
    for method in ("resources/subscribe", "resources/unsubscribe"):
        succeeded(await peer.request(method, {"uri": "memo://hello"}))
        failed(await peer.request(method, {}))


@scenario("legacy", "rich", "stream")
async def list_changed(peer: Peer) -> None:
    succeeded(await peer.call("change"))
    await peer.heard("notifications/tools/list_changed")


@scenario("modern", "rich", "signals")
async def listen(peer: Peer) -> None:
    wanted = {"toolsListChanged": True, "resourceSubscriptions": ["memo://hello"]}
    request_id = 900

    async def stream() -> None:
        await peer.send(request_id, "subscriptions/listen", peer.params({"notifications": wanted}, {}))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream)
        await peer.heard("notifications/subscriptions/acknowledged")
        succeeded(await peer.call("change"))
        await peer.heard("notifications/tools/list_changed")
        await peer.heard("notifications/resources/updated")
        await peer.cancel(request_id)
        tasks.cancel_scope.cancel()


@scenario("modern", "signals")
async def malformed_listen(peer: Peer) -> None:
    failed(await peer.request("subscriptions/listen", {"notifications": 7}))


# Cancellation


@scenario("rich")
async def cancelled_call(peer: Peer) -> None:
    request_id = 800

    async def doomed() -> None:
        params = peer.params({"name": "wait", "arguments": {}}, {"progressToken": request_id})
        await peer.send(request_id, "tools/call", params)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(doomed)
        await peer.heard("notifications/progress")  # the tool's first words: it is in there
        await peer.cancel(request_id)
        assert "started" in str(succeeded(await peer.call("settle")))
        tasks.cancel_scope.cancel()
    assert text(await peer.call("echo", text="still here")) == "still here"


# Questions to the user


@scenario("legacy", "rich", "back channel")
async def elicitation(peer: Peer) -> None:
    for answer in ({"action": "accept", "content": {"sure": True}}, {"action": "decline"}, {"action": "cancel"}):
        peer.answers["elicitation/create"] = answer
        assert answer["action"] in text(await peer.call("ask"))
    peer.answers["elicitation/create"] = {"action": "accept", "content": {"sure": "perhaps"}}
    failed(await peer.call("ask"))


@scenario("modern", "guard")
async def input_required(peer: Peer) -> None:
    for answer in ({"action": "accept", "content": {"sure": True}}, {"action": "decline"}):
        first = succeeded(await peer.call("guard"))
        assert first["resultType"] == "input_required"
        reply = {"inputResponses": {"sure": answer}, "requestState": first["requestState"]}
        second = await peer.request("tools/call", {"name": "guard", "arguments": {}, **reply})
        assert text(second).startswith(str(answer["action"]))


@scenario("modern", "guard")
async def input_required_with_a_forged_state(peer: Peer) -> None:
    reply = {"inputResponses": {"sure": {"action": "accept"}}, "requestState": "forged"}
    failed(await peer.request("tools/call", {"name": "guard", "arguments": {}, **reply}))
