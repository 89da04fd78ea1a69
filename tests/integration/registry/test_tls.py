"""TLS: a registry's own CA, wrong names, no TLS at all, client certificates."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from api.samples.registry import SampleRegistry
from service import errors
from service.model.endpoint import TLSOptions
from service.registry.blob_copy import copy_blob
from service.registry.client import RegistryClient
from tests.integration.registry.support import blob, client, push

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def serve(authority: trustme.CA, *names: str) -> SampleRegistry:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["h2", "http/1.1"])
    authority.issue_cert(*names).configure_cert(context)
    return SampleRegistry(tls=context)


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[SampleRegistry]:
    with serve(authority, "127.0.0.1", "r.test") as registry:
        yield registry


def over_tls(
    registry: SampleRegistry, host: str = "127.0.0.1", **options: object
) -> RegistryClient:
    return client(
        f"https://{host}:{registry.port}",
        name="secure",
        endpoint={"tls": TLSOptions(**options)},  # type: ignore[arg-type]
        resolve=lambda *_: ["127.0.0.1"],
    )


def test_a_registry_under_its_own_ca_is_spoken_to(secure: SampleRegistry, ca_file: str) -> None:
    for host in ("127.0.0.1", "r.test"):
        made = over_tls(secure, host, ca_file=ca_file)
        manifest = push(made, "a/b", "v1", b"one")
        assert made.get_manifest("a/b", "v1") == manifest
        made.close()
    assert secure.connections == 2


@pytest.mark.parametrize("size", [100, 5 * MIB])
def test_blobs_are_copied_over_tls(
    secure: SampleRegistry, ca_file: str, authority: trustme.CA, size: int
) -> None:
    with serve(authority, "127.0.0.1") as west:
        source = over_tls(secure, ca_file=ca_file)
        destination = over_tls(west, ca_file=ca_file)
        data, descriptor = blob(size)
        source.put_blob("a/b", descriptor.digest, data)
        assert copy_blob(source, "a/b", destination, "m/b", descriptor) == size
        assert west.storage.blob_bytes(str(descriptor.digest)) == data
        source.close()
        destination.close()


def test_an_unknown_ca_is_a_tls_error(secure: SampleRegistry) -> None:
    made = over_tls(secure)
    with pytest.raises(errors.TLSError, match="certificate refused"):
        made.ping()
    assert secure.log == []
    made.close()


def test_a_wrong_name_is_a_tls_error(authority: trustme.CA, ca_file: str) -> None:
    with serve(authority, "other.test") as registry:
        for host in ("127.0.0.1", "r.test"):
            made = over_tls(registry, host, ca_file=ca_file)
            with pytest.raises(errors.TLSError) as caught:
                made.ping()
            assert caught.value.retryable is False
            made.close()


def test_insecure_is_what_it_says_for_the_registry_itself(authority: trustme.CA) -> None:
    with serve(authority, "other.test") as registry:
        made = over_tls(registry, insecure=True)
        made.ping()
        made.close()


def test_insecure_does_not_reach_to_hosts_that_the_registry_names(authority: trustme.CA) -> None:
    with serve(authority, "other.test") as elsewhere, serve(authority, "127.0.0.1") as registry:
        registry.fault(
            "/blobs/",
            method="GET",
            status=307,
            headers={"Location": f"https://127.0.0.1:{elsewhere.port}/x"},
        )
        made = over_tls(registry, insecure=True)
        _, descriptor = blob(10)
        with pytest.raises(errors.TLSError):
            made.read_blob("a/b", descriptor.digest, 10, 10)
        made.close()


def test_plain_http_behind_an_https_url_is_a_tls_error() -> None:
    with SampleRegistry() as plain:
        made = over_tls(plain)
        with pytest.raises(errors.TLSError) as caught:
            made.ping()
        assert "http://" in caught.value.hint
        made.close()


def test_https_never_leads_to_http(secure: SampleRegistry, ca_file: str) -> None:
    with SampleRegistry() as plain:
        for path, method in (("/blobs/sha256", "GET"), ("/uploads/", "POST")):
            secure.fault(
                path,
                method=method,
                status=307 if method == "GET" else 202,
                headers={"Location": f"http://other.test:{plain.port}/v2/a/b/blobs/uploads/x"},
            )
        made = over_tls(secure, ca_file=ca_file)
        data, descriptor = blob(10)
        with pytest.raises(errors.AddressRefused):
            made.read_blob("a/b", descriptor.digest, 10, 10)
        with pytest.raises(errors.AddressRefused):
            made.put_blob("a/b", descriptor.digest, data)
        assert plain.log == []
        made.close()


def test_a_location_whose_proxy_forgot_https_stays_on_tls(
    secure: SampleRegistry, ca_file: str
) -> None:
    secure.api._uploads.base = f"http://127.0.0.1:{secure.port}"
    made = over_tls(secure, ca_file=ca_file)
    data, descriptor = blob(10)
    made.put_blob("a/b", descriptor.digest, data)
    assert made.probe_blob("a/b", descriptor.digest, 10)
    made.close()


def test_a_client_certificate_is_shown(authority: trustme.CA, ca_file: str, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    mine = authority.issue_cert("client.test")
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    mine.cert_chain_pems[0].write_to_path(str(certificate))
    mine.private_key_pem.write_to_path(str(key))
    with SampleRegistry(tls=context) as registry:
        made = over_tls(
            registry, ca_file=ca_file, client_cert_file=str(certificate), client_key_file=str(key)
        )
        made.ping()
        made.close()
        bare = over_tls(registry, ca_file=ca_file)
        with pytest.raises((errors.NetworkError, errors.TLSError)):
            bare.ping()
        bare.close()


@pytest.mark.parametrize("content", [None, "", "no pem", "-----BEGIN CERTIFICATE-----\nx\n"])
def test_a_ca_file_that_is_none_is_a_configuration_error(
    secure: SampleRegistry, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    made = over_tls(secure, ca_file=str(path))
    with pytest.raises(errors.InvalidConfiguration, match=r"tls\.ca_file"):
        made.ping()
    made.close()
