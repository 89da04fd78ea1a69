"""A registry behind its own proxy: tunnels, the absolute form, and what the proxy gets to see."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from api.samples.registry import BasicAuth, SampleRegistry
from service import errors
from service.model.endpoint import Credential, RegistryEndpoint, TLSOptions
from service.registry.blob_copy import copy_blob
from service.registry.client import RegistryClient
from tests.integration.registry.support import blob, client, push
from tests.support.effects import effect_rule, run
from tests.support.processes import free_port
from tests.support.proxy import Proxy
from tests.support.world import World, open_world, some_bytes

PASSWORD = "s3cr3t-of-the-registry"


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy() as running:
        yield running


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[SampleRegistry]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with SampleRegistry(tls=context, auth=BasicAuth({"u": PASSWORD})) as registry:
        yield registry


def through(proxy_url: str, url: str, ca: Path | None = None) -> RegistryClient:
    endpoint: dict[str, object] = {"proxy": proxy_url}
    if ca is not None:
        endpoint["tls"] = TLSOptions(ca_file=str(ca))
    return client(url, name="far", endpoint=endpoint, credential=Credential("u", PASSWORD))


def test_https_goes_through_a_tunnel_that_sees_host_and_port_alone(
    secure: SampleRegistry, proxy: Proxy, authority: trustme.CA, tmp_path: Path
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    made = through(proxy.url, f"https://127.0.0.1:{secure.port}", tmp_path / "ca.pem")

    manifest = push(made, "a/b", "v1", b"one" * 400_000)

    assert made.get_manifest("a/b", "v1") == manifest
    place = f"127.0.0.1:{secure.port}"
    assert set(proxy.heads) == {f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n"}
    assert len(proxy.heads) == secure.connections
    made.close()


def test_http_is_asked_for_in_the_absolute_form(east: SampleRegistry, proxy: Proxy) -> None:
    made = through(proxy.url, east.url)
    push(made, "a/b", "v1", b"one")

    made.head_manifest("a/b", "v1")

    assert proxy.lines[-1] == f"HEAD {east.url}/v2/a/b/manifests/v1 HTTP/1.1"
    assert len(proxy.lines) == len(east.log)
    made.close()


@pytest.mark.parametrize("size", [100, 3 * 1024 * 1024])
def test_blobs_cross_from_a_proxied_registry_to_one_that_is_not(
    east: SampleRegistry, west: SampleRegistry, proxy: Proxy, size: int
) -> None:
    source = through(proxy.url, east.url)
    destination = client(west.url, name="west")
    data, descriptor = blob(size)
    east.storage.put_blob("a/b", str(descriptor.digest), data)

    copy_blob(source, "a/b", destination, "c/d", descriptor)

    found = west.storage.blob("c/d", str(descriptor.digest))
    assert found is not None
    assert found[0] == data
    assert all(east.url in line for line in proxy.lines)
    source.close()
    destination.close()


@pytest.mark.parametrize(
    ("status", "error", "hint"),
    [
        (403, errors.AddressRefused, "allow CONNECT"),
        (407, errors.AddressRefused, "password"),
        (502, errors.NetworkError, ""),
    ],
)
def test_refusal_of_the_proxy_is_told(
    secure: SampleRegistry, status: int, error: type[errors.RegistryError], hint: str
) -> None:
    with Proxy(status) as proxy:
        made = through(proxy.url, f"https://127.0.0.1:{secure.port}")
        with pytest.raises(error, match=f"proxy .*{status}") as caught:
            made.ping()
        made.close()

    assert hint in caught.value.hint
    assert secure.connections == 0


def test_proxy_that_is_away_is_a_network_error() -> None:
    made = through(f"http://127.0.0.1:{free_port()}", "https://registry.example")

    with pytest.raises(errors.NetworkError, match="cannot be connected to"):
        made.ping()


def test_metadata_service_is_refused_through_a_proxy_too(proxy: Proxy) -> None:
    made = through(proxy.url, "http://169.254.169.254")

    with pytest.raises(errors.AddressRefused, match="metadata"):
        made.ping()
    assert proxy.heads == []


def test_environment_proxies_are_ignored(
    east: SampleRegistry, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    made = client(east.url, name="east")

    made.ping()

    assert proxy.heads == []
    made.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with open_world(tmp_path) as opened:
        yield opened


def test_effect_proxy(world: World, proxy: Proxy) -> None:
    """All that the source is asked comes by the proxy; the destination has none."""
    world.push("team/app", "v1", [some_bytes("layer", 300_000)])
    endpoint = RegistryEndpoint("east", world.east.url, proxy=proxy.url)
    world.services.registries.put(endpoint, document={})

    run(world, effect_rule({"repositories": ["team/app"]}))

    assert world.west.storage.manifest("team/app", "v1") is not None
    assert len(proxy.lines) == len(world.east.log) > 2
    assert not any(world.west.url in line for line in proxy.lines)
