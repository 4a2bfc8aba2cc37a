"""A PoolMiddleware whose pool lives as long as one call, since the matrix opens nothing."""

from __future__ import annotations

from typing import Any

from mcp_middleware import is_internal
from mcp_pool import Pool, PoolMiddleware


class Resource:
    """Something that can be closed."""

    async def aclose(self) -> None: ...


async def connect() -> Resource:
    return Resource()


class Pooled:
    """Opens a pool of one around each call, and finds its resource in the handler's context."""

    async def __call__(self, ctx: Any, call_next: Any) -> Any:
        """Pass the call on."""
        methods = [ctx.method] if ctx.method else ["tools/call"]
        async with Pool(connect, max_size=1) as pool:
            middleware = PoolMiddleware(pool, methods=methods)

            async def call(ctx: Any) -> Any:
                assert isinstance(middleware.current(), Resource)
                return await call_next(ctx)

            return await middleware(ctx, call if methods == [ctx.method] and not is_internal(ctx) else call_next)
