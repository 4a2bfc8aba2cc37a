"""The MCP face of a policy: every message is authorised, and what its sender may not see does not exist for him.

    message ──▶ what does it ask for? ──▶ who asks? ──▶ policy ──▶ allowed: on, a list filtered on its way back
                      methods.py         identity.py       │
                                                           └─────▶ denied: hiding.py, or a refusal that says why

Denied is what no rule allows: methods that are unknown here or new in the protocol, requests without the name they
need, callers without a token.  A denied notification is dropped, since nobody waits for an answer.

Invariants, each tested in ``tests/rbac`` and on every SDK in ``tests/seams``:

1. Nothing of the server runs for a denied message, but what answers an unknown name, and a list to be emptied; for a
   completion, not even that.
2. What the caller may not see is answered byte for byte like what does not exist.
3. ``on_event`` is told of every decision before anything else happens, so also if the call is then cancelled.
4. No answer that was made for one caller is marked as cacheable for others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, TypeVar, cast

from . import hiding
from ._seam import (
    CallContext,
    arguments,
    as_fastmcp,
    http_request,
    is_internal,
    is_notification,
    principal,
    refuse,
    request_id,
)
from .asking import Asked, asked_by, of_uri
from .completing import nothing_completed
from .conditions import Subject, is_mapping, mapping_of
from .engine import Decision, Reason
from .identity import SubjectOf, from_token
from .methods import HANDSHAKE, LISTS, OBJECTS, check_methods
from .options import CODE, AccessDecided, Fulfil, OnDeny, PolicySource, check, check_callables, check_names
from .permission import LONGEST
from .policy import Policy, SeparationOfDuty
from .stepup import Challenge, settle

__all__ = ["RBACMiddleware"]

C = TypeVar("C", bound=CallContext)
R = TypeVar("R")


class RBACMiddleware:
    """Authorises every message; one object for any server, and for any number of tasks.

    - *policy*: a ``Policy`` or ``LivePolicy``; a rule that no MCP request can match raises PolicyError.
    - *subject*: makes a ``Subject`` of a context and the policy; None says that the request has no token.
    - *anonymous*: who calls over HTTP without a token; *local*: who calls without HTTP, over stdio or in memory.
      Without them such callers are denied.  Give *local* only to a server that is not served over HTTP as well.
    - *on_deny*: ``"hide"`` makes what the caller may not see unknown, and refuses what he sees without a reason;
      ``"explain"`` refuses all with reasons; ``"challenge"`` hides, but for what other scopes would allow: that is
      refused with the scopes, and ``StepUp`` makes HTTP 403 of it.
    - *public*: methods that pass without a grant; *methods*: custom ones that the policy may name.
    - *obligations*: for each that the policy names, an async function of the context and the decision, which waits as
      long as it takes and returns True when it is met.
    - *on_event*: a sync function that is told of each decision; what it raises denies.  *audit_arguments* names
      arguments to be shown to it.
    """

    layer: ClassVar[str] = "rbac"

    def __init__(
        self,
        policy: PolicySource,
        *,
        subject: SubjectOf | None = None,
        anonymous: Subject | None = None,
        local: Subject | None = None,
        on_deny: OnDeny = "hide",
        public: Collection[str] = HANDSHAKE,
        methods: Collection[str] = (),
        obligations: Mapping[str, Fulfil] | None = None,
        on_event: Callable[[AccessDecided], None] | None = None,
        audit_arguments: Collection[str] = (),
    ) -> None:
        check(policy, on_deny, anonymous=anonymous, local=local)
        check_callables(subject, on_event, obligations)
        check_names(public=public, methods=methods, audit_arguments=audit_arguments)
        check_methods(policy.current, methods)
        self._source = policy
        self._subject_of = subject or from_token()
        self._anonymous, self._local = anonymous, local
        self._on_deny: OnDeny = on_deny
        self._public = frozenset(public)
        self._obligations = dict(obligations or {})
        self._on_event = on_event
        self._audit_arguments = tuple(audit_arguments)

    async def __call__(self, ctx: C, call_next: Callable[[C], Awaitable[R]]) -> R:
        """Decide on one message, and pass it on or not."""
        asked, request = asked_by(ctx), http_request(ctx)
        if asked.method in self._public:
            settle(request, None)
            return await call_next(ctx)
        policy = self._source.current
        subject, decision = self._decide(ctx, asked, policy, over_http=request is not None)
        if decision.reason == "obligation" and subject is not None:
            try:
                subject, decision = await self._fulfilled(ctx, asked, subject, decision, over_http=request is not None)
            except BaseException:
                with suppress(Exception):  # a failing audit must not take the place of the cancellation
                    self._tell(ctx, subject, decision)
                raise
        self._tell(ctx, subject, decision)
        if not decision.allowed or subject is None:
            return cast("R", await self._deny(ctx, call_next, asked, policy, subject=subject, decision=decision))
        if request is not None and not is_internal(ctx):  # whose list is decided before the client's own call
            settle(request, None)
        if asked.method in _RESHAPED:
            return cast("R", await self._pass(ctx, call_next, policy, subject))
        return cast("R", hiding.made_private(await call_next(ctx)))

    def protect(self, server: Any, *, chain: Callable[[Any, Any], Awaitable[Any]] | None = None) -> None:
        """Put this middleware into *server* of mcp 2.x or FastMCP 4, and close the doors that are beside it.

        Give *chain*, a middleware that has this one among its layers, to have that put in instead.

        The SDK looks at a tool's schema before any middleware runs, when a schema has ``x-mcp-header``, so that its
        answer would tell a hidden tool from none; and FastMCP marks lists as cacheable after the chain is through.
        Raises TypeError for another server: ``install`` of mcp-middleware is for mcp 1.x and FastMCP 2 and 3.
        """
        lowlevel = getattr(server, "_lowlevel_server", None) or getattr(server, "_mcp_server", None) or server
        if not hasattr(lowlevel, "cache_hints"):
            raise TypeError(f"protect takes a server of mcp 2.x or FastMCP 4, got {server!r}")
        if hasattr(server, "add_middleware"):
            server.add_middleware(as_fastmcp(chain or self))
        else:
            lowlevel.middleware.append(chain or self)
        for method, hint in lowlevel.cache_hints.items():
            lowlevel.cache_hints[method] = replace(hint, scope="private")
        if lowlevel.get_tool_input_schema is not None:
            lowlevel.get_tool_input_schema = partial(self._schema, lowlevel.get_tool_input_schema)

    def _schema(self, lookup: Callable[[str], Any], name: str) -> Any:
        """Look a schema up for the caller whose token is in force; called over HTTP, before there is a context."""
        policy = self._source.current
        subject, _ = self._subject(None, policy, over_http=True)
        seen = subject is not None and policy.visible(subject, f"tools/call:{name}")
        return lookup(name) if seen else None

    def _decide(
        self, ctx: Any, asked: Asked, policy: Policy, *, over_http: bool, fulfilled: Collection[str] = ()
    ) -> tuple[Subject | None, Decision]:
        subject, reason = self._subject(ctx, policy, over_http=over_http)
        given = _arguments(ctx)
        if subject is not None and asked.any_object and _may_all(policy, subject, asked.any_object, given):
            return subject, Decision(True, "granted", asked.method, version=policy.version)
        if subject is None or not asked.permissions:
            permission = asked.permissions[0] if asked.permissions else ctx.method
            return subject, Decision(False, reason or "invalid", str(permission)[:LONGEST], version=policy.version)
        decision, denied = _YES, list[Decision]()
        for permission in asked.permissions:
            if self._on_event is None and policy.allowed(subject, permission, given):
                continue
            decision = policy.decide(subject, permission, given, fulfilled=fulfilled, advise=self._on_deny == "explain")
            denied += () if decision.allowed else (decision,)
        return subject, _gravest(denied) if denied else decision

    def _subject(self, ctx: Any, policy: Policy, *, over_http: bool) -> tuple[Subject | None, Reason | None]:
        """Return who calls, or why nobody does; if not *over_http*, over stdio or in this process."""
        try:
            found = cast("object", self._subject_of(ctx, policy))
            if found is None:
                found = self._anonymous if over_http else self._local
        except SeparationOfDuty:
            return None, "separation"
        except Exception:  # noqa: BLE001  # what a token holds is another's to choose, and no answer is an answer
            return None, "invalid"
        return (found, None) if isinstance(found, Subject) else (None, "anonymous" if found is None else "invalid")

    async def _fulfilled(
        self, ctx: Any, asked: Asked, subject: Subject, decision: Decision, *, over_http: bool
    ) -> tuple[Subject | None, Decision]:
        """Meet the obligations, and decide all of it again, by the policy and the roles that are in force by then."""
        for name in decision.obligations:
            fulfil = self._obligations.get(name)
            if fulfil is None or not await _succeeds(fulfil, ctx, decision):
                return subject, decision
        policy = self._source.current
        return self._decide(ctx, asked, policy, over_http=over_http, fulfilled=decision.obligations)

    async def _pass(self, ctx: Any, call_next: Any, policy: Policy, subject: Subject) -> Any:
        method = ctx.method
        if method == "subscriptions/listen":
            ctx = self._narrowed(ctx, policy, subject)
        result = await call_next(ctx)
        if method in LISTS:
            result = hiding.filtered(method, result, self._keeper(policy, subject, LISTS[method].method))
        return hiding.made_private(result)

    def _keeper(self, policy: Policy, subject: Subject, method: str) -> Callable[[str], bool]:
        if OBJECTS[method] == "uri":
            return lambda uri: self._sees(policy, subject, of_uri(method, uri))
        visible, aside = policy.visible, self._on_deny == "challenge"
        return lambda name: visible(subject, f"{method}:{name}", scopes_aside=aside)

    def _sees(self, policy: Policy, subject: Subject, permissions: Collection[str]) -> bool:
        aside = self._on_deny == "challenge"
        return bool(permissions) and all(policy.visible(subject, one, scopes_aside=aside) for one in permissions)

    def _narrowed(self, ctx: Any, policy: Policy, subject: Subject) -> Any:
        """Leave of what the caller wants to hear the things he may list, and the resources he may subscribe to."""
        asked = hiding.field_of(hiding.params_of(ctx), "notifications")
        if asked is not None and not is_mapping(asked):
            return ctx  # for the server to refuse: narrowed, it would be mended
        wanted = mapping_of(asked)
        may = partial(_may_all, policy, subject)
        kept = {key: value for key, value in wanted.items() if key in _LISTENED and may([_LISTENED[key]])}
        uris = wanted.get("resourceSubscriptions")
        if isinstance(uris, list):
            named = cast("list[object]", uris)
            kept["resourceSubscriptions"] = [uri for uri in named if may(of_uri("resources/subscribe", uri))]
        return hiding.with_fields(ctx, {"notifications": kept})

    async def _deny(
        self, ctx: Any, call_next: Any, asked: Asked, policy: Policy, *, subject: Subject | None, decision: Decision
    ) -> Any:
        if is_notification(ctx):
            return None
        if self._on_deny == "challenge" and decision.reason == "scope" and not is_internal(ctx):
            settle(http_request(ctx), Challenge(decision.scopes, request_id(ctx)))
            raise refuse(
                CODE, "insufficient scope", {"error": "insufficient_scope", "scope": " ".join(decision.scopes)}
            )
        if asked.is_list and (self._on_deny != "explain" or is_internal(ctx)):
            return hiding.made_private(hiding.filtered(ctx.method, await call_next(ctx), _nothing))
        if self._on_deny == "explain":
            raise refuse(CODE, "access denied", _details(decision))
        if subject is not None and asked.target and self._sees(policy, subject, asked.permissions):
            raise refuse(CODE, "access denied")
        if not asked.field:
            raise hiding.not_found(ctx.method)
        if asked.field == "ref":
            return await nothing_completed(ctx, call_next)
        if hiding.is_bound(call_next):
            raise refuse(CODE, "access denied")
        return await _asking_for_nothing(ctx, call_next, asked)

    def _tell(self, ctx: Any, subject: Subject | None, decision: Decision) -> None:
        if self._on_event is None:
            return
        who, given = principal(ctx), arguments(ctx)
        event = AccessDecided(
            str(ctx.method)[:LONGEST],
            decision.permission,
            decision.allowed,
            decision.reason,
            decision.rule,
            decision.version,
            user=subject.user if subject else None,
            client_id=who.client_id if who else None,
            issuer=who.issuer if who else None,
            tenant=subject.tenant if subject else None,
            roles=tuple(sorted(subject.roles)) if subject else (),
            obligations=decision.obligations,
            internal=is_internal(ctx),
            arguments={name: given[name] for name in self._audit_arguments if name in given},
        )
        try:
            self._on_event(event)
        except Exception as error:
            raise refuse(CODE, "access denied") from error


_YES = Decision(True, "granted", "")
_RESHAPED = {*LISTS, "subscriptions/listen"}  # what is passed on, or comes back, with less in it
_LISTENED = {
    "toolsListChanged": "tools/list",
    "promptsListChanged": "prompts/list",
    "resourcesListChanged": "resources/list",
}


async def _succeeds(fulfil: Fulfil, ctx: Any, decision: Decision) -> bool:
    try:
        return await fulfil(ctx, decision) is True
    except Exception:  # noqa: BLE001  # an approval that fails is none
        return False


async def _asking_for_nothing(ctx: Any, call_next: Any, asked: Asked) -> Any:
    try:
        result = await call_next(hiding.renamed(ctx, asked.field))
    except Exception as error:
        hiding.put_back(error, asked.target)
        raise
    return hiding.put_back(result, asked.target)


def _gravest(denied: Sequence[Decision]) -> Decision:
    """Return what stands in the way of all that was asked: neither scopes nor obligations help against the rest."""
    gravest = min(denied, key=lambda one: _MENDABLE.get(one.reason, 0))
    scopes = dict.fromkeys(scope for one in denied for scope in one.scopes)
    return replace(gravest, scopes=tuple(scopes)) if gravest.reason == "scope" else gravest


_MENDABLE: Mapping[str, int] = {"scope": 1, "obligation": 2}


def _arguments(ctx: Any) -> Mapping[str, Any]:
    # Of what takes arguments alone: elsewhere a server ignores them, and a caller could add what a condition wants.
    asks = ctx.method in ("tools/call", "prompts/get")
    return mapping_of(hiding.field_of(hiding.params_of(ctx), "arguments")) if asks else {}


def _may_all(
    policy: Policy, subject: Subject, permissions: Collection[str], given: Mapping[str, Any] | None = None
) -> bool:
    return bool(permissions) and all(policy.allowed(subject, permission, given) for permission in permissions)


def _nothing(_: str) -> bool:
    return False


def _details(decision: Decision) -> dict[str, Any]:
    named = {"scopes": decision.scopes, "roles": decision.roles, "obligations": decision.obligations}
    lacking = {key: list(value) for key, value in named.items() if value}
    return {"permission": decision.permission, "reason": decision.reason, **lacking}
