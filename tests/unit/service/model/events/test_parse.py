"""Every fixture of every provider, read; and what no fixture shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.errors import InvalidInput
from service.model.events.parsing import PROVIDERS, parse
from service.model.events.values import MAX_EVENTS, Action, Delivery, RegistryEvent

FIXTURES = Path(__file__).parents[4] / "fixtures/events"
D = "sha256:" + "f8bf" * 16
P, X = Action.PUSHED, Action.DELETED

# fixture: (events as (action, repository, tag, digest), how many are ignored)
EXPECTED: dict[str, tuple[list[tuple[Action, str, str | None, str | None]], int]] = {
    "distribution/push": ([(P, "team/src", "v1", D)], 0),
    "distribution/push-by-digest": ([(P, "team/src", None, D)], 0),
    "distribution/mixed": ([(P, "team/src", "v1", D), (P, "team/two", "v2", D)], 3),
    "distribution/delete-tag-2.8": ([(X, "team/src", "v1", None)], 0),
    "distribution/delete-tag-3.1": ([(X, "team/src", "v1", None)], 0),
    "distribution/delete-digest-2.8": ([(X, "team/src", None, D)], 0),
    "distribution/delete-digest-3.1": ([(X, "team/src", None, D)], 0),
    "distribution/ours": ([(P, "team/src", "v1", D)], 0),
    "gitlab/push": ([(P, "group/project/app", "1.4.2", D)], 0),
    "harbor/push": ([(P, "proj/debian", "latest", D)], 0),
    "harbor/delete": ([(X, "proj/debian", "latest", D)], 0),
    "harbor/scan": ([], 1),
    "harbor/push-by-digest": ([(P, "proj/debian", None, D)], 0),
    "harbor/push-1.x": ([(P, "proj/debian", "latest", D)], 0),
    "harbor/push-cloudevents": ([(P, "proj/debian", "latest", D)], 0),
    "tcr/push": ([(P, "shop/api", "2.0", D)], 0),
    "tcr/delete": ([(X, "shop/api", "2.0", D)], 0),
    "dockerhub/push": ([(P, "svendowideit/testhook", "latest", None)], 0),
    "dockerhub/push-float": ([(P, "svendowideit/testhook", "latest", None)], 0),
    "quay/push": ([(P, "mynamespace/repository", "latest", None)], 0),
    "quay/push-old": (
        [
            (P, "mynamespace/repository", "latest", None),
            (P, "mynamespace/repository", "foo", None),
        ],
        0,
    ),
    "quay/vulnerability": ([], 1),
    "ghcr/push": ([(P, "codertocat/hello_docker", "v1", D)], 0),
    "ghcr/push-untagged": ([(P, "codertocat/hello_docker", None, D)], 0),
    "github/push": ([(P, "codertocat/hello_docker", "v1", D)], 0),
    "github/npm": ([], 1),
    "github/ping": ([], 1),
    "ecr/push": ([(P, "my-repository-name", "latest", D)], 0),
    "ecr/delete": ([(X, "my-repository-name", "latest", D)], 0),
    "ecr/scan": ([], 1),
    "ecr/push-sns": ([(P, "my-repository-name", "latest", D)], 0),
    "ecr/subscription-confirmation": ([], 1),
    "ecr/subscription-confirmation-forged": ([], 1),
    "acr/push": ([(P, "hello-world", "v1", D)], 0),
    "acr/delete": ([(X, "hello-world", None, D)], 0),
    "acr/ping": ([], 1),
    "acr/push-chart": ([(P, "charts/wordpress", "5.4.0", D)], 0),
    "acr/push-eventgrid": ([(P, "hello-world", "v1", D)], 0),
    "acr/handshake-eventgrid": ([], 1),
    "gar/push": ([(P, "my-project/my-repo/hello-world", "1.1", D)], 0),
    "gar/push-digest-only": ([(P, "my-project/my-repo/hello-world", None, D)], 0),
    "gar/delete": ([(X, "my-project/my-repo/hello-world", "1.1", None)], 0),
    "gar/other-topic": ([], 1),
    "aliyun-acr/push": ([(P, "namespace/repotest", "latest", D)], 0),
    "jfrog/push": ([(P, "docker-local/library/ubuntu", "latest", D)], 0),
    "jfrog/delete": ([(X, "docker-local/library/ubuntu", "latest", D)], 0),
    "jfrog/promote": ([(P, "docker-local/library/ubuntu", "latest", D)], 0),
    "jfrog/push-inner": ([(P, "docker-local/library/ubuntu", "latest", D)], 0),
    "jfrog/artifact": ([], 1),
    "artifacthub/push": ([(P, "repo1/sample-package", "1.0.0_build.5", None)], 0),
    "artifacthub/falco": ([], 1),
    "artifacthub/security-alert": ([], 1),
    "zot/push": ([(P, "team/app", "v1", D)], 0),
    "zot/push-by-digest": ([(P, "team/app", None, D)], 0),
    "zot/delete": ([(X, "team/app", "v1", D)], 0),
    "zot/created": ([], 1),
}
WITHOUT_KEY = {"quay", "jfrog"}  # their payloads say nothing that a key could be made of
HEADERS = {
    "ghcr": {"x-github-event": "registry_package", "x-github-delivery": "72d3162e"},
    "github": {"x-github-event": "package", "x-github-delivery": "72d3162f"},
}


def read(name: str, host: str = "") -> Delivery:
    provider = name.split("/", maxsplit=1)[0]
    return parse(
        provider, HEADERS.get(provider, {}), (FIXTURES / f"{name}.json").read_bytes(), host
    )


def test_every_fixture_has_an_expectation_and_every_provider_a_push() -> None:
    files = {str(p.relative_to(FIXTURES).with_suffix("")) for p in FIXTURES.rglob("*.json")}

    assert files == set(EXPECTED)
    assert {provider for provider in PROVIDERS if f"{provider}/push" in files} == set(PROVIDERS)


@pytest.mark.parametrize("name", EXPECTED)
def test_fixture_is_read_as_what_it_says(name: str) -> None:
    found = read(name)

    events, ignored = EXPECTED[name]
    assert [(e.action, e.repository, e.tag, e.digest) for e in found.events] == events
    assert found.ignored == ignored
    assert all(
        bool(e.key) == (name.split("/", maxsplit=1)[0] not in WITHOUT_KEY) for e in found.events
    )


def test_event_in_headers_is_the_structured_one() -> None:
    document = json.loads((FIXTURES / "zot/push.json").read_bytes())
    headers = {f"ce-{name}": document[name] for name in ("specversion", "id", "type", "source")}

    found = parse("zot", headers, json.dumps(document["data"]).encode())

    assert found == read("zot/push")
    assert parse("zot", {}, json.dumps(document["data"]).encode()).ignored == 1


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    "body",
    [b"{}", b"[]", b"null", b"1", b'"x"', b"[[]]", b'{"events":{}}', b'{"events":[1,null,{}]}'],
)
def test_another_shape_is_ignored_and_counted(provider: str, body: bytes) -> None:
    found = parse(provider, {}, body)

    assert found.events == ()
    assert found.ignored >= 1


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"a":1,"a":2}', b"[" * 33 + b"]" * 33, b'{"a":NaN}', b"\xff", b"{}x"]
)
def test_what_is_no_strict_json_is_refused(provider: str, body: bytes) -> None:
    with pytest.raises(InvalidInput, match="not strict JSON"):
        parse(provider, {}, body)


@pytest.mark.parametrize(
    ("repository", "tag"), [("UP", "v1"), ("a/../b", "v1"), ("a", "-x"), ("a", "x/y"), ("", "v1")]
)
def test_names_that_cannot_be_are_ignored(repository: str, tag: str) -> None:
    target = {"repository": repository, "tag": tag, "digest": D, "mediaType": "x"}
    body = json.dumps({"events": [{"id": "1", "action": "push", "target": target}]}).encode()

    assert parse("distribution", {}, body) == Delivery((), 1)


def test_ten_thousand_events_are_kept_and_the_rest_is_counted() -> None:
    event = {"id": "1", "action": "push"}
    many = [{**event, "target": {"repository": "a", "tag": f"t{n}"}} for n in range(MAX_EVENTS + 7)]

    found = parse("distribution", {}, json.dumps({"events": many}).encode())

    assert (len(found.events), found.ignored) == (MAX_EVENTS, 7)


def test_our_own_pushes_are_marked() -> None:
    assert [event.ours for event in read("distribution/ours").events] == [True]
    assert [event.ours for event in read("distribution/push").events] == [False]


def test_keys_tell_events_apart_and_repeat_with_the_event() -> None:
    keys = [event.key for event in read("distribution/mixed").events]

    assert len(set(keys)) == 2
    assert keys == [event.key for event in read("distribution/mixed").events]
    assert read("ecr/push").events[0].key == read("ecr/push-sns").events[0].key


@pytest.mark.parametrize(
    ("name", "own", "other"),
    [
        ("ecr/push", "123456789012.dkr.ecr.us-west-2.amazonaws.com", None),
        ("ecr/push", None, "123456789012.dkr.ecr.eu-west-1.amazonaws.com"),
        ("ecr/push-sns", None, "999999999999.dkr.ecr.us-west-2.amazonaws.com"),
        ("acr/push", "myregistry.azurecr.io", "other.azurecr.io"),
        ("acr/push-eventgrid", "myregistry.azurecr.io", "other.azurecr.io"),
        ("gar/push", "us-east1-docker.pkg.dev", "europe-docker.pkg.dev"),
        ("ghcr/push", "ghcr.io", "containers.ghcr.io"),
    ],
)
def test_event_of_another_registry_is_ignored(
    name: str, own: str | None, other: str | None
) -> None:
    if own:
        assert len(read(name, own).events) == 1
    if other:
        assert read(name, other) == Delivery((), 1)


def test_handshake_of_event_grid_is_answered_with_its_code() -> None:
    assert read("acr/handshake-eventgrid").reply == {
        "validationResponse": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"
    }


def test_sns_subscription_is_told_and_a_foreign_address_never_named() -> None:
    assert (
        "https://sns.us-west-2.amazonaws.com/?Action"
        in read("ecr/subscription-confirmation").notice
    )
    forged = read("ecr/subscription-confirmation-forged").notice
    assert "attacker" not in forged
    assert "leave it" in forged


def test_artifactory_names_by_subdomain_or_by_path() -> None:
    assert read("jfrog/push", "docker-local.acme.example").events[0].repository == "library/ubuntu"
    assert read("jfrog/push", "acme.example").events[0].repository == "docker-local/library/ubuntu"


def test_docker_hub_short_names_are_official_images() -> None:
    body = json.dumps({"push_data": {"tag": "3"}, "repository": {"repo_name": "alpine"}}).encode()

    assert parse("dockerhub", {}, body).events == (RegistryEvent(P, "library/alpine", "3"),)
