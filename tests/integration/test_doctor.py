"""transship doctor, on a server and from this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.samples.registry import BasicAuth, SampleRegistry
from service.registry.doctor import MEANINGS
from tests.support.api_process import ApiProcess
from tests.support.processes import free_port
from tests.support.transship import clean_environment, transship, write_rules


@pytest.fixture
def registry() -> Iterator[SampleRegistry]:
    with SampleRegistry() as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    made = ApiProcess(tmp_path_factory.mktemp("api"))
    with made.process:
        made.process.wait_ready(made.ready)
        yield made
    made.services.close()


def test_registry_of_a_file_is_examined_from_here(registry: SampleRegistry, tmp_path: Path) -> None:
    rules = write_rules(tmp_path / "t.yaml", registry.url, "http://127.0.0.1:1")

    done = transship("doctor", "source", "-f", str(rules), "--repository", "a/b", "--json")

    assert done.returncode == 0, done.stderr
    assert "writing small things into a/b and a/b-mount" in done.stderr
    found = json.loads(done.stdout)
    assert [one["name"] for one in found["findings"]] == list(MEANINGS)
    assert found["written"] == ["a/b", "a/b-mount"]
    puts = {line.path.split("/")[2] for line in registry.log if line.method == "PUT"}
    assert puts == {"a"}


def test_people_read_what_is_done_about_it(registry: SampleRegistry, tmp_path: Path) -> None:
    rules = write_rules(tmp_path / "t.yaml", registry.url, "http://127.0.0.1:1")

    done = transship("doctor", "source", "-f", str(rules), "--no-write")

    assert done.returncode == 0, done.stderr
    assert "catalog          yes      rules may use patterns for repositories" in done.stdout
    assert "mount            unknown  nothing may be written" in done.stdout
    assert {line.method for line in registry.log} == {"GET"}


def test_registry_of_a_server_is_examined_by_it(
    registry: SampleRegistry, server: ApiProcess
) -> None:
    server.ask("PUT", "/api/v1/registries/east", {"url": registry.url})
    environment = {
        **clean_environment(),
        "TRANSSHIP_URL": f"http://127.0.0.1:{server.port}",
        "TRANSSHIP_TOKEN": server.token,
    }

    done = transship("doctor", "east", "--json", environment=environment)

    assert done.returncode == 0, done.stderr
    found = {one["name"]: one["result"] for one in json.loads(done.stdout)["findings"]}
    assert found["referrers"] == "yes"
    assert found["sparse index"] == "no"
    assert set(registry.storage.tags("transship-doctor") or {}) == set()


def test_unreachable_registry_is_exit_code_3(server: ApiProcess, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    rules = write_rules(tmp_path / "t.yaml", url, "http://127.0.0.1:1")

    done = transship("doctor", "source", "-f", str(rules))

    assert done.returncode == 3
    assert "nothing can be copied from or to it" in done.stdout


def test_a_wrong_password_ends_the_examination(tmp_path: Path) -> None:
    with SampleRegistry(auth=BasicAuth({"source": "right"})) as guarded:
        rules = write_rules(tmp_path / "t.yaml", guarded.url, "http://127.0.0.1:1")
        document = json.loads(rules.read_text())
        variable = {"username": "source", "password_env": "TRANSSHIP_SECRET_SOURCE"}
        document["registries"][0]["credentials"] = variable
        rules.write_text(json.dumps(document))

        done = transship("doctor", "source", "-f", str(rules), TRANSSHIP_SECRET_SOURCE="wrong")

        assert done.returncode == 3, done.stderr
        assert "source does not accept the credentials" in done.stdout
        assert "check the user name and the password" in done.stdout
        assert "mount" not in done.stdout, "what was not tried is not told of"
        assert {line.path for line in guarded.log} == {"/v2/"}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("doctor",), 2),
        (("doctor", "nobody", "-f", "{rules}"), 2),
        (("doctor", "source", "-f", "{rules}", "--repository", "UP"), 2),
        (("doctor", "source", "-f", "{rules}", "--from", "eu"), 2),
    ],
)
def test_wrong_words_are_refused(
    registry: SampleRegistry, tmp_path: Path, words: tuple[str, ...], code: int
) -> None:
    rules = write_rules(tmp_path / "t.yaml", registry.url, "http://127.0.0.1:1")

    done = transship(*(word.replace("{rules}", str(rules)) for word in words))

    assert done.returncode == code, done.stderr
    assert registry.log == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"repository": "UP"}, "repository"),
        ({"write": "no"}, "write"),
        ({"x": 1}, "x"),
        ({"from": "EU"}, "from"),
    ],
)
def test_wrong_bodies_name_their_field(
    server: ApiProcess, body: dict[str, object], field: str
) -> None:
    server.ask("PUT", "/api/v1/registries/south", {"url": "http://127.0.0.1:1"})

    status, problem = server.ask("POST", "/api/v1/registries/south/examination", body)

    assert status == 400
    assert [one["field"] for one in problem["errors"]] == [field]
