"""Webhooks out as saved: what each wants to hear, and the sealed secret that signs its events."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update
from sqlalchemy.sql.elements import ColumnElement

from service.errors import NotFoundInStore, StoreUnavailable
from service.model.subscription import Subscription
from service.store import codec, outbox
from service.store.clock import now_epoch
from service.store.database import Database, upsert
from service.store.keyring import KeyRing
from service.store.outbox import EXPANDING
from service.store.tables_governance import webhook_deliveries, webhooks
from service.store.versions import check_created, check_version, is_unchanged
from service.telemetry import get_logger

PENDING, DELIVERED, FAILED = outbox.PENDING, "delivered", "failed"
BROKEN_SECONDS = 60.0
"""What cannot be told of, say since its webhook was written by a later version, waits so long."""

log = get_logger("webhooks")


@dataclass(frozen=True, slots=True)
class StoredWebhook:
    """One webhook with its document (without the secret) and version."""

    wanted: Subscription
    document: dict[str, Any]
    version: int
    secret_set: bool
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one webhook; `id` is the event's, the same at every attempt."""

    id: str
    webhook: str
    event: str
    state: str
    attempts: int
    status: int | None
    reason: str
    created_at: float
    ended_at: float | None
    next_at: float | None


@dataclass(frozen=True, slots=True)
class Letter:
    """A delivery that the sender has taken: what goes where."""

    id: str
    webhook: str
    body: str
    attempts: int
    url: str
    private: bool  # whether an administrator of the platform wrote the address


Deliveries = list[Delivery]
Letters = list[Letter]


class WebhookStore:
    """The table of webhooks, and the outbox as its reader and sender see it."""

    def __init__(self, database: Database, keyring: KeyRing | None) -> None:
        self._database = database
        self._keyring = keyring

    def put(
        self,
        wanted: Subscription,
        *,
        document: dict[str, Any],
        secret: str | None = None,
        expected_version: int | None = None,
    ) -> StoredWebhook:
        """Create or replace a webhook; a stored secret is kept while the url stays the same.

        Raises Conflict when it is not at `expected_version`.
        """
        sealed = None if secret is None else self._ring().seal(f"webhook:{wanted.name}", secret)

        def work(connection: Connection) -> bool:
            row = connection.execute(
                select(webhooks).where(webhooks.c.name == wanted.name).with_for_update()
            ).first()
            check_version("webhook", wanted.name, row, expected_version)
            values: dict[str, Any] = {
                "document": codec.dump(document),
                "spec": codec.dump(wanted),
                "project": wanted.project,
                "copies": wanted.wants_copies,
                "secret": sealed,
            }
            if row is None:
                made = connection.execute(
                    upsert(connection, webhooks)
                    .values(
                        name=wanted.name,
                        version=1,
                        created_at=now_epoch(),
                        updated_at=now_epoch(),
                        **values,
                    )
                    .on_conflict_do_nothing()
                )
                check_created("webhook", wanted.name, made.rowcount)
                return True
            if sealed is None:
                before = codec.load(Subscription, json.loads(row.spec))
                values["secret"] = row.secret if before.url == wanted.url else None
            if is_unchanged(row, values):
                return False
            connection.execute(
                update(webhooks)
                .where(webhooks.c.name == wanted.name)
                .values(version=row.version + 1, updated_at=now_epoch(), **values)
            )
            return True

        self._database.write(work)
        return self.get(wanted.name)

    def get(self, name: str) -> StoredWebhook:
        """Return one webhook. Raises NotFoundInStore."""
        with self._database.read() as connection:
            row = connection.execute(select(webhooks).where(webhooks.c.name == name)).first()
        if row is None:
            raise NotFoundInStore(f"there is no webhook named {name}")
        return _stored(row)

    def list(self, after: str | None = None, limit: int = 1000) -> list[StoredWebhook]:
        """Return webhooks by name, from the first one after `after`."""
        query = select(webhooks).order_by(webhooks.c.name).limit(limit)
        if after is not None:
            query = query.where(webhooks.c.name > after)
        with self._database.read() as connection:
            return [_stored(row) for row in connection.execute(query)]

    def delete(self, name: str) -> None:
        """Forget a webhook and what was to be sent to it. Raises NotFoundInStore."""

        def work(connection: Connection) -> None:
            connection.execute(
                delete(webhook_deliveries).where(webhook_deliveries.c.webhook == name)
            )
            if connection.execute(delete(webhooks).where(webhooks.c.name == name)).rowcount < 1:
                raise NotFoundInStore(f"there is no webhook named {name}")

        self._database.write(work)

    def deliveries(
        self, name: str, *, state: str | None = None, before: str | None = None, limit: int = 100
    ) -> Deliveries:
        """Return what was, or is to be, sent to a webhook, the newest first."""
        table = webhook_deliveries
        query = (
            select(table)
            .where(table.c.webhook == name, table.c.state != EXPANDING)
            .order_by(table.c.id.desc())
        )
        if state is not None:
            query = query.where(table.c.state == state)
        if before is not None:
            query = query.where(table.c.id < before)
        with self._database.read() as connection:
            return [_delivery(row) for row in connection.execute(query.limit(limit))]

    # ---- the sender's side -----------------------------------------------------------------------

    def take(
        self, limit: int, lease_seconds: float, *, without: Collection[str] = (), each: int = 2
    ) -> Letters:
        """Take due deliveries for `lease_seconds`; an attempt is counted before it is made.

        A sender that dies in between leaves them to be taken again: at least once, the same id. At
        most `each` of a webhook, and none of those that the sender has its hands full with: one whose
        receiver hangs, or whose row this version does not read, does not keep the others waiting.
        """
        with self._database.read() as connection:
            due = (
                webhook_deliveries.c.state == PENDING,
                webhook_deliveries.c.not_before <= now_epoch(),
                webhook_deliveries.c.webhook.not_in(list(without)),
            )
            if connection.execute(select(func.count()).where(*due)).scalar_one() == 0:
                return []

        def work(connection: Connection) -> Letters:
            turn = func.row_number().over(
                partition_by=webhook_deliveries.c.webhook, order_by=webhook_deliveries.c.id
            )
            ranked = select(webhook_deliveries.c.id, turn.label("turn")).where(*due).subquery()
            query = (
                select(webhook_deliveries, webhooks.c.spec)
                .join(ranked, ranked.c.id == webhook_deliveries.c.id)
                .join(webhooks, webhooks.c.name == webhook_deliveries.c.webhook)
                .where(ranked.c.turn <= each)
                .order_by(ranked.c.turn)
                .limit(limit)
            )
            taken = []
            for row in connection.execute(query).all():
                try:
                    wanted = codec.load(Subscription, json.loads(row.spec))
                except Exception:  # whatever is wrong with one webhook keeps no other waiting
                    log.exception(
                        "webhook_not_read", webhook=row.webhook, again_in_seconds=BROKEN_SECONDS
                    )
                    _put_off(webhook_deliveries.c.webhook == row.webhook, connection)
                    continue
                changed = connection.execute(
                    update(webhook_deliveries)
                    .where(
                        webhook_deliveries.c.id == row.id,
                        webhook_deliveries.c.state == PENDING,
                        webhook_deliveries.c.attempts == row.attempts,
                    )
                    .values(attempts=row.attempts + 1, not_before=now_epoch() + lease_seconds)
                )
                if changed.rowcount != 1:
                    continue
                taken.append(
                    Letter(
                        row.id,
                        row.webhook,
                        row.body,
                        row.attempts + 1,
                        wanted.url,
                        wanted.project is None,
                    )
                )
            return taken

        return self._database.write(work)

    def expand(
        self, at_once: int = outbox.COPIES_AT_ONCE, few_pending: int = outbox.FEW_PENDING
    ) -> int:
        """Make events of the next `at_once` copies of each stop in bulk; returns of how many.

        A webhook with more than `few_pending` deliveries waiting has its turn later; so has a stop
        that cannot be told of, which is logged and keeps no other waiting. Raises StoreUnavailable.
        """
        with self._database.read() as connection:
            rows = outbox.to_expand(connection, few_pending)
        made = 0
        for row in rows:
            try:
                made += self._database.write(partial(outbox.expand, identity=row, at_once=at_once))
            except StoreUnavailable:
                raise
            except Exception:
                log.exception("stop_not_told", delivery=row, again_in_seconds=BROKEN_SECONDS)
                self._database.write(partial(_put_off, webhook_deliveries.c.id == row))
        return made

    def secret(self, name: str) -> str | None:
        """Return a webhook's secret in the clear; only the sender may ask."""
        with self._database.read() as connection:
            sealed = connection.execute(
                select(webhooks.c.secret).where(webhooks.c.name == name)
            ).scalar_one_or_none()
        return None if sealed is None else self._ring().open(f"webhook:{name}", bytes(sealed))

    def delivered(self, letter: Letter, status: int) -> None:
        """Write down that the receiver has taken it."""
        self._end(letter, {"state": DELIVERED, "status": status, "reason": ""})

    def failed(self, letter: Letter, status: int | None, reason: str, pause: float | None) -> None:
        """Write down that the receiver has not taken it; without a pause this was the last attempt."""
        values: dict[str, Any] = {"status": status, "reason": reason}
        if pause is None:
            self._end(letter, {**values, "state": FAILED})
            return

        def work(connection: Connection) -> None:
            connection.execute(
                update(webhook_deliveries)
                .where(webhook_deliveries.c.id == letter.id, webhook_deliveries.c.state == PENDING)
                .values(not_before=now_epoch() + pause, **values)
            )

        self._database.write(work)

    def _end(self, letter: Letter, values: dict[str, Any]) -> None:
        def work(connection: Connection) -> None:
            connection.execute(
                update(webhook_deliveries)
                .where(webhook_deliveries.c.id == letter.id, webhook_deliveries.c.state == PENDING)
                .values(ended_at=now_epoch(), **values)
            )

        self._database.write(work)

    def forget_ended(self, older_than_seconds: float, limit: int = 500) -> int:
        """Remove deliveries that ended long ago; returns how many."""

        def work(connection: Connection) -> int:
            old = (
                select(webhook_deliveries.c.id)
                .where(
                    webhook_deliveries.c.state != PENDING,
                    webhook_deliveries.c.ended_at < now_epoch() - older_than_seconds,
                )
                .limit(limit)
            )
            return connection.execute(
                delete(webhook_deliveries).where(webhook_deliveries.c.id.in_(old))
            ).rowcount

        return self._database.write(work)

    def _ring(self) -> KeyRing:
        return KeyRing([]) if self._keyring is None else self._keyring


def _put_off(which: ColumnElement[bool], connection: Connection) -> None:
    """Have due deliveries, or stops to be told of, wait for whoever can read their webhook."""
    connection.execute(
        update(webhook_deliveries)
        .where(
            which,
            webhook_deliveries.c.state.in_([PENDING, EXPANDING]),
            webhook_deliveries.c.not_before <= now_epoch(),  # none that another sender holds
        )
        .values(not_before=now_epoch() + BROKEN_SECONDS)
    )


def _stored(row: Row[Any]) -> StoredWebhook:
    return StoredWebhook(
        wanted=codec.load(Subscription, json.loads(row.spec)),
        document=json.loads(row.document),
        version=row.version,
        secret_set=row.secret is not None,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        row.id,
        row.webhook,
        row.event,
        row.state,
        row.attempts,
        row.status,
        row.reason,
        row.created_at,
        row.ended_at,
        row.not_before if row.state == PENDING else None,
    )
