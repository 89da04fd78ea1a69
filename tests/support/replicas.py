"""Replicas as they stand in the store, without a registry behind them."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import update

from service.bootstrap import Services
from service.model.replica import MOVED, Drift
from service.model.rule import Destination, Selection, SyncRule
from service.store.creation import new_id
from service.store.tables_replicas import replicas

RULE = SyncRule(
    "instance", "east", (Selection(),), (Destination(registry="west"),), mode="replicate"
)


def standing_replica(
    services: Services, *, project: str = "default", fenced: bool = False, drift: str = ""
) -> str:
    """Have west follow east by the rule instance; `drift`: repository:tag that was moved there.

    Returns the path behind /api/v1/replicas.
    """
    document = {
        "name": RULE.name,
        "source": RULE.source,
        "mode": RULE.mode,
        "delete": {"enabled": False},
        "destinations": [{"registry": "west"}],
        "project": project,
    }
    services.rules.put(replace(RULE, project=project), document=document)
    services.replicas.store.meet(RULE.name, ["west"])
    services.database.write(
        lambda connection: connection.execute(update(replicas).values(fenced=fenced))
    )
    if drift:
        repository, _, tag = drift.partition(":")
        digest = f"sha256:{'0' * 64}"
        seen = Drift(RULE.name, "west", repository, tag, MOVED, digest, digest)
        services.replicas.drift.note(RULE.name, new_id(), [seen], {})
    return f"{RULE.name}/west"
