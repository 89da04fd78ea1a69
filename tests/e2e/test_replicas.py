"""Replicas of a whole instance at real registries: drift, filling, promotion with the primary dead, return."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.loud import loud_registry, push_real
from tests.support.processes import wait_until
from tests.support.servers import RealRegistry
from tests.support.up import Up, running_up
from tests.support.wire import Wire

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


class Instance:
    """A service, a primary `east` and two replicas, `west` and `south`; each tells of its pushes."""

    def __init__(self, up: Up, registries: dict[str, RealRegistry]) -> None:
        self.up = up
        self.registries = registries

    def rule(self, *destinations: str, **keys: Any) -> None:
        body = {
            "source": "east",
            "mode": "replicate",
            "delete": {"enabled": False},
            "destinations": [{"registry": name} for name in destinations],
            "trigger": {"event": True},
            **keys,
        }
        self.up.ask("PUT", "/rules/instance", body)

    def push(self, registry: str, name: str, mark: str = "") -> str:
        repository, _, tag = name.partition(":")
        return push_real(self.registries[registry].url, repository, tag, mark)

    def digest(self, registry: str, name: str) -> str | None:
        repository, _, tag = name.partition(":")
        with Wire(self.registries[registry].url) as wire:
            answer = wire.get_manifest(repository, tag)
        return answer["docker-content-digest"] if answer.status == 200 else None

    def delete(self, registry: str, name: str) -> None:
        repository = name.partition(":")[0]
        with Wire(self.registries[registry].url) as wire:
            path = f"/v2/{repository}/manifests/{self.digest(registry, name)}"
            assert wire.request("DELETE", path).status == 202

    def has(self, registry: str, **digests: str) -> None:
        """Wait until a registry has these digests under tags of `team/app`."""
        for tag, digest in digests.items():
            wait_until(lambda tag=tag: self.digest(registry, f"team/app:{tag}"), 20, f"{tag} there")
            wait_until(
                lambda tag=tag, digest=digest: self.digest(registry, f"team/app:{tag}") == digest,
                20,
                f"{tag} at {registry}",
            )

    def replica(self, registry: str) -> dict[str, Any]:
        found: dict[str, Any] = self.up.ask("GET", f"/replicas/instance/{registry}")
        return found

    def wait_for(
        self, registry: str, holds: Callable[[dict[str, Any]], bool], what: str
    ) -> dict[str, Any]:
        """Wait until a replica is so, and return it."""
        wait_until(lambda: holds(self.replica(registry)), 30, what)
        return self.replica(registry)

    def caught_up(self, *registries: str) -> None:
        for name in registries:
            self.wait_for(name, lambda one: one["state"] == "caught_up", f"{name} to catch up")

    def drift(self, registry: str) -> dict[str, str]:
        items = self.up.ask("GET", f"/replicas/instance/{registry}/drift")["items"]
        return {f"{one['repository']}:{one['tag']}": one["kind"] for one in items}

    def compare(self) -> None:
        """Have a whole comparison made, and looked at."""
        before = {
            name: self.replica(name)["compared_at"]
            for name in ("west", "south", "east")
            if self.up.client.get(f"/api/v1/replicas/instance/{name}").is_success
        }
        self.up.idle()
        self.up.ask("POST", "/rules/instance/executions")
        self.up.idle()
        for name, seen in before.items():
            if self.replica(name)["state"] != "fenced":
                self.wait_for(
                    name, lambda one, seen=seen: one["compared_at"] != seen, f"{name} compared"
                )


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[Instance]:
    with ExitStack() as stack:
        up = stack.enter_context(running_up(tmp_path / "up"))
        names = ("east", "west", "south")
        yield Instance(up, {name: stack.enter_context(loud_registry(up, name)) for name in names})


def test_drift_is_shown_and_repaired_and_a_new_replica_is_filled(instance: Instance) -> None:
    right = {tag: instance.push("east", f"team/app:{tag}") for tag in ("v1", "v2", "v3")}
    instance.rule("west")
    instance.caught_up("west")
    instance.has("west", **right)
    foreign = instance.push("west", "team/app:v1", mark="somebody else")
    instance.delete("west", "team/app:v2")
    instance.push("west", "private/tool:v1")
    instance.compare()

    assert instance.drift("west") == {"team/app:v1": "moved", "private/tool:None": "added"}
    instance.has("west", v1=foreign, v2=right["v2"])
    assert instance.replica("west")["drift"] == {"moved": 1, "deleted": 0, "added": 1}

    instance.up.ask("POST", "/replicas/instance/west/repair")
    instance.has("west", **right)
    instance.wait_for("west", lambda one: one["drift"]["moved"] == 0, "the repair to be seen")
    assert instance.drift("west") == {"private/tool:None": "added"}

    instance.rule("west", "south")
    instance.caught_up("south")
    instance.has("south", **right)
    late = instance.push("east", "team/app:v4")
    instance.has("south", v4=late)
    instance.has("west", v4=late)


def test_replica_takes_over_from_a_dead_primary_which_comes_back(instance: Instance) -> None:
    first = instance.push("east", "team/app:v1")
    instance.rule("west", "south", drift="repair")
    instance.caught_up("west", "south")
    instance.has("south", v1=first)
    instance.up.idle()
    instance.registries["east"].kill()

    assert instance.up.ask("GET", "/replicas/instance/west/promotion")["missing"] == []
    instance.up.ask("POST", "/replicas/instance/west/promote", {})
    instance.up.running.kill("workers.main")  # before anybody has followed: they are started anew

    assert instance.replica("east")["state"] == "fenced"
    instance.caught_up("south")
    by_the_new = instance.push("west", "team/app:v2")
    instance.has("south", v2=by_the_new)
    instance.registries["east"].start()
    unseen = instance.push("east", "team/app:v1", mark="nobody knew")
    instance.push("east", "late/tool:v1")
    instance.up.ask("POST", "/replicas/instance/east/reverse")
    instance.caught_up("east")
    instance.has("east", v1=unseen, v2=by_the_new)
    assert instance.drift("east") == {"team/app:v1": "moved", "late/tool:None": "added"}
    instance.has("south", v1=first)
    instance.up.ask("POST", "/replicas/instance/east/repair")
    instance.has("east", v1=first)
    instance.wait_for("east", lambda one: one["drift"]["moved"] == 0, "the repair to be seen")

    instance.up.ask("POST", "/replicas/instance/east/promote", {})

    again = instance.push("east", "team/app:v3")
    instance.has("south", v3=again)
    assert instance.digest("west", "team/app:v3") is None
    kinds = [one["action"] for one in instance.up.ask("GET", "/audit?kind=replicas")["items"]]
    assert kinds == ["promote", "repair", "reverse", "promote"]
