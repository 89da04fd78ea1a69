"""Speeds, rates and windows as people write them, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from api.schemas.limits import effective_bandwidth, effective_limits
from api.schemas.registry import load_registry
from api.schemas.rule import effective_rule, load_rule
from service.errors import InvalidFields
from service.model.endpoint import Limits
from service.model.rule import BandwidthLimit

RULE: dict[str, Any] = {
    "name": "fleet",
    "source": "east",
    "select": [{"repositories": ["**"]}],
    "destinations": [{"registry": "west"}],
}


def limits(**given: Any) -> Limits:
    document = {"name": "east", "url": "https://e.example", "limits": given}
    return load_registry(document).endpoint.limits


def bandwidth(value: Any) -> tuple[BandwidthLimit, ...]:
    return load_rule({**RULE, "bandwidth": value}).bandwidth


@pytest.mark.parametrize(
    ("text", "speed"),
    [
        ("100MB/s", 100_000_000),
        ("100 MB/s", 100_000_000),
        ("1.5MB/s", 1_500_000),
        ("100MiB/s", 100 << 20),
        ("64KiB/s", 65536),
        ("50kB/s", 50_000),
        ("1GB/s", 10**9),
        ("1TB/s", 10**12),
        ("200Mbit/s", 25_000_000),
        ("1Gbit/s", 125_000_000),
        ("80000bit/s", 10_000),
        ("10000B/s", 10_000),
    ],
)
def test_speed_is_read_by_its_unit(text: str, speed: int) -> None:
    assert limits(bandwidth=text).bandwidth == speed
    assert bandwidth(text) == (BandwidthLimit(speed),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0MB/s",
        "-1MB/s",
        "1B/s",
        "9kB/s",
        "1000000000000000000B/s",
        "2TB/s",
        "100",
        "100MB",
        "100mb/s",
        "100MBps",
        "1e3MB/s",
        "NaNMB/s",
        "\u0661MB/s",
        " 1MB/s",
        100,
        1.5,
        True,
        None,
        {},
    ],
)
def test_other_speeds_are_refused(text: Any) -> None:
    with pytest.raises(InvalidFields) as caught:
        limits(bandwidth=text)
    assert caught.value.problems[0].path == "limits.bandwidth"
    with pytest.raises(InvalidFields):
        bandwidth(text)


@pytest.mark.parametrize("rate", [0.1, 1, 50, 99.5, 100_000])
def test_rate_is_a_number(rate: float) -> None:
    assert limits(requests_per_second=rate).requests_per_second == float(rate)


@pytest.mark.parametrize(
    "rate", [0, -1, 0.05, 100_001, "50", True, None, float("inf"), float("nan"), [50]]
)
def test_other_rates_are_refused(rate: Any) -> None:
    with pytest.raises(InvalidFields, match="requests_per_second"):
        limits(requests_per_second=rate)


def test_windows_are_read_and_shown_as_they_are() -> None:
    written = [
        {"limit": "50MB/s", "between": "08:00-20:00", "days": "mon-fri"},
        {"limit": "10MB/s", "between": "22:30-06:00", "days": ["sat", "sun"]},
        {"limit": "1MiB/s", "days": "fri-mon"},
        {"limit": "2GB/s", "between": "00:00-24:00"},
    ]

    found = bandwidth(written)

    assert found == (
        BandwidthLimit(50_000_000, 480, 1200, (0, 1, 2, 3, 4)),
        BandwidthLimit(10_000_000, 1350, 360, (5, 6)),
        BandwidthLimit(1 << 20, None, None, (0, 4, 5, 6)),
        BandwidthLimit(2_000_000_000, 0, 1440),
    )
    assert bandwidth(effective_bandwidth(found)) == found


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ([], "bandwidth"),
        ({}, "bandwidth"),
        ([{}], "bandwidth[0].limit"),
        ([{"limit": "5MB/s", "betwen": "x"}], "bandwidth[0].betwen"),
        ([{"limit": "5MB/s", "between": "8-20"}], "bandwidth[0]"),
        ([{"limit": "5MB/s", "between": "08:00-08:00"}], "bandwidth[0]"),
        ([{"limit": "5MB/s", "between": "25:00-26:00"}], "bandwidth[0]"),
        ([{"limit": "5MB/s", "between": "08:00-24:30"}], "bandwidth[0]"),
        ([{"limit": "5MB/s", "days": "mon-xyz"}], "bandwidth[0].days"),
        ([{"limit": "5MB/s", "days": []}], "bandwidth[0].days"),
        ([{"limit": "5MB/s", "days": [1]}], "bandwidth[0].days"),
        ([{"limit": "5MB/s"}] * 51, "bandwidth"),
    ],
)
def test_wrong_windows_name_their_place(value: Any, path: str) -> None:
    with pytest.raises(InvalidFields) as caught:
        bandwidth(value)
    assert [problem.path for problem in caught.value.problems] == [path]


def test_what_is_shown_can_be_written() -> None:
    found = limits(requests_per_second=2.5, concurrency=7, bandwidth="1.5MB/s")
    assert limits(**effective_limits(found)) == found
    assert effective_limits(Limits()) == {}
    rule = load_rule({**RULE, "bandwidth": "5MB/s", "trigger": {"timezone": "Europe/Berlin"}})
    again = load_rule(effective_rule(rule))
    assert (again.bandwidth, again.trigger) == (rule.bandwidth, rule.trigger)
