"""Projects, seen at the registries: a rule reads and writes only what its project grants."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.model.project import Grant, Project
from service.model.states import CopyState
from tests.support.world import World, a_rule, some_bytes


def grant(world: World, *, read: tuple[str, ...], write: tuple[str, ...]) -> None:
    project = Project("team-a", (Grant("east", read),), (Grant("west", write),))
    world.services.projects.put(project, document={"name": "team-a"})


def push(world: World, *repositories: str) -> None:
    for repository in repositories:
        world.push(repository, "v1", [some_bytes(repository, 1000)])


def run(world: World, *repositories: str, project: str = "team-a") -> str:
    rule = replace(a_rule(*repositories), project=project)
    execution = world.services.executions.create(rule, trigger="test").id
    assert world.services.planner.plan(execution, world.services.boot)
    world.run_to_end(execution, world.party())
    world.services.dispatching.end_executions()
    return execution


def denied(world: World, execution: str) -> list[tuple[str, str, str]]:
    return [
        (copy.destination_repository, copy.failure_class, copy.reason)
        for copy in world.copies(execution)
        if copy.state is CopyState.FAILED
    ]


def test_effect_projects_write(world: World) -> None:
    push(world, "team-a/app", "team-b/app")
    grant(world, read=("**",), write=("mirror/team-a/**",))

    execution = run(world, "**")

    assert world.tag_at_west("team-a/app", "v1")
    assert world.tag_at_west("team-b/app", "v1") is None
    assert denied(world, execution) == [
        ("mirror/team-b/app", "denied", "project team-a may not write west/mirror/team-b/app")
    ]
    assert not [line for line in world.west.log if "team-b" in line.path and line.method != "HEAD"]
    grant(world, read=("**",), write=("mirror/**",))
    run(world, "**")
    assert world.tag_at_west("team-b/app", "v1")


def test_effect_projects_read(world: World) -> None:
    push(world, "team-a/app", "team-b/app")
    grant(world, read=("team-a/**",), write=("**",))
    world.east.log.clear()

    execution = run(world, "**")

    assert world.tag_at_west("team-a/app", "v1")
    assert world.tag_at_west("team-b/app", "v1") is None
    assert denied(world, execution) == []
    assert not [line for line in world.east.log if "team-b" in line.path]
    grant(world, read=("**",), write=("**",))
    run(world, "**")
    assert world.tag_at_west("team-b/app", "v1")


def test_effect_rules_project(world: World) -> None:
    push(world, "team-a/app")
    grant(world, read=("nothing",), write=("nothing",))

    run(world, "**", project="team-a")
    assert world.tag_at_west("team-a/app", "v1") is None
    run(world, "**", project="default")
    assert world.tag_at_west("team-a/app", "v1")


def test_default_project_may_be_confined(world: World) -> None:
    push(world, "team-a/app")
    project = Project("default", (Grant("east", ("**",)),), (Grant("west", ("other/**",)),))
    world.services.projects.put(project, document={"name": "default"})

    execution = run(world, "**", project="default")

    assert world.tag_at_west("team-a/app", "v1") is None
    assert len(denied(world, execution)) == 1


def test_project_that_is_gone_allows_nothing(world: World) -> None:
    push(world, "team-a/app")

    run(world, "**", project="gone")

    assert world.tag_at_west("team-a/app", "v1") is None


@pytest.mark.parametrize("side", ["read", "write"])
def test_tag_does_not_move_when_the_grant_is_taken_back_meanwhile(world: World, side: str) -> None:
    push(world, "team-a/app")
    grant(world, read=("**",), write=("**",))
    rule = replace(a_rule("**"), project="team-a")
    execution = world.services.executions.create(rule, trigger="test").id
    assert world.services.planner.plan(execution, world.services.boot)
    refs = world.dispatch()
    assert len(refs) == 1

    none = {side: ("nothing",)}
    grant(world, **{"read": ("**",), "write": ("**",), **none})
    world.party().replicate(*refs)

    assert world.tag_at_west("team-a/app", "v1") is None
    assert world.tag_puts("team-a/app", "v1") == 0
    assert [reason for _, reason, _ in denied(world, execution)] == ["denied"]


def test_event_cannot_reach_beyond_the_project(world: World) -> None:
    push(world, "team-b/app")
    grant(world, read=("team-a/**",), write=("**",))
    rule = replace(a_rule("**"), project="team-a")
    execution = world.services.executions.create_tags(rule, [("team-b/app", "v1")]).id
    assert world.services.planner.plan(execution, world.services.boot)
    world.run_to_end(execution, world.party())

    assert world.tag_at_west("team-b/app", "v1") is None
