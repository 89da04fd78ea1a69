"""Releases, objectives of freshness, and the life of replicas."""

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


def _releases() -> None:
    """Sets of images whose tags move together, and how late a rule may be."""


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
    op.create_index("ix_execution_causes_flow", "execution_causes", ["flow"])
