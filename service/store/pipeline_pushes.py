"""Pushes that a pipeline promotes without anybody asking: noted by the transaction that takes the registry's hint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from service.model.events.values import Action
from service.model.pipeline import Pipeline
from service.model.reference import is_digest_tag
from service.store import codec
from service.store.clock import now_epoch
from service.store.database import upsert
from service.store.tables_pipelines import pipeline_pushes, pipelines


def note_pushes(connection: Connection, hints: Sequence[Row[Any]]) -> None:
    """Note the tags that enter a pipeline whose second stage is automatic; one that waits already keeps its time."""
    pushed = [
        hint
        for hint in hints
        if hint.action == Action.PUSHED
        and hint.rule == ""
        and ":" not in hint.reference
        and not is_digest_tag(hint.reference)
    ]
    registries = {hint.registry for hint in pushed}
    if not registries:
        return
    query = select(pipelines.c.name, pipelines.c.listens, pipelines.c.spec).where(
        pipelines.c.listens.in_(registries)
    )
    for row in connection.execute(query).all():
        pipeline = codec.load(Pipeline, json.loads(row.spec))
        for hint in pushed:
            if hint.registry == row.listens and pipeline.enters(hint.repository, hint.reference):
                connection.execute(
                    upsert(connection, pipeline_pushes)
                    .values(
                        pipeline=row.name,
                        repository=hint.repository,
                        tag=hint.reference,
                        received_at=now_epoch(),
                    )
                    .on_conflict_do_nothing()
                )
