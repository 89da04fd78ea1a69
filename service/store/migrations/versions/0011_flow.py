"""DevOps image flow and the gateway (issue 10), and what each attempt of a copy came to (issue 9)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _attempts()
    _pipelines()
    _pull_tokens()


def _attempts() -> None:
    """What each attempt of a copy came to (issue 9 point 1)."""
    op.create_table(
        "copy_attempts",
        sa.Column(
            "copy_id",
            BIG_ID,
            sa.ForeignKey("copies.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("times", sa.Integer, nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("counted", sa.Boolean, nullable=False),
        sa.Column("failure_class", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("worker", sa.String(64), nullable=False),
        sa.Column("region", sa.String(64), nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("began_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double, nullable=False),
    )


def _pipelines() -> None:
    """Pipelines, their promotions, and what their gates have said (issue 10)."""
    op.create_table(
        "pipelines",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("project", sa.String(128), nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("secret", sa.LargeBinary),
        sa.Column("private", sa.Boolean, nullable=False),
        sa.Column("listens", sa.String(128), nullable=False, server_default=""),
        sa.Column("set_name", sa.String(128)),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
    )
    op.create_table(
        "promotions",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("pipeline", sa.String(128), nullable=False),
        sa.Column("project", sa.String(128), nullable=False),
        sa.Column("from_stage", sa.String(64), nullable=False),
        sa.Column("stage", sa.String(64), nullable=False),
        sa.Column("trigger", sa.String(16), nullable=False),
        sa.Column("source_registry", sa.String(128), nullable=False),
        sa.Column("source_repository", sa.String(255), nullable=False),
        sa.Column("source_tag", sa.String(160), nullable=False, server_default=""),
        sa.Column("digest", sa.String(140), nullable=False),
        sa.Column("registry", sa.String(128), nullable=False),
        sa.Column("repository", sa.String(255), nullable=False),
        sa.Column("tag", sa.String(160), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("gate", sa.Integer, nullable=False, server_default="0"),
        sa.Column("gates", sa.Integer, nullable=False),
        sa.Column("execution_id", sa.String(32), nullable=False, server_default=""),
        sa.Column("found", sa.String(140)),
        sa.Column("asked_by", sa.String(128), nullable=False),
        sa.Column("takes_back", sa.String(32), nullable=False, server_default=""),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double),
    )
    for columns in (
        ["pipeline", "id"],
        ["project", "id"],
        ["state"],
        ["registry", "repository", "tag"],
    ):
        op.create_index(f"ix_promotions_{'_'.join(columns)}", "promotions", columns)
    _promotion_parts()
    op.create_table(
        "pipeline_pushes",
        sa.Column(
            "pipeline",
            sa.String(128),
            sa.ForeignKey("pipelines.name", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("repository", sa.String(255), primary_key=True),
        sa.Column("tag", sa.String(160), primary_key=True),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("not_before", sa.Double, nullable=False, server_default="0"),
        sa.Column("received_at", sa.Double, nullable=False),
    )


def _promotion_parts() -> None:
    """What hangs on one promotion."""
    op.create_table(
        "promotion_steps",
        _promotion(primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("not_before", sa.Double, nullable=False, server_default="0"),
        sa.Column("deadline_at", sa.Double),
        sa.Column("status", sa.Integer),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
        sa.Column("begun_at", sa.Double),
        sa.Column("ended_at", sa.Double),
    )
    op.create_index(
        "ix_promotion_steps_state_not_before", "promotion_steps", ["state", "not_before"]
    )
    op.create_table(
        "promotion_approvals",
        _promotion(primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True),
        sa.Column("actor", sa.String(128), primary_key=True),
        sa.Column("digest", sa.String(140), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    op.create_table(
        "promotion_history",
        sa.Column("id", BIG_ID, primary_key=True, autoincrement=True),
        _promotion(),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("event", sa.String(48), nullable=False),
        sa.Column("gate", sa.Integer),
        sa.Column("reason", sa.Text, nullable=False, server_default=""),
    )
    op.create_index("ix_promotion_history_promotion_id", "promotion_history", ["promotion", "id"])


def _promotion(*, primary_key: bool = False) -> sa.Column[str]:
    return sa.Column(
        "promotion",
        sa.String(32),
        sa.ForeignKey("promotions.id", ondelete="CASCADE"),
        primary_key=primary_key,
        nullable=False,
    )


def _pull_tokens() -> None:
    """Tokens that the gateway takes (issue 10)."""
    op.create_table(
        "pull_tokens",
        sa.Column("name", sa.String(128), primary_key=True),
        sa.Column("id", sa.String(32), nullable=False, unique=True),
        sa.Column("repositories", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("revoked_at", sa.Double),
    )
