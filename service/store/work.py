"""The StatePort over SQL: what a worker in the home region asks and tells."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    Connection,
    Double,
    Row,
    Select,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)

from service.model.states import BlobState, CopyState
from service.model.work import (
    BlobPlaced,
    CopyRef,
    CopyWork,
    Outcome,
    PartBlob,
    PartWork,
    Presence,
    ProcessReport,
    Proof,
)
from service.protections import without
from service.store import outcomes as rows
from service.store import routes
from service.store.ahead import AheadState
from service.store.clock import now_epoch, steady
from service.store.conditions import lease_holds, rule_is_paused
from service.store.database import Database
from service.store.held_tags import Name, held_among, wanted_digest
from service.store.tables import (
    copies,
    copy_blobs,
    digest_tags,
    ledgers,
    presence,
    processes,
    selections,
)
from service.store.tables_agents import lender
from service.store.tallies import add_requests
from service.store.work_rows import RuleCache, copy_work

NOTHING: Mapping[Name, str] = MappingProxyType({})
PREFIXES_AT_ONCE = 200
"""SQLite refuses expressions that nest deeper than 1000."""


class SqlState(AheadState):
    """The state of work in SQL. Every statement on a copy is conditional on its fence."""

    def __init__(
        self,
        database: Database,
        *,
        proof_seconds: float = 3600.0,
        borrowed: bool = False,
        clock: Callable[[], float] = steady,
    ) -> None:
        """`borrowed`: copies are lent by home, and held only while the lease lasts, by `clock` (docs/adr/0017)."""
        self._clock = clock
        self._database = database
        self._borrowed = borrowed
        self._proof_seconds = proof_seconds
        self._rules = RuleCache()

    def work_of(self, connection: Connection, row: Row[Any]) -> CopyWork:
        """Return a row of copies as work."""
        return self._work(connection, row)

    def _work(
        self, connection: Connection, row: Row[Any], held: Mapping[Name, str] = NOTHING
    ) -> CopyWork:
        rule, trigger, senders = self._rules.of(connection, row.execution_id)
        work = copy_work(
            row,
            rule,
            trigger,
            holders=routes.holders(connection, row, senders),
            routed=bool(senders),
        )
        by = held.get(_name(row), "")
        return replace(work, held_by=by) if by else work

    def begin(self, refs: Sequence[CopyRef], boot: str) -> list[CopyWork]:
        """Own dispatched copies and count an attempt for each, durably, before any work."""

        def work(connection: Connection) -> list[CopyWork]:
            begun = connection.execute(
                _beginning_anywhere() if without("forward-only") else _BEGINNING,
                {
                    "b_ids": [ref.id for ref in refs],
                    "b_refs": [(ref.id, ref.fence) for ref in refs],
                    "b_boot": boot,
                },
            ).all()
            turn = {ref.id: number for number, ref in enumerate(refs)}
            begun = sorted(begun, key=lambda row: turn[row.id])
            held = held_among(connection, [_name(row) for row in begun]) if begun else {}
            return [self._work(connection, row, held) for row in begun]

        return self._database.write(work)

    def begin_part(self, ref: CopyRef, part: int, boot: str) -> PartWork | None:
        """Own the pending blobs of one part of a fanned-out copy; each fence's part goes to one caller."""

        def work(connection: Connection) -> PartWork | None:
            at = {"b_id": ref.id, "b_fence": ref.fence}
            row = connection.execute(_FANNED_OUT, at).first()
            if row is None:
                return None
            blobs = connection.execute(_BEGINNING_PART, at | {"b_part": part, "b_boot": boot}).all()
            if not blobs:
                return None
            copy = self._work(connection, row)
            return PartWork(copy, part, tuple(PartBlob(*blob) for blob in blobs))

        return self._database.write(work)

    def begin_commit(self, ref: CopyRef, boot: str) -> CopyWork | None:
        """Own a fanned-out copy for its commit, unless a part of it is still under way."""

        def work(connection: Connection) -> CopyWork | None:
            row = connection.execute(
                update(copies)
                .where(
                    rows.is_at(ref),
                    copies.c.state == CopyState.COPYING,
                    ~_has_pending_part(ref),
                )
                .values(state=CopyState.RUNNING, owner=boot, updated_at=now_epoch())
                .returning(*copies.c)
            ).first()
            if row is None:
                return None
            return self._work(connection, row, held_among(connection, [_name(row)]))

        return self._database.write(work)

    def released_digest(self, work: CopyWork) -> str | None:
        """Return the digest that a release has given the copy's tag, "" for no such tag, None for neither."""
        place = (work.destination_registry, work.destination_repository, work.destination_reference)
        with self._database.read() as connection:
            return wanted_digest(connection, place)

    def holds(self, ref: CopyRef) -> bool:
        """Whether the fence is still the copy's, and its rule is not paused."""
        with self._database.read() as connection:
            holding = _holding_anyhow() if without("fence") else _HOLDING
            values: dict[str, Any] = {"b_id": ref.id, "b_fence": ref.fence}
            if self._borrowed:
                holding = holding.where(_LEASE)
                values["b_now"] = self._clock()
            found = connection.execute(holding, values)
            return found.first() is not None

    def presence(
        self, registry: str, scope: str, digests: Iterable[str], execution: str
    ) -> list[Presence]:
        """Return the ledger's rows of the registry's present epoch for these blobs."""
        values = {
            "execution": execution,
            "seconds": self._proof_seconds,
            "registry": registry,
            "scope": scope,
            "digests": list(digests),
        }
        with self._database.read() as connection:
            return [
                Presence(row.digest, row.repository, bool(row.proved_here), row.proved_at, row.size)
                for row in connection.execute(_PRESENCE, values)
            ]

    def epoch(self, registry: str, scope: str) -> int:
        """Return the registry's present epoch: it rises when what was proved there is void."""
        with self._database.read() as connection:
            found = connection.execute(_EPOCH, {"registry": registry, "scope": scope})
            return int(found.scalar_one_or_none() or 0)

    def digest_tags(
        self, execution: str, repository: str, prefixes: Iterable[str]
    ) -> tuple[list[str], bool]:
        """Return listed tags that are one of the prefixes, or start with one and a dot.

        And whether the repository's tags are listed to the end: until then there may be others.
        """
        wanted = list(prefixes)
        found: list[str] = []
        with self._database.read() as connection:
            listed = connection.execute(  # before the tags
                _LISTED, {"execution": execution, "repository": repository}
            ).scalar_one_or_none()
            for start in range(0, len(wanted), PREFIXES_AT_ONCE):
                group = wanted[start : start + PREFIXES_AT_ONCE]
                values = {"execution": execution, "repository": repository}
                for number, prefix in enumerate(group):
                    values[f"own{number}"] = prefix
                    values[f"more{number}"] = f"{prefix}.%"
                found.extend(connection.execute(_attached(len(group)), values).scalars())
        return sorted(found), bool(listed)

    def prove(self, execution: str, proofs: Sequence[Proof]) -> None:
        """Write proofs to the ledger under the registry's present epoch."""
        if proofs:
            self._database.write(lambda connection: rows.prove(connection, execution, proofs))

    def post(self, outcomes: Sequence[Outcome]) -> None:
        """Record outcomes in one transaction."""

        def work(connection: Connection) -> None:
            for outcome in outcomes:
                rows.apply(connection, outcome)

        if outcomes:
            self._database.write(work)

    def part_failures(self, ref: CopyRef) -> list[BlobPlaced]:
        """Return the blobs of a fanned-out copy that were not placed, and why."""
        query = select(
            copy_blobs.c.digest,
            copy_blobs.c.state,
            copy_blobs.c.failure_class,
            copy_blobs.c.reason,
            copy_blobs.c.pause_seconds,
        ).where(
            copy_blobs.c.copy_id == ref.id,
            copy_blobs.c.fence == ref.fence,
            copy_blobs.c.state.in_([BlobState.FAILED, BlobState.WAITING]),
        )
        with self._database.read() as connection:
            return [
                BlobPlaced(
                    row.digest,
                    BlobState(row.state),
                    row.failure_class,
                    row.reason,
                    row.pause_seconds,
                )
                for row in connection.execute(query)
            ]

    def add_requests(self, execution: str, requests: dict[str, int]) -> None:
        """Add to the HTTP requests that an execution has sent, by registry."""
        if requests:
            self._database.write(lambda connection: add_requests(connection, execution, requests))

    def heartbeat(self, report: ProcessReport) -> None:
        """Write the process's row."""

        def work(connection: Connection) -> None:
            changed = connection.execute(
                update(processes)
                .where(processes.c.boot == report.boot)
                .values(seen_at=now_epoch(), slots=report.slots)
            )
            if changed.rowcount == 0:
                connection.execute(
                    insert(processes).values(
                        boot=report.boot,
                        kind=report.kind,
                        region=report.region,
                        slots=report.slots,
                        host=report.host,
                        pid=report.pid,
                        started_at=now_epoch(),
                        seen_at=now_epoch(),
                    )
                )

        self._database.write(work)

    def release(self, boot: str, held: Callable[[], Collection[int]]) -> int:
        """Let go of copies that this process is said to own and that `held` does not name.

        Nobody works on them: an answer of ours was lost, or a task broke. `held` is asked after the
        rows are read, and must name a copy before it is begun.
        """
        parts = (
            select(copies.c.id, copies.c.fence)
            .join(copy_blobs, copy_blobs.c.copy_id == copies.c.id)
            .where(
                copies.c.state == CopyState.COPYING,
                copy_blobs.c.fence == copies.c.fence,
                copy_blobs.c.owner == boot,
                copy_blobs.c.state == BlobState.PENDING,
            )
        )
        whole = select(copies.c.id, copies.c.fence).where(
            copies.c.owner == boot, copies.c.state == CopyState.RUNNING
        )
        with self._database.read() as connection:
            owned = {(r.id, r.fence) for query in (parts, whole) for r in connection.execute(query)}
        named = held() if owned else ()
        strays = [CopyRef(*ref) for ref in sorted(owned) if ref[0] not in named]

        def work(connection: Connection) -> int:
            return sum(
                connection.execute(
                    update(copies)
                    .where(
                        rows.is_at(ref),
                        copies.c.state.in_([CopyState.RUNNING, CopyState.COPYING]),
                    )
                    .values(
                        state=CopyState.PENDING,
                        owner="",
                        fence=copies.c.fence + 1,
                        updated_at=now_epoch(),
                    )
                ).rowcount
                for ref in strays
            )

        return self._database.write(work) if strays else 0

    def farewell(self, boot: str) -> None:
        """Remove the process's row, unless it still holds copies: then it counts as dead in time."""

        def work(connection: Connection) -> None:
            holds = select(copies.c.id).where(copies.c.owner == boot).exists()
            connection.execute(delete(processes).where(processes.c.boot == boot, ~holds))

        self._database.write(work)


def _name(row: Row[Any]) -> Name:
    return row.destination_registry, row.destination_repository, row.destination_reference


@cache
def _beginning_anywhere() -> Any:
    return (  # by id, as the dispatcher's
        update(copies)
        .where(
            copies.c.id.in_(bindparam("b_ids", expanding=True)),
            tuple_(copies.c.id, copies.c.fence).in_(bindparam("b_refs", expanding=True)),
        )
        .values(
            state=CopyState.RUNNING,
            owner=bindparam("b_boot"),
            started=True,
            attempts=copies.c.attempts + 1,
            updated_at=now_epoch(),
        )
        .returning(*copies.c)
    )


_BEGINNING = _beginning_anywhere().where(func.coalesce(copies.c.state, "") == CopyState.DISPATCHED)


_FANNED_OUT = select(copies).where(
    copies.c.id == bindparam("b_id"),
    copies.c.fence == bindparam("b_fence"),
    copies.c.state == CopyState.COPYING,
)

_BEGINNING_PART = (
    update(copy_blobs)
    .where(
        copy_blobs.c.copy_id == bindparam("b_id"),
        copy_blobs.c.fence == bindparam("b_fence"),
        copy_blobs.c.part == bindparam("b_part"),
        copy_blobs.c.state == BlobState.PENDING,
        copy_blobs.c.owner == "",
    )
    .values(owner=bindparam("b_boot"), updated_at=now_epoch())
    .returning(copy_blobs.c.digest, copy_blobs.c.size, copy_blobs.c.media_type)
)


@cache
def _holding_anyhow() -> Any:
    return select(copies.c.id).where(
        copies.c.id == bindparam("b_id"), ~rule_is_paused(copies.c.rule)
    )


_LEASE = select(lender.c.id).where(lease_holds(bindparam("b_now", type_=Double))).exists()
_HOLDING = _holding_anyhow().where(copies.c.fence == bindparam("b_fence"))


def _has_pending_part(ref: CopyRef) -> Any:
    return (
        select(copy_blobs.c.copy_id)
        .where(
            copy_blobs.c.copy_id == ref.id,
            copy_blobs.c.fence == ref.fence,
            copy_blobs.c.state == BlobState.PENDING,
        )
        .exists()
    )


_PRESENCE = (
    select(
        presence.c.digest,
        presence.c.repository,
        presence.c.proved_at,
        presence.c.size,
        and_(
            presence.c.execution_id == bindparam("execution"),
            presence.c.proved_at > now_epoch() - bindparam("seconds", type_=Double),
        ).label("proved_here"),
    )
    .outerjoin(
        ledgers,
        and_(ledgers.c.registry == presence.c.registry, ledgers.c.scope == presence.c.scope),
    )
    .where(
        presence.c.registry == bindparam("registry"),
        presence.c.scope == bindparam("scope"),
        presence.c.digest.in_(bindparam("digests", expanding=True)),
        presence.c.epoch == func.coalesce(ledgers.c.epoch, 0),
    )
)
_EPOCH = select(ledgers.c.epoch).where(
    ledgers.c.registry == bindparam("registry"), ledgers.c.scope == bindparam("scope")
)
_LISTED = select(selections.c.listed).where(
    selections.c.execution_id == bindparam("execution"),
    selections.c.repository == bindparam("repository"),
)


@lru_cache(maxsize=PREFIXES_AT_ONCE)
def _attached(count: int) -> Select[Any]:
    """Return the query for tags that are `own0` or like `more0`, and so on up to `count` prefixes."""
    return select(digest_tags.c.tag).where(
        digest_tags.c.execution_id == bindparam("execution"),
        digest_tags.c.repository == bindparam("repository"),
        or_(
            *[
                or_(
                    digest_tags.c.tag == bindparam(f"own{number}"),
                    digest_tags.c.tag.like(bindparam(f"more{number}")),
                )
                for number in range(count)
            ]
        ),
    )
