"""A service in a region copies between real registries that only its region's addresses lead to."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
import yaml

from tests.support.servers import RealRegistry
from tests.support.transship import clean_environment, transship
from tests.support.up import Up, running_up
from tests.support.wire import Wire, image_body

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
REGION = "eu-west"
PLAIN, SECURE = "plain.registry.invalid", "secure.registry.invalid"  # resolve nowhere (RFC 6761)
LAYER = b"a layer" * 40_000


class SecureRegistry(RealRegistry):
    """A real registry over TLS, with a certificate for its name alone."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        leaf = authority.issue_cert(SECURE)
        self.ca_file = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        leaf.private_key_pem.write_to_path(str(folder / "server.key"))
        chain = b"".join(part.bytes() for part in leaf.cert_chain_pems)
        (folder / "server.pem").write_bytes(chain)
        tls = {"certificate": str(folder / "server.pem"), "key": str(folder / "server.key")}
        super().__init__(configuration={"http": {"tls": tls}})

    def _get(self, path: str) -> int:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        with (
            socket.create_connection(("127.0.0.1", self.port), 10) as raw,
            context.wrap_socket(raw, server_hostname=SECURE) as stream,
        ):
            stream.sendall(f"GET {path} HTTP/1.1\r\nHost: {SECURE}\r\n\r\n".encode())
            return int(stream.recv(4096).split(b" ")[1])


@pytest.fixture
def plain() -> Iterator[RealRegistry]:
    with RealRegistry() as registry:
        yield registry


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[SecureRegistry]:
    with SecureRegistry(tmp_path) as registry:
        yield registry


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    variables = {"TRANSSHIP_REGION": REGION, "TRANSSHIP_SECRETS_DIR": str(tmp_path)}
    with running_up(tmp_path / "up", **variables) as running:
        yield running


def declared(plain: RealRegistry, secure: SecureRegistry) -> dict[str, object]:
    """A file in which each registry can be reached by its address in one region alone."""

    def place(registry: RealRegistry) -> dict[str, object]:
        return {REGION: {"connect_to": f"127.0.0.1:{registry.port}"}}

    return {
        "version": 1,
        "regions": [{"name": REGION, "jurisdiction": "eu"}, {"name": "us-east"}],
        "links": [{"from": REGION, "to": "us-east", "bandwidth": "200Mbit/s"}],
        "registries": [
            {
                "name": "plain",
                "url": f"http://{PLAIN}:{plain.port}",
                "region": REGION,
                "endpoints": place(plain),
            },
            {
                "name": "secure",
                "url": f"https://{SECURE}:{secure.port}",
                "region": REGION,
                "tls": {"ca_file": str(secure.ca_file)},
                "endpoints": place(secure),
            },
        ],
        "rules": [
            {
                "name": "there",
                "source": "plain",
                "select": [{"repositories": ["team/**"]}],
                "destinations": [{"registry": "secure", "repository": "mirror/{repository}"}],
            },
            {
                "name": "back",
                "source": "secure",
                "select": [{"repositories": ["mirror/**"]}],
                "destinations": [{"registry": "plain", "repository": "back/{repository[1:]}"}],
            },
        ],
    }


def push(registry: RealRegistry) -> None:
    config = json.dumps({"architecture": "amd64", "os": "linux"}).encode()
    with Wire(registry.url) as wire:
        for blob in (config, LAYER):
            assert wire.push_blob("team/app", blob).status == 201
        body = image_body(config, [LAYER])
        assert wire.put_manifest("team/app", "v1", body).status == 201


def tag_of(registry: RealRegistry, repository: str) -> str | None:
    with Wire(registry.url) as wire:
        answer = wire.get_manifest(repository, "v1")
        return answer["Docker-Content-Digest"] if answer.status == 200 else None


def test_a_fleet_behind_private_addresses_is_copied_there_and_back(
    up: Up, plain: RealRegistry, secure: SecureRegistry, tmp_path: Path
) -> None:
    push(plain)
    file = tmp_path / "transship.yaml"
    file.write_text(yaml.safe_dump(declared(plain, secure)))
    here = {
        **clean_environment(),
        "TRANSSHIP_URL": up.url,
        "TRANSSHIP_TOKEN": up.token,
    }

    applied = transship("apply", "-f", str(file), environment=here)
    assert applied.returncode == 0, applied.stderr
    for rule in ("there", "back"):
        done = transship("rules", "run", rule, "--wait", "--json", environment=here)
        assert done.returncode == 0, done.stdout + done.stderr
    assert tag_of(plain, "back/team/app") == tag_of(plain, "team/app") is not None

    for registry in ("plain", "secure"):
        looked = transship("doctor", registry, "--from", REGION, "--json", environment=here)
        assert looked.returncode == 0, looked.stderr
        found = json.loads(looked.stdout)
        assert found["region"] == REGION
        assert {one["name"]: one["result"] for one in found["findings"]}["push"] == "yes"
    refused = transship("doctor", "plain", "--from", "us-east", environment=here)
    assert refused.returncode == 2
    assert "no worker of region us-east is alive" in refused.stderr
    assert "TRANSSHIP_REGION=us-east" in refused.stderr

    listed = json.loads(transship("regions", "ls", "--json", environment=here).stdout)["items"]
    by_name = {one["name"]: one for one in listed}
    assert set(by_name) == {REGION, "us-east"}
    assert by_name[REGION]["workers"]["slots"] > 0
    assert by_name[REGION]["queue"]["copy"] == {"depth": 0}
    shown = transship("links", "show", f"{REGION}:us-east", environment=here)
    assert json.loads(shown.stdout)["bandwidth"] == "200Mbit/s"
    same = transship("diff", "-f", str(file), environment=here)
    assert (same.returncode, same.stdout) == (0, "")


def test_a_command_without_a_server_is_in_a_region_too(
    plain: RealRegistry, secure: SecureRegistry, tmp_path: Path
) -> None:
    push(plain)
    file = tmp_path / "transship.yaml"
    file.write_text(yaml.safe_dump(declared(plain, secure)))

    lost = transship("doctor", "plain", "-f", str(file), "--no-write")
    found = transship("doctor", "plain", "-f", str(file), "--no-write", TRANSSHIP_REGION=REGION)
    done = transship(
        "sync", "-f", str(file), "--rule", "there", "--data", str(tmp_path / "data"), "--json",
        TRANSSHIP_REGION=REGION,
    )  # fmt: skip

    assert lost.returncode == 3
    assert found.returncode == 0, found.stdout
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["copies"]["copied"] == 1
