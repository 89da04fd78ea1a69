"""Rules, endpoints and rows as store tests want them, and a clock that can be turned back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import Table, select, update

from service.model.endpoint import RegistryEndpoint
from service.model.rule import Destination, NameFilter, Selection, SyncRule, Trigger
from service.model.work import (
    CopyFansOut,
    CopyRef,
    CopyWork,
    Counters,
    PartBlob,
    ProcessReport,
    Selected,
)
from service.store.database import Database
from service.store.dispatching import DispatchStore
from service.store.executions import ExecutionStore
from service.store.planning import PlanStore
from service.store.tables import copies, copy_blobs
from service.store.work import SqlState

T = TypeVar("T")

BOOT = "boot-a"


def a_rule(name: str = "fleet", **changes: Any) -> SyncRule:
    every = changes.pop("every", None)
    values: dict[str, Any] = {
        "source": "east",
        "select": (Selection(NameFilter(("team/**",)), NameFilter(("v*",))),),
        "destinations": (Destination(registry="west", repository="mirror/{repository}"),),
        "trigger": Trigger(every_seconds=every),
    }
    return SyncRule(name=name, **{**values, **changes})


def an_endpoint(name: str = "east", **changes: Any) -> RegistryEndpoint:
    return RegistryEndpoint(**{"name": name, "url": f"https://{name}.example", **changes})


def selected(tag: str, **changes: Any) -> Selected:
    values: dict[str, Any] = {
        "source_repository": "team/app",
        "source_reference": tag,
        "destination_registry": "west",
        "destination_repository": "mirror/team/app",
        "destination_reference": tag,
        "digest": a_digest(tag),
        "region": "local",
        "fresh": True,
        "listed": True,
    }
    return Selected(**{**values, **changes})


def a_digest(text: str) -> str:
    return "sha256:" + text.encode().hex().ljust(64, "0")[:64]


def in_threads(count: int, work: Callable[[int], T]) -> list[T]:
    """Run `work(0..count-1)` at the same time, each on a thread; their results in order."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, range(count)))


class Plot:
    """Brings a database to the point where a test begins."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.executions = ExecutionStore(database)
        self.plans = PlanStore(database)
        self.state = SqlState(database)
        self.dispatching = DispatchStore(database, dead_after_seconds=20.0)

    def execution(self, rule: str = "fleet", **changes: Any) -> str:
        """A running execution whose planning somebody has begun."""
        identity = self.executions.create(a_rule(rule, **changes), trigger="api").id
        assert self.plans.begin(identity, "planner")
        self.plans.add_repositories(identity, ["team/app"], cursor="", done=True)
        return identity

    def page(
        self,
        execution: str,
        items: Sequence[Selected],
        *,
        matched: int | None = None,
        unchanged: int = 0,
        cursor: str = "",
        done: bool = True,
        referrer_tags: Sequence[str] = (),
        requests: dict[str, int] | None = None,
    ) -> None:
        self.plans.add_page(
            execution,
            self.executions.get(execution).rule,
            "east",
            "team/app",
            selected=items,
            matched=len(items) if matched is None else matched,
            left_out={},
            unchanged={"west": unchanged} if unchanged else {},
            referrer_tags=referrer_tags,
            cursor=cursor,
            done=done,
            listed=done,
            referrers=True,
            requests=requests or {},
        )

    def planned(self, *tags: str, rule: str = "fleet", **changes: Any) -> str:
        """An execution that is planned, with a pending copy for each tag."""
        execution = self.execution(rule, **changes)
        self.page(execution, [selected(tag, destination_reference=f"{rule}-{tag}") for tag in tags])
        self.plans.finish(execution)
        return execution

    def dispatched(self, *tags: str, rule: str = "fleet") -> list[CopyRef]:
        """Copies that were sent, in the order of their tags."""
        execution = self.planned(*tags, rule=rule)
        chosen = [c for c in self.dispatching.eligible("local", 1000) if c.execution == execution]
        return self.dispatching.dispatch(chosen)

    def running(self, *tags: str, boot: str = BOOT, rule: str = "fleet") -> list[CopyWork]:
        """Copies that a process owns."""
        return self.state.begin(self.dispatched(*tags, rule=rule), boot)

    def fanned_out(self, *parts: Sequence[str], tag: str = "v1", boot: str = BOOT) -> CopyWork:
        """A copy in the state `copying`, its parts holding blobs of these names."""
        work = self.running(tag, boot=boot)[0]
        blobs = tuple(tuple(PartBlob(a_digest(n), 10, "layer") for n in part) for part in parts)
        ids = tuple(f"task-{number}" for number in range(len(parts)))
        self.state.post([CopyFansOut(work, Counters(), blobs, ids)])
        return work

    def heartbeat(self, boot: str = BOOT, *, kind: str = "worker", slots: int = 4) -> None:
        self.state.heartbeat(ProcessReport(boot, kind, "local", slots, "host", 1))

    def row(self, table: Table, **where: Any) -> Any:
        with self.database.read() as connection:
            return connection.execute(
                select(table).where(*(table.c[k] == v for k, v in where.items()))
            ).one()

    def copy(self, ref: CopyRef) -> Any:
        return self.row(copies, id=ref.id)

    def blob(self, ref: CopyRef, name: str) -> Any:
        return self.row(copy_blobs, copy_id=ref.id, digest=a_digest(name))

    def ago(self, table: Table, column: str, seconds: float) -> None:
        """Turn every instant of a column back."""
        self.database.write(
            lambda connection: connection.execute(
                update(table).values({column: table.c[column] - seconds})
            )
        )

    def set(self, table: Table, **values: Any) -> None:
        self.database.write(lambda connection: connection.execute(update(table).values(values)))
