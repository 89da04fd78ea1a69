"""Deletions: batches of tags that went at the source, and where each of them stands."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Double, ForeignKey, Index, Integer, String, Table

from service.store.plain_text import PlainText
from service.store.tables import metadata

deletions = Table(  # what one run of a rule found gone, at one destination
    "deletions",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("rule", String(128), nullable=False),
    Column("project", String(128), nullable=False, server_default="default"),
    Column("execution_id", String(32), nullable=False),  # outlives its execution
    Column("registry", String(128), nullable=False),
    Column("state", String(16), nullable=False),
    Column("alarming", Boolean, nullable=False, server_default="0"),  # waits whatever the cap
    Column("tags", Integer, nullable=False, server_default="0"),
    Column(
        "of_tags", Integer, nullable=False, server_default="0"
    ),  # of the rule at the destination
    Column("grace_seconds", Double, nullable=False),
    Column("cap_percent", Double, nullable=False),
    Column("looked_at", Double, nullable=False, server_default="0"),
    Column("due_at", Double),
    Column("decided_by", String(128), nullable=False, server_default=""),
    Column("decided_at", Double),
    Column("reason", PlainText, nullable=False, server_default=""),
    Column("created_at", Double, nullable=False),
    Column("finished_at", Double),
    Index(None, "state"),
    Index(None, "rule", "registry"),
)

deletion_tags = Table(  # one tag of a deletion, still at the digest that Transship wrote
    "deletion_tags",
    metadata,
    Column("deletion_id", ForeignKey("deletions.id", ondelete="CASCADE"), primary_key=True),
    Column("repository", String(255), primary_key=True),
    Column("tag", String(160), primary_key=True),
    Column("digest", String(140), nullable=False),
    Column("source_registry", String(128), nullable=False),
    Column("source_repository", String(255), nullable=False),
    Column("source_reference", String(160), nullable=False),
    Column("state", String(16), nullable=False),
    Column("failure_class", String(16), nullable=False, server_default=""),
    Column("reason", PlainText, nullable=False, server_default=""),
    Column("hint", PlainText, nullable=False, server_default=""),
    Column("updated_at", Double, nullable=False),
    Index(None, "repository", "tag"),
)

deletion_scans = Table(  # the last execution of a rule after which absent tags were looked for
    "deletion_scans",
    metadata,
    Column("rule", String(128), primary_key=True),
    Column("execution_id", String(32), nullable=False),
)
