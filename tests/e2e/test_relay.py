"""Chained rules at real registries: one traceable flow, no ping-pong, credentials of one side only."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.loud import loud_registry, push_real
from tests.support.processes import wait_until
from tests.support.proxy import Proxy
from tests.support.servers import RealRegistry
from tests.support.up import Up, running_up
from tests.support.wire import Wire

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running_up(tmp_path_factory.mktemp("relay")) as running:
        yield running


def at(registry: RealRegistry, repository: str, tag: str) -> str | None:
    """The digest under a tag."""
    with Wire(registry.url) as wire:
        answer = wire.get_manifest(repository, tag)
    return answer["docker-content-digest"] if answer.status == 200 else None


def chain(up: Up, prefix: str, *names: str) -> None:
    """A rule by event from each registry to the next one."""
    for number, (source, destination) in enumerate(pairwise(names)):
        up.rule(
            f"{prefix}{number}",
            source,
            destination,
            select=[{"repositories": [f"{prefix}/**"]}],
            trigger={"event": True},
        )


def flow_of(up: Up, rule: str) -> dict[str, Any]:
    """The flow that the newest execution of a rule is part of."""
    newest = up.executions(rule=rule)[0]["id"]
    (flow,) = up.ask("GET", f"/flows/{newest}")["items"]
    assert set(up.ask("GET", f"/executions/{newest}")["flows"]) <= {flow["id"]}
    found: dict[str, Any] = flow
    return found


def test_push_goes_down_a_chain_as_one_flow_though_only_the_first_registry_tells(up: Up) -> None:
    """The two behind it have no notifications: what we commit there starts the next rule by itself."""
    with (
        loud_registry(up, "a") as first,
        RealRegistry() as second,
        RealRegistry() as third,
    ):
        up.registry("b", second.url)
        up.registry("c", third.url)
        chain(up, "quiet", "a", "b", "c")

        digest = push_real(first.url, "quiet/app", "v1")

        wait_until(lambda: at(third, "quiet/app", "v1") == digest, 30, "the tag at the end")
        up.idle()
        flow = flow_of(up, "quiet1")
    assert [(hop["rule"], hop["source"], hop["destinations"]) for hop in flow["hops"]] == [
        ("quiet0", "a", ["b"]),
        ("quiet1", "b", ["c"]),
    ]
    first_hop, second_hop = flow["hops"]
    assert (first_hop["causes"], second_hop["causes"]) == ([], [flow["id"]])
    assert 0 < first_hop["seconds"] < second_hop["seconds"] == flow["seconds"]
    assert len(up.executions(rule="quiet1")) == 1


def test_registry_that_tells_of_our_pushes_starts_the_next_rule_once(up: Up) -> None:
    """And neither that rule nor one back plays ping-pong, whichever side something is pushed to."""
    with ExitStack() as stack:
        names = ("d", "e", "f")
        registries = [stack.enter_context(loud_registry(up, name)) for name in names]
        chain(up, "loud", *names)
        chain(up, "back", "e", "d")
        push_real(registries[1].url, "back/warm", "up")
        wait_until(lambda: at(registries[0], "back/warm", "up"), 30, "the first word of e")
        up.rule(
            "loud-back", "e", "d", select=[{"repositories": ["loud/**"]}], trigger={"event": True}
        )

        digest = push_real(registries[0].url, "loud/app", "v1")

        wait_until(lambda: at(registries[2], "loud/app", "v1") == digest, 30, "the tag at the end")
        other = push_real(registries[1].url, "loud/app", "v2")
        wait_until(lambda: at(registries[0], "loud/app", "v2") == other, 30, "the tag at d")
        wait_until(lambda: at(registries[2], "loud/app", "v2") == other, 30, "the tag at f")
        up.idle()
        flow = flow_of(up, "loud0")
    runs = {rule: len(up.executions(rule=rule)) for rule in ("loud0", "loud1", "loud-back")}
    assert runs == {"loud0": 1, "loud1": 2, "loud-back": 1}
    assert [hop["rule"] for hop in flow["hops"]] == ["loud0", "loud1"]


ACCOUNTS = {  # test vectors of bcrypt's authors
    "seller": ("U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
    "buyer": ("U*U*", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK"),
}


def test_one_rule_copies_between_two_accounts_and_shows_neither_side_the_other_s_credentials(
    up: Up, tmp_path: Path
) -> None:
    """Whatever either registry is sent comes through a proxy that keeps it."""
    with ExitStack() as stack:
        proxies, registries = {}, {}
        for owner, (password, hashed) in ACCOUNTS.items():
            users = tmp_path / owner
            users.write_text(f"{owner}:{hashed}\n")
            auth = {"htpasswd": {"realm": owner, "path": str(users)}}
            registries[owner] = stack.enter_context(RealRegistry(configuration={"auth": auth}))
            proxies[owner] = stack.enter_context(Proxy())
            credentials = {"username": owner, "password": password}
            up.registry(
                owner,
                registries[owner].url,
                credentials=credentials,
                proxy=proxies[owner].url,
            )
        digest = push_real(registries["seller"].url, "sold/app", "v1", basic=("seller", "U*U"))
        up.rule("sale", "seller", "buyer", select=[{"repositories": ["sold/**"]}])

        run = up.ask("POST", "/rules/sale/executions")["id"]
        up.idle()

        assert up.ask("GET", f"/executions/{run}")["state"] == "succeeded"
        with Wire(registries["buyer"].url, basic=("buyer", "U*U*")) as wire:
            assert wire.get_manifest("sold/app", "v1")["docker-content-digest"] == digest
    for owner, (password, _) in ACCOUNTS.items():
        own = "Basic " + b64encode(f"{owner}:{password}".encode()).decode()
        sent = {
            line.partition(": ")[2]
            for head in proxies[owner].heads
            for line in head.split("\r\n")
            if line.lower().startswith("authorization: ")
        }
        assert sent == {own}
