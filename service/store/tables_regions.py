"""Regions, links, and what crossed between registries: tables beside those of service.store.tables."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
)

from service.store.plain_text import PlainText
from service.store.tables import metadata

regions = Table(
    "regions",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("document", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("set_name", String(128)),  # the `apply --set` that it belongs to
    Column("version", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)

links = Table(
    "links",
    metadata,
    Column("name", String(257), primary_key=True),  # FROM:TO
    Column("document", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("set_name", String(128)),
    Column("version", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)

execution_links = Table(  # blobs that were read from one registry and written to another
    "execution_links",
    metadata,
    Column("execution_id", ForeignKey("executions.id", ondelete="CASCADE"), primary_key=True),
    Column("from_registry", String(128), primary_key=True),
    Column("to_registry", String(128), primary_key=True),
    Column("copies", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
)

examinations = (
    Table(  # a registry is to be examined by a worker of a region: the question, and the answer
        "examinations",
        metadata,
        Column("id", String(32), primary_key=True),
        Column("registry", String(128), nullable=False),
        Column("region", String(64), nullable=False),
        Column("repository", String(255), nullable=False),
        Column("write", Boolean, nullable=False),
        Column("state", String(16), nullable=False),  # pending | running | ended | failed
        Column("worker", String(64), nullable=False, server_default=""),
        Column("findings", PlainText, nullable=False, server_default="[]"),
        Column("reason", PlainText, nullable=False, server_default=""),
        Column("hint", PlainText, nullable=False, server_default=""),
        Column("created_at", Double, nullable=False),
        Column("deadline_at", Double, nullable=False),  # nobody waits for the answer any longer
        Column("ended_at", Double),
        Index(None, "deadline_at"),
    )
)
