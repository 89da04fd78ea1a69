"""Migrations: what is to move, looks at it, waves, what the proof found, what was there before."""

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
from service.store.tables import BigId, metadata

migrations = Table(
    "migrations",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("document", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("paused_at", Double),
    Column("version", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)

migration_waves = Table(
    "migration_waves",
    metadata,
    Column("migration", ForeignKey("migrations.name", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("name", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("delta", Boolean, nullable=False, server_default="0"),  # of this run: the final one
    Column("execution_id", String(32), nullable=False, server_default=""),  # the open one
    Column("executions", Text, nullable=False, server_default="[]"),  # of this run
    Column("history", Text, nullable=False, server_default="[]"),  # of the runs before
    Column("figures", Text, nullable=False, server_default="{}"),  # by the newest inventory
    Column("reason", PlainText, nullable=False, server_default=""),
    Column("started_at", Double),
    Column("ended_at", Double),
)

migration_surveys = Table(  # one look at the fleet; rows below it hang on its id
    "migration_surveys",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("migration", String(128), nullable=False),
    Column("kind", String(16), nullable=False),  # inventory | freeze | proof; "": to be forgotten
    Column("state", String(16), nullable=False),
    Column("phase", String(16), nullable=False, server_default=""),
    Column("cursor", Text, nullable=False, server_default=""),  # of the phase, where it has one
    Column("attempts", Integer, nullable=False, server_default="0"),  # that failed in a row
    Column("not_before", Double, nullable=False, server_default="0"),
    Column("figures", Text, nullable=False, server_default="{}"),
    Column("reason", PlainText, nullable=False, server_default=""),
    Column("created_at", Double, nullable=False),
    Column("ended_at", Double),
    Index(None, "migration", "kind"),
    Index(None, "state"),
)

migration_repositories = Table(
    "migration_repositories",
    metadata,
    Column("survey", ForeignKey("migration_surveys.id", ondelete="CASCADE"), primary_key=True),
    Column("repository", String(255), primary_key=True),
    Column("cursor", Text, nullable=False, server_default=""),
    Column("done", Boolean, nullable=False, server_default="0"),
    Column("wave", Integer, nullable=False, server_default="-1"),  # its position
    Column("tags", BigInteger, nullable=False, server_default="0"),
    Column("bytes", BigInteger, nullable=False, server_default="0"),  # as its images count them
    Column("unique_bytes", BigInteger, nullable=False, server_default="0"),  # each blob once
)

migration_tags = Table(
    "migration_tags",
    metadata,
    Column("survey", ForeignKey("migration_surveys.id", ondelete="CASCADE"), primary_key=True),
    Column("repository", String(255), primary_key=True),
    Column("tag", String(160), primary_key=True),
    Column("digest", String(140), nullable=False),
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    Column("destination_repository", String(255), nullable=False),
    Column("destination_tag", String(160), nullable=False),
    Column("entry", Integer, nullable=False, server_default="0"),  # of its repository's rule
    Index(None, "survey", "destination_repository", "destination_tag"),
)

migration_blobs = Table(  # which repository needs which blob, or manifest
    "migration_blobs",
    metadata,
    Column("survey", ForeignKey("migration_surveys.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", String(140), primary_key=True),
    Column("repository", String(255), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("image_bytes", BigInteger, nullable=False, server_default="0"),  # of an image's manifest
    Index(None, "survey", "repository"),
)

migration_findings = Table(
    "migration_findings",
    metadata,
    Column("survey", ForeignKey("migration_surveys.id", ondelete="CASCADE"), primary_key=True),
    Column("repository", String(255), primary_key=True),
    Column("tag", String(160), primary_key=True),  # "": the whole repository
    Column("kind", String(16), primary_key=True),
    Column("destination", Text, nullable=False, server_default=""),
    Column("wanted", String(140), nullable=False, server_default=""),
    Column("found", String(140), nullable=False, server_default=""),
    Column("reason", PlainText, nullable=False, server_default=""),
)

migration_before = Table(  # what stood under a destination's name before the first copy to it
    "migration_before",
    metadata,
    Column("migration", String(128), primary_key=True),
    Column("repository", String(255), primary_key=True),
    Column("tag", String(160), primary_key=True),
    Column("digest", String(140), nullable=False),  # "": nothing
)
