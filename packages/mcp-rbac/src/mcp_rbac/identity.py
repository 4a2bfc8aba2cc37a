"""Who is calling: from the verified token of the request to a ``Subject``.

    token ──▶ from_token(roles="realm_access.roles", issuer=…) ──▶ Subject(user, roles, scopes, tenant, claims)

Nothing that the caller can write himself counts: no header, no ``_meta``, no ``clientInfo``.  A token that lacks what
it should have, or has it in another type, is an error, and an error is a denial.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias, cast

from ._seam import Principal, access_token, principal
from .conditions import Subject, is_sync, mapping_of
from .policy import Policy

__all__ = ["SubjectOf", "by_client", "by_subject", "from_token"]

SubjectOf: TypeAlias = Callable[[Any, Policy], Subject | None]
"""Makes a subject of a context; None for a request without a token, an exception for one that must be refused."""


def by_subject(caller: Principal) -> str | None:
    """Call users by the ``sub`` of their token, which is unique for one issuer."""
    return caller.subject


def by_client(caller: Principal) -> str | None:
    """Call users by the client they use, for servers that machines talk to."""
    return caller.client_id


def from_token(
    *,
    issuer: str | Collection[str] | None = None,
    user: Callable[[Principal], str | None] = by_subject,
    roles: str | None = None,
    tenant: str | None = None,
) -> SubjectOf:
    """Make subjects of access tokens.

    *issuer* names who may issue tokens; name it when the verifier accepts more than one, since a user's name means
    something for one issuer only.  *roles* and *tenant* are the claims that have them, ``"realm_access.roles"`` one
    inside another; a claim that is absent gives no roles and no tenant, one of another type refuses the request.  Which
    of the roles count is for the policy to say (``external``).  All claims are there for conditions, as attributes.

    Raises TypeError for names that are no strings, and a *user* that is no sync function.
    """
    _check(issuer, user, roles=roles, tenant=tenant)
    issuers = {issuer} if isinstance(issuer, str) else issuer

    def subject_of(ctx: Any, policy: Policy) -> Subject | None:
        caller = principal(ctx)
        if caller is None:
            return None
        if issuers is not None and caller.issuer not in issuers:
            raise ValueError("the token is from another issuer")
        claims = _claims(ctx)
        found = None if roles is None else _at(claims, roles)
        if not isinstance(found, (list, tuple, type(None))):
            raise TypeError(f"the claim {roles} is no list")
        named = None if tenant is None else _at(claims, tenant)
        return policy.subject(
            user(caller),
            external=cast("Collection[str]", found or ()),
            scopes=caller.scopes,
            tenant=cast("Any", named),
            attributes=claims,
        )

    return subject_of


def _check(issuer: object, user: object, **claims: object) -> None:
    names = [issuer] if isinstance(issuer, str) else () if issuer is None else issuer
    is_collection = isinstance(names, Collection) and not isinstance(names, (str, bytes))
    if not is_collection or not all(isinstance(name, str) for name in cast("Collection[object]", names)):
        raise TypeError(f"from_token needs issuer to be a string or a collection of strings, got {issuer!r}")
    if not is_sync(user):
        raise TypeError(f"from_token needs user to be a sync function of a Principal, got {user!r}")
    for name, claim in claims.items():
        if claim is not None and not (claim and isinstance(claim, str)):
            raise TypeError(f"from_token needs {name} to be the name of a claim or None, got {claim!r}")


def _claims(ctx: object) -> Mapping[str, Any]:
    return mapping_of(getattr(access_token(ctx), "claims", None))


def _at(claims: Mapping[str, Any], path: str) -> object:
    found: Any = claims
    for name in path.split("."):
        if not isinstance(found, Mapping):
            raise TypeError(f"the claim {path} goes through no object")
        found = cast("Mapping[str, Any]", found).get(name)
        if found is None:
            return None
    return found
