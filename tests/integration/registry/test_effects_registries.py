"""Each key of a registry, seen at a registry: with it, and without."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from api.samples.registry import BasicAuth, BearerAuth, SampleRegistry, TokenService
from api.schemas.registry import load_registry
from service import errors
from service.bootstrap import Services
from service.registry.client import RegistryClient
from service.settings import Settings
from service.store.keyring import write_new_key
from service.store.registries import RegistryStore
from service.store.schema import create_or_upgrade

USERS = {"robot": "s3cret"}


@pytest.fixture
def guarded() -> Iterator[SampleRegistry]:
    with SampleRegistry(auth=BasicAuth(USERS)) as registry:
        yield registry


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    write_new_key(tmp_path / "keys")
    opened = Services(
        Settings.from_env(
            {},
            database_url=f"sqlite:///{tmp_path}/t.db",
            secret_key_file=str(tmp_path / "keys"),
            secrets_dir=str(tmp_path / "secrets"),
        )
    )
    create_or_upgrade(opened.database)
    yield opened
    opened.close()


def saved(services: Services, url: str, name: str = "it", **keys: Any) -> RegistryClient:
    """The client of a registry that was saved as this document says."""
    read = load_registry({"name": name, "url": url, **keys})
    store: RegistryStore = services.registries
    store.put(read.endpoint, document={}, secret=read.password)
    return services.clients.get(name)


def test_effect_registries_url(services: Services) -> None:
    with SampleRegistry() as one, SampleRegistry() as other:
        saved(services, one.url).ping()
        assert (len(one.log), len(other.log)) == (1, 0)
        saved(services, other.url, "other").ping()
        assert (len(one.log), len(other.log)) == (1, 1)


def test_effect_registries_credentials_username(
    services: Services, guarded: SampleRegistry
) -> None:
    secret = {"password": "s3cret"}
    saved(services, guarded.url, credentials={"username": "robot", **secret}).ping()
    with pytest.raises(errors.AuthenticationFailed):
        saved(services, guarded.url, "wrong", credentials={"username": "who", **secret}).ping()


def test_effect_registries_credentials_password(
    services: Services, guarded: SampleRegistry
) -> None:
    given = {"username": "robot", "password": "s3cret"}
    saved(services, guarded.url, credentials=given).ping()
    with pytest.raises(errors.AuthenticationFailed):
        saved(services, guarded.url, "none").ping()


def test_effect_registries_credentials_password_env(
    services: Services, guarded: SampleRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSSHIP_SECRET_IT", "s3cret")
    monkeypatch.setenv("TRANSSHIP_SECRET_OTHER", "wrong")
    for name, works in (("TRANSSHIP_SECRET_IT", True), ("TRANSSHIP_SECRET_OTHER", False)):
        keys = {"credentials": {"username": "robot", "password_env": name}}
        made = saved(services, guarded.url, name.rpartition("_")[2].lower(), **keys)
        if works:
            made.ping()
        else:
            with pytest.raises(errors.AuthenticationFailed):
                made.ping()


def test_effect_registries_credentials_password_file(
    services: Services, guarded: SampleRegistry, tmp_path: Path
) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    for name, text in (("good", "s3cret\n"), ("bad", "wrong\n")):
        (folder / name).write_text(text)
        keys = {"credentials": {"username": "robot", "password_file": str(folder / name)}}
        made = saved(services, guarded.url, name, **keys)
        if name == "good":
            made.ping()
        else:
            with pytest.raises(errors.AuthenticationFailed):
                made.ping()


def test_effect_registries_credentials_docker_config(
    services: Services, guarded: SampleRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = base64.b64encode(b"robot:s3cret").decode()
    host = guarded.url.removeprefix("http://")
    (tmp_path / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    saved(services, guarded.url, credentials={"docker_config": True}).ping()
    with pytest.raises(errors.AuthenticationFailed):
        saved(services, guarded.url, "without").ping()


def test_effect_registries_trusted_hosts(services: Services) -> None:
    """A token realm on another host gets the credential only where that host is named."""
    tokens = TokenService(users=USERS)
    with SampleRegistry() as elsewhere:
        auth = BearerAuth(tokens, realm=f"http://localhost:{elsewhere.port}/token")
        elsewhere.api.auth = auth
        with SampleRegistry(auth=auth) as registry:
            given = {"credentials": {"username": "robot", "password": "s3cret"}}
            with pytest.raises(errors.RegistryError):
                saved(services, registry.url, **given).head_manifest("a/b", "v1")
            assert tokens.requests == []
            named = saved(services, registry.url, "named", trusted_hosts=["localhost"], **given)
            assert named.head_manifest("a/b", "v1") is None
            assert tokens.requests != []


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def serve(authority: trustme.CA, *, ask: bool = False) -> SampleRegistry:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    if ask:
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return SampleRegistry(tls=context)


def test_effect_registries_tls_ca_file(
    services: Services, authority: trustme.CA, tmp_path: Path
) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    with serve(authority) as registry:
        url = f"https://127.0.0.1:{registry.port}"
        with pytest.raises(errors.TLSError):
            saved(services, url, "strange").ping()
        saved(services, url, tls={"ca_file": str(folder / "ca.pem")}).ping()


def test_effect_registries_tls_insecure(services: Services, authority: trustme.CA) -> None:
    with serve(authority) as registry:
        url = f"https://127.0.0.1:{registry.port}"
        with pytest.raises(errors.TLSError):
            saved(services, url, "strange", tls={"insecure": False}).ping()
        saved(services, url, tls={"insecure": True}).ping()


def test_effect_registries_tls_client_cert_file(
    services: Services, authority: trustme.CA, tmp_path: Path
) -> None:
    """And client_key_file: the two go together."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    own = authority.issue_cert("robot@example.org")
    own.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    own.private_key_pem.write_to_path(str(folder / "key.pem"))
    with serve(authority, ask=True) as registry:
        url = f"https://127.0.0.1:{registry.port}"
        tls = {"ca_file": str(folder / "ca.pem")}
        with pytest.raises(errors.RegistryError):
            saved(services, url, "bare", tls=tls).ping()
        pair = {
            "client_cert_file": str(folder / "cert.pem"),
            "client_key_file": str(folder / "key.pem"),
        }
        saved(services, url, tls={**tls, **pair}).ping()


def test_effect_registries_endpoints(services: Services) -> None:
    """Reached by the address of the region where this process is, and not by that of another."""
    with SampleRegistry(server_name="registry.invalid") as named:
        here, there = {"connect_to": f"127.0.0.1:{named.port}"}, {"connect_to": "127.0.0.1:1"}
        saved(services, named.url, endpoints={"local": here, "eu": there}).ping()
        for name, addresses in (("none", {}), ("other", {"eu": here}), ("wrong", {"local": there})):
            with pytest.raises(errors.NetworkError):
                saved(services, named.url, name, endpoints=addresses).ping()
        url = {"url": f"http://127.0.0.1:{named.port}"}
        made = saved(services, named.url, "renamed", endpoints={"local": url})
        made.ping()

        assert {line.status for line in named.log} == {200}
        assert made.endpoint.host == named.host, "names are made of its own address everywhere"
