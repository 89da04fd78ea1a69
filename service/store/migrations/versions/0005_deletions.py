"""Facts about manifests, tags written with some platforms only; deletions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "image_facts",
        sa.Column("digest", sa.String(140), primary_key=True),
        sa.Column("types", sa.Text(), nullable=False),
        sa.Column("is_index", sa.Boolean(), nullable=False, server_default="0"),
        sa.Column("platforms", sa.Text(), nullable=False, server_default="[]"),
        sa.Column("created", sa.Double()),
        sa.Column("deep", sa.Boolean(), nullable=False, server_default="0"),
        sa.Column("read_at", sa.Double(), nullable=False),
    )
    op.create_index("ix_image_facts_read_at", "image_facts", ["read_at"])
    op.create_table(
        "execution_left_out",
        sa.Column(
            "execution_id",
            sa.String(32),
            sa.ForeignKey("executions.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("kind", sa.String(255), primary_key=True),
        sa.Column("left_out", sa.BigInteger(), nullable=False),
    )
    op.add_column(
        "written_tags", sa.Column("platforms", sa.Text(), nullable=False, server_default="")
    )
    op.create_index(
        "ix_written_tags_sparse",
        "written_tags",
        ["registry", "repository"],
        sqlite_where=sa.text("platforms != ''"),
        postgresql_where=sa.text("platforms != ''"),
    )
