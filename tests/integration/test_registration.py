"""`transship registries webhook`: a provider is told to send its events, and what it sends then is taken."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.model.endpoint import Credential
from tests.contract import ecr
from tests.contract.harbor import FakeHarbor
from tests.integration.registry.support import client, push
from tests.support.api_process import ApiProcess
from tests.support.transship import clean_environment, transship

USER, PASSWORD = "robot$mover", "harbor-s3cret"
PUSHED = Path(__file__).parents[1] / "fixtures/events/harbor/push.json"
REGISTRATION = "/api/v1/registries/harbor/hook/registration"
PUBLIC = "https://transship.example"


@pytest.fixture
def harbor() -> Iterator[FakeHarbor]:
    with FakeHarbor({USER: PASSWORD}, frozenset({USER})) as fake:
        fake.project("team", "other", "third")
        yield fake


@pytest.fixture
def server(tmp_path: Path, harbor: FakeHarbor) -> Iterator[ApiProcess]:
    made = ApiProcess(
        tmp_path,
        environment={"TRANSSHIP_SECRET_HARBOR": PASSWORD, "TRANSSHIP_SECRET_ECR": ecr.SECRET},
    )
    with made.process:
        made.process.wait_ready(made.ready)
        registry = {
            "url": harbor.url,
            "provider": "harbor",
            "credentials": {"username": USER, "password_env": "TRANSSHIP_SECRET_HARBOR"},
        }
        assert made.ask("PUT", "/api/v1/registries/harbor", registry)[0] == 201
        assert made.ask("PUT", "/api/v1/registries/west", {"url": "https://west.example"})[0] == 201
        yield made


def rule(server: ApiProcess, name: str, *repositories: str, event: bool = True) -> None:
    body = {
        "source": "harbor",
        "select": [{"repositories": list(repositories)}],
        "destinations": [{"registry": "west"}],
        "trigger": {"event": True, "every": "1h"} if event else {"every": "1h"},
    }
    assert server.ask("PUT", f"/api/v1/rules/{name}", body)[0] == 201


def results(found: dict[str, Any]) -> dict[str, str]:
    return {one["place"]: one["result"] for one in found["places"]}


def command(server: ApiProcess, *words: str) -> tuple[int, dict[str, Any]]:
    environment = {
        **clean_environment(),
        "TRANSSHIP_URL": f"http://127.0.0.1:{server.port}",
        "TRANSSHIP_TOKEN": server.token,
    }
    done = transship("registries", "webhook", *words, "--json", environment=environment)
    return done.returncode, json.loads(done.stdout)


def test_listening_rules_projects_get_a_webhook_whose_events_are_taken(
    server: ApiProcess, harbor: FakeHarbor
) -> None:
    owner = client(
        harbor.url, credential=Credential(USER, PASSWORD), endpoint={"provider": "harbor"}
    )
    push(owner, "other/app", "v1", b"one")
    rule(server, "named", "team/app", "team/lib")
    rule(server, "pattern", "oth*/**")
    rule(server, "scheduled", "third/app", event=False)

    code, first = command(server, "harbor", "--url", f"{PUBLIC}/")
    _, second = command(server, "harbor", "--url", PUBLIC)

    assert (code, results(first)) == (0, {"team": "changed", "other": "changed"})
    assert results(second) == {"team": "unchanged", "other": "unchanged"}
    assert {where for where, _ in harbor.hooks.values()} == {"team", "other"}
    (target,) = next(iter(harbor.hooks.values()))[1]["targets"]
    assert target["address"] == f"{PUBLIC}/hooks/harbor/harbor"
    connection = server.connect()
    header = {"Authorization": target["auth_header"]}
    connection.request("POST", "/hooks/harbor/harbor", body=PUSHED.read_bytes(), headers=header)
    assert connection.getresponse().status == 202
    connection.close()

    code, gone = command(server, "harbor", "--url", PUBLIC, "--remove", "--rule", "named")

    assert (code, results(gone)) == (0, {"team": "removed"})
    assert {where for where, _ in harbor.hooks.values()} == {"other"}


def test_new_secret_reaches_the_provider(server: ApiProcess, harbor: FakeHarbor) -> None:
    body = {"url": PUBLIC, "repositories": ["team/app"]}
    server.ask("POST", REGISTRATION, body)
    _, rotated = server.ask("POST", "/api/v1/registries/harbor/hook/rotation", {})

    _, found = server.ask("POST", REGISTRATION, body)

    assert results(found) == {"team": "changed"}
    assert rotated["secret"] in str(harbor.hooks)
    assert "secret" not in json.dumps(found).replace("without the secret", "")


def test_place_that_fails_does_not_stop_the_others(server: ApiProcess, harbor: FakeHarbor) -> None:
    words = ("--repository", "none/app", "--repository", "team/app")

    code, found = command(server, "harbor", "--url", PUBLIC, *words)

    assert (code, results(found)) == (1, {"none": "failed", "team": "changed"})
    assert "none not found" in found["places"][0]["reason"]
    assert [where for where, _ in harbor.hooks.values()] == ["team"]


def test_role_by_which_aws_sends_reaches_it(server: ApiProcess) -> None:
    role = f"arn:aws:iam::{ecr.ACCOUNT}:role/teller"
    words = ("ecr", "--url", PUBLIC, "--repository", "team/app")
    with ecr.FakeEcr() as fake:
        credentials = {"username": ecr.KEY, "password_env": "TRANSSHIP_SECRET_ECR"}
        registry = {"url": fake.url, "provider": "ecr", "api_url": fake.control.url}
        server.ask("PUT", "/api/v1/registries/ecr", {**registry, "credentials": credentials})

        without, refused = command(server, *words)
        code, found = command(server, *words, "--role", role)
        target = fake.bridge.targets["transship-ecr"]["transship"]
        _, gone = command(server, *words, "--remove")

        assert without == 1
        assert "--role" in refused["places"][0]["reason"]
        assert (code, list(results(found).values())) == (0, ["changed"])
        assert target["RoleArn"] == role
        assert list(results(gone).values()) == ["removed"]
        assert fake.hooks == {}


def test_registry_whose_provider_has_no_such_api_says_what_to_do(server: ApiProcess) -> None:
    path = "/api/v1/registries/west/hook/registration"
    server.ask("PUT", "/api/v1/registries/hub", {"url": "https://docker.io"})

    _, generic = server.ask("POST", path, {"url": PUBLIC})
    _, hub = server.ask("POST", path.replace("west", "hub"), {"url": PUBLIC})

    for found, why in ((generic, "made by an API"), (hub, "no documented API")):
        (one,) = found["places"]
        assert one["result"] == "failed"
        assert why in one["reason"]
        assert "transship registries hook" in one["reason"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"url": PUBLIC}, 409, "no rule goes by the events"),
        ({"url": PUBLIC, "rules": ["none"]}, 404, "none"),
        ({"url": "ftp://transship.example"}, 400, "https://HOST"),
        ({"url": "https://u:p@transship.example"}, 400, "more than scheme"),
        ({"url": PUBLIC, "repositories": []}, 400, "may not be empty"),
        ({"url": PUBLIC, "role": "teller"}, 400, "not the ARN of a role"),
        ({}, 400, "url"),
    ],
)
def test_odd_requests_are_told(
    server: ApiProcess, body: dict[str, Any], status: int, words: str
) -> None:
    code, told = server.ask("POST", REGISTRATION, body)

    assert code == status
    assert words in json.dumps(told)
