"""A registry's nearer address: connections go there, names stay; nothing else is ever led there."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import trustme

from api.samples.http_messages import Request
from api.samples.registry import BasicAuth, BearerAuth, SampleRegistry, TokenService
from service import errors
from service.model.endpoint import Credential, Nearer, RegistryEndpoint, TLSOptions
from service.registry.blob_copy import copy_blob
from service.registry.client import RegistryClient
from tests.integration.registry.support import QUICK, Pauses, blob, client, push
from tests.support.processes import free_port

NAME = "registry.invalid"  # resolves nowhere (RFC 6761)
USER = Credential("u", "s3cret-of-the-registry")


def nowhere(host: str, port: int) -> Sequence[str]:
    """Addresses resolve, names do not."""
    del port
    if host == "127.0.0.1":
        return [host]
    raise errors.NetworkError(f"{host} cannot be resolved")


def near(url: str, *addresses: Nearer, region: str = "eu", **options: Any) -> RegistryClient:
    """A client in a region, of a registry that is elsewhere."""
    credential = options.pop("credential", Credential())
    resolve = options.pop("resolve", nowhere)
    return RegistryClient(
        RegistryEndpoint("east", url, endpoints=addresses, **options),
        lambda: credential,
        timeouts=QUICK,
        sleep=Pauses(),
        resolve=resolve,
        region=region,
    )


def by_place(registry: SampleRegistry, **options: Any) -> RegistryClient:
    url = registry.url
    return near(url, Nearer("eu", connect_to=f"127.0.0.1:{registry.port}"), **options)


@pytest.fixture
def named() -> Iterator[SampleRegistry]:
    """A registry that calls itself by a name which resolves nowhere."""
    with SampleRegistry(server_name=NAME, absolute_locations=True) as registry:
        yield registry


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def serve(authority: trustme.CA, name: str, seen: list[str | None] | None = None) -> SampleRegistry:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    if seen is not None:

        def note(_socket: ssl.SSLObject, asked: str | None, _context: ssl.SSLContext) -> None:
            seen.append(asked)

        context.sni_callback = note
    return SampleRegistry(tls=context, server_name=name)


def test_everything_goes_to_the_place_and_bears_the_name(named: SampleRegistry) -> None:
    hosts: list[str] = []

    def look(request: Request) -> None:
        hosts.append(request.headers["host"])

    named.fault("", before=look, times=1000)
    made = by_place(named)

    manifest = push(made, "a/b", "v1", b"one", b"two" * 300_000)

    assert made.get_manifest("a/b", "v1") == manifest
    assert set(hosts) == {f"{NAME}:{named.port}"}
    assert made.endpoint.url == named.url, "what is said of the registry is the same everywhere"
    made.close()


def test_other_regions_go_where_the_name_leads(named: SampleRegistry) -> None:
    elsewhere = by_place(named, region="us")

    with pytest.raises(errors.NetworkError, match="cannot be resolved"):
        elsewhere.ping()
    assert named.log == []


def test_blobs_cross_between_nearer_addresses(named: SampleRegistry) -> None:
    with SampleRegistry(server_name="west.invalid") as west:
        source, destination = by_place(named), by_place(west)
        data, descriptor = blob(3 * 1024 * 1024)
        named.storage.put_blob("a/b", str(descriptor.digest), data)

        assert copy_blob(source, "a/b", destination, "c/d", descriptor) == len(data)

        assert west.storage.blob_bytes(str(descriptor.digest)) == data
        source.close()
        destination.close()


def test_tls_is_spoken_with_the_name(authority: trustme.CA, ca_file: str) -> None:
    seen: list[str | None] = []
    with serve(authority, NAME, seen) as registry:
        made = by_place(registry, tls=TLSOptions(ca_file=ca_file))
        push(made, "a/b", "v1", b"one")
        made.close()

    assert set(seen) == {NAME}


def test_certificate_of_the_place_alone_is_refused(authority: trustme.CA, ca_file: str) -> None:
    with serve(authority, "127.0.0.1") as registry:
        made = near(
            f"https://{NAME}:{registry.port}",
            Nearer("eu", connect_to=f"127.0.0.1:{registry.port}"),
            tls=TLSOptions(ca_file=ca_file),
        )
        with pytest.raises(errors.TLSError, match="certificate refused"):
            made.ping()
        made.close()
        assert registry.log == []


def test_hosts_that_the_registry_names_are_not_led_there(named: SampleRegistry) -> None:
    """A blob host and a token service on hosts of their own are looked up as always."""
    tokens = TokenService(users={"u": USER.password})
    with SampleRegistry(
        server_name=NAME, auth=BearerAuth(tokens, realm="http://auth.invalid/token")
    ) as guarded:
        made = by_place(guarded, credential=USER, trusted_hosts=("auth.invalid",))
        with pytest.raises(errors.NetworkError, match=r"auth\.invalid cannot be resolved"):
            made.ping()
        made.close()
        assert tokens.requests == []
    _, descriptor = blob(10)
    named.fault(
        "/blobs/", method="GET", status=307, headers={"Location": "http://cdn.invalid/x"}, times=9
    )
    made = by_place(named, trusted_hosts=("cdn.invalid",))
    with pytest.raises(errors.NetworkError, match=r"cdn\.invalid cannot be resolved"):
        made.read_blob("a/b", descriptor.digest, 10, 10)
    assert {line.path.split("?")[0] for line in named.log} == {f"/v2/a/b/blobs/{descriptor.digest}"}
    made.close()


def test_same_host_at_another_port_is_not_led_there(named: SampleRegistry) -> None:
    _, descriptor = blob(10)
    named.fault(
        "/blobs/", method="GET", status=307, headers={"Location": f"http://{NAME}:1/x"}, times=9
    )
    made = by_place(named)

    with pytest.raises(errors.NetworkError, match="cannot be resolved"):
        made.read_blob("a/b", descriptor.digest, 10, 10)
    made.close()


def test_token_service_of_the_registry_itself_comes_the_same_way() -> None:
    tokens = TokenService(users={"u": USER.password})
    with SampleRegistry(server_name=NAME, auth=BearerAuth(tokens)) as guarded:
        made = by_place(guarded, credential=USER)
        push(made, "a/b", "v1", b"one")
        made.close()

    assert [one.status for one in tokens.requests] == [200]


def test_other_url_is_spoken_to_by_its_own_name_and_trusts_the_first() -> None:
    """Behind another URL a registry may still name itself by its own in Location."""
    with SampleRegistry(auth=BasicAuth({"u": USER.password})) as registry:
        registry.api._uploads.base = f"http://{NAME}:{registry.port}"
        looked_up: list[str] = []

        def resolve(host: str, port: int) -> Sequence[str]:
            looked_up.append(host)
            return ["127.0.0.1"]

        made = near(
            f"http://{NAME}:{registry.port}",
            Nearer("eu", url=f"http://near.invalid:{registry.port}"),
            credential=USER,
            resolve=resolve,
        )
        data, descriptor = blob(10)

        made.put_blob("a/b", descriptor.digest, data)

        assert made.probe_blob("a/b", descriptor.digest, 10)
        assert set(looked_up) == {"near.invalid", NAME}
        assert made.http.origin.host == "near.invalid"
        made.close()


def test_place_that_is_away_is_told_with_what_to_look_at() -> None:
    made = near(f"http://{NAME}", Nearer("eu", connect_to=f"127.0.0.1:{free_port()}"))

    with pytest.raises(errors.NetworkError, match="by connect_to") as caught:
        made.ping()

    assert f"http://{NAME}" in caught.value.message
    assert "endpoints" in caught.value.hint
    made.close()


def test_metadata_service_is_no_place() -> None:
    made = near(
        f"http://{NAME}",
        Nearer("eu", connect_to="169.254.169.254:80"),
        resolve=lambda host, _port: [host],
    )

    with pytest.raises(errors.AddressRefused, match="metadata"):
        made.ping()
    made.close()


def test_credential_goes_to_the_registry_by_its_place() -> None:
    with SampleRegistry(server_name=NAME, auth=BasicAuth({"u": USER.password})) as registry:
        made = by_place(registry, credential=USER)
        made.ping()
        assert [line.status for line in registry.log] == [401, 200]
        made.close()


def test_client_without_a_region_goes_where_the_url_leads(named: SampleRegistry) -> None:
    made = client(
        named.url,
        endpoint={"endpoints": (Nearer("eu", connect_to=f"127.0.0.1:{named.port}"),)},
        resolve=nowhere,
    )

    with pytest.raises(errors.NetworkError):
        made.ping()
    made.close()
