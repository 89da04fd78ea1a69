"""In a far region: the copies that it has from home, in a database of its own (docs/adr/0017).

Its dispatcher, its workers and its reconciler find them there as those at home find theirs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from service.model.region import Link, Region
from service.model.states import OPEN_COPIES, CopyState, ExecutionState
from service.store import attempts, codec
from service.store.clock import now_epoch, steady
from service.store.conditions import lease_holds
from service.store.database import Database, upsert
from service.store.examinations import ExaminationStore, answered, forget
from service.store.lending import COPY_FIELDS, COUNTED, EXECUTION_FIELDS
from service.store.regions import LinkStore, RegionStore
from service.store.registries import RegistryStore
from service.store.tables import (
    copies,
    digest_tags,
    execution_requests,
    executions,
    registries,
    selections,
    written_tags,
)
from service.store.tables_agents import lender, lent_copies
from service.store.tables_governance import audit
from service.store.tables_regions import examinations, execution_links
from service.telemetry import get_logger

FENCES = 1000
BATCH = 500
BATCH_BYTES = 300_000
LONGEST = 20_000
"""What home takes in one request, and in one text."""

ROW = 1

log = get_logger("borrowing")


@dataclass(frozen=True, slots=True)
class Batch:
    """What home has to hear next; sent again under its number until home has taken it.

    `upto`: the last row of the audit log in it.
    """

    number: int
    outcomes: list[dict[str, Any]]
    executions: dict[str, dict[str, Any]]
    crossings: list[dict[str, Any]]
    upto: int
    examinations: list[dict[str, Any]]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to hear."""
        return not (self.outcomes or self.executions or self.crossings or self.examinations)


class BorrowingStore:
    """Takes pages of copies in, and gives account of them."""

    def __init__(
        self,
        database: Database,
        registry_store: RegistryStore,
        region_store: RegionStore,
        link_store: LinkStore,
        examination_store: ExaminationStore,
        region: str,
        *,
        clock: Callable[[], float] = steady,
    ) -> None:
        """`clock` is the machine's that all of the region's processes measure the lease by."""
        self._database = database
        self._clock = clock
        self._registries = registry_store
        self._regions = region_store
        self._links = link_store
        self._examinations = examination_store
        self._region = region

    def identity(self) -> str:
        """Return who this region's database is at home: the same for as long as it exists."""

        def work(connection: Connection) -> str:
            made = f"{self._region[:24]}-agent-{os.urandom(8).hex()}"
            connection.execute(
                upsert(connection, lender)
                .values(id=ROW, agent=made, number=0, lease_until=0.0, audited=0, batch="")
                .on_conflict_do_nothing()
            )
            return str(connection.execute(select(lender.c.agent)).scalar_one())

        return self._database.write(work)

    def held(self) -> list[tuple[int, int]]:
        """Return the copies from home, each with its fence there."""
        query = select(lent_copies.c.copy_id, lent_copies.c.fence).join(
            copies, copies.c.id == lent_copies.c.copy_id
        )
        with self._database.read() as connection:
            return [(row.copy_id, row.fence) for row in connection.execute(query)]

    def waiting(self) -> int:
        """Return how many copies from home have not ended."""
        query = select(func.count()).where(copies.c.state.in_(OPEN_COPIES))
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def renew(self, seconds: float) -> None:
        """Have the lease hold for so long from now on, whatever anybody's calendar says."""
        until = self._clock() + seconds
        self._database.write(
            lambda connection: connection.execute(update(lender).values(lease_until=until))
        )

    def is_leased(self) -> bool:
        """Whether the lease holds."""
        query = select(lender.c.id).where(lease_holds(self._clock()))
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def take(self, page: Mapping[str, Any]) -> None:
        """Take a page in: what it names first, then its copies, in one transaction."""
        self.learn(page["registries"])
        for place in page["regions"]:
            self._regions.put(codec.load(Region, place), document=place)
        for way in page["links"]:
            self._links.put(codec.load(Link, way), document=way)
        for question in page["examinations"]:
            self._examinations.borrow(question, self._region)
        if page["copies"]:
            self._take_copies(page)

    def learn(self, places: Sequence[Mapping[str, Any]]) -> None:
        """Know registries as home tells them; one whose version is the same stays as it is, its client too."""
        known = self.known_registries()
        for one in places:
            version = one.get("version", "")
            if version and known.get(one["endpoint"]["name"]) == version:
                continue
            self._registries.put(
                codec.load_endpoint(json.dumps(one["endpoint"])),
                document={"version": version},
                secret=one["secret"],
            )

    def known_registries(self) -> dict[str, str]:
        """Return the registries that home has told of, each with its version there."""
        with self._database.read() as connection:
            rows = connection.execute(select(registries.c.name, registries.c.document)).all()
        versions = {row.name: str(json.loads(row.document).get("version", "")) for row in rows}
        return {name: version for name, version in versions.items() if version}

    def _take_copies(self, page: Mapping[str, Any]) -> None:

        def work(connection: Connection) -> None:
            for identity, run in page["executions"].items():
                values = {name: run[name] for name in EXECUTION_FIELDS}
                statement = upsert(connection, executions).values(
                    id=identity,
                    kind="tags",
                    state=ExecutionState.RUNNING,
                    planned=True,
                    catalog_done=True,
                    **values,
                )
                connection.execute(
                    statement.on_conflict_do_update(
                        index_elements=["id"], set_={"state": ExecutionState.RUNNING}
                    )
                )
            for listing in page["digest_tags"]:
                self._take_listing(connection, listing)
            for row in page["copies"]:
                values = {name: row[name] for name in COPY_FIELDS}
                values["fence"] *= (
                    FENCES  # ours never meet those of an earlier time that it was here
                )
                values["attempts"] -= 1  # which is counted again when it is begun here
                connection.execute(delete(copies).where(copies.c.id == row["id"]))
                connection.execute(
                    insert(copies).values(
                        id=row["id"],
                        region=self._region,
                        state=CopyState.PENDING,
                        updated_at=now_epoch(),
                        **values,
                    )
                )
                connection.execute(delete(lent_copies).where(lent_copies.c.copy_id == row["id"]))
                connection.execute(
                    insert(lent_copies).values(copy_id=row["id"], fence=row["fence"])
                )

        self._database.write(work)

    @staticmethod
    def _take_listing(connection: Connection, listing: Mapping[str, Any]) -> None:
        key = {"execution_id": listing["execution"], "repository": listing["repository"]}
        connection.execute(
            upsert(connection, selections)
            .values(**key, done=True, listed=True)
            .on_conflict_do_nothing()
        )
        for tag in listing["tags"]:
            connection.execute(
                upsert(connection, digest_tags).values(**key, tag=tag).on_conflict_do_nothing()
            )

    def let_go(self, ids: Sequence[int]) -> None:
        """Stop copies that home wants back, whoever works on them."""
        if not ids:
            return
        self._database.write(
            lambda connection: connection.execute(
                update(copies)
                .where(copies.c.id.in_(ids), copies.c.state.in_(OPEN_COPIES))
                .values(
                    state=CopyState.STOPPED,
                    fence=copies.c.fence + 1,
                    owner="",
                    updated_at=now_epoch(),
                )
            )
        )

    def misplaced(self) -> list[int]:
        """Return copies that no worker of this region may do."""
        query = select(copies.c.id).where(
            copies.c.region != self._region, copies.c.state == CopyState.PENDING
        )
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def account(self) -> Batch:
        """Return what home has not heard: ended copies, requests and bytes, crossings.

        It is written down, and the same until it is `told`: home may have it, and its answer be lost.
        """

        def work(connection: Connection) -> Batch:
            row = connection.execute(select(lender)).one()
            if row.batch:
                return _load(row.batch)
            batch = Batch(
                row.number + 1,
                self._outcomes(connection),
                _moved(connection),
                *_crossings(connection, row.audited),
                answered(connection),
            )
            if not batch.is_empty:
                connection.execute(update(lender).values(batch=codec.dump(batch)))
            return batch

        with self._database.read() as connection:
            row = connection.execute(select(lender)).one()
            idle = (
                not row.batch
                and connection.execute(_ENDED.limit(1)).first() is None
                and not _moved(connection)
                and not answered(connection)
            )
        if idle:
            return Batch(row.number + 1, [], {}, [], row.audited, [])
        return self._database.write(work)

    def _outcomes(self, connection: Connection) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        left = BATCH_BYTES  # crossings and examinations take as much at most
        for row in connection.execute(_ENDED).all():
            outcome = self._outcome(connection, row)
            left -= len(json.dumps(outcome))
            if told and left < 0:
                break
            told.append(outcome)
        return told

    @staticmethod
    def _outcome(connection: Connection, row: Any) -> dict[str, Any]:
        platforms = connection.execute(
            select(written_tags.c.platforms).where(
                written_tags.c.registry == row.destination_registry,
                written_tags.c.repository == row.destination_repository,
                written_tags.c.tag == row.destination_reference,
            )
        ).scalar_one_or_none()
        stopped = row.state == CopyState.STOPPED
        return {
            "copy": row.id,
            "fence": row.lent_fence,
            "state": str(CopyState.PENDING if stopped else row.state),
            "region": row.region if stopped else "",
            "digest": row.digest,
            "failure_class": row.failure_class,
            "reason": row.reason[:LONGEST],
            "hint": row.hint[:LONGEST],
            "platforms": (platforms or "")[:LONGEST],
            **{name: getattr(row, name) for name in COUNTED},
            "attempts": attempts.told_of(connection, row.id),
        }

    def smaller(self, batch: Batch) -> None:
        """Have half of a batch told that home does not take; a single outcome is what is wrong, and is dropped."""
        if len(batch.outcomes) < 2:
            log.error("account_refused", outcomes=batch.outcomes, crossings=batch.crossings)
            self.told(batch)
            return
        half = replace(batch, outcomes=batch.outcomes[: len(batch.outcomes) // 2])
        self._database.write(
            lambda connection: connection.execute(
                update(lender)
                .where(lender.c.batch != "", lender.c.number == batch.number - 1)
                .values(batch=codec.dump(half))
            )
        )

    def renumber(self, number: int) -> None:
        """Go on from the number that home has: this database was put back to an earlier day."""
        self._database.write(
            lambda connection: connection.execute(
                update(lender).where(lender.c.number < number).values(number=number, batch="")
            )
        )

    def told(self, batch: Batch) -> None:
        """Forget what home has heard; what its executions have moved since is told next."""

        def work(connection: Connection) -> None:
            known = connection.execute(select(lender).with_for_update()).one()
            if not known.batch or known.number + 1 != batch.number:
                return  # another process has done so
            connection.execute(
                update(lender).values(number=batch.number, audited=batch.upto, batch="")
            )
            forget(connection, batch.examinations)
            ids = [one["copy"] for one in batch.outcomes]
            if ids:
                connection.execute(delete(copies).where(copies.c.id.in_(ids)))
                connection.execute(delete(lent_copies).where(lent_copies.c.copy_id.in_(ids)))
            for execution, moved in batch.executions.items():
                for registry, count in moved["requests"].items():
                    connection.execute(
                        update(execution_requests)
                        .where(
                            execution_requests.c.execution_id == execution,
                            execution_requests.c.registry == registry,
                        )
                        .values(requests=execution_requests.c.requests - count)
                    )
                for sender, receiver, count in moved["bytes"]:
                    connection.execute(
                        update(execution_links)
                        .where(
                            execution_links.c.execution_id == execution,
                            execution_links.c.from_registry == sender,
                            execution_links.c.to_registry == receiver,
                        )
                        .values(bytes=execution_links.c.bytes - count)
                    )

        self._database.write(work)

    def forget(self) -> int:
        """Forget what no copy needs any more: registries with their secrets, executions; returns how many.

        Executions do not end here: that is home's to say.
        """
        idle = and_(
            ~select(copies.c.id).where(copies.c.execution_id == executions.c.id).exists(),
            ~select(execution_requests.c.registry)
            .where(
                execution_requests.c.execution_id == executions.c.id,
                execution_requests.c.requests > 0,
            )
            .exists(),
            ~select(execution_links.c.to_registry)
            .where(execution_links.c.execution_id == executions.c.id, execution_links.c.bytes > 0)
            .exists(),
        )
        needed = or_(
            *(
                registries.c.name == column
                for column in (
                    copies.c.source_registry,
                    copies.c.destination_registry,
                    copies.c.via_registry,
                )
            )
        )
        unneeded = and_(
            ~select(copies.c.id).where(needed).exists(),
            registries.c.name.not_in(select(examinations.c.registry)),
        )
        orphans = lent_copies.c.copy_id.not_in(select(copies.c.id))

        def work(connection: Connection) -> int:
            connection.execute(delete(lent_copies).where(orphans))
            connection.execute(delete(executions).where(idle))
            return connection.execute(delete(registries).where(unneeded)).rowcount

        return self._database.write(work)


def end_lease(database: Database) -> None:
    """Have the lease be over: whoever renews it next measures by a clock that began anew."""
    database.write(lambda connection: connection.execute(update(lender).values(lease_until=0.0)))


def _load(text: str) -> Batch:
    """Return a batch that was written down, by whichever release."""
    known: dict[str, Any] = json.loads(text)
    empty: dict[str, Any] = {"outcomes": [], "executions": {}, "crossings": [], "examinations": []}
    return Batch(**{**empty, **{name: known[name] for name in _FIELDS if name in known}})


_FIELDS = [one.name for one in fields(Batch)]


def _moved(connection: Connection) -> dict[str, dict[str, Any]]:
    moved: dict[str, dict[str, Any]] = {}
    for row in connection.execute(
        select(execution_requests).where(execution_requests.c.requests > 0).limit(BATCH)
    ):
        of = moved.setdefault(row.execution_id, {"requests": {}, "bytes": []})
        of["requests"][row.registry] = row.requests
    for row in connection.execute(
        select(execution_links).where(execution_links.c.bytes > 0).limit(BATCH)
    ):
        of = moved.setdefault(row.execution_id, {"requests": {}, "bytes": []})
        of["bytes"].append([row.from_registry, row.to_registry, row.bytes])
    return moved


def _crossings(connection: Connection, after: int) -> tuple[list[dict[str, Any]], int]:
    rows = connection.execute(
        select(audit).where(audit.c.seq > after).order_by(audit.c.seq).limit(BATCH)
    ).all()
    told = [
        {
            "actor": row.actor,
            "name": row.name,
            "project": row.project,
            "after": json.loads(row.after),
        }
        for row in rows
        if row.action == "cross"
    ]
    return told, rows[-1].seq if rows else after


_ENDED = (
    select(copies, lent_copies.c.fence.label("lent_fence"))
    .join(lent_copies, lent_copies.c.copy_id == copies.c.id)
    .where(and_(*(copies.c.state != state for state in sorted(OPEN_COPIES))))
    .order_by(copies.c.id)
    .limit(BATCH)
)
