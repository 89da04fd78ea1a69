"""Conditions on rows that several stores share."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.sql.elements import ColumnElement

from service.store.tables import rules


def rule_is_paused(rule: ColumnElement[str]) -> ColumnElement[bool]:
    """Return the condition that a row's rule is paused."""
    return rule.in_(select(rules.c.name).where(rules.c.paused_at.is_not(None)))
