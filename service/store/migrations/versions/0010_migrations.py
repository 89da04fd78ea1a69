"""Migrations: what moves in waves, looks at it, and what was there before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "migrations",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("project", sa.String(128), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("paused_at", sa.Double),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
    )
    op.create_table(
        "migration_waves",
        sa.Column(
            "migration",
            sa.String(128),
            sa.ForeignKey("migrations.name", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("delta", sa.Boolean, nullable=False, server_default="0"),
        sa.Column("execution_id", sa.String(32), nullable=False, server_default=""),
        sa.Column("executions", sa.Text, nullable=False, server_default="[]"),
        sa.Column("history", sa.Text, nullable=False, server_default="[]"),
        sa.Column("figures", sa.Text, nullable=False, server_default="{}"),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("started_at", sa.Double),
        sa.Column("ended_at", sa.Double),
    )
    _surveys()
    op.create_table(
        "migration_before",
        sa.Column("migration", sa.String(128), primary_key=True),
        sa.Column("repository", sa.String(255), primary_key=True),
        sa.Column("tag", sa.String(160), primary_key=True),
        sa.Column("digest", sa.String(140), nullable=False),
    )


def _surveys() -> None:
    """Looks at a fleet, with what each has found."""
    op.create_table(
        "migration_surveys",
        sa.Column("id", BIG_ID, primary_key=True, autoincrement=True),
        sa.Column("migration", sa.String(128), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("phase", sa.String(16), nullable=False, server_default=""),
        sa.Column("cursor", sa.Text, nullable=False, server_default=""),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("not_before", sa.Double, nullable=False, server_default="0"),
        sa.Column("figures", sa.Text, nullable=False, server_default="{}"),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double),
    )
    op.create_index(
        "ix_migration_surveys_migration_kind", "migration_surveys", ["migration", "kind"]
    )
    op.create_index("ix_migration_surveys_state", "migration_surveys", ["state"])
    op.create_table(
        "migration_repositories",
        _survey(),
        sa.Column("repository", sa.String(255), primary_key=True),
        sa.Column("cursor", sa.Text, nullable=False, server_default=""),
        sa.Column("done", sa.Boolean, nullable=False, server_default="0"),
        sa.Column("wave", sa.Integer, nullable=False, server_default="-1"),
        sa.Column("tags", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("bytes", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("unique_bytes", sa.BigInteger, nullable=False, server_default="0"),
    )
    op.create_table(
        "migration_tags",
        _survey(),
        sa.Column("repository", sa.String(255), primary_key=True),
        sa.Column("tag", sa.String(160), primary_key=True),
        sa.Column("digest", sa.String(140), nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("destination_repository", sa.String(255), nullable=False),
        sa.Column("destination_tag", sa.String(160), nullable=False),
        sa.Column("entry", sa.Integer, nullable=False, server_default="0"),
    )
    op.create_index(
        "ix_migration_tags_survey_destination_repository_destination_tag",
        "migration_tags",
        ["survey", "destination_repository", "destination_tag"],
    )
    op.create_table(
        "migration_blobs",
        _survey(),
        sa.Column("digest", sa.String(140), primary_key=True),
        sa.Column("repository", sa.String(255), primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("image_bytes", sa.BigInteger, nullable=False, server_default="0"),
    )
    op.create_index(
        "ix_migration_blobs_survey_repository", "migration_blobs", ["survey", "repository"]
    )
    op.create_table(
        "migration_findings",
        _survey(),
        sa.Column("repository", sa.String(255), primary_key=True),
        sa.Column("tag", sa.String(160), primary_key=True),
        sa.Column("kind", sa.String(16), primary_key=True),
        sa.Column("destination", sa.Text, nullable=False, server_default=""),
        sa.Column("wanted", sa.String(140), nullable=False, server_default=""),
        sa.Column("found", sa.String(140), nullable=False, server_default=""),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
    )


def _survey() -> sa.Column[int]:
    return sa.Column(
        "survey",
        BIG_ID,
        sa.ForeignKey("migration_surveys.id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    )
