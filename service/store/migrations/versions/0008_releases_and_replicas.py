"""Releases, objectives of freshness, the life of replicas, and what is lent to far regions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _releases()
    _replicas()
    _agents()


def _releases() -> None:
    """Sets of images whose tags move together, and how late a rule may be."""
    op.create_table(
        "releases",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("rule", sa.String(128), nullable=False),
        sa.Column("project", sa.String(128), nullable=False),
        sa.Column("images", sa.Text, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("execution_id", sa.String(32), nullable=False, server_default=""),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("window_seconds", sa.Double),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("changed_at", sa.Double, nullable=False),
    )
    op.create_index("ix_releases_state", "releases", ["state"])
    op.create_index("ix_releases_rule", "releases", ["rule"])
    op.create_table(
        "release_tags",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        _release(primary_key=False),
        sa.Column("source_repository", sa.String(255), nullable=False),
        sa.Column("registry", sa.String(128), nullable=False),
        sa.Column("region", sa.String(64), nullable=False),
        sa.Column("repository", sa.String(255), nullable=False),
        sa.Column("tag", sa.String(160), nullable=False),
        sa.Column("digest", sa.String(140), nullable=False),
        sa.Column("platforms", sa.Text, nullable=False, server_default="[]"),
        sa.Column("previous", sa.String(140)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("flipped_from", sa.Double),
        sa.Column("flipped_at", sa.Double),
    )
    op.create_index("ix_release_tags_release_region", "release_tags", ["release", "region"])
    op.create_index(
        "ix_release_tags_registry_repository_tag", "release_tags", ["registry", "repository", "tag"]
    )
    op.create_table(
        "release_parts",
        _release(primary_key=True),
        sa.Column("region", sa.String(64), primary_key=True),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False, server_default=""),
        sa.Column("sent_at", sa.Double, nullable=False, server_default="0"),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
    )
    op.create_table(
        "rule_incidents",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("rule", sa.String(128), nullable=False),
        sa.Column("region", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("began_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
    )
    op.create_index("ix_rule_incidents_rule_kind", "rule_incidents", ["rule", "kind"])
    op.create_index("ix_rule_incidents_ended_at", "rule_incidents", ["ended_at"])
    op.create_index(
        "uq_rule_incidents_open",
        "rule_incidents",
        ["rule", "kind", "region"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )


def _release(*, primary_key: bool) -> sa.Column[str]:
    return sa.Column(
        "release",
        sa.String(128),
        sa.ForeignKey("releases.name", ondelete="CASCADE"),
        primary_key=primary_key,
        nullable=False,
    )


def _replicas() -> None:
    """What each replica of an instance has come to."""
    op.create_table(
        "replicas",
        sa.Column("rule", sa.String(128), primary_key=True),
        sa.Column("registry", sa.String(128), primary_key=True),
        sa.Column("joined_at", sa.Double, nullable=False),
        sa.Column("caught_up_at", sa.Double),
        sa.Column("fenced", sa.Boolean, nullable=False, server_default="0"),
        sa.Column("held", sa.Boolean, nullable=False, server_default="0"),
        sa.Column("repair_asked_at", sa.Double),
        sa.Column("compared_in", sa.String(32), nullable=False, server_default=""),
        sa.Column("compared_at", sa.Double),
        sa.Column("told", sa.Integer, nullable=False, server_default="0"),
        sa.Column("note", sa.Text, nullable=False, server_default=""),
    )
    op.create_table(
        "replica_drift",
        sa.Column("rule", sa.String(128), primary_key=True),
        sa.Column("registry", sa.String(128), primary_key=True),
        sa.Column("repository", sa.String(255), primary_key=True),
        sa.Column("tag", sa.String(160), primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("wanted", sa.String(140), nullable=False, server_default=""),
        sa.Column("found", sa.String(140), nullable=False, server_default=""),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("seen_in", sa.String(32), nullable=False),
        sa.Column("first_at", sa.Double, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
        sa.Column("repaired_at", sa.Double),
    )
    op.create_index("ix_replica_drift_state", "replica_drift", ["state"])
    op.create_table(
        "replica_baseline",
        sa.Column("registry", sa.String(128), primary_key=True),
        sa.Column("repository", sa.String(255), primary_key=True),
        sa.Column("tag", sa.String(160), primary_key=True),
        sa.Column("digest", sa.String(140), nullable=False),
    )
    op.create_table(
        "execution_causes",
        sa.Column(
            "execution_id",
            sa.String(32),
            sa.ForeignKey("executions.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("cause", sa.String(32), primary_key=True),
        sa.Column("flow", sa.String(32), nullable=False),
    )
    digest = sa.Column("digest", sa.String(140), nullable=False, server_default="")
    op.add_column("registry_events", digest)
    op.create_index("ix_execution_causes_flow", "execution_causes", ["flow"])


def _agents() -> None:
    """What is lent to far regions, on both sides of it."""
    op.add_column("tokens", sa.Column("region", sa.String(64)))
    op.create_table(
        "agent_batches",
        sa.Column("agent", sa.String(64), primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("recorded_at", sa.Double, nullable=False),
    )
    op.create_table(
        "lent_copies",
        sa.Column("copy_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("fence", sa.Integer, nullable=False),
    )
    op.create_table(
        "lender",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("agent", sa.String(64), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("lease_until", sa.Double, nullable=False),
        sa.Column("audited", sa.BigInteger, nullable=False),
        sa.Column("batch", sa.Text, nullable=False),
    )
