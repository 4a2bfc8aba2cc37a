"""What somebody may do before anything is asked: the rules that will decide, and what they ask for.

A role is one session.  A user has one for each tenant that his assignments name, and one for none of them, at each
moment from now on at which an assignment of his ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, TypeAlias

from .conditions import Subject
from .document import terms_of
from .rules import Assignment
from .view import Rule, View

__all__ = ["Outlook", "Situation", "Verdict", "outlook", "session", "situations", "terms", "verdict_of"]

Verdict: TypeAlias = Literal["allowed", "conditional", "denied"]
Situation: TypeAlias = tuple[str | None, float]
"""A tenant and a moment."""
_ALWAYS = frozenset({""})


class Outlook(NamedTuple):
    """What rules that allow ask for, each, and rules that deny: nothing but an empty text, if one asks for nothing."""

    allows: frozenset[str]
    denies: frozenset[str]

    @property
    def verdict(self) -> Verdict:
        """What can be said without a request."""
        if not self.allows:
            return "denied"
        return "conditional" if self.denies or self.allows != _ALWAYS else "allowed"


def outlook(view: View, permission: str) -> Outlook:
    """Return what *permission* depends on; a rule that always decides leaves nothing to the others."""
    rules = view.rules.find(permission)
    allows, denies = (frozenset(terms(rule) for rule in rules if rule.denies is side) for side in (False, True))
    is_settled = "" in denies or (view.covers is not None and not view.covers.find(permission))
    return Outlook(frozenset() if is_settled else allows & _ALWAYS or allows, denies & _ALWAYS or denies)


def terms(rule: Rule) -> str:
    """Return what *rule* asks for beside its permission, equal where it asks for the same; empty for nothing."""
    return json.dumps(terms_of(rule.grant), sort_keys=True) if rule.is_open else ""


def verdict_of(outlooks: Iterable[Outlook]) -> Verdict:
    """Return what all *outlooks* say, of which there is one at least, or that it depends."""
    verdicts: list[Verdict] = [one.verdict for one in outlooks]
    return verdicts[0] if len(set(verdicts)) == 1 else "conditional"


def situations(assignments: Sequence[Assignment], now: float) -> list[Situation]:
    """Return the tenants and moments between which *assignments* may differ."""
    tenants = dict.fromkeys([None, *(one.tenant for one in assignments)])
    moments = {now, *(max(now, one.until.timestamp()) for one in assignments if one.until is not None)}
    return [(tenant, moment) for tenant in tenants for moment in moments]


def session(assignments: Sequence[Assignment], situation: Situation) -> Subject:
    """Return a user of these *assignments* with all the roles that he has in *situation*."""
    return Subject(roles=[one.role for one in assignments if one.holds(*situation)])
