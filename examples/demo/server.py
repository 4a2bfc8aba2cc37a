"""The stationer's MCP server: notes are files, orders lie in sqlite. Run as a program, over stdio or Streamable HTTP.

python -m examples.demo.server FOLDER stdio|http
"""

from __future__ import annotations

import logging
import os
import socket
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, ClassVar

import anyio
import uvicorn
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.mcpserver.resolve import Elicit, Resolve
from pydantic import AnyHttpUrl, BaseModel

from .layers import chain

MONTHS = 12
PAUSE = 0.06  # seconds a month takes in the slow report: long enough to be seen, and to be cancelled


class Month(BaseModel):
    """One line of the report, in euros."""

    month: int
    orders: int
    revenue: float


class Sure(BaseModel):
    """What the user is asked before a note is deleted."""

    sure: bool


async def ask_first(name: str) -> Elicit[Sure]:
    """Put the question to the user; the answer goes to the tool."""
    return Elicit(f"Delete the note {name!r} for good?", Sure)


class Tokens:
    """A token verifier with two known people; a real one asks an authorization server or checks a signature."""

    _known: ClassVar = {
        "token-of-ada": AccessToken(
            token="token-of-ada", client_id="till", subject="ada", scopes=["notes:read", "notes:write"]
        ),
        "token-of-bob": AccessToken(token="token-of-bob", client_id="till", subject="bob", scopes=["notes:read"]),
    }

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return who the token belongs to, None for a token nobody issued."""
        return self._known.get(token)


def build(folder: Path, url: str | None = None) -> MCPServer:
    """Build the server over what lies in `folder`, with tokens where it is reached at a `url`, behind the chain."""
    server = MCPServer(
        "stationer",
        version="1.0",
        log_level="CRITICAL",
        middleware=[chain(folder / "calls.jsonl", local=url is None)],
        token_verifier=Tokens() if url else None,
        auth=AuthSettings(issuer_url=AnyHttpUrl(url), resource_server_url=None) if url else None,
    )
    add_notes(server, folder / "notes")
    add_orders(server, folder / "orders.db")
    return server


def add_notes(server: MCPServer, notes: Path) -> None:
    """Register the tools on the folder of notes."""

    def existing(name: str) -> Path:
        path = notes / f"{name}.txt"
        if path.parent != notes or not path.is_file():
            raise ToolError(f"there is no note {name!r}")
        return path

    @server.tool()
    def search_notes(word: str) -> list[str]:
        """Name the notes that contain a word."""
        return sorted(path.stem for path in notes.glob("*.txt") if word in path.read_text())

    @server.tool()
    def read_note(name: str) -> str:
        """Return the text of a note."""
        return existing(name).read_text()

    @server.tool()
    def append_note(name: str, line: str) -> int:
        """Add a line to a note, and count its lines."""
        with existing(name).open("a") as file:
            file.write(line + "\n")
        return len(existing(name).read_text().splitlines())

    @server.tool()
    def delete_note(name: str, answer: Annotated[Sure, Resolve(ask_first)]) -> str:
        """Delete a note, if the user says so when asked."""
        if not answer.sure:
            return "kept"
        existing(name).unlink()
        return "deleted"


def add_orders(server: MCPServer, database: Path) -> None:
    """Register the tools on the table of orders."""

    def query(statement: str, *values: object) -> list[Any]:
        with closing(sqlite3.connect(database)) as connection:
            return connection.execute(statement, values).fetchall()

    @server.tool()
    def customer_orders(customer: str) -> dict[str, float]:
        """Sum up a customer's orders by article, in euros."""
        return dict(query("SELECT article, SUM(price) FROM orders WHERE customer = ? GROUP BY article", customer))

    @server.tool()
    async def yearly_report(ctx: Context) -> list[Month]:
        """Go through the year month by month, and tell how far it is."""
        report = []
        for month in range(1, MONTHS + 1):
            ((orders, revenue),) = query("SELECT COUNT(*), TOTAL(price) FROM orders WHERE month = ?", month)
            report.append(Month(month=month, orders=orders, revenue=revenue))
            await ctx.report_progress(month, MONTHS, f"month {month}")
            await anyio.sleep(PAUSE)
        return report

    @server.tool()
    def print_label(customer: str) -> str:
        """Print an address label, on a printer that has run out of paper."""
        raise ToolError(f"no paper left for the label of {customer}")


async def serve_http(folder: Path) -> None:
    """Serve on a free port of the loopback interface, and say on stdout which one."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        app = build(folder, url).streamable_http_app()
        print(f"{url}/mcp", flush=True)
        config = uvicorn.Config(app, log_level="critical", ws="none", timeout_graceful_shutdown=2)
        await uvicorn.Server(config).serve(sockets=[listening])


def main(folder: Path, transport: str) -> None:
    """Serve until stdin ends, or until asked to terminate."""
    logging.disable(logging.CRITICAL)  # the story is told by the client; the call log is a file
    with (folder / "pids").open("a") as pids:
        print(os.getpid(), file=pids)
    if transport == "http":
        anyio.run(serve_http, folder)
    else:
        anyio.run(build(folder).run_stdio_async)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
