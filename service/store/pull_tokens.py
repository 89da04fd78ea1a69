"""Pull tokens of gateways: which there are, and which are revoked. A token's text is never kept."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select, update

from service.errors import Conflict, NotFoundInStore
from service.model.pull_token import PullGrant
from service.store.clock import now_epoch
from service.store.database import Database, upsert
from service.store.tables_pull_tokens import pull_tokens


@dataclass(frozen=True, slots=True)
class PullTokenRecord:
    """What is known of a pull token."""

    grant: PullGrant
    created_at: float
    revoked_at: float | None = None


class PullTokenStore:
    """The table of pull tokens."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self, name: str, repositories: Sequence[str], lifetime_seconds: float | None
    ) -> PullTokenRecord:
        """Save what a new token grants. Raises Conflict for a name that was ever given."""
        values: dict[str, Any] = {
            "name": name,
            "id": secrets.token_hex(8),
            "repositories": json.dumps(list(repositories)),
            "created_at": now_epoch(),
            "expires_at": None if lifetime_seconds is None else now_epoch() + lifetime_seconds,
        }

        def work(connection: Connection) -> None:
            insert = upsert(connection, pull_tokens).values(**values).on_conflict_do_nothing()
            if connection.execute(insert).rowcount != 1:
                raise Conflict(
                    f"there is, or was, a pull token named {name}", hint="choose another name"
                )

        self._database.write(work)
        return self.get(name)

    def get(self, name: str) -> PullTokenRecord:
        """Return one. Raises NotFoundInStore."""
        with self._database.read() as connection:
            row = connection.execute(select(pull_tokens).where(pull_tokens.c.name == name)).first()
        if row is None:
            raise NotFoundInStore(
                f"there is no pull token named {name}", hint="list them: transship pull-tokens ls"
            )
        return _record(row)

    def list(self, after: str | None = None, limit: int = 1000) -> list[PullTokenRecord]:
        """Return those after a name, by name; revoked and expired ones, too."""
        query = select(pull_tokens).order_by(pull_tokens.c.name).limit(limit)
        if after is not None:
            query = query.where(pull_tokens.c.name > after)
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(query)]

    def revoke(self, name: str) -> None:
        """End a token's life; again does nothing. Raises NotFoundInStore."""

        def work(connection: Connection) -> None:
            named = pull_tokens.c.name == name
            if connection.execute(select(pull_tokens.c.id).where(named)).first() is None:
                raise NotFoundInStore(
                    f"there is no pull token named {name}",
                    hint="list them: transship pull-tokens ls",
                )
            alive = pull_tokens.c.revoked_at.is_(None)
            connection.execute(
                update(pull_tokens).where(named, alive).values(revoked_at=now_epoch())
            )

        self._database.write(work)

    def revoked(self) -> frozenset[str]:
        """Return the ids of all that are revoked and have not expired."""
        query = select(pull_tokens.c.id).where(
            pull_tokens.c.revoked_at.is_not(None),
            pull_tokens.c.expires_at.is_(None) | (pull_tokens.c.expires_at > now_epoch()),
        )
        with self._database.read() as connection:
            return frozenset(connection.execute(query).scalars())


def _record(row: Row[Any]) -> PullTokenRecord:
    grant = PullGrant(row.id, row.name, tuple(json.loads(row.repositories)), row.expires_at)
    return PullTokenRecord(grant, row.created_at, row.revoked_at)
