"""Named secrets at a registry that asks for them, and every way that should not lead to one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select, update

from api.samples.auth import BasicAuth
from api.samples.registry import SampleRegistry
from service.bootstrap import Services
from service.errors import (
    AuthenticationFailed,
    InvalidConfiguration,
    StoreUnavailable,
    TransshipError,
)
from service.model.endpoint import CredentialSpec, RegistryEndpoint, TLSOptions
from service.settings import Settings
from service.store.keyring import write_new_key
from service.store.schema import create_or_upgrade
from service.store.tables_governance import secrets
from tests.support.api_process import ApiProcess

WORD = "s3cret-word-of-east"


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    write_new_key(tmp_path / "keys")
    (tmp_path / "secrets").mkdir()
    settings = Settings(
        database_url=f"sqlite:///{tmp_path}/transship.db",
        secret_key_file=str(tmp_path / "keys"),
        secrets_dir=str(tmp_path / "secrets"),
    )
    with closing(Services(settings)) as made:
        create_or_upgrade(made.database)
        yield made


@pytest.fixture
def asking() -> Iterator[SampleRegistry]:
    """A registry that takes one name and password only."""
    with SampleRegistry(auth=BasicAuth({"robot": WORD})) as registry:
        yield registry


def save(services: Services, registry: SampleRegistry, spec: CredentialSpec, **more: Any) -> str:
    endpoint = RegistryEndpoint("east", registry.url, credentials=spec, **more)
    services.registries.put(endpoint, document={"name": "east"})
    return endpoint.host


def ping(services: Services) -> None:
    services.clients.get("east").ping()


def test_effect_registries_credentials_secret(services: Services, asking: SampleRegistry) -> None:
    host = save(services, asking, CredentialSpec("robot", secret="east"))
    services.secrets.put("east", "wrong-word", [host])
    with pytest.raises(AuthenticationFailed):
        ping(services)

    services.secrets.put("east", WORD, [host])  # the next token is asked for with the new one
    ping(services)


def test_secret_goes_to_its_hosts_only(services: Services, asking: SampleRegistry) -> None:
    save(services, asking, CredentialSpec("robot", secret="east"))
    services.secrets.put("east", WORD, ["registry.example"])
    with pytest.raises(InvalidConfiguration, match="not bound to"):
        ping(services)


def test_secret_does_not_follow_a_new_trusted_host(
    services: Services, asking: SampleRegistry
) -> None:
    spec = CredentialSpec("robot", secret="east")
    host = save(services, asking, spec)
    services.secrets.put("east", WORD, [host])
    ping(services)
    save(services, asking, spec, trusted_hosts=("auth.evil.example",))
    services.clients.close()

    with pytest.raises(InvalidConfiguration, match=r"not bound to auth\.evil\.example"):
        ping(services)


def test_hosts_become_fewer_without_the_value_and_more_only_with_it(services: Services) -> None:
    services.secrets.put("east", WORD, ["a.example", "b.example"])
    services.secrets.put("east", None, ["b.example"])

    assert services.secrets.reveal("east", ["b.example"]) == WORD
    with pytest.raises(InvalidConfiguration, match="given for other hosts"):
        services.secrets.put("east", None, ["b.example", "evil.example"])


def test_rows_cannot_be_swapped_nor_hosts_be_added_in_sql(services: Services) -> None:
    services.secrets.put("east", WORD, ["a.example"])
    services.secrets.put("west", "another", ["b.example"])

    def tamper(connection: Connection) -> None:
        sealed = connection.execute(
            select(secrets.c.sealed).where(secrets.c.name == "east")
        ).scalar_one()
        connection.execute(update(secrets).where(secrets.c.name == "west").values(sealed=sealed))
        connection.execute(
            update(secrets).where(secrets.c.name == "east").values(hosts='["evil.example"]')
        )

    services.database.write(tamper)

    for name, host in (("west", "b.example"), ("east", "evil.example")):
        with pytest.raises(StoreUnavailable):
            services.secrets.reveal(name, [host])


@pytest.mark.parametrize("link", ["file", "folder", "chain"])
def test_link_that_leads_out_of_the_folder_is_not_read(
    services: Services, asking: SampleRegistry, tmp_path: Path, link: str
) -> None:
    folder = Path(services.settings.secrets_dir)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "word").write_text(WORD)
    name = "word"
    if link == "file":
        (folder / "word").symlink_to(outside / "word")
    elif link == "folder":
        (folder / "sub").symlink_to(outside)
        name = "sub/word"
    else:
        (folder / "one").symlink_to(folder / "word")
        (folder / "word").symlink_to(outside / "word")
        name = "one"
    save(services, asking, CredentialSpec("robot", password_file=name))

    with pytest.raises(InvalidConfiguration, match="outside of TRANSSHIP_SECRETS_DIR"):
        ping(services)


def test_link_inside_of_the_folder_is_read(services: Services, asking: SampleRegistry) -> None:
    folder = Path(services.settings.secrets_dir)
    (folder / "..data").mkdir()
    (folder / "..data" / "word").write_text(WORD)
    (folder / "word").symlink_to("..data/word")  # as Kubernetes mounts secrets
    save(services, asking, CredentialSpec("robot", password_file="word"))

    ping(services)


@pytest.mark.parametrize("file", ["/etc/hostname", "../keys", "../transship.db"])
def test_ca_file_outside_of_the_folder_is_not_read(
    services: Services, asking: SampleRegistry, file: str
) -> None:
    endpoint = RegistryEndpoint("east", "https://east.example", tls=TLSOptions(ca_file=file))
    services.registries.put(endpoint, document={})

    with pytest.raises(InvalidConfiguration, match=r"tls\.ca_file is outside"):
        ping(services)


# ---- everything that the API says, while somebody tries to get at secrets --------------------------


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiProcess]:
    (tmp_path / "secrets").mkdir()
    made = ApiProcess(
        tmp_path,
        secrets_dir=str(tmp_path / "secrets"),
        environment={"TRANSSHIP_SECRET_WEST": "w3st-word", "TRANSSHIP_REDIS_URL": ""},
    )
    with made.process:
        made.process.wait_ready(made.ready)
        yield made
    made.services.close()


EAST = {"url": "https://east.example"}


def attempts(server: ApiProcess, folder: Path) -> list[tuple[str, Any]]:
    """Documents that ask for something that is not the asker's."""
    (folder / "secrets" / "key").symlink_to(folder / "keys")
    files = [
        "../keys",
        "/etc/passwd",
        str(folder / "transship.db"),
        "key",
        "./../keys",
        "a/../../keys",
    ]
    variables = [
        "TRANSSHIP_DATABASE_URL",
        "TRANSSHIP_SECRET_KEY_FILE",
        "TRANSSHIP_SECRETS_DIR",
        "TRANSSHIP_SECRET_",
        "PATH",
        "HOME",
        "transship_secret_west",
        "TRANSSHIP_SECRET_WEST\n",
    ]
    found: list[tuple[str, Any]] = [
        (f"file {file}", {**EAST, "credentials": {"username": "u", "password_file": file}})
        for file in files
    ]
    found += [(f"ca {file}", {**EAST, "tls": {"ca_file": file}}) for file in files]
    found += [
        (f"variable {name}", {**EAST, "credentials": {"username": "u", "password_env": name}})
        for name in variables
        if name != "TRANSSHIP_SECRET_"
    ]
    named = {"username": "u", "secret": "west"}
    found += [
        ("secret of another host", {"url": "https://evil.example", "credentials": named}),
        (
            "secret with another trusted host",
            {
                "url": "https://west.example",
                "credentials": named,
                "trusted_hosts": ["evil.example"],
            },
        ),
        ("unknown secret", {**EAST, "credentials": {"username": "u", "secret": "nothing"}}),
        (
            "kept password of nobody",
            {**EAST, "credentials": {"username": "u", "password": {"set": True}}},
        ),
        ("mask", {**EAST, "credentials": {"username": "u", "password": "********"}}),
    ]
    return found


def test_no_way_leads_to_a_secret(server: ApiProcess, tmp_path: Path) -> None:
    words = {
        "database url": server.settings.database_url,
        "master key": (tmp_path / "keys").read_text().strip(),
        "stored password": "st0red-word",
        "named secret": "nam3d-word",
        "variable": "w3st-word",
        "webhook secret": "h00k-word",
        "token": server.token,
    }
    told: list[str] = []

    def ask(method: str, path: str, body: Any = None) -> int:
        status, answer = server.ask(method, f"/api/v1{path}", body)
        told.append(str(answer))
        return status

    stored = {"username": "u", "password": words["stored password"]}
    west = {"url": "https://west.example", "credentials": stored}
    assert ask("PUT", "/registries/west", west) == 201
    value = {"value": words["named secret"], "hosts": ["west.example"]}
    assert ask("PUT", "/secrets/west", value) == 201
    hook = {"url": "https://r.example/", "events": ["*"], "secret": words["webhook secret"]}
    assert ask("PUT", "/webhooks/ops", hook) == 201

    refused = {
        name: ask("PUT", "/registries/thief", body) for name, body in attempts(server, tmp_path)
    }
    # Another address for a stored password: kept by the sign, or left out.
    moved = {
        "url": "https://evil.example",
        "credentials": {"username": "u", "password": {"set": True}},
    }
    assert ask("PUT", "/registries/west", moved) == 400
    for path in (
        "/registries",
        "/registries/west",
        "/secrets",
        "/secrets/west",
        "/webhooks",
        "/webhooks/ops",
        "/audit",
        "/tokens",
        "/rules",
        "/executions",
        "/nothing",
        "/registries/west?x=1",
    ):
        ask("GET", path)
    for path in ("/metrics", "/healthz", "/readyz", "/openapi.json"):
        connection = server.connect()
        connection.request("GET", path)
        told.append(connection.getresponse().read().decode())
        connection.close()
    server.process.stop()
    told.append(server.process.stderr_path.read_text() + server.process.stdout_path.read_text())

    assert set(refused.values()) == {400}, refused
    text = "\n".join(told)
    assert [name for name, word in words.items() if word in text] == []
    raw = (tmp_path / "transship.db").read_bytes()
    raw += b"".join(path.read_bytes() for path in tmp_path.glob("transship.db-wal"))
    sealed = ("stored password", "named secret", "webhook secret", "token", "master key")
    assert [name for name in sealed if words[name].encode() in raw] == []


def test_changed_address_clears_a_stored_password(services: Services) -> None:
    spec = CredentialSpec("u", stored=True)
    endpoint = RegistryEndpoint("east", "https://east.example", credentials=spec)
    changes: list[RegistryEndpoint] = [
        replace(endpoint, url="https://evil.example"),
        replace(endpoint, trusted_hosts=("evil.example",)),
        replace(endpoint, proxy="http://evil.example:3128"),
    ]
    for change in changes:
        services.registries.put(endpoint, document={}, secret=WORD)
        assert services.registries.secret("east") == WORD
        services.registries.put(change, document={})
        assert services.registries.secret("east") is None


def test_errors_of_the_key_ring_tell_nothing(services: Services, tmp_path: Path) -> None:
    services.secrets.put("east", WORD, ["a.example"])
    other = tmp_path / "other"
    write_new_key(other)
    with (
        closing(Services(replace(services.settings, secret_key_file=str(other)))) as stranger,
        pytest.raises(TransshipError) as caught,
    ):
        stranger.secrets.reveal("east", ["a.example"])

    told = f"{caught.value} {caught.value.hint}"
    assert WORD not in told
    assert other.read_text().strip() not in told
    assert os.environ.get("TRANSSHIP_SECRET_KEY_FILE") is None
