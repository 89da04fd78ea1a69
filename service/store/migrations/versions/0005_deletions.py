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
    for name, length in (
        ("source_registry", 128),
        ("source_repository", 255),
        ("source_reference", 160),
        ("seen_in", 32),
    ):
        op.add_column(
            "written_tags", sa.Column(name, sa.String(length), nullable=False, server_default="")
        )
    op.create_index("ix_written_tags_rule_registry", "written_tags", ["rule", "registry"])
    op.create_table(
        "deletions",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("rule", sa.String(128), nullable=False),
        sa.Column("project", sa.String(128), nullable=False, server_default="default"),
        sa.Column("execution_id", sa.String(32), nullable=False),
        sa.Column("registry", sa.String(128), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("alarming", sa.Boolean(), nullable=False, server_default="0"),
        sa.Column("tags", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("of_tags", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("grace_seconds", sa.Double(), nullable=False),
        sa.Column("cap_percent", sa.Double(), nullable=False),
        sa.Column("looked_at", sa.Double(), nullable=False, server_default="0"),
        sa.Column("due_at", sa.Double()),
        sa.Column("decided_by", sa.String(128), nullable=False, server_default=""),
        sa.Column("decided_at", sa.Double()),
        sa.Column("reason", sa.Text(), nullable=False, server_default=""),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double()),
    )
    op.create_index("ix_deletions_state", "deletions", ["state"])
    op.create_index("ix_deletions_rule_registry", "deletions", ["rule", "registry"])
    op.create_table(
        "deletion_tags",
        sa.Column(
            "deletion_id",
            sa.String(32),
            sa.ForeignKey("deletions.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("repository", sa.String(255), primary_key=True),
        sa.Column("tag", sa.String(160), primary_key=True),
        sa.Column("digest", sa.String(140), nullable=False),
        sa.Column("source_registry", sa.String(128), nullable=False),
        sa.Column("source_repository", sa.String(255), nullable=False),
        sa.Column("source_reference", sa.String(160), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("failure_class", sa.String(16), nullable=False, server_default=""),
        sa.Column("reason", sa.Text(), nullable=False, server_default=""),
        sa.Column("hint", sa.Text(), nullable=False, server_default=""),
        sa.Column("updated_at", sa.Double(), nullable=False),
    )
    op.create_index("ix_deletion_tags_repository_tag", "deletion_tags", ["repository", "tag"])
    op.create_table(
        "deletion_scans",
        sa.Column("rule", sa.String(128), primary_key=True),
        sa.Column("execution_id", sa.String(32), nullable=False),
    )
