"""Planning under watch: rules between the world's registries, and a PlanStore that tells or fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from service.errors import StoreUnavailable
from service.model.rule import Destination, NameFilter, Selection, SyncRule
from service.model.states import ExecutionState
from service.replication.plan import Planner
from service.replication.report import report
from tests.support.world import World


class Watched:
    """A port that calls `before` and `after` with a method's name and its number, from 1."""

    def __init__(
        self,
        port: Any,
        *,
        before: Callable[[str, int], None] = lambda _name, _number: None,
        after: Callable[[str, int], None] = lambda _name, _number: None,
    ) -> None:
        self._port = port
        self._before = before
        self._after = after
        self.calls: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)

        def call(*arguments: Any, **named: Any) -> Any:
            self.calls[name] = number = self.calls.get(name, 0) + 1
            self._before(name, number)
            result = found(*arguments, **named)
            self._after(name, number)
            return result

        return call


def failing(method: str, *, times: int, error: Exception | None = None) -> Callable[..., None]:
    """A `before` that raises the first times that a method is called."""

    def before(name: str, number: int) -> None:
        if name == method and number <= times:
            raise error or StoreUnavailable("away")

    return before


def mirror(
    *repositories: str,
    to: str = "mirror/{repository}",
    registry: str = "west",
    tags: tuple[str, ...] = (),
    **changes: Any,
) -> SyncRule:
    """A rule over these patterns."""
    values: dict[str, Any] = {
        "name": "fleet",
        "source": "east",
        "select": (Selection(NameFilter(repositories), NameFilter(tags)),),
        "destinations": (Destination(registry=registry, repository=to),),
    }
    return SyncRule(**{**values, **changes})


def planner_over(world: World, plans: Any, executions: Any = None) -> Planner:
    """The world's planner over another PlanStore."""
    services = world.services
    return Planner(
        services.settings,
        executions or services.executions,
        plans,
        services.registries,
        services.guard,
        services.links,
        services.state,
        services.clients,
        services.meter,
        services.replicas.watches,
    )


def plan(world: World, rule: SyncRule, plans: Any = None) -> str:
    """Create an execution of the rule and plan it once."""
    execution = world.services.executions.create(rule, trigger="test").id
    planner = planner_over(world, plans or world.services.plans)
    assert planner.plan(execution, world.services.boot)
    return execution


def finish(world: World, execution: str) -> ExecutionState:
    """Carry out what is planned and end the execution."""
    world.run_to_end(execution, world.party())
    (ended,) = world.services.dispatching.end_executions()
    assert ended.execution == execution
    return ended.state


def told(world: World, execution: str) -> dict[str, Any]:
    """What `--json` prints."""
    return report(world.services.executions, [execution], 1.0)


def asked(world: World, method: str, ending: str) -> int:
    """How many requests the source got whose path ends so."""
    return sum(
        1
        for line in list(world.east.log)
        if line.method == method and line.path.partition("?")[0].endswith(ending)
    )
