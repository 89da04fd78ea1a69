"""A replica takes over as primary, and the return of a former primary: one transaction each (issue 6 point 4).

A promotion stops what the rule has under way, gives the rule its new source, and fences the old one: nothing is
read from it any more, and nothing is written to it before it is told to follow. What the old primary had when
the new one took over is remembered, so that what it has got since is seen as drift when it comes back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, Select, and_, delete, exists, literal, or_, select, update

from service.errors import Conflict, NotFoundInStore
from service.model.replica import DELETED, MOVED, OPEN, Missing
from service.model.rule import SyncRule
from service.model.states import ENDED_EXECUTIONS, OPEN_COPIES, CopyState
from service.store import codec, outbox
from service.store.clock import now_epoch
from service.store.database import Database, upsert
from service.store.lag import KINDS, LATELY
from service.store.replicas import COMPLETE, FULL
from service.store.stopping import begin_stop_of_rule
from service.store.tables import copies, executions, rules, written_tags
from service.store.tables_events import registry_events
from service.store.tables_replicas import replica_baseline, replica_drift, replicas
from service.store.versions import check_version

SHOWN = 1000
"""So many missing things are told of one by one."""

LOST = (CopyState.FAILED, CopyState.SUPERSEDED, CopyState.STOPPED)
HINT = "look at them with `transship replicas promotion`, or accept that they are lost"


class TakeoverStore:
    """Who is the primary of a rule, and who was."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def missing(self, rule: SyncRule, registry: str) -> list[Missing]:
        """Return what a replica lacks, or may lack, of its primary as far as SQL knows; SHOWN at most.

        What nobody has told of since the last full execution is not in it.
        """
        with self._database.read() as connection:
            return _missing(connection, rule, registry)

    def promote(
        self,
        before: SyncRule,
        after: SyncRule,
        *,
        document: Mapping[str, Any],
        expected_version: int,
        accept_missing: bool,
    ) -> list[Missing]:
        """Make `after.source` the primary instead of `before.source`; returns what it may lack.

        Raises Conflict when the rule is not at `expected_version`, when the registry does not follow, and
        when it may lack something that nobody accepts to lose; nothing is changed then.
        """
        old, new, name = before.source, after.source, before.name

        def work(connection: Connection) -> list[Missing]:
            row = connection.execute(
                select(rules.c.version).where(rules.c.name == name).with_for_update()
            ).first()
            check_version("rule", name, row, expected_version)
            _check_follows(connection, name, new)
            missing = _missing(connection, before, new)
            if missing and not accept_missing:
                first = ", ".join(f"{one.repository}:{one.tag}" for one in missing[:3])
                raise Conflict(
                    f"{new} may lack {_count(missing)} of what {old} has: {first}", hint=HINT
                )
            begin_stop_of_rule(connection, name, f"{new} was promoted")
            connection.execute(
                update(rules)
                .where(rules.c.name == name)
                .values(
                    document=codec.dump(dict(document)),
                    spec=codec.dump(after),
                    version=rules.c.version + 1,
                    updated_at=now_epoch(),
                )
            )
            _remember(connection, name, old, new)
            _hand_over(connection, name, old, new)
            _change_roles(connection, name, old, new)
            outbox.primary_told(
                connection,
                "replica.promoted",
                rule=name,
                project=after.project,
                registry=new,
                before=old,
            )
            return missing

        return self._database.write(work)

    def follow(self, rule: str, registry: str) -> bool:
        """Have a fenced former primary follow from now on; False when it does already.

        Nothing there is overwritten until somebody asks for a repair. Raises NotFoundInStore, and
        Conflict for a registry that was never the rule's primary.
        """

        def work(connection: Connection) -> bool:
            mine = and_(replicas.c.rule == rule, replicas.c.registry == registry)
            row = connection.execute(select(replicas).where(mine).with_for_update()).first()
            if row is None:
                raise NotFoundInStore(f"{registry} is no replica of rule {rule}")
            if not row.fenced:
                if row.held:
                    return False
                raise Conflict(
                    f"{registry} was not the primary of rule {rule}: it follows already",
                    hint="promote the registry that is to be the primary",
                )
            connection.execute(
                update(replicas)
                .where(mine)
                .values(fenced=False, held=True, joined_at=now_epoch(), caught_up_at=None)
            )
            spec = connection.execute(select(rules.c.spec).where(rules.c.name == rule)).scalar()
            if spec is not None:
                project = codec.load_rule(spec).project
                outbox.primary_told(
                    connection, "replica.following", rule=rule, project=project, registry=registry
                )
            return True

        return self._database.write(work)

    def fenced(self, rule: str) -> frozenset[str]:
        """Return the former primaries of a rule that do not follow yet."""
        query = select(replicas.c.registry).where(replicas.c.rule == rule, replicas.c.fenced)
        with self._database.read() as connection:
            return frozenset(connection.execute(query).scalars())


def _check_follows(connection: Connection, rule: str, registry: str) -> None:
    row = connection.execute(
        select(replicas.c.fenced).where(replicas.c.rule == rule, replicas.c.registry == registry)
    ).first()
    if row is None:
        raise Conflict(
            f"{registry} is no replica of rule {rule} yet", hint="run the rule once, or wait"
        )
    if row.fenced:
        raise Conflict(
            f"{registry} was the primary of rule {rule}, and does not follow yet",
            hint="transship replicas reverse, and let it catch up",
        )


def _count(missing: list[Missing]) -> str:
    return f"{len(missing)} or more" if len(missing) >= SHOWN else str(len(missing))


# ---- what is lost with the primary ---------------------------------------------------------------


def _missing(connection: Connection, rule: SyncRule, registry: str) -> list[Missing]:
    found: dict[tuple[str, str], Missing] = {}
    for one in _lacks(connection, rule, registry):
        found.setdefault((one.repository, one.tag), one)
        if len(found) >= SHOWN:
            break
    return list(found.values())


def _lacks(connection: Connection, rule: SyncRule, registry: str) -> Iterator[Missing]:
    if connection.execute(_has_caught_up(rule.name, registry)).first() is None:
        yield Missing("*", "*", "it has not caught up since it joined")
    for repository, tag, holder in connection.execute(_elsewhere(rule.name, registry)):
        yield Missing(repository, tag, "another replica has it", holder)
    for row in connection.execute(_on_its_way(rule.name, registry)):
        yield Missing(row.destination_repository, row.destination_reference, f"copy {row.state}")
    told = select(registry_events.c.repository, registry_events.c.reference).where(
        registry_events.c.registry == rule.source, registry_events.c.rule.in_(["", rule.name])
    )
    for repository, reference in connection.execute(told.limit(SHOWN)):
        yield Missing(repository, reference, "the primary told of it, and nobody has looked yet")
    planning = select(executions.c.only).where(
        executions.c.rule == rule.name,
        executions.c.kind == "tags",
        executions.c.planned.is_(False),
        executions.c.state.not_in(ENDED_EXECUTIONS),
    )
    for (only,) in connection.execute(planning):
        for repository, reference in json.loads(only):
            yield Missing(repository, reference, "it is being looked at")
    moved = select(replica_drift).where(
        replica_drift.c.rule == rule.name,
        replica_drift.c.registry == registry,
        replica_drift.c.kind.in_([MOVED, DELETED]),
        replica_drift.c.state == OPEN,
    )
    for row in connection.execute(moved.limit(SHOWN)):
        yield Missing(row.repository, row.tag, f"somebody else has {row.kind} it there")


def _has_caught_up(rule: str, registry: str) -> Select[Any]:
    """Return the query for a replica that a whole comparison since it joined has left with everything."""
    failed = exists().where(
        copies.c.execution_id == executions.c.id,
        copies.c.destination_registry == registry,
        copies.c.state.in_(LOST),
    )
    looked = exists().where(
        executions.c.rule == rule,
        FULL,
        executions.c.planned,
        executions.c.state.in_(COMPLETE),
        executions.c.created_at >= replicas.c.joined_at,
        ~failed,
    )
    return select(replicas.c.registry).where(
        replicas.c.rule == rule,
        replicas.c.registry == registry,
        replicas.c.caught_up_at.is_not(None) | looked,
    )


def _elsewhere(rule: str, registry: str) -> Select[Any]:
    """Return the query for what other replicas have, and this one has not, or older."""
    own = written_tags.alias("own")
    equal = exists().where(
        replica_baseline.c.registry == registry,
        replica_baseline.c.repository == written_tags.c.repository,
        replica_baseline.c.tag == written_tags.c.tag,
        replica_baseline.c.digest == written_tags.c.digest,
    )
    return (
        select(written_tags.c.repository, written_tags.c.tag, written_tags.c.registry)
        .outerjoin(
            own,
            and_(
                own.c.registry == registry,
                own.c.repository == written_tags.c.repository,
                own.c.tag == written_tags.c.tag,
            ),
        )
        .join(
            replicas,
            and_(
                replicas.c.rule == rule,
                replicas.c.registry == written_tags.c.registry,
                replicas.c.fenced.is_(False),
            ),
        )
        .where(
            written_tags.c.rule == rule,
            written_tags.c.registry != registry,
            or_(
                and_(own.c.tag.is_(None), ~equal),
                and_(
                    own.c.digest != written_tags.c.digest,
                    own.c.written_at < written_tags.c.written_at,
                ),
            ),
        )
        .limit(SHOWN)
    )


def _on_its_way(rule: str, registry: str) -> Select[Any]:
    """Return the query for copies that have not ended, or failed and were not made up for since."""
    lately = (
        select(executions.c.id)
        .where(executions.c.rule == rule, executions.c.kind.in_(KINDS))
        .order_by(executions.c.created_at.desc())
        .limit(LATELY)
    )
    later = copies.alias("later")
    mended = exists().where(
        later.c.destination_registry == copies.c.destination_registry,
        later.c.destination_repository == copies.c.destination_repository,
        later.c.destination_reference == copies.c.destination_reference,
        later.c.id > copies.c.id,
        later.c.state.in_([CopyState.COPIED, CopyState.UNCHANGED]),
    )
    return (
        select(copies.c.destination_repository, copies.c.destination_reference, copies.c.state)
        .where(
            copies.c.execution_id.in_(lately),
            copies.c.destination_registry == registry,
            copies.c.state.in_([*OPEN_COPIES, *LOST]),
            ~mended,
        )
        .limit(SHOWN)
    )


# ---- taking over ---------------------------------------------------------------------------------


def _remember(connection: Connection, rule: str, old: str, new: str) -> None:
    """Note what the old primary has, as far as the new one has it from there."""
    had = select(
        literal(old).label("registry"),
        written_tags.c.source_repository,
        written_tags.c.source_reference,
        written_tags.c.digest,
    ).where(
        written_tags.c.rule == rule,
        written_tags.c.registry == new,
        written_tags.c.source_registry == old,
    )
    statement = upsert(connection, replica_baseline).from_select(
        ["registry", "repository", "tag", "digest"], had
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["registry", "repository", "tag"],
            set_={"digest": statement.excluded.digest},
        )
    )


def _hand_over(connection: Connection, rule: str, old: str, new: str) -> None:
    """Have the other replicas' tags come from the new primary, where that has them.

    What it lacks stays the old one's, so that no deletion ever takes it (reliability.md P6).
    """
    own = written_tags.alias("own")
    there = exists().where(
        own.c.registry == new,
        own.c.repository == written_tags.c.repository,
        own.c.tag == written_tags.c.tag,
    )
    connection.execute(
        update(written_tags)
        .where(
            written_tags.c.rule == rule,
            written_tags.c.registry != new,
            written_tags.c.source_registry == old,
            there,
        )
        .values(source_registry=new)
    )


def _change_roles(connection: Connection, rule: str, old: str, new: str) -> None:
    for table in (replicas, replica_drift):
        connection.execute(delete(table).where(table.c.rule == rule, table.c.registry == new))
    connection.execute(
        update(replicas)
        .where(replicas.c.rule == rule, replicas.c.fenced.is_(False))
        .values(joined_at=now_epoch(), caught_up_at=None, repair_asked_at=None)
    )
    fence = upsert(connection, replicas).values(
        rule=rule, registry=old, joined_at=now_epoch(), fenced=True
    )
    connection.execute(
        fence.on_conflict_do_update(
            index_elements=["rule", "registry"], set_={"fenced": True, "held": False}
        )
    )
