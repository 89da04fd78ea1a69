"""Whether registries answer, as the scheduler has asked them lately."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Double, Integer, String, Table

from service.store.plain_text import PlainText
from service.store.tables import metadata

registry_health = Table(
    "registry_health",
    metadata,
    Column("registry", String(128), primary_key=True),
    Column("state", String(16), nullable=False),  # healthy | unhealthy | refused
    Column("since", Double, nullable=False),  # when the state came to be this one
    Column("checked_at", Double, nullable=False),
    Column("failures", Integer, nullable=False),  # checks in a row, after a good one
    Column("holds", Boolean, nullable=False),  # registries.paused_at is the check's, not a person's
    Column("reason", PlainText, nullable=False, server_default=""),
)
