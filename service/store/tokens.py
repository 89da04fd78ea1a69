"""Bearer tokens of the API: 256 random bits, kept as a SHA-256 only."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, or_, select, update

from service.errors import Conflict, NotFoundInStore
from service.store.clock import now_epoch
from service.store.database import Database, upsert
from service.store.tables import tokens

ROLES = ("viewer", "operator", "admin")
AGENT_ROLE = "agent"
"""Beside the others: it fetches the copies of one region and gives account of them, and nothing else."""

PREFIX = "tsp_"


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """What is known of a token; never the token itself."""

    name: str
    role: str
    created_at: float
    revoked_at: float | None
    id: str = ""  # what the token's text begins with: whose it is can be told from a log or a leak
    project: str | None = None  # none: the whole platform
    expires_at: float | None = None
    region: str | None = None  # of AGENT_ROLE: whose copies it may fetch


class TokenStore:
    """The table of API tokens."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        name: str,
        role: str,
        *,
        project: str | None = None,
        region: str | None = None,
        lifetime_seconds: float | None = None,
        text: str | None = None,
    ) -> tuple[str, TokenRecord]:
        """Make a token and return its text, which is shown once. Raises Conflict for a taken name."""
        identity = secrets.token_hex(4)
        secret = text or f"{PREFIX}{identity}_{secrets.token_urlsafe(32)}"

        def work(connection: Connection) -> None:
            made = connection.execute(
                upsert(connection, tokens)
                .values(
                    name=name,
                    hash=_hash(secret),
                    prefix=identity if text is None else "",
                    role=role,
                    project=project,
                    region=region,
                    expires_at=None if lifetime_seconds is None else now_epoch() + lifetime_seconds,
                    created_at=now_epoch(),
                )
                .on_conflict_do_nothing()
            )
            if made.rowcount != 1:
                raise Conflict(f"there is a token named {name} already")

        self._database.write(work)
        return secret, self.get(name)

    def get(self, name: str) -> TokenRecord:
        """Return one token's record. Raises NotFoundInStore."""
        with self._database.read() as connection:
            row = connection.execute(select(tokens).where(tokens.c.name == name)).first()
        if row is None:
            raise NotFoundInStore(f"there is no token named {name}")
        return _record(row)

    def verify(self, text: str) -> TokenRecord | None:
        """Return whose token this is; None for an unknown, revoked or expired one.

        The look-up is by the hash of 256 random bits, so its timing tells nothing of use.
        """
        with self._database.read() as connection:
            row = connection.execute(_LIVE, {"hash": _hash(text)}).first()
        return None if row is None else _record(row)

    def list(self) -> list[TokenRecord]:
        """Return all tokens by name."""
        with self._database.read() as connection:
            return [_record(r) for r in connection.execute(select(tokens).order_by(tokens.c.name))]

    def revoke(self, name: str) -> None:
        """End a token's life. Raises NotFoundInStore."""

        def work(connection: Connection) -> None:
            changed = connection.execute(
                update(tokens)
                .where(tokens.c.name == name, tokens.c.revoked_at.is_(None))
                .values(revoked_at=now_epoch())
            )
            if changed.rowcount < 1:
                raise NotFoundInStore(f"there is no live token named {name}")

        self._database.write(work)


_LIVE = select(tokens).where(
    tokens.c.hash == bindparam("hash"),
    tokens.c.revoked_at.is_(None),
    or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > now_epoch()),
)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _record(row: Row[Any]) -> TokenRecord:
    return TokenRecord(
        row.name,
        row.role,
        row.created_at,
        row.revoked_at,
        row.prefix,
        row.project,
        row.expires_at,
        row.region,
    )
