"""Conditions on rows that several stores share."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, select
from sqlalchemy.sql.elements import ColumnElement

from service.store.tables import rules
from service.store.tables_agents import lender

LONGEST_LEASE_SECONDS = 86_400.0


def rule_is_paused(rule: ColumnElement[str]) -> ColumnElement[bool]:
    """Return the condition that a row's rule is paused."""
    return rule.in_(select(rules.c.name).where(rules.c.paused_at.is_not(None)))


def lease_holds(now: Any) -> ColumnElement[bool]:
    """Return the condition that a far region's lease holds; `now` is by the clock that it is measured by.

    One that would hold for days was written by another clock: it counts for nothing.
    """
    return and_(
        lender.c.lease_until > now,
        lender.c.lease_until <= now + LONGEST_LEASE_SECONDS,
    )
