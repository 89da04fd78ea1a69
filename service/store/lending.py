"""At home: copies are lent to the agents of far regions, and come back as outcomes (docs/adr/0017).

An agent holds its copies as a worker process holds its own; it is counted as dead after a longer silence.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, and_, exists, or_, select, tuple_, update

from service.errors import Conflict, TransshipError
from service.model.states import BlobState, CopyState
from service.model.work import CopyEnded, CopyWork, Counters, Holder, held_reason
from service.store import attempts, outcomes
from service.store.audit import Change, append
from service.store.clock import now_epoch
from service.store.database import Database, upsert
from service.store.dispatching import DispatchStore, Eligible
from service.store.examinations import ExaminationStore, take_answers
from service.store.lent_registries import LentRegistries
from service.store.processes import AGENT
from service.store.recalls import WATCH_SECONDS, lent_to, lent_to_or_from, recalled
from service.store.recovery import again
from service.store.registries import RegistryStore
from service.store.tables import (
    copies,
    copy_blobs,
    digest_tags,
    executions,
    processes,
    selections,
)
from service.store.tables_agents import agent_batches
from service.store.tables_regions import links, regions
from service.store.tallies import add_crossed, add_requests
from service.store.work import SqlState

LEASE_SHARE = 5 / 6
"""An agent may move tags for so much of the time after which it counts as dead."""

SENT_SECONDS = 30.0
"""Messages to a region's own workers that nobody has taken for so long are not waited for."""

MOST_DIGEST_TAGS = 5000
"""Referrer and cosign tags of a page's repositories that are told; where there are more, they are asked for."""

COPY_FIELDS = (
    *("execution_id", "rule", "priority", "source_registry", "source_repository"),
    *("source_reference", "via_registry", "via_repository", "via_reference"),
    *("destination_registry", "destination_repository", "destination_reference", "digest"),
    *("entry", "found", "fence", "attempts", "failures", "replans", "throttles", "fresh"),
    *("listed", "referrers", "behind", "crashes", "suspect"),
)
EXECUTION_FIELDS = ("rule", "project", "trigger", "route", "spec", "priority", "created_at")
COUNTED = ("blobs_copied", "blobs_mounted", "blobs_present", "bytes_copied", "bytes_saved")


class LendingStore:
    """Lends copies to agents and records what became of them."""

    def __init__(
        self,
        database: Database,
        dispatching: DispatchStore,
        state: SqlState,
        registries: RegistryStore,
        examinations: ExaminationStore,
        *,
        lease_seconds: float,
    ) -> None:
        self._database = database
        self._dispatching = dispatching
        self._state = state
        self._told = LentRegistries(database, registries)
        self._examinations = examinations
        self._lease_seconds = lease_seconds

    def lease(
        self,
        region: str,
        agent: str,
        *,
        slots: int,
        host: str,
        room: int,
        held: Collection[tuple[int, int]],
        known: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Renew an agent's lease and lend it up to `room` copies of its region more.

        `held`: the copies that it has, each with the fence that it was lent with. What it was lent and does
        not have (an answer was lost) is eligible again. `known`: the registries that it has, with their versions.
        The answer's `stop` names the copies that it is to let go of, `registries` those that it has to know
        anew; while it has copies in hand, it is to ask every `watch_seconds`.
        """
        self._database.write(
            lambda connection: self._renew(connection, region, agent, slots, host, held)
        )
        news = self._news(region, agent, held, known or {})
        chosen: list[Eligible] = []
        if room and not self._dispatching.suspects_out():
            chosen += self._dispatching.eligible(region, 1, suspect=True)
        for urgent in (True, False):
            if room > len(chosen):
                chosen += self._dispatching.eligible(region, room - len(chosen), urgent=urgent)
        works = self._state.begin(self._dispatching.dispatch(chosen), agent) if chosen else []
        asked = self._examinations.lend(region, agent)
        places, refused = self._told.places(
            [
                *(name for work in works for name in _named(work)),
                *(one["registry"] for one in asked),
            ]
        )
        ends = [end for work in works if (end := _end_at_once(work, refused)) is not None]
        if ends:
            self._state.post(ends)
        for one in asked:
            if one["registry"] in refused:
                self._examinations.fail(one["id"], refused[one["registry"]])
        done = {end.work.ref.id for end in ends}
        return {
            "lease_seconds": self._lease_seconds,
            "watch_seconds": WATCH_SECONDS,
            "takes_attempts": True,
            "stop": news["stop"],
            **self._page([work.ref.id for work in works if work.ref.id not in done]),
            "examinations": [one for one in asked if one["registry"] not in refused],
            "registries": [*places, *news["registries"]],
        }

    def _news(
        self,
        region: str,
        agent: str,
        held: Collection[tuple[int, int]],
        known: Mapping[str, str],
    ) -> dict[str, Any]:
        """Return what an agent has to hear in any answer: what is taken back, and what its registries are now."""
        places, refused = self._told.changed(agent, region, known)
        with self._database.read() as connection:
            stop = recalled(connection, agent, region, held)
            stop += lent_to_or_from(connection, agent, region, refused)  # and lent again, it fails
        return {"stop": sorted(set(stop)), "registries": places}

    def _renew(
        self,
        connection: Connection,
        region: str,
        agent: str,
        slots: int,
        host: str,
        held: Collection[tuple[int, int]],
    ) -> None:
        values = {"kind": AGENT, "region": region, "slots": slots, "host": host[:255], "pid": 0}
        statement = upsert(connection, processes).values(
            boot=agent, started_at=now_epoch(), seen_at=now_epoch(), **values
        )
        renewed = connection.execute(
            statement.on_conflict_do_update(
                index_elements=["boot"],
                set_={**values, "seen_at": now_epoch()},
                where=and_(processes.c.kind == AGENT, processes.c.region == region),
            )
        )
        if renewed.rowcount != 1:
            raise Conflict(f"{agent} is another process, and no agent of region {region}")
        _take_over(connection, region)
        lent = connection.execute(select(copies.c.id, copies.c.fence).where(lent_to(agent, region)))
        wanted = set(held)
        unknown = [row.id for row in lent if (row.id, row.fence) not in wanted]
        if unknown:
            connection.execute(
                update(copies)
                .where(lent_to(agent, region), copies.c.id.in_(unknown))
                .values(**again())
            )

    def _page(self, ids: Sequence[int]) -> dict[str, Any]:
        if not ids:
            return {"executions": {}, "copies": [], "digest_tags": [], "regions": [], "links": []}
        with self._database.read() as connection:
            rows = connection.execute(select(copies).where(copies.c.id.in_(ids))).all()
            needed = {row.execution_id for row in rows}
            found = connection.execute(select(executions).where(executions.c.id.in_(needed)))
            runs = {
                row.id: {name: getattr(row, name) for name in EXECUTION_FIELDS} for row in found
            }
            tags = self._digest_tags(
                connection, {(row.execution_id, row.source_repository) for row in rows}
            )
            places = connection.execute(select(regions.c.spec)).scalars()
            ways = connection.execute(select(links.c.spec)).scalars()
            around = {
                "regions": list(map(json.loads, places)),
                "links": list(map(json.loads, ways)),
            }
        return {
            "copies": [
                {"id": row.id, **{name: getattr(row, name) for name in COPY_FIELDS}} for row in rows
            ],
            "executions": runs,
            "digest_tags": tags,
            **around,
        }

    @staticmethod
    def _digest_tags(
        connection: Connection, wanted: Collection[tuple[str, str]]
    ) -> list[dict[str, Any]]:
        """Return what listings told of referrers, of those repositories that are listed to their end."""
        listed = connection.execute(
            select(selections.c.execution_id, selections.c.repository).where(
                tuple_(selections.c.execution_id, selections.c.repository).in_(list(wanted)),
                selections.c.listed.is_(True),
            )
        ).all()
        found = []
        left = MOST_DIGEST_TAGS
        for execution, repository in listed:
            tags = list(
                connection.execute(
                    select(digest_tags.c.tag)
                    .where(
                        digest_tags.c.execution_id == execution,
                        digest_tags.c.repository == repository,
                    )
                    .limit(left + 1)
                ).scalars()
            )
            if len(tags) > left:
                continue
            left -= len(tags)
            found.append({"execution": execution, "repository": repository, "tags": tags})
        return found

    def record(
        self, region: str, agent: str, number: int, batch: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Record a batch of outcomes once, and answer what `lease` does of what has changed.

        The answer's `number` is that of the last batch that was recorded: another one than was told when the
        region's database was put back to an earlier day. `held`, in a batch: what the agent still has besides.
        """

        def work(connection: Connection) -> int:
            statement = upsert(connection, agent_batches).values(
                agent=agent, number=number, recorded_at=now_epoch()
            )
            new = connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["agent"],
                    set_={"number": number, "recorded_at": now_epoch()},
                    where=agent_batches.c.number < number,
                )
            )
            if new.rowcount != 1:
                query = select(agent_batches.c.number).where(agent_batches.c.agent == agent)
                return int(connection.execute(query).scalar_one())
            for outcome in batch["outcomes"]:
                self._record(connection, region, agent, outcome)
            rules = _runs_of(connection, region, batch)
            for execution, moved in batch["executions"].items():
                if execution not in rules:
                    continue  # forgotten meanwhile
                add_requests(connection, execution, moved["requests"])
                for sender, receiver, count in moved["bytes"]:
                    add_crossed(connection, execution, receiver, {sender: count})
            take_answers(connection, agent, batch["examinations"])
            for crossing in batch["crossings"]:
                rule, project = rules.get(str(crossing["after"].get("execution")), ("", ""))
                if rule:
                    append(
                        connection,
                        Change(
                            f"rule {rule}",
                            "cross",
                            "copy",
                            crossing["name"],
                            project,
                            after=crossing["after"],
                        ),
                    )
            return number

        recorded = self._database.write(work)
        if batch.get("held") is None:  # an agent of an earlier release hears it with its next lease
            return {"number": recorded, "stop": [], "registries": []}
        held = [(copy, fence) for copy, fence in batch["held"]]
        return {"number": recorded, **self._news(region, agent, held, batch["registries"] or {})}

    def _record(
        self, connection: Connection, region: str, agent: str, outcome: Mapping[str, Any]
    ) -> None:
        row = connection.execute(
            select(copies).where(
                copies.c.id == outcome["copy"],
                copies.c.fence == outcome["fence"],
                copies.c.owner == agent,
                copies.c.region == region,
                copies.c.state == CopyState.RUNNING,
            )
        ).first()
        if row is None:
            return  # taken back: somebody else does it, or has
        told = outcome.get("attempts") or ()  # a region of an earlier release tells of none
        if outcome["state"] == CopyState.PENDING:
            attempts.take(connection, row.id, told)
            elsewhere = outcome["region"] not in ("", region)
            _give_back(connection, row.id, outcome["region"] if elsewhere else region)
            return
        work = self._state.work_of(connection, row)
        if row.via_registry:
            via = Holder(row.via_registry, row.via_repository, row.via_reference)
            work = replace(work, holder=via)
        counters = Counters(**{name: outcome[name] for name in COUNTED})
        outcomes.apply(
            connection,
            CopyEnded(
                work,
                CopyState(outcome["state"]),
                counters,
                digest=outcome["digest"],
                failure_class=outcome["failure_class"],
                reason=outcome["reason"],
                hint=outcome["hint"],
                platforms=outcome["platforms"],
            ),
        )
        attempts.take(connection, row.id, told)


def _named(work: CopyWork) -> set[str]:
    """Return the registries that a copy names."""
    return {
        work.source_registry,
        work.destination_registry,
        *(holder.registry for holder in work.holders),
    }


def _end_at_once(work: CopyWork, refused: Mapping[str, TransshipError]) -> CopyEnded | None:
    """Return the end of a copy that nobody has to carry out; None for one that is lent."""
    if work.held_by:
        reason = held_reason(work.held_by)
        return CopyEnded(work, CopyState.SKIPPED, Counters(), reason=reason)
    ends = (work.source_registry, work.destination_registry)  # another holder is passed over
    error = next((refused[name] for name in ends if name in refused), None)
    if error is None:
        return None
    return CopyEnded(
        work,
        CopyState.FAILED,
        Counters(),
        failure_class=error.failure_class,
        reason=error.message,
        hint=error.hint,
    )


def _take_over(connection: Connection, region: str) -> None:
    """Have what was sent to the region's own workers, before it had an agent, be eligible again."""
    late = copies.c.updated_at < now_epoch() - SENT_SECONDS
    under_way = exists().where(
        copy_blobs.c.copy_id == copies.c.id,
        copy_blobs.c.fence == copies.c.fence,
        copy_blobs.c.owner != "",
        copy_blobs.c.state == BlobState.PENDING,
    )
    connection.execute(
        update(copies)
        .where(
            copies.c.region == region,
            late,
            or_(
                copies.c.state == CopyState.DISPATCHED,
                and_(copies.c.state == CopyState.COPYING, ~under_way),
            ),
        )
        .values(**again())
    )


def _runs_of(
    connection: Connection, region: str, batch: Mapping[str, Any]
) -> dict[str, tuple[str, str]]:
    """Return rule and project of those executions in a batch that have copies in the region."""
    told = {*batch["executions"], *(str(c["after"].get("execution")) for c in batch["crossings"])}
    rows = connection.execute(
        select(executions.c.id, executions.c.rule, executions.c.project).where(
            executions.c.id.in_(told),
            exists().where(copies.c.execution_id == executions.c.id, copies.c.region == region),
        )
    )
    return {row.id: (row.rule, row.project) for row in rows}


def _give_back(connection: Connection, copy: int, region: str) -> None:
    connection.execute(
        update(copies)
        .where(copies.c.id == copy, copies.c.state == CopyState.RUNNING)
        .values(**again(), region=region)
    )
