"""What went wrong with a rule as a whole, from when to when: its alerts, and what its error budget is spent on."""

from __future__ import annotations

from sqlalchemy import Column, Double, Index, String, Table, text

from service.store.plain_text import PlainText
from service.store.tables import BigId, metadata

rule_incidents = Table(
    "rule_incidents",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("rule", String(128), nullable=False),
    Column("region", String(64), nullable=False),  # "": all of the rule's
    Column("kind", String(16), nullable=False),  # late | idle | empty
    Column("began_at", Double, nullable=False),
    Column("ended_at", Double),  # none: it goes on
    Column("reason", PlainText, nullable=False, server_default=""),
    Index(None, "rule", "kind"),
    Index(None, "ended_at"),
    Index(  # one incident of a kind at a time, whoever opens it
        "uq_rule_incidents_open",
        "rule",
        "kind",
        "region",
        unique=True,
        sqlite_where=text("ended_at IS NULL"),
    ),
)
