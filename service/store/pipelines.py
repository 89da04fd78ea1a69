"""Pipelines as saved: their stages, and the sealed secret that signs what they post."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, update

from service.errors import Conflict, NotFoundInStore
from service.model.pipeline import OPEN, Gate, Pipeline
from service.store import codec
from service.store.clock import now_epoch
from service.store.database import Database, insert_of
from service.store.keyring import KeyRing
from service.store.secrets import SecretStore
from service.store.tables_pipelines import pipelines, promotions
from service.store.versions import check_created, check_set, check_version, is_unchanged


@dataclass(frozen=True, slots=True)
class StoredPipeline:
    """One pipeline with its document (without the secret) and version."""

    pipeline: Pipeline
    document: dict[str, Any]
    secret_set: bool
    private: bool
    version: int
    created_at: float
    updated_at: float
    set: str | None = None


Pipelines = list[StoredPipeline]
LISTED = "list them: transship pipelines ls"


class PipelineStore:
    """The table of pipelines; the name is the identity."""

    def __init__(self, database: Database, keyring: KeyRing | None) -> None:
        self._database = database
        self._keyring = keyring

    def put(
        self,
        pipeline: Pipeline,
        *,
        document: dict[str, Any],
        private: bool,
        secret: str | None = None,
        expected_version: int | None = None,
        set_name: str | None = None,
    ) -> StoredPipeline:
        """Create or replace a pipeline. Promotions that are under way go by what it said when they were asked for.

        A stored secret stays while nothing is posted to a new address. `private`: whether its addresses may be
        private ones, since an administrator of the platform wrote them. Raises Conflict.
        """
        sealed = None if secret is None else self._ring().seal(_owner(pipeline.name), secret)
        written = {key: value for key, value in document.items() if key != "secret"}

        def work(connection: Connection) -> bool:
            row = connection.execute(
                select(pipelines).where(pipelines.c.name == pipeline.name).with_for_update()
            ).first()
            check_version("pipeline", pipeline.name, row, expected_version)
            check_set("pipeline", pipeline.name, row, set_name)
            values: dict[str, Any] = {
                "project": pipeline.project,
                "document": codec.dump(written),
                "spec": codec.dump(pipeline),
                "secret": sealed,
                "private": private,
                "listens": pipeline.listens_to,
                "set_name": set_name or (row.set_name if row else None),
            }
            if row is None:
                made = connection.execute(
                    insert_of(connection.dialect.name, pipelines)
                    .values(
                        name=pipeline.name,
                        version=1,
                        created_at=now_epoch(),
                        updated_at=now_epoch(),
                        **values,
                    )
                    .on_conflict_do_nothing()
                )
                check_created("pipeline", pipeline.name, made.rowcount)
                return True
            if sealed is None:
                before = codec.load(Pipeline, json.loads(row.spec))
                values["secret"] = row.secret if pipeline.urls <= before.urls else None
            if is_unchanged(row, values):
                return False
            connection.execute(
                update(pipelines)
                .where(pipelines.c.name == pipeline.name)
                .values(version=row.version + 1, updated_at=now_epoch(), **values)
            )
            return True

        self._database.write(work)
        return self.get(pipeline.name)

    def get(self, name: str) -> StoredPipeline:
        """Return one pipeline. Raises NotFoundInStore."""
        with self._database.read() as connection:
            row = connection.execute(select(pipelines).where(pipelines.c.name == name)).first()
        if row is None:
            raise NotFoundInStore(f"there is no pipeline named {name}", hint=LISTED)
        return as_pipeline(row)

    def list(
        self, *, project: str | None = None, after: str | None = None, limit: int = 1000
    ) -> Pipelines:
        """Return pipelines by name, from the first one after `after`."""
        query = select(pipelines).order_by(pipelines.c.name).limit(limit)
        if project is not None:
            query = query.where(pipelines.c.project == project)
        if after is not None:
            query = query.where(pipelines.c.name > after)
        with self._database.read() as connection:
            return [as_pipeline(row) for row in connection.execute(query)]

    def delete(self, name: str) -> None:
        """Forget a pipeline; what it has promoted stays, and its history. Raises NotFoundInStore, Conflict."""

        def work(connection: Connection) -> None:
            under_way = connection.execute(
                select(func.count()).where(
                    promotions.c.pipeline == name, promotions.c.state.in_(OPEN)
                )
            ).scalar_one()
            if under_way:
                raise Conflict(
                    f"{under_way} promotions of pipeline {name} are under way",
                    hint="cancel them, or wait for them: transship promotions ls",
                )
            if connection.execute(delete(pipelines).where(pipelines.c.name == name)).rowcount < 1:
                raise NotFoundInStore(f"there is no pipeline named {name}", hint=LISTED)

        self._database.write(work)

    def secrets(self, name: str, gate: Gate | None = None) -> tuple[str, ...]:
        """Return the secrets of a pipeline in the clear, for signing and for judging signatures; none when it has none.

        The stored one, else that in the variable which it names. Of a gate that names a secret of its own, that one
        alone; raises InvalidConfiguration when there is none of the name, or it is not bound to the gate's host.
        """
        if gate is not None and gate.secret:
            hosts = [gate.host] if gate.host else []
            return (SecretStore(self._database, self._keyring).reveal(gate.secret, hosts),)
        with self._database.read() as connection:
            row = connection.execute(
                select(pipelines.c.secret, pipelines.c.spec).where(pipelines.c.name == name)
            ).first()
        if row is None:
            return ()
        if row.secret is not None:
            return (self._ring().open(_owner(name), bytes(row.secret)),)
        variable = codec.load(Pipeline, json.loads(row.spec)).secret_env
        found = os.environ.get(variable, "") if variable else ""
        return (found,) if found else ()

    def is_private(self, name: str, url: str) -> bool:
        """Whether an address of it may be a private one: not one that stood there before an administrator wrote it."""
        with self._database.read() as connection:
            row = connection.execute(
                select(pipelines.c.private, pipelines.c.spec).where(pipelines.c.name == name)
            ).first()
        if row is None or not row.private:
            return False
        return url in codec.load(Pipeline, json.loads(row.spec)).urls

    def _ring(self) -> KeyRing:
        return KeyRing([]) if self._keyring is None else self._keyring


def _owner(name: str) -> str:
    return f"pipeline:{name}"


def as_pipeline(row: Row[Any]) -> StoredPipeline:
    """Return the pipeline of a row."""
    return StoredPipeline(
        codec.load(Pipeline, json.loads(row.spec)),
        json.loads(row.document),
        row.secret is not None,
        bool(row.private),
        row.version,
        row.created_at,
        row.updated_at,
        row.set_name,
    )


def naming(connection: Connection, registry: str) -> str | None:
    """Return the name of a pipeline that has a stage at a registry; None when there is none."""
    for row in connection.execute(select(pipelines.c.name, pipelines.c.spec)):
        stages = codec.load(Pipeline, json.loads(row.spec)).stages
        if any(stage.registry == registry for stage in stages):
            return str(row.name)
    return None
