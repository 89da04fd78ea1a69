"""Releases: sets of images whose tags move together, and how far each of them is."""

from __future__ import annotations

from sqlalchemy import Column, Double, ForeignKey, Index, Integer, String, Table, Text

from service.store.plain_text import PlainText
from service.store.tables import BigId, metadata

releases = Table(
    "releases",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("rule", String(128), nullable=False),
    Column("project", String(128), nullable=False),
    Column("images", Text, nullable=False),  # as they were asked for; []: all that the rule takes
    Column("spec", Text, nullable=False),  # the rule as it stood
    Column("state", String(16), nullable=False),
    Column("fence", Integer, nullable=False),  # rises with each change of state
    Column("execution_id", String(32), nullable=False, server_default=""),  # that stages it
    Column("reason", PlainText, nullable=False, server_default=""),
    Column(
        "window_seconds", Double
    ),  # of the last flip or rollback: from the first tag to the last
    Column("created_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
    Index(None, "state"),
    Index(None, "rule"),
)

release_tags = Table(
    "release_tags",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("release", ForeignKey("releases.name", ondelete="CASCADE"), nullable=False),
    Column("source_repository", String(255), nullable=False),
    Column("registry", String(128), nullable=False),
    Column("region", String(64), nullable=False),
    Column("repository", String(255), nullable=False),
    Column("tag", String(160), nullable=False),  # "": it is staged by its digest only
    Column("digest", String(140), nullable=False),
    Column("platforms", Text, nullable=False, server_default="[]"),  # none: all that it has
    Column("previous", String(140)),  # "": there was no such tag; none: nobody has looked yet
    Column("state", String(16), nullable=False),
    Column("reason", PlainText, nullable=False, server_default=""),
    Column(
        "flipped_from", Double
    ),  # the last PUT that moved it, or put it back: begun and answered
    Column("flipped_at", Double),
    Index(None, "release", "region"),
    Index(None, "registry", "repository", "tag"),
)

release_parts = Table(  # what one region's workers have to do in the release's present state
    "release_parts",
    metadata,
    Column("release", ForeignKey("releases.name", ondelete="CASCADE"), primary_key=True),
    Column("region", String(64), primary_key=True),
    Column("fence", Integer, nullable=False),
    Column("state", String(16), nullable=False),  # pending | sent | ended
    Column("owner", String(64), nullable=False, server_default=""),  # until it lets go, or is dead
    Column("sent_at", Double, nullable=False, server_default="0"),
    Column("reason", PlainText, nullable=False, server_default=""),
)
