"""Executions of single tags beside the full one; pauses; the entry of a copy."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

OPEN_FULL = sa.text("state NOT IN ('failed', 'partial', 'stopped', 'succeeded') AND kind = 'full'")


def upgrade() -> None:
    op.add_column("rules", sa.Column("paused_at", sa.Double()))
    op.add_column("rules", sa.Column("freshness_seconds", sa.Double()))
    op.add_column("rules", sa.Column("late_since", sa.Double()))
    op.add_column("registries", sa.Column("paused_at", sa.Double()))
    op.add_column(
        "executions", sa.Column("kind", sa.String(16), nullable=False, server_default="full")
    )
    op.add_column("executions", sa.Column("only", sa.Text(), nullable=False, server_default="[]"))
    op.add_column("executions", sa.Column("deadline_at", sa.Double()))
    op.add_column(
        "executions", sa.Column("repair", sa.String(32), nullable=False, server_default="")
    )
    op.add_column(
        "executions", sa.Column("figures", sa.Text(), nullable=False, server_default="{}")
    )
    op.drop_index("uq_executions_open_rule", "executions")
    op.create_index(
        "uq_executions_open_rule",
        "executions",
        ["rule"],
        unique=True,
        sqlite_where=OPEN_FULL,
        postgresql_where=OPEN_FULL,
    )
    op.add_column("copies", sa.Column("entry", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("copies", sa.Column("found", sa.String(140), nullable=False, server_default=""))
    op.add_column(
        "copies", sa.Column("behind", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.create_index("ix_copies_source", "copies", ["source_repository", "source_reference"])
    op.create_index(
        "ix_copies_destination",
        "copies",
        ["destination_registry", "destination_repository", "destination_reference"],
    )
