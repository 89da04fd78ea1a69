"""What a PostgreSQL server does with a commit."""

from __future__ import annotations

from sqlalchemy import text

from service.store.database import Database

ASKED = ("server_version", "fsync", "synchronous_commit", "full_page_writes")


def server_facts(database: Database) -> dict[str, str]:
    """Return the server's settings that decide whether a commit outlives it. Raises StoreUnavailable."""
    with database.read() as connection:
        return {name: str(connection.execute(text(f"SHOW {name}")).scalar_one()) for name in ASKED}
