"""Pipelines, what is promoted in them, what their gates have said, and what happened when (issue 10)."""

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
    Text,
)

from service.store.plain_text import PlainText
from service.store.tables import BigId, metadata

pipelines = Table(
    "pipelines",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("project", String(128), nullable=False),
    Column("document", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("secret", LargeBinary),  # signs what it posts, and what is answered
    Column("private", Boolean, nullable=False),  # an administrator of the platform wrote its URLs
    Column("listens", String(128), nullable=False, server_default=""),  # to pushes of a registry
    Column("set_name", String(128)),  # the `apply --set` that it belongs to
    Column("version", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)

promotions = Table(  # outlive their pipeline: history is not forgotten with it
    "promotions",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("pipeline", String(128), nullable=False),
    Column("project", String(128), nullable=False),
    Column("from_stage", String(64), nullable=False),
    Column("stage", String(64), nullable=False),
    Column("trigger", String(16), nullable=False),  # asked | auto | rollback
    Column("source_registry", String(128), nullable=False),
    Column("source_repository", String(255), nullable=False),
    Column("source_tag", String(160), nullable=False, server_default=""),
    Column("digest", String(140), nullable=False),
    Column("registry", String(128), nullable=False),
    Column("repository", String(255), nullable=False),
    Column("tag", String(160), nullable=False),
    Column("state", String(16), nullable=False),
    Column("gate", Integer, nullable=False, server_default="0"),  # the one that it waits for
    Column("gates", Integer, nullable=False),
    Column("execution_id", String(32), nullable=False, server_default=""),
    Column("found", String(140)),  # what stood there before; "": nothing
    Column("asked_by", String(128), nullable=False),
    Column("takes_back", String(32), nullable=False, server_default=""),  # a promotion
    Column("reason", PlainText, nullable=False, server_default=""),
    Column("created_at", Double, nullable=False),
    Column("ended_at", Double),
    Index(None, "pipeline", "id"),
    Index(None, "project", "id"),
    Index(None, "state"),
    Index(None, "registry", "repository", "tag"),
)

promotion_steps = Table(  # its gates, and behind them what is told afterwards
    "promotion_steps",
    metadata,
    Column("promotion", ForeignKey("promotions.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("spec", Text, nullable=False),  # as the pipeline said when it was asked
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("not_before", Double, nullable=False, server_default="0"),
    Column("deadline_at", Double),
    Column("status", Integer),
    Column("reason", PlainText, nullable=False, server_default=""),
    Column("begun_at", Double),
    Column("ended_at", Double),
    Index(None, "state", "not_before"),
)

promotion_approvals = Table(  # one a person and gate
    "promotion_approvals",
    metadata,
    Column("promotion", ForeignKey("promotions.id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("actor", String(128), primary_key=True),
    Column("digest", String(140), nullable=False),
    Column("at", Double, nullable=False),
)

promotion_history = Table(
    "promotion_history",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("promotion", ForeignKey("promotions.id", ondelete="CASCADE"), nullable=False),
    Column("at", Double, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("event", String(48), nullable=False),
    Column("gate", Integer),
    Column("reason", PlainText, nullable=False, server_default=""),
    Index(None, "promotion", "id"),
)

pipeline_pushes = Table(  # what was pushed and is to be promoted without anybody asking
    "pipeline_pushes",
    metadata,
    Column("pipeline", ForeignKey("pipelines.name", ondelete="CASCADE"), primary_key=True),
    Column("repository", String(255), primary_key=True),
    Column("tag", String(160), primary_key=True),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("not_before", Double, nullable=False, server_default="0"),
    Column("received_at", Double, nullable=False),
)
