"""Who works at the stationer's, by which token they are known, and what they may do."""

from __future__ import annotations

from typing import ClassVar

from mcp.server.auth.provider import AccessToken
from mcp_rbac import Policy

READING = ["tools/list", *(f"tools/call:{tool}" for tool in ("search_notes", "read_note", "price", "customer_orders"))]
WRITING = ["tools/call:append_note", "tools/call:delete_note"]
OFFICE = ["tools/call:yearly_report", "tools/call:print_label", "tools/call:payroll"]

policy = Policy(
    roles={"clerk": {"allow": [*READING, *WRITING]}, "manager": {"inherits": ["clerk"], "allow": OFFICE}},
    users={"ada": ["manager"], "bob": ["clerk"]},
    scopes={"shop:read": {"allow": [*READING, *OFFICE]}, "notes:write": {"allow": WRITING}},
)


class Tokens:
    """A token verifier with two known people; a real one asks an authorization server or checks a signature."""

    _scopes: ClassVar = {"ada": ["shop:read", "notes:write"], "bob": ["shop:read"]}

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return who the token belongs to, None for a token nobody issued."""
        person = token.removeprefix("token-of-")
        if person not in self._scopes:
            return None
        return AccessToken(token=token, client_id="till", subject=person, scopes=self._scopes[person])
