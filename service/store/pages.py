"""One page of what a selection found: its copies and how far the listing is, in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from service.errors import Cancelled
from service.model.project import EVERYTHING
from service.model.states import CopyState, ExecutionState
from service.model.work import Selected
from service.store import outbox
from service.store.access import judged, project_of
from service.store.clock import now_epoch
from service.store.database import Database, insert_of, upsert
from service.store.deletion_values import mark_seen
from service.store.precedence import has_rivals, take_turn
from service.store.routes import let_go_on
from service.store.tables import (
    FAR,
    HELD,
    copies,
    digest_tags,
    execution_unchanged,
    executions,
    selections,
)
from service.store.tables_content import execution_left_out
from service.store.tallies import add_requests


class PageStore:
    """Writes pages; a part of PlanStore."""

    _database: Database

    def add_page(
        self,
        execution: str,
        rule: str,
        source: str,
        repository: str,
        *,
        selected: Sequence[Selected],
        matched: int,
        left_out: Mapping[str, int],
        unchanged: Mapping[str, int],
        referrer_tags: Iterable[str],
        cursor: str,
        done: bool,
        listed: bool,
        referrers: bool,
        requests: dict[str, int],
        seen: Iterable[tuple[str, str, str]] = (),
    ) -> None:
        """Save one page: copies for what differs, a count for what does not, and the cursor.

        `unchanged` counts by destination registry, `left_out` by what it is. `seen` are names at
        destinations whose source is there: what lacks the execution's mark in the end may be deleted. `listed` says that no page to come holds a
        referrer or cosign tag: from then on nobody has to probe for them.
        Raises Cancelled, and saves nothing, when the execution was stopped meanwhile: its copies
        would be open for good.
        """
        tags = list(referrer_tags)

        def work(connection: Connection) -> None:
            running = connection.execute(_RUNNING, {"execution": execution}).first()
            if running is None:
                raise Cancelled
            planned_only = running.kind == "plan"
            rivals = not planned_only and has_rivals(connection, execution, rule)
            project = project_of(connection, execution) if selected else EVERYTHING
            items = [judged(project, source, one) for one in selected]
            open_names = {_name_of(item) for item in items if not item.state.ended}
            made = _insert_copies(
                connection,
                [
                    {
                        "execution_id": execution,
                        "rule": rule,
                        "priority": running.priority,
                        "region": item.region,
                        "source_registry": source,
                        "source_repository": item.source_repository,
                        "source_reference": item.source_reference,
                        "destination_registry": item.destination_registry,
                        "destination_repository": item.destination_repository,
                        "destination_reference": item.destination_reference,
                        "digest": item.digest,
                        "entry": item.entry,
                        "found": item.found,
                        "state": item.state,
                        "not_before": FAR
                        if planned_only
                        else HELD
                        if item.via in open_names
                        else 0,
                        "via_registry": item.via[0],
                        "via_repository": item.via[1],
                        "via_reference": item.via[2],
                        "fresh": item.fresh,
                        "listed": item.listed,
                        "referrers": referrers,
                        "failure_class": item.failure_class,
                        "reason": item.reason,
                        "hint": item.hint,
                    }
                    for item in items
                ],
            )
            for copy, state in made:
                if state.ended and not planned_only:
                    outbox.copy_ended(connection, copy)
                    let_go_on(connection, copy)
                elif rivals and not state.ended:
                    take_turn(connection, copy, asked_now=running.kind == "tags")
            if tags:
                connection.execute(
                    _adding_digest_tags(connection.dialect.name),
                    [
                        {"execution_id": execution, "repository": repository, "tag": tag}
                        for tag in tags
                    ],
                )
            connection.execute(
                _MOVE_LISTED if listed else _MOVE,
                {
                    "of_execution": execution,
                    "of_repository": repository,
                    "to": cursor,
                    "to_its_end": done,
                    "more": matched,
                },
            )
            rows = [
                {"execution_id": execution, "registry": registry, "unchanged": count}
                for registry, count in sorted(unchanged.items())
            ]
            if rows:
                connection.execute(_adding_unchanged(connection.dialect.name), rows)
            for kind, count in sorted(left_out.items()):
                added = upsert(connection, execution_left_out).values(
                    execution_id=execution, kind=kind, left_out=count
                )
                connection.execute(
                    added.on_conflict_do_update(
                        index_elements=["execution_id", "kind"],
                        set_={"left_out": execution_left_out.c.left_out + added.excluded.left_out},
                    )
                )
            mark_seen(connection, execution, seen)
            add_requests(connection, execution, requests)

        self._database.write(work)


def _name_of(item: Selected) -> tuple[str, str, str]:
    return (item.destination_registry, item.destination_repository, item.destination_reference)


def _insert_copies(
    connection: Connection, rows: Sequence[Mapping[str, object]]
) -> list[tuple[int, CopyState]]:
    """Insert the copies that are not there yet; return their ids in order, and states."""
    if not rows:
        return []
    made = connection.execute(_inserting_copies(connection.dialect.name), rows)
    return sorted((row.id, CopyState(row.state)) for row in made)


# Built once: building a page's statements took longer than carrying them out.

_RUNNING = (
    select(executions.c.kind, executions.c.priority)
    .where(executions.c.id == bindparam("execution"), executions.c.state == ExecutionState.RUNNING)
    .with_for_update(read=True)
)
_MOVE = (
    update(selections)
    .where(
        selections.c.execution_id == bindparam("of_execution"),
        selections.c.repository == bindparam("of_repository"),
    )
    .values(
        cursor=bindparam("to"),
        done=bindparam("to_its_end"),
        matched=selections.c.matched + bindparam("more"),
    )
)
_MOVE_LISTED = _MOVE.values(listed=True)


@cache
def _adding_digest_tags(dialect: str) -> Any:
    return insert_of(dialect, digest_tags).on_conflict_do_nothing()


@cache
def _adding_unchanged(dialect: str) -> Any:
    adding = insert_of(dialect, execution_unchanged)
    return adding.on_conflict_do_update(
        index_elements=["execution_id", "registry"],
        set_={"unchanged": execution_unchanged.c.unchanged + adding.excluded.unchanged},
    )


@cache
def _inserting_copies(dialect: str) -> Any:
    return (
        insert_of(dialect, copies)
        .values(updated_at=now_epoch())
        .on_conflict_do_nothing()
        .returning(copies.c.id, copies.c.state)
    )
