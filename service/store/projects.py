"""Projects as saved. The project "default" may do everything until somebody writes it down."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, select, update

from service.errors import Conflict, NotFoundInStore
from service.model.project import DEFAULT_PROJECT, EVERYTHING, Project
from service.store import codec
from service.store.access import deny_open_copies
from service.store.clock import now_epoch
from service.store.database import Database, upsert
from service.store.tables import rules, tokens
from service.store.tables_governance import projects, webhooks
from service.store.tables_migrations import migrations
from service.store.tables_pipelines import pipelines
from service.store.versions import check_created, check_set, check_version, is_unchanged


@dataclass(frozen=True, slots=True)
class StoredProject:
    """One project with its document and version; version 0 is the default nobody has written."""

    project: Project
    document: dict[str, Any]
    version: int
    created_at: float | None
    updated_at: float | None
    set: str | None = None


_UNWRITTEN = StoredProject(EVERYTHING, {"name": DEFAULT_PROJECT}, 0, None, None)


class ProjectStore:
    """The table of projects; the name is the identity."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(
        self,
        project: Project,
        *,
        document: dict[str, Any],
        expected_version: int | None = None,
        set_name: str | None = None,
    ) -> StoredProject:
        """Create or replace a project. Raises Conflict as RuleStore.put does.

        Open copies that it does not allow any more fail in the same transaction: their fence rises,
        so that no commit under way moves a tag afterwards.
        """

        def work(connection: Connection) -> bool:
            row = connection.execute(
                select(projects).where(projects.c.name == project.name).with_for_update()
            ).first()
            check_version("project", project.name, row, expected_version)
            check_set("project", project.name, row, set_name)
            values: dict[str, Any] = {
                "document": codec.dump(document),
                "spec": codec.dump(project),
                "set_name": set_name or (row.set_name if row else None),
            }
            if row is None:
                made = connection.execute(
                    upsert(connection, projects)
                    .values(
                        name=project.name,
                        version=1,
                        created_at=now_epoch(),
                        updated_at=now_epoch(),
                        **values,
                    )
                    .on_conflict_do_nothing()
                )
                check_created("project", project.name, made.rowcount)
            elif is_unchanged(row, values):
                return False
            else:
                connection.execute(
                    update(projects)
                    .where(projects.c.name == project.name)
                    .values(version=row.version + 1, updated_at=now_epoch(), **values)
                )
            deny_open_copies(connection, project)
            return True

        self._database.write(work)
        return self.get(project.name)

    def get(self, name: str) -> StoredProject:
        """Return one project. Raises NotFoundInStore."""
        with self._database.read() as connection:
            row = connection.execute(select(projects).where(projects.c.name == name)).first()
        if row is not None:
            return _stored(row)
        if name == DEFAULT_PROJECT:
            return _UNWRITTEN
        raise NotFoundInStore(f"there is no project named {name}")

    def access(self, name: str) -> Project:
        """Return what a project may do; nothing, when it is gone."""
        try:
            return self.get(name).project
        except NotFoundInStore:
            return Project(name)

    def list(self, after: str | None = None, limit: int = 1000) -> list[StoredProject]:
        """Return projects by name, from the first one after `after`."""
        query = select(projects).order_by(projects.c.name).limit(limit)
        if after is not None:
            query = query.where(projects.c.name > after)
        with self._database.read() as connection:
            return [_stored(row) for row in connection.execute(query)]

    def delete(self, name: str) -> None:
        """Forget a project. Raises NotFoundInStore, and Conflict while something belongs to it."""

        def work(connection: Connection) -> None:
            for row in connection.execute(select(rules.c.name, rules.c.spec)):
                if codec.load_rule(row.spec).project == name and name != DEFAULT_PROJECT:
                    raise Conflict(
                        f"project {name} has the rule {row.name}", hint="delete or move it first"
                    )
            for table, kind in (
                (tokens, "token"),
                (webhooks, "webhook"),
                (migrations, "migration"),
                (pipelines, "pipeline"),
            ):
                query = select(table.c.name).where(table.c.project == name)
                if kind == "token":
                    query = query.where(tokens.c.revoked_at.is_(None))
                found = connection.execute(query.limit(1)).scalar_one_or_none()
                if found is not None and name != DEFAULT_PROJECT:
                    raise Conflict(f"project {name} has the {kind} {found}", hint="delete it first")
            if connection.execute(delete(projects).where(projects.c.name == name)).rowcount < 1:
                raise NotFoundInStore(f"there is no project named {name}")

        self._database.write(work)


def _stored(row: Row[Any]) -> StoredProject:
    return StoredProject(
        project=codec.load(Project, json.loads(row.spec)),
        document=json.loads(row.document),
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
        set=row.set_name,
    )
