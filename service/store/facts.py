"""Facts about manifests, kept by digest so that no run reads them again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, delete, select

from service.model.content import Facts
from service.store.clock import now_epoch
from service.store.database import Database, upsert
from service.store.tables_content import image_facts

AT_ONCE = 500
KEPT_SECONDS = 90 * 86400.0
"""Facts that were read so long ago are read anew: the table grows with what the rules look at only."""


class FactStore:
    """What is known of manifests; shared by all processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, digests: Iterable[str]) -> dict[str, Facts]:
        """Return what is known of these digests."""
        wanted = list(dict.fromkeys(digests))
        found: dict[str, Facts] = {}
        with self._database.read() as connection:
            for start in range(0, len(wanted), AT_ONCE):
                query = select(image_facts).where(
                    image_facts.c.digest.in_(wanted[start : start + AT_ONCE])
                )
                for row in connection.execute(query):
                    found[row.digest] = Facts(
                        tuple(json.loads(row.types)),
                        bool(row.is_index),
                        tuple(json.loads(row.platforms)),
                        row.created,
                        bool(row.deep),
                    )
        return found

    def put(self, facts: Mapping[str, Facts]) -> None:
        """Keep what was read; a deeper look replaces a shallow one."""
        if not facts:
            return

        def work(connection: Connection) -> None:
            for digest in sorted(facts):  # in one order: two writers must not deadlock
                known = facts[digest]
                values = {
                    "types": json.dumps(known.types),
                    "is_index": known.index,
                    "platforms": json.dumps(known.platforms),
                    "created": known.created,
                    "deep": known.deep,
                    "read_at": now_epoch(),
                }
                statement = upsert(connection, image_facts).values(digest=digest, **values)
                connection.execute(
                    statement.on_conflict_do_update(
                        index_elements=["digest"],
                        set_={key: statement.excluded[key] for key in values},
                    )
                )
            connection.execute(
                delete(image_facts).where(image_facts.c.read_at < now_epoch() - KEPT_SECONDS)
            )

        self._database.write(work)
