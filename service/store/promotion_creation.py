"""How promotions come to be: with their gates, in the transaction of whoever asks; one at a time of the same digest."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from service.errors import NotFoundInStore
from service.model.pipeline import OPEN, Name, PromotionState, Stage, StepState
from service.store import codec
from service.store.clock import now_epoch
from service.store.creation import new_id
from service.store.promotion_rows import begin_gate, lock, tell
from service.store.tables_pipelines import pipelines, promotion_steps, promotions


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants promoted: this digest, from one name to another, through the gates of a stage."""

    pipeline: str
    project: str
    from_stage: str
    stage: Stage
    source: Name
    digest: str
    destination: Name
    actor: str
    trigger: str
    takes_back: str = ""


def insert_promotion(connection: Connection, asked: Asked) -> tuple[str, bool]:
    """Save a promotion in the caller's transaction; returns its id, and whether it is new. See PromotionStore.ask."""
    table = promotions.c
    there = connection.execute(
        select(pipelines.c.name).where(pipelines.c.name == asked.pipeline).with_for_update()
    ).first()
    if there is None:
        raise NotFoundInStore(
            f"there is no pipeline named {asked.pipeline}", hint="transship pipelines ls"
        )
    standing = connection.execute(
        select(table.id).where(
            table.registry == asked.destination.registry,
            table.repository == asked.destination.repository,
            table.tag == asked.destination.tag,
            table.pipeline == asked.pipeline,
            table.stage == asked.stage.name,
            table.digest == asked.digest,
            table.state.in_(OPEN),
        )
    ).scalar()
    if standing is not None:
        return str(standing), False
    identity = new_id()
    gates = asked.stage.gates
    connection.execute(
        insert(promotions).values(
            id=identity,
            pipeline=asked.pipeline,
            project=asked.project,
            from_stage=asked.from_stage,
            stage=asked.stage.name,
            trigger=asked.trigger,
            source_registry=asked.source.registry,
            source_repository=asked.source.repository,
            source_tag=asked.source.tag,
            digest=asked.digest,
            registry=asked.destination.registry,
            repository=asked.destination.repository,
            tag=asked.destination.tag,
            state=PromotionState.WAITING,
            gates=len(gates),
            asked_by=asked.actor,
            takes_back=asked.takes_back,
            created_at=now_epoch(),
        )
    )
    steps = list(gates)
    if asked.stage.after is not None:
        steps.append(asked.stage.after)
    for position, gate in enumerate(steps):
        connection.execute(
            insert(promotion_steps).values(
                promotion=identity,
                position=position,
                kind=gate.kind,
                spec=codec.dump(gate),
                state=StepState.PENDING,
            )
        )
    tell(connection, identity, asked.actor, "asked", reason=asked.digest)
    if gates:
        begin_gate(connection, lock(connection, identity), 0)
    return identity, True
