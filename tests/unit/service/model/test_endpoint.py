"""A registry as each region sees it, and who may come to see its credential."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service.model.endpoint import Nearer, RegistryEndpoint

EAST = RegistryEndpoint(
    "east",
    "https://Registry.example",
    trusted_hosts=("auth.example",),
    endpoints=(
        Nearer("eu", connect_to="10.1.0.5:443"),
        Nearer("ap", url="https://ap.registry.example:8443", connect_to="10.2.0.5:443"),
        Nearer("sa", url="http://10.3.0.5:5000"),
    ),
)


@pytest.mark.parametrize(
    ("region", "url", "connect_to"),
    [
        ("eu", "https://Registry.example", "10.1.0.5:443"),
        ("ap", "https://ap.registry.example:8443", "10.2.0.5:443"),
        ("sa", "http://10.3.0.5:5000", None),
        ("us", "https://Registry.example", None),
    ],
)
def test_each_region_has_its_own_way(region: str, url: str, connect_to: str | None) -> None:
    seen = EAST.seen_from(region)

    assert (seen.url, seen.connect_to) == (url, connect_to)
    assert replace(seen, url=EAST.url, connect_to=None) == EAST


def test_credential_is_for_every_host_that_is_spoken_to_and_no_place() -> None:
    assert EAST.audience == (
        "registry.example",
        "ap.registry.example:8443",
        "10.3.0.5:5000",
        "auth.example",
    )


def test_stored_secret_is_bound_to_the_nearer_addresses_too() -> None:
    assert EAST.reach == replace(EAST, region="moon", groups=("a",)).reach
    assert EAST.reach != replace(EAST, endpoints=EAST.endpoints[:1]).reach
    moved = (Nearer("eu", connect_to="10.9.9.9:443"), *EAST.endpoints[1:])
    assert EAST.reach != replace(EAST, endpoints=moved).reach
