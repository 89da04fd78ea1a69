from __future__ import annotations

import pytest

from service.errors import AddressRefused, NetworkError
from service.model.endpoint import RegistryEndpoint
from service.registry.connector import Connector, judge
from service.registry.origin import Origin

PRIVATE = [
    "127.0.0.1",
    "127.1.2.3",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.1.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd12::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "2002:7f00:1::",  # 6to4 of 127.0.0.1
    "2002:a00:1::",
    "64:ff9b::7f00:1",  # NAT64 of 127.0.0.1
    "64:ff9b::a00:1",
    "2001:0:0:0:0:0:80ff:fffe",  # Teredo of 127.0.0.1
]
METADATA = [
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "168.63.129.16",
    "fd00:ec2::254",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::",
    "::169.254.169.254",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_what_a_registry_names_must_be_public(address: str) -> None:
    with pytest.raises(AddressRefused):
        judge(address, trusted=False, host="cdn.example")


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "::1", "fd12::1", "192.168.1.1"])
def test_what_an_administrator_wrote_may_be_private(address: str) -> None:
    judge(address, trusted=True, host="r.example")


@pytest.mark.parametrize("address", METADATA)
@pytest.mark.parametrize("trusted", [True, False])
def test_metadata_services_are_never_spoken_to(address: str, trusted: bool) -> None:
    with pytest.raises(AddressRefused):
        judge(address, trusted=trusted, host="r.example")


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111"])
def test_public_addresses_are_spoken_to(address: str) -> None:
    judge(address, trusted=False, host="cdn.example")


def connector(
    url: str = "https://r.example", *answers: str, trusted: tuple[str, ...] = ()
) -> Connector:
    endpoint = RegistryEndpoint("east", url, trusted_hosts=trusted)
    return Connector(endpoint, resolve=lambda *_: list(answers))


def test_one_bad_address_among_good_ones_refuses_the_host() -> None:
    made = connector("https://r.example", "1.1.1.1", "127.0.0.1")
    with pytest.raises(AddressRefused):
        made.connect(Origin("https", "cdn.example", 443))


def test_plain_http_is_refused_where_the_registry_speaks_tls() -> None:
    made = connector("https://r.example", "1.1.1.1", trusted=("cdn.example",))
    with pytest.raises(AddressRefused, match="https"):
        made.connect(Origin("http", "cdn.example", 80))


def test_a_name_without_addresses_is_a_network_error() -> None:
    with pytest.raises(NetworkError, match="no address"):
        connector("https://r.example").connect(Origin("https", "r.example", 443))


def test_trusted_hosts_are_names_or_names_with_ports() -> None:
    made = connector(trusted=("Auth.example", "cdn.example:8443"))
    assert made.is_trusted(Origin("https", "r.example", 9000))
    assert made.is_trusted(Origin("https", "auth.example", 443))
    assert made.is_trusted(Origin("https", "cdn.example", 8443))
    assert not made.is_trusted(Origin("https", "cdn.example", 443))
    assert not made.is_trusted(Origin("https", "x.r.example", 443))
    assert not made.is_listed(Origin("https", "r.example", 443))


@pytest.mark.parametrize(
    "url", ["https://docker.io", "https://index.docker.io", "https://registry-1.docker.io"]
)
def test_docker_hubs_names_lead_to_its_api(url: str) -> None:
    assert str(connector(url).origin) == "https://registry-1.docker.io"


@pytest.mark.parametrize(
    ("place", "host", "port"),
    [
        ("10.1.0.5:443", "10.1.0.5", 443),
        ("[fd00::5]:8443", "fd00::5", 8443),
        ("private.example:5000", "private.example", 5000),
    ],
)
def test_own_connections_alone_go_to_the_place(place: str, host: str, port: int) -> None:
    looked_up: list[tuple[str, int]] = []

    def resolve(name: str, at: int) -> list[str]:
        looked_up.append((name, at))
        raise NetworkError("as far as it goes")

    own = Origin("https", "registry.example", 443)
    connector = Connector(
        RegistryEndpoint("east", "https://registry.example", connect_to=place), resolve=resolve
    )
    for origin in (own, own._replace(port=444), Origin("https", "auth.example", 443)):
        with pytest.raises(NetworkError):
            connector.connect(origin)

    assert looked_up == [(host, port), ("registry.example", 444), ("auth.example", 443)]
    assert connector.origin == own
