"""The whole stack in a web service that has nothing to do with MCP: Starlette before a database and an upstream.

What a layer knows of a request is a ``Call``: who asks (as your authentication has found out), and for what.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
from demo.shop import Database, PriceList, Supplier
from demo.stack import Stack
from mcp_middleware import Call, Principal, outcome
from mcp_pool import Pool
from mcp_ratelimit import RateLimiter
from mcp_rbac import Policy
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

STATUS = {-31003: 403, -31029: 429, -31103: 503}
PEOPLE = {"Bearer token-of-ada": "ada", "Bearer token-of-bob": "bob"}


def service(folder: Path, supplier: Supplier) -> Starlette:
    """Build the web service."""
    stack = Stack(
        Policy(roles={"clerk": {"allow": ["tools/call:price", "tools/call:stock"]}}, users={"ada": ["clerk"]}),
        Pool(Database.at(folder / "stock.db"), reset=Database.rollback, max_size=2),
        upstream=["price"],
        database=["stock"],
        limiter=RateLimiter("3/hour"),
    )

    async def price(article: str) -> object:
        return await supplier.price(article)

    async def stock(article: str) -> object:
        ((left,),) = await stack.database.current().query("SELECT length(?)", article)
        return left

    handlers = {"price": price, "stock": stock}

    async def handle(call: Any) -> object:
        # By the name in the call, not in the request: what somebody may not know of has another name by now.
        return await handlers[call.params["name"]](**call.params["arguments"])

    async def endpoint(request: Request) -> JSONResponse:
        person = PEOPLE.get(request.headers.get("authorization", ""))
        call = Call(
            "tools/call",
            {"name": request.path_params["name"], "arguments": {"article": request.path_params["article"]}},
            principal=Principal("web", None, person) if person else None,
            request=request,
        )
        try:
            return JSONResponse(await stack.chain(call, handle))
        except KeyError:
            return JSONResponse("there is no such thing", 404)
        except Exception as refused:
            if outcome(refused) != "rejected":
                raise
            return JSONResponse(str(refused), STATUS.get(getattr(refused, "code", 0), 500))

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        async with stack:
            yield

    return Starlette(routes=[Route("/{name}/{article}", endpoint)], lifespan=life)


def upstream(prices: PriceList) -> Starlette:
    """Build the service that is asked, which answers 503 when it stumbles."""

    async def price(request: Request) -> PlainTextResponse:
        try:
            return PlainTextResponse(str(await prices.price(request.path_params["article"])))
        except ConnectionError:
            return PlainTextResponse("", 503)

    return Starlette(routes=[Route("/price/{article}", price)])


async def main(folder: Path) -> None:
    """Let Ada use up what she may, and Bob and a stranger try."""
    prices = PriceList()
    supplier = Supplier("http://supplier", transport=httpx.ASGITransport(upstream(prices)))
    web = service(folder, supplier)
    transport = httpx.ASGITransport(web)
    async with web.router.lifespan_context(web), httpx.AsyncClient(transport=transport, base_url="http://shop") as http:
        for person, path in (
            ("ada", "/price/ink"),
            ("ada", "/price/ink"),
            ("ada", "/stock/paper"),
            ("ada", "/stock/ink"),
            ("bob", "/stock/ink"),
            ("eve", "/stock/ink"),
        ):
            reply = await http.get(path, headers={"authorization": f"Bearer token-of-{person}"})
            print(f"{person} {path:12} {reply.status_code} {reply.json()}")
    print("upstream was asked", prices.asked.total(), "times")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        anyio.run(main, Path(name))
