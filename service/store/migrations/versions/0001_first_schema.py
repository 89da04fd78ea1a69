"""The first schema: rules, executions, copies, the ledger, processes, tokens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "executions",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("rule", sa.String(length=128), nullable=False),
        sa.Column("trigger", sa.String(length=32), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("priority", sa.Integer(), server_default="1", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("failure_class", sa.String(length=16), server_default="", nullable=False),
        sa.Column("warnings", sa.Text(), server_default="[]", nullable=False),
        sa.Column("idempotency_key", sa.String(length=256), nullable=True),
        sa.Column("catalog_cursor", sa.Text(), server_default="", nullable=False),
        sa.Column("catalog_done", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("planned", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("planner", sa.String(length=64), server_default="", nullable=False),
        sa.Column("plan_sent_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("plan_attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("not_before", sa.Double(), server_default="0", nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=True),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "state IN ('pending', 'running', 'stopping', 'succeeded', 'partial', 'failed', 'stopped')",
            name=op.f("ck_executions_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_executions")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_executions_idempotency_key")),
    )
    op.create_index(
        op.f("ix_executions_rule_created_at"), "executions", ["rule", "created_at"], unique=False
    )
    op.create_index(op.f("ix_executions_state"), "executions", ["state"], unique=False)
    op.create_index(
        "uq_executions_open_rule",
        "executions",
        ["rule"],
        unique=True,
        sqlite_where=sa.text("state NOT IN ('failed', 'partial', 'stopped', 'succeeded')"),
        postgresql_where=sa.text("state NOT IN ('failed', 'partial', 'stopped', 'succeeded')"),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "ledgers",
        sa.Column("registry", sa.String(length=128), nullable=False),
        sa.Column("scope", sa.String(length=128), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("raised_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("registry", "scope", name=op.f("pk_ledgers")),
    )
    op.create_table(
        "presence",
        sa.Column("registry", sa.String(length=128), nullable=False),
        sa.Column("scope", sa.String(length=128), nullable=False),
        sa.Column("digest", sa.String(length=140), nullable=False),
        sa.Column("repository", sa.String(length=255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("execution_id", sa.String(length=32), nullable=False),
        sa.Column("proved_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint(
            "registry", "scope", "digest", "repository", name=op.f("pk_presence")
        ),
    )
    op.create_table(
        "processes",
        sa.Column("boot", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("region", sa.String(length=64), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("boot", name=op.f("pk_processes")),
    )
    op.create_table(
        "registries",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_registries")),
    )
    op.create_table(
        "rules",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("every_seconds", sa.Double(), nullable=True),
        sa.Column("next_run_at", sa.Double(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_rules")),
    )
    op.create_table(
        "tokens",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("revoked_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_tokens")),
        sa.UniqueConstraint("hash", name=op.f("uq_tokens_hash")),
    )
    op.create_table(
        "written_tags",
        sa.Column("registry", sa.String(length=128), nullable=False),
        sa.Column("repository", sa.String(length=255), nullable=False),
        sa.Column("tag", sa.String(length=160), nullable=False),
        sa.Column("digest", sa.String(length=140), nullable=False),
        sa.Column("rule", sa.String(length=128), nullable=False),
        sa.Column("written_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("registry", "repository", "tag", name=op.f("pk_written_tags")),
    )
    op.create_table(
        "copies",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("execution_id", sa.String(length=32), nullable=False),
        sa.Column("rule", sa.String(length=128), nullable=False),
        sa.Column("priority", sa.Integer(), server_default="1", nullable=False),
        sa.Column("region", sa.String(length=64), nullable=False),
        sa.Column("source_registry", sa.String(length=128), nullable=False),
        sa.Column("source_repository", sa.String(length=255), nullable=False),
        sa.Column("source_reference", sa.String(length=160), nullable=False),
        sa.Column("destination_registry", sa.String(length=128), nullable=False),
        sa.Column("destination_repository", sa.String(length=255), nullable=False),
        sa.Column("destination_reference", sa.String(length=160), nullable=False),
        sa.Column("digest", sa.String(length=140), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("fence", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("replans", sa.Integer(), server_default="0", nullable=False),
        sa.Column("throttles", sa.Integer(), server_default="0", nullable=False),
        sa.Column("crashes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("suspect", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("started", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("fresh", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("listed", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("referrers", sa.Boolean(), server_default="1", nullable=False),
        sa.Column("owner", sa.String(length=64), server_default="", nullable=False),
        sa.Column("waiting_on", sa.String(length=140), server_default="", nullable=False),
        sa.Column("not_before", sa.Double(), server_default="0", nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("failure_class", sa.String(length=16), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("hint", sa.Text(), server_default="", nullable=False),
        sa.Column("blobs_copied", sa.Integer(), server_default="0", nullable=False),
        sa.Column("blobs_mounted", sa.Integer(), server_default="0", nullable=False),
        sa.Column("blobs_present", sa.Integer(), server_default="0", nullable=False),
        sa.Column("bytes_copied", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("bytes_saved", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint(
            "state IN ('pending', 'dispatched', 'running', 'copying', 'waiting', 'copied', 'unchanged', 'skipped', 'superseded', 'failed', 'stopped')",
            name=op.f("ck_copies_state"),
        ),
        sa.ForeignKeyConstraint(
            ["execution_id"],
            ["executions.id"],
            name=op.f("fk_copies_execution_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_copies")),
        sa.UniqueConstraint(
            "execution_id",
            "destination_registry",
            "destination_repository",
            "destination_reference",
            name="uq_copies_destination",
        ),
    )
    op.create_index(
        op.f("ix_copies_execution_id_state"), "copies", ["execution_id", "state"], unique=False
    )
    op.create_index(op.f("ix_copies_owner"), "copies", ["owner"], unique=False)
    op.create_index(
        op.f("ix_copies_state_not_before"), "copies", ["state", "not_before"], unique=False
    )
    op.create_table(
        "digest_tags",
        sa.Column("execution_id", sa.String(length=32), nullable=False),
        sa.Column("repository", sa.String(length=255), nullable=False),
        sa.Column("tag", sa.String(length=160), nullable=False),
        sa.ForeignKeyConstraint(
            ["execution_id"],
            ["executions.id"],
            name=op.f("fk_digest_tags_execution_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("execution_id", "repository", "tag", name=op.f("pk_digest_tags")),
    )
    op.create_table(
        "execution_requests",
        sa.Column("execution_id", sa.String(length=32), nullable=False),
        sa.Column("registry", sa.String(length=128), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["execution_id"],
            ["executions.id"],
            name=op.f("fk_execution_requests_execution_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("execution_id", "registry", name=op.f("pk_execution_requests")),
    )
    op.create_table(
        "execution_unchanged",
        sa.Column("execution_id", sa.String(length=32), nullable=False),
        sa.Column("registry", sa.String(length=128), nullable=False),
        sa.Column("unchanged", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["execution_id"],
            ["executions.id"],
            name=op.f("fk_execution_unchanged_execution_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("execution_id", "registry", name=op.f("pk_execution_unchanged")),
    )
    op.create_table(
        "selections",
        sa.Column("execution_id", sa.String(length=32), nullable=False),
        sa.Column("repository", sa.String(length=255), nullable=False),
        sa.Column("cursor", sa.Text(), server_default="", nullable=False),
        sa.Column("done", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("listed", sa.Boolean(), server_default="0", nullable=False),
        sa.Column("matched", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(
            ["execution_id"],
            ["executions.id"],
            name=op.f("fk_selections_execution_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("execution_id", "repository", name=op.f("pk_selections")),
    )
    op.create_table(
        "copy_blobs",
        sa.Column("copy_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("digest", sa.String(length=140), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("media_type", sa.Text(), server_default="", nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("task_id", sa.String(length=36), server_default="", nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("owner", sa.String(length=64), server_default="", nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("failure_class", sa.String(length=16), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("pause_seconds", sa.Double(), server_default="0", nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(
            ["copy_id"], ["copies.id"], name=op.f("fk_copy_blobs_copy_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("copy_id", "digest", name=op.f("pk_copy_blobs")),
    )
