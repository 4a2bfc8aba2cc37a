"""Decide who may call, read and see what on an MCP server: roles, denials, conditions, and nothing told to the rest."""

from __future__ import annotations

from ._seam import Principal, as_fastmcp
from .conditions import Condition, Request, Subject
from .difference import Change
from .engine import Decision, Reason, Statistics
from .identity import SubjectOf, by_client, by_subject, from_token
from .live import LivePolicy, PolicyRejected, PolicyReplaced, load_file
from .methods import HANDSHAKE, METHODS, check_methods
from .middleware import RBACMiddleware
from .options import CODE, AccessDecided, OnDeny, PolicySource
from .policy import Policy, SeparationOfDuty
from .review import Holders
from .rules import Assignment, Exclusive, Grant, PolicyError, Problem, Role, Scope
from .stepup import StepUp

__version__ = "0.1.0"

__all__ = [
    "CODE",
    "HANDSHAKE",
    "METHODS",
    "AccessDecided",
    "Assignment",
    "Change",
    "Condition",
    "Decision",
    "Exclusive",
    "Grant",
    "Holders",
    "LivePolicy",
    "OnDeny",
    "Policy",
    "PolicyError",
    "PolicyRejected",
    "PolicyReplaced",
    "PolicySource",
    "Principal",
    "Problem",
    "RBACMiddleware",
    "Reason",
    "Request",
    "Role",
    "Scope",
    "SeparationOfDuty",
    "Statistics",
    "StepUp",
    "Subject",
    "SubjectOf",
    "as_fastmcp",
    "by_client",
    "by_subject",
    "check_methods",
    "from_token",
    "load_file",
]
