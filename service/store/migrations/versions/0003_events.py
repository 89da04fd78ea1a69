"""Registry events in: hooks, hints that wait, keys that were seen."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "hooks",
        sa.Column("registry", sa.String(128), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("previous", sa.LargeBinary()),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("rotated_at", sa.Double()),
        sa.Column("received_at", sa.Double()),
        sa.Column("notice", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("registry", name="pk_hooks"),
        sa.ForeignKeyConstraint(
            ["registry"], ["registries.name"], name="fk_hooks_registry", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "registry_events",
        sa.Column("registry", sa.String(128), nullable=False),
        sa.Column("repository", sa.String(255), nullable=False),
        sa.Column("reference", sa.String(160), nullable=False),
        sa.Column("rule", sa.String(128), nullable=False, server_default=""),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("ours", sa.Boolean(), nullable=False, server_default="0"),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint(
            "registry", "repository", "reference", "rule", name="pk_registry_events"
        ),
    )
    op.create_index(
        "ix_registry_events_registry_received_at", "registry_events", ["registry", "received_at"]
    )
    op.create_table(
        "event_keys",
        sa.Column("registry", sa.String(128), nullable=False),
        sa.Column("key", sa.String(80), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("registry", "key", name="pk_event_keys"),
    )
    op.create_index("ix_event_keys_seen_at", "event_keys", ["seen_at"])
    op.create_index("ix_written_tags_rule_digest", "written_tags", ["rule", "digest"])
