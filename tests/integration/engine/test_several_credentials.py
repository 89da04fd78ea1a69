"""Several credentials of one registry: from the document to a rule, with their secrets, and in a far region."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from api.samples.registry import SampleRegistry
from api.schemas.registry import effective_registry, load_registry
from service.bootstrap import Services
from service.errors import Conflict, InvalidFields
from service.model.endpoint import CredentialSpec, RegistryEndpoint
from service.store.keyring import write_new_key
from tests.integration.engine.lent import FarRegion, far_region_of
from tests.support.effects import effect_rule, run
from tests.support.guard import Guard
from tests.support.world import World, open_world, some_bytes


@pytest.fixture
def guard() -> Guard:
    return Guard({"ann": ("team-a/",), "bob": ("team-b/",), "": ("open/",)})


@pytest.fixture
def guarded(tmp_path: Path, guard: Guard) -> Iterator[World]:
    """A world with a key, whose source is guarded and holds an image of each team."""
    with open_world(tmp_path) as world, SampleRegistry(auth=guard) as source:
        write_new_key(tmp_path / "keys")
        world.settings = replace(world.settings, secret_key_file=str(tmp_path / "keys"))
        world.services = world.open(world.settings)
        world.east = source
        for repository in ("team-a/app", "team-b/app", "open/app"):
            world.push(repository, "v1", [some_bytes(repository, 1000)])
        yield world


def document(world: World) -> dict[str, object]:
    return {
        "name": "east",
        "url": world.east.url,
        "credentials": [
            {"username": "ann", "secret": "ann", "for": "team-a"},
            {"username": "bob", "secret": "bob", "for": "team-b"},
        ],
    }


def save(world: World) -> RegistryEndpoint:
    written = document(world)
    endpoint = load_registry(written).endpoint
    for name in ("ann", "bob"):
        world.services.secrets.put(name, f"{name} word", [endpoint.host])
    world.services.registries.put(endpoint, document=written)
    return endpoint


def test_effect_registries_credentials_for(guarded: World, guard: Guard) -> None:
    save(guarded)
    run(guarded, effect_rule({"repositories": ["team-a/app", "team-b/app", "open/app"]}))

    assert guard.users_of("team-a/app") == {"ann"}
    assert guard.users_of("team-b/app") == {"bob"}
    assert guard.users_of("open/app") == set()
    for repository in ("team-a/app", "team-b/app", "open/app"):
        found = guarded.west.storage.manifest(repository, "v1")
        assert found is not None, repository


def test_a_rule_goes_on_with_the_next_account_when_one_is_out_of_quota(
    guarded: World, guard: Guard
) -> None:
    guard.robots = {"ann": ("team-a/",), "bob": ("team-a/",)}
    written = document(guarded)
    written["credentials"] = [
        {"username": name, "secret": name, "for": "team-a"} for name in ("ann", "bob")
    ]
    endpoint = load_registry(written).endpoint
    for name in ("ann", "bob"):
        guarded.services.secrets.put(name, f"{name} word", [endpoint.host])
    guarded.services.registries.put(endpoint, document=written)
    guard.left, guard.headers = {"ann": 2, "bob": 100}, {"Retry-After": "3600"}

    run(guarded, effect_rule({"repositories": ["team-a/app"]}))

    assert guard.left["ann"] == 0, "used up, and asked no more"
    assert guard.left["bob"] < 100
    assert guarded.west.storage.manifest("team-a/app", "v1") is not None


def test_a_document_of_several_is_read_and_shown_alike(guarded: World) -> None:
    written = document(guarded)
    endpoint = load_registry(written).endpoint
    assert [spec.prefix for spec in endpoint.every_credential] == ["team-a", "team-b"]
    assert effective_registry(endpoint)["credentials"] == written["credentials"]
    save(guarded)
    assert guarded.services.registries.get("east").endpoint == endpoint


@pytest.mark.parametrize(
    ("credentials", "path", "what"),
    [
        ([], "credentials", "1 to 50"),
        ("robot", "credentials", "an object or a list"),
        ([{"username": "a", "password": "b"}], "credentials[0].password", "no place in a list"),
        (
            [{"docker_config": True}, {"username": "a", "password_env": "HOME"}],
            "credentials[1].password_env",
            "secret",
        ),
        ([{"docker_config": True, "for": "Team/"}], "credentials[0].for", "repository"),
        (
            [{"keyless": "azure", "role": "arn:aws:iam::123456789012:role/r"}],
            "credentials[0].role",
            "aws",
        ),
        ({"keyless": "aws", "role": "admin"}, "credentials.role", "ARN"),
        ({"keyless": "aws", "external_id": "x"}, "credentials.external_id", "role"),
    ],
)
def test_what_is_wrong_with_one_of_several_is_told_at_its_place(
    credentials: object, path: str, what: str
) -> None:
    with pytest.raises(InvalidFields) as wrong:
        load_registry({"name": "east", "url": "https://e.example", "credentials": credentials})
    assert [(one.path, what in f"{one.message} {one.hint}") for one in wrong.value.problems] == [
        (path, True)
    ]


def test_a_secret_that_one_of_several_uses_is_not_deleted(guarded: World) -> None:
    save(guarded)
    with pytest.raises(Conflict, match="used by registry east"):
        guarded.services.secrets.delete("bob")


def test_a_far_region_is_told_each_secret_and_presents_each_where_it_belongs(
    guarded: World, guard: Guard
) -> None:
    save(guarded)
    far: FarRegion = far_region_of(guarded)
    with closing(far.services):
        told = far.line.home.lending._told
        places, wrong = told.places(["east"])
        assert wrong == {}
        far.services.borrowing.learn(places)
        reads(far.services)
        assert guard.users_of("team-a/app") == {"ann"}
        assert guard.users_of("team-b/app") == {"bob"}

        guarded.services.secrets.put(
            "bob", "another word", [load_registry(document(guarded)).endpoint.host]
        )
        again, _ = told.places(["east"])
        assert again[0]["version"] != places[0]["version"], "a rotated secret is told again"


def reads(services: Services) -> None:
    client = services.clients.get("east")
    for repository in ("team-a/app", "team-b/app"):
        assert client.head_manifest(repository, "v1"), repository


def test_a_layer_that_two_accounts_need_is_uploaded_by_each_and_mounted_by_none(
    tmp_path: Path,
) -> None:
    guard = Guard({"ann": ("team-a/",), "bob": ("team-b/",)})
    with open_world(tmp_path) as world, SampleRegistry(auth=guard) as guarded:
        world.west = guarded
        specs = [
            CredentialSpec(user, password_file=str(tmp_path / user), prefix=prefix)
            for user, prefix in (("ann", "team-a"), ("bob", "team-b"))
        ]
        for user in ("ann", "bob"):
            (tmp_path / user).write_text(f"{user} word")
        world.services.registries.put(
            RegistryEndpoint(
                "west", guarded.url, credentials=specs[0], more_credentials=(specs[1],)
            ),
            document={},
        )
        layer = some_bytes("shared", 2000)
        world.push("team-a/app", "v1", [layer])
        world.push("team-b/app", "v1", [layer])

        run(world, effect_rule({"repositories": ["team-a/app", "team-b/app"]}))

        assert all(guarded.storage.manifest(f"team-{one}/app", "v1") for one in "ab")
        assert not [line for line in list(guarded.log) if "mount=" in line.path]
        presented = {(user, name.partition("/")[0]) for user, name in guard.seen if user and name}
        assert presented == {("ann", "team-a"), ("bob", "team-b")}
