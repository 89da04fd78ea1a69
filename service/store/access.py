"""What an execution's project allows, looked up in the transaction that saves its work (P7).

All copies pass through here, however they were selected: by a rule, by an event, from a saved plan.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from service.model.project import EVERYTHING, Project
from service.model.states import ENDED_EXECUTIONS, OPEN_COPIES, CopyState
from service.model.work import Selected
from service.store import codec, outbox
from service.store.clock import now_epoch
from service.store.routes import let_go_on
from service.store.tables import copies, executions
from service.store.tables_governance import projects

ALL_TAGS = "*"
"""A row that stands for a repository that could not be listed."""

HINT = "change the project or the rule"


_PROJECT = (  # built once: it is asked at each page
    select(executions.c.project, projects.c.spec)
    .outerjoin(projects, projects.c.name == executions.c.project)
    .where(executions.c.id == bindparam("execution"))
)


def project_of(connection: Connection, execution: str) -> Project:
    """Return what the project of an execution allows now; one that is gone allows nothing."""
    row = connection.execute(_PROJECT, {"execution": execution}).first()
    if row is None:
        return EVERYTHING
    if row.spec is not None:
        return codec.load(Project, json.loads(row.spec))
    return EVERYTHING if row.project == EVERYTHING.name else Project(row.project)


def readable(connection: Connection, execution: str, repositories: Iterable[str]) -> list[str]:
    """Return those repositories of the execution's source that its project may read."""
    found = list(repositories)
    project = project_of(connection, execution) if found else EVERYTHING
    if project.everything:
        return found
    spec = connection.execute(
        select(executions.c.spec).where(executions.c.id == execution)
    ).scalar_one()
    source = codec.load_rule(spec).source
    return [name for name in found if project.may_read(source, name)]


def judged(project: Project, source: str, item: Selected) -> Selected:
    """Return the item as it is, or as failed where the project does not allow it."""
    if project.everything or item.source_reference == ALL_TAGS:
        return item
    reason = _denied(
        project,
        (source, item.source_repository),
        (item.destination_registry, item.destination_repository),
    )
    if not reason:
        return item
    return replace(item, state=CopyState.FAILED, failure_class="denied", reason=reason, hint=HINT)


def deny_open_copies(connection: Connection, project: Project, *conditions: Any) -> None:
    """Fail the open copies of the project's executions that it does not allow.

    Their fence rises, so that no commit under way moves a tag afterwards.
    """
    if project.everything:
        return
    query = (
        select(
            copies.c.id,
            copies.c.source_registry,
            copies.c.source_repository,
            copies.c.destination_registry,
            copies.c.destination_repository,
        )
        .join(executions, executions.c.id == copies.c.execution_id)
        .where(
            executions.c.project == project.name,
            executions.c.state.not_in(ENDED_EXECUTIONS),
            copies.c.state.in_(OPEN_COPIES),
            *conditions,
        )
        .order_by(copies.c.id)
    )
    for row in connection.execute(query).all():
        reason = _denied(project, (row[1], row[2]), (row[3], row[4]))
        if reason:
            connection.execute(
                update(copies)
                .where(copies.c.id == row.id, copies.c.state.in_(OPEN_COPIES))
                .values(
                    state=CopyState.FAILED,
                    owner="",
                    fence=copies.c.fence + 1,
                    failure_class="denied",
                    reason=reason,
                    hint=HINT,
                    updated_at=now_epoch(),
                )
            )
            outbox.copy_ended(connection, row.id)
            let_go_on(connection, row.id)


def _denied(project: Project, source: tuple[str, str], destination: tuple[str, str]) -> str:
    if not project.may_read(*source):
        return f"project {project.name} may not read {'/'.join(source)}"
    if not project.may_write(*destination):
        return f"project {project.name} may not write {'/'.join(destination)}"
    return ""
