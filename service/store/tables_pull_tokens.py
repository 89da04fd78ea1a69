"""Pull tokens: which there are, and which are revoked; their texts are nowhere."""

from __future__ import annotations

from sqlalchemy import Column, Double, String, Table

from service.store.plain_text import PlainText
from service.store.tables import metadata

pull_tokens = Table(
    "pull_tokens",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("id", String(32), nullable=False, unique=True),  # what its text says of itself
    Column("repositories", PlainText, nullable=False),  # JSON: patterns of names at the gateway
    Column("expires_at", Double),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
)
