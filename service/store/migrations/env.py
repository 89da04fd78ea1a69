"""Alembic's entry: runs on the connection that service.store.schema hands over."""

from __future__ import annotations

from typing import Any

from alembic import context

from service.crashpoints import crashpoint
from service.store.tables import metadata

connection = context.config.attributes["connection"]
tell = context.config.attributes.get("tell")


def applied(*, step: Any, **_rest: Any) -> Any:
    """Say how far it is; nothing is durable before the caller's transaction ends."""
    if tell is not None:
        tell(f"revision {step.up_revision_id}")
    crashpoint("db.migrated")


context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=True,
    on_version_apply=applied,  # type: ignore[arg-type]  # called by keywords, as Alembic asks
)
with context.begin_transaction():
    context.run_migrations()
