"""Documents of regions, links and nearer addresses, alone and in a file."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml

from api.config_file import load_text
from api.openapi import config_schema
from api.schemas.region import effective_link, effective_region, load_link, load_region
from api.schemas.registry import effective_registry, load_registry
from service.errors import InvalidFields
from service.model.endpoint import Nearer
from service.model.region import Link, Region

REGISTRY: dict[str, Any] = {"name": "east", "url": "https://registry.east.example"}
FILE = """\
version: 1
regions:
  - {name: us-east, jurisdiction: us}
  - {name: eu-west, jurisdiction: eu}
links:
  - {from: us-east, to: eu-west, bandwidth: 200Mbit/s, cost_per_gib: 0.02}
registries:
  - name: east
    url: https://registry.east.example
    region: us-east
    endpoints:
      eu-west: {url: https://registry.east.example, connect_to: 10.1.0.5:443}
"""


def problems_of(load: Any, document: Any) -> dict[str, str]:
    with pytest.raises(InvalidFields) as caught:
        load(document)
    return {one.path: f"{one.message} | {one.hint}" for one in caught.value.problems}


def told(text: str) -> dict[str, tuple[int | None, str]]:
    with pytest.raises(InvalidFields) as caught:
        load_text(text)
    return {one.path: (one.line, f"{one.message} | {one.hint}") for one in caught.value.problems}


def test_region_is_read_and_shown_as_it_was_written() -> None:
    document = {"name": "eu", "jurisdiction": "eu"}

    region = load_region(document)

    assert region == Region("eu", "eu")
    assert effective_region(region) == document
    assert effective_region(load_region({"name": "eu"})) == {"name": "eu"}


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"name": "EU"}, "name", "is not a name"),
        ({"name": "a:b"}, "name", "is not a name"),
        ({"jurisdiction": ""}, "jurisdiction", "may not be empty"),
        ({"jurisdiction": None}, "jurisdiction", "leave the key out"),
        ({"redis_url_env": "TRANSSHIP_SECRET_A"}, "redis_url_env", "TRANSSHIP_REDIS_URL"),
    ],
)
def test_bad_region_names_the_field(change: dict[str, Any], path: str, words: str) -> None:
    found = problems_of(load_region, {"name": "eu", **change})

    assert list(found) == [path]
    assert words in found[path]


@pytest.mark.parametrize(
    ("document", "bandwidth", "cost"),
    [
        ({}, None, None),
        ({"bandwidth": "200Mbit/s", "cost_per_gib": 0.02}, 25_000_000, 0.02),
        ({"cost_per_gib": 0}, None, 0.0),
        ({"cost_per_gib": 3}, None, 3.0),
    ],
)
def test_link_is_read(document: dict[str, Any], bandwidth: int | None, cost: float | None) -> None:
    link = load_link({"from": "us", "to": "eu", **document})

    assert link == Link("us", "eu", bandwidth, cost)
    assert link.name == "us:eu"
    assert load_link(effective_link(link)) == link


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"to": "us"}, "to", "is where the link begins"),
        ({"to": 5}, "to", "must be a text"),
        ({"bandwidth": 200}, "bandwidth", "must be a text"),
        ({"bandwidth": "fast"}, "bandwidth", "is not a speed"),
        ({"bandwidth": [{"limit": "1MB/s"}]}, "bandwidth", "must be a text"),
        ({"cost_per_gib": -0.01}, "cost_per_gib", "between 0 and"),
        ({"cost_per_gib": float("nan")}, "cost_per_gib", "between 0 and"),
        ({"cost_per_gib": "0.02"}, "cost_per_gib", "must be a number"),
        ({"cost_per_gib": True}, "cost_per_gib", "must be a number"),
        ({"cost_per_gb": 1}, "cost_per_gb", "did you mean 'cost_per_gib'?"),
    ],
)
def test_bad_link_names_the_field(change: dict[str, Any], path: str, words: str) -> None:
    found = problems_of(load_link, {"from": "us", "to": "eu", **change})

    assert list(found) == [path]
    assert words in found[path]


def test_nearer_addresses_are_read_and_shown_as_they_were_written() -> None:
    written = {
        "eu-west": {"connect_to": "10.1.0.5:443"},
        "ap": {"url": "https://east.internal.example", "connect_to": "[fd00::5]:8443"},
        "sa": {"url": "http://10.0.0.9:5000"},
    }

    endpoint = load_registry({**REGISTRY, "endpoints": written}).endpoint

    assert endpoint.endpoints == (
        Nearer("eu-west", connect_to="10.1.0.5:443"),
        Nearer("ap", "https://east.internal.example", "[fd00::5]:8443"),
        Nearer("sa", "http://10.0.0.9:5000"),
    )
    assert effective_registry(endpoint)["endpoints"] == written
    effective = effective_registry(endpoint)
    assert effective_registry(load_registry(effective).endpoint) == effective


@pytest.mark.parametrize(
    ("addresses", "path", "words"),
    [
        ({"eu": {}}, "endpoints.eu", "neither url nor connect_to"),
        ({"eu": None}, "endpoints.eu", "may not be null"),
        ({"eu": "10.1.0.5:443"}, "endpoints.eu", "must be an object"),
        ({"EU": {"connect_to": "10.1.0.5:443"}}, "endpoints.EU", "is not a name"),
        ({"eu": {"connect_to": "10.1.0.5"}}, "endpoints.eu.connect_to", "has no port"),
        ({"eu": {"connect_to": "[fd00::5]"}}, "endpoints.eu.connect_to", "has no port"),
        ({"eu": {"connect_to": "fd00::5:443"}}, "endpoints.eu.connect_to", "host"),
        ({"eu": {"connect_to": "10.1.0.5:0"}}, "endpoints.eu.connect_to", "out of range"),
        ({"eu": {"connect_to": "https://a:443"}}, "endpoints.eu.connect_to", "leave scheme"),
        ({"eu": {"connect_to": "u@a:443"}}, "endpoints.eu.connect_to", "user information"),
        ({"eu": {"url": "https://a.example/x"}}, "endpoints.eu.url", "no path"),
        ({"eu": {"connect": "a:1"}}, "endpoints.eu.connect", "did you mean 'connect_to'?"),
    ],
)
def test_bad_nearer_address_names_the_field(addresses: Any, path: str, words: str) -> None:
    found = problems_of(load_registry, {**REGISTRY, "endpoints": addresses})

    assert list(found) == [path]
    assert words in found[path]


def test_connect_to_does_not_go_with_a_proxy() -> None:
    proxied = {**REGISTRY, "proxy": "http://proxy.example:3128"}

    found = problems_of(
        load_registry, {**proxied, "endpoints": {"eu": {"connect_to": "10.1.0.5:443"}}}
    )

    assert "does not go with proxy" in found["endpoints.eu.connect_to"]
    assert load_registry({**proxied, "endpoints": {"eu": {"url": "https://eu.example"}}})


# ---- the file ------------------------------------------------------------------------------------


def test_file_of_the_design_is_read() -> None:
    config = load_text(FILE)

    assert config.regions[1] == Region("eu-west", "eu")
    assert config.links == (Link("us-east", "eu-west", 25_000_000, 0.02),)
    assert config.registries[0].endpoints[0].connect_to == "10.1.0.5:443"
    assert config.documents["links", "us-east:eu-west"]["bandwidth"] == "200Mbit/s"
    jsonschema.Draft202012Validator(config_schema()).validate(yaml.safe_load(FILE))


@pytest.mark.parametrize(
    ("old", "new", "line", "path", "words"),
    [
        ("to: eu-west,", "to: eu-wst,", 6, "links[0].to", "did you mean 'eu-west'?"),
        ("from: us-east", "from: ap", 6, "links[0].from", "there is no region 'ap'"),
        ("from: us-east", "from: eu-west", 6, "links[0].to", "where the link begins"),
        (
            "      eu-west: {url",
            "      eu-wets: {url",
            12,
            "registries[0].endpoints.eu-wets",
            "did you mean 'eu-west'?",
        ),
        ("name: eu-west", "name: us-east", 4, "regions[1].name", "twice, first in line 3"),
        ("cost_per_gib: 0.02}", "cost: 1}", 6, "links[0].cost", "unknown key"),
        ("connect_to: 10.1.0.5:443", "connect_to: x", 12, "", "has no port"),
    ],
)
def test_mistake_is_told_by_its_line(old: str, new: str, line: int, path: str, words: str) -> None:
    found = told(FILE.replace(old, new, 1))

    where = path or "registries[0].endpoints.eu-west.connect_to"
    assert where in found
    assert found[where][0] == line
    assert words in found[where][1]


def test_link_that_stands_twice_is_told() -> None:
    link = "  - {from: us-east, to: eu-west, cost_per_gib: 0.02}\n"

    found = told(FILE.replace("registries:", f"{link}registries:", 1))

    assert "stands twice, first in line 6" in found["links[1].from"][1]


def test_registry_in_a_region_that_nobody_declared_is_allowed() -> None:
    config = load_text(FILE.replace("    region: us-east\n", "    region: moon\n"))

    assert config.registries[0].region == "moon"


def test_region_that_cannot_be_read_is_told_of_alone() -> None:
    found = told(FILE.replace("jurisdiction: eu}", "jurisdiction: 5}"))

    assert list(found) == ["regions[1].jurisdiction"]
