"""Relay: what we commit at a registry is a hint for the rules that go on from there (issue 6 point 6).

A registry that tells of pushes itself tells of ours, too: as soon as it has sent one notification, it is left
to that. Until then, and where there is no hook, the transaction that ends a copy saves the hint.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Select, func, select

from service.model.events.values import Action
from service.store.clock import now_epoch
from service.store.database import upsert
from service.store.tables import rules
from service.store.tables_events import hooks, registry_events

LOOK_SECONDS = 2.0
"""So old may be what a process knows of rules and hooks; a rule that is younger finds by its own first run
what was committed before."""


@dataclass
class _Known:
    stamp: tuple[Any, ...]
    sources: frozenset[str]
    until: float


_known: WeakKeyDictionary[Any, _Known] = WeakKeyDictionary()


def tell(
    connection: Connection, registry: str, repository: str, reference: str, digest: str
) -> None:
    """Save a hint that a tag was committed, where a rule listens and the registry does not tell."""
    if ":" in reference or registry not in _sources(connection):
        return
    statement = upsert(connection, registry_events).values(
        registry=registry,
        repository=repository,
        reference=reference,
        rule="",
        action=Action.PUSHED.value,
        ours=True,
        digest=digest,
        received_at=now_epoch(),
    )
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["registry", "repository", "reference", "rule"],
            set_={"digest": statement.excluded.digest},
        )
    )


def _sources(connection: Connection) -> frozenset[str]:
    """Return the registries that rules listen to and that do not tell of pushes themselves."""
    known = _known.get(connection.engine)
    now = time.monotonic()
    if known is not None and now < known.until:
        return known.sources
    stamp = tuple(connection.execute(_STAMP).one())
    if known is None or known.stamp != stamp:
        telling = set(connection.execute(_TELLING).scalars())
        specs = map(json.loads, connection.execute(_LISTENING).scalars())
        sources = frozenset(spec["source"] for spec in specs if spec["trigger"]["event"])
        known = _Known(stamp, sources - telling, 0.0)
        _known[connection.engine] = known
    known.until = now + LOOK_SECONDS
    return known.sources


_LISTENING: Select[Any] = select(rules.c.spec).where(
    rules.c.enabled, rules.c.spec.like('%"event":true%')
)
_TELLING: Select[Any] = select(hooks.c.registry).where(hooks.c.received_at.is_not(None))
_STAMP: Select[Any] = select(
    select(func.count()).select_from(rules).scalar_subquery(),
    select(func.sum(rules.c.version)).scalar_subquery(),
    select(func.max(rules.c.updated_at)).scalar_subquery(),
    select(func.count(hooks.c.received_at)).scalar_subquery(),
)
