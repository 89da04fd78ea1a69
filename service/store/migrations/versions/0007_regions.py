"""Regions, links, the way that each copy takes, and what crossed between registries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

ROUTED = "via_registry != ''"


def upgrade() -> None:
    for name, length in (("regions", 128), ("links", 257)):
        op.create_table(
            name,
            sa.Column("name", sa.String(length), primary_key=True),
            sa.Column("document", sa.Text, nullable=False),
            sa.Column("spec", sa.Text, nullable=False),
            sa.Column("set_name", sa.String(128)),
            sa.Column("version", sa.Integer, nullable=False),
            sa.Column("created_at", sa.Double, nullable=False),
            sa.Column("updated_at", sa.Double, nullable=False),
        )
    op.create_table(
        "execution_links",
        sa.Column(
            "execution_id",
            sa.String(32),
            sa.ForeignKey("executions.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("from_registry", sa.String(128), primary_key=True),
        sa.Column("to_registry", sa.String(128), primary_key=True),
        sa.Column("copies", sa.BigInteger, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "examinations",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("registry", sa.String(128), nullable=False),
        sa.Column("region", sa.String(64), nullable=False),
        sa.Column("repository", sa.String(255), nullable=False),
        sa.Column("write", sa.Boolean, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("worker", sa.String(64), nullable=False, server_default=""),
        sa.Column("findings", sa.Text, nullable=False, server_default="[]"),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("hint", sa.Text, nullable=False, server_default=""),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("deadline_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double),
    )
    op.create_index("ix_examinations_deadline_at", "examinations", ["deadline_at"])
    op.add_column("executions", sa.Column("changed_at", sa.Double))
    op.add_column("executions", sa.Column("route", sa.Text, nullable=False, server_default="{}"))
    for name, length in (("registry", 128), ("repository", 255), ("reference", 160)):
        column = sa.Column(f"via_{name}", sa.String(length), nullable=False, server_default="")
        op.add_column("copies", column)
    op.create_index(
        "ix_copies_via",
        "copies",
        ["execution_id", "via_registry", "via_repository", "via_reference"],
        sqlite_where=sa.text(ROUTED),
        postgresql_where=sa.text(ROUTED),
    )
