"""Act three: a tool that deletes asks its user first, through the chain and back."""

from __future__ import annotations

from typing import Any

from mcp_types import ElicitResult

from .stage import Stage
from .world import client_over_stdio, note


async def play(stage: Stage) -> None:
    """Say no, and then say yes."""
    stage.act("Are you sure?", "Deleting asks the user: the answer is a question, the reply a second call.")
    asked: list[str] = []
    replies = iter([False, True])

    async def user(_: Any, question: Any) -> ElicitResult:
        asked.append(question.message)
        return ElicitResult(action="accept", content={"sure": next(replies)})

    async with client_over_stdio(stage.folder, elicitation_callback=user) as client:
        await client.call_tool("delete_note", {"name": "string"})
        kept = note(stage.folder, "string") is not None
        await client.call_tool("delete_note", {"name": "string"})

    await stage.ledger(*[(None, "delete_note", ending) for ending in ("input_required", "ok")] * 2)
    stage.claim("the user was asked twice", asked, ["Delete the note 'string' for good?"] * 2)
    stage.claim("after the no the note was still there", kept, True)
    stage.claim("after the yes it is gone", note(stage.folder, "string"), None)
