"""What a document of a rule brings to the destination: for tests that set one key and look there."""

from __future__ import annotations

from typing import Any

from api.schemas.rule import load_rule
from service.model.rule import SyncRule
from service.model.states import ExecutionState
from tests.support.planning import finish, plan
from tests.support.world import World


def effect_rule(*entries: dict[str, object], **keys: object) -> SyncRule:
    """A rule from east to west, from its document."""
    document = {
        "name": "effect",
        "source": "east",
        "select": list(entries),
        "destinations": [{"registry": "west"}],
        **keys,
    }
    return load_rule(document)


def run(world: World, rule: SyncRule, state: ExecutionState = ExecutionState.SUCCEEDED) -> str:
    """Run a rule to this state; return its execution."""
    execution = plan(world, rule)
    assert finish(world, execution) is state, world.copies(execution)
    return execution


def standing(world: World) -> set[str]:
    """All that stands at the destination, as repository:tag."""
    storage = world.west.storage
    return {f"{name}:{tag}" for name in storage.repositories() for tag in storage.tags(name) or {}}


def arrived(world: World, *entries: dict[str, object], **keys: object) -> set[str]:
    """Run a rule with these entries; return all that stands at the destination then."""
    run(world, effect_rule(*entries, **keys))
    return standing(world)


def warnings(world: World, execution: str) -> list[str]:
    """The execution's warnings."""
    return list(world.services.executions.get(execution).warnings)


def requests(world: World, method: str, part: str) -> int:
    """How many requests the source got whose path holds `part`."""
    return sum(1 for line in list(world.east.log) if line.method == method and part in line.path)


def copies_by_tag(world: World, execution: str) -> dict[str, Any]:
    """The copies of an execution by their source reference."""
    return {copy.source_reference: copy for copy in world.copies(execution)}
