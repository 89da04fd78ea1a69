"""Registry events in: the secrets of hooks, the hints that wait, and what was seen before."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
)

from service.store.plain_text import PlainText
from service.store.tables import metadata

hooks = Table(  # who may send events of a registry; two secrets hold while one replaces the other
    "hooks",
    metadata,
    Column("registry", ForeignKey("registries.name", ondelete="CASCADE"), primary_key=True),
    Column("secret", LargeBinary, nullable=False),
    Column("previous", LargeBinary),
    Column("version", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("rotated_at", Double),
    Column("received_at", Double),  # when the last authentic notification came
    Column("notice", PlainText, nullable=False, server_default=""),  # what an admin has to do
)

registry_events = Table(  # hints to look at a reference, one row however often it is told
    "registry_events",
    metadata,
    Column("registry", String(128), primary_key=True),
    Column("repository", String(255), primary_key=True),
    Column("reference", String(160), primary_key=True),  # a tag, or a digest without one
    Column("rule", String(128), primary_key=True, server_default=""),  # kept for a paused rule
    Column("action", String(16), nullable=False),
    Column("ours", Boolean, nullable=False, server_default="0"),  # pushed by a Transship
    Column("digest", String(140), nullable=False, server_default=""),  # as far as it was told
    Column("received_at", Double, nullable=False),
    Index(None, "registry", "received_at"),
)

event_keys = Table(  # signatures and events that came before: a replay changes nothing
    "event_keys",
    metadata,
    Column("registry", String(128), primary_key=True),
    Column("key", String(80), primary_key=True),
    Column("seen_at", Double, nullable=False),
    Index(None, "seen_at"),
)
