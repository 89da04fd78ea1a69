"""Versions in tags and ranges of them: the tables of docs/reference/transship-yaml.md."""

from __future__ import annotations

import random

import pytest

from service.errors import InvalidConfiguration
from service.model.semver import parse_range, parse_tag

TAKES = [
    (
        ">=1.2 <3",
        ("1.2", "1.2.0", "v1.9", "2.9.9", "1.2-alpine"),
        ("3", "3.0.0", "1.1.9", "latest"),
    ),
    (">=1.2, <3", ("1.2", "2"), ("3",)),
    (">= 1.2", ("1.2",), ("1.1",)),
    ("1.2", ("1.2", "1.2.0", "1.2.9"), ("1.3", "1.1")),
    ("1.2.3", ("1.2.3", "v1.2.3", "1.2.3_b7", "1.2.3-alpine"), ("1.2.3.4", "1.2.30", "1.2.3-rc1")),
    ("=1.2.3", ("1.2.3",), ("1.2.4",)),
    ("!=1.2", ("1.3", "1.1.9"), ("1.2", "1.2.7")),
    ("1.x || >=3.1 <3.3", ("1.5", "3.1", "3.2.9"), ("2", "3.3", "3.0.9")),
    ("*", ("1", "0.0.1", "20240131"), ("latest", "1-rc1", "1a2b3c4")),
    ("^1.2.3", ("1.2.3", "1.99"), ("2", "1.2.2")),
    ("^0.2.3", ("0.2.3", "0.2.9"), ("0.3.0", "0.2.2")),
    ("^0.0.3", ("0.0.3",), ("0.0.4",)),
    ("^0.0", ("0.0.9",), ("0.1",)),
    ("^0", ("0.9",), ("1",)),
    ("~1.2.3", ("1.2.3", "1.2.9"), ("1.3", "1.2.2")),
    ("~1.2", ("1.2", "1.2.9"), ("1.3",)),
    ("~1", ("1.9",), ("2",)),
    ("1.2 - 2.3", ("1.2", "2.3.9"), ("2.4", "1.1.9")),
    ("1.2.3 - 2.3.4", ("1.2.3", "2.3.4"), ("2.3.5",)),
    (">1.2", ("1.3",), ("1.2", "1.2.9")),
    (">1.2.3", ("1.2.4", "1.2.3.1"), ("1.2.3",)),
    ("<=1.2", ("1.2", "1.2.9"), ("1.3", "1.3.0-rc1")),
    ("<1.2", ("1.1.9",), ("1.2", "1.2.9", "1.2.0-rc1")),
    (">=3.22", ("3.22", "3.22-rfcurated", "3.22-rfcurated-amd64", "3.23-alpine"), ("3.21-alpine",)),
    (">=1.3.0-rc.1", ("1.3.0-rc.1", "1.3.0-rc2", "1.3", "1.4"), ("1.3.0-beta", "1.4.0-rc1")),
    (">=1.3.0-rc.1 <1.4", ("1.3.0-rc.2", "1.3.5"), ("1.4.0-rc1", "1.4")),
    (">=2024", ("2024.01.31", "2024.1"), ("2023.12.31",)),
    (">x", (), ("1",)),
]


@pytest.mark.parametrize(("text", "inside", "outside"), TAKES, ids=[row[0] for row in TAKES])
def test_a_range_takes(text: str, inside: tuple[str, ...], outside: tuple[str, ...]) -> None:
    found = parse_range(text)

    assert [tag for tag in inside if not found.takes(tag)] == []
    assert [tag for tag in outside if found.takes(tag)] == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("  ", "empty"),
        (">=", "no version at character 3"),
        ("1.2 ||", "no version at character 7"),
        ("|| 1", "no version at character 1"),
        ("abc", "no version at character 1"),
        ("1.2,", "after the comma"),
        ("1..2", "at character 2"),
        (">=1 && <2", "no version at character 5"),
        (">=1.2+build", "'\\+', which ends no version at character 6"),
        (">=3.22-alpine", "'alpine', which is no prerelease but a variant at character 8"),
        ("1" * 300, "256"),
    ],
)
def test_a_broken_range_is_refused_at_its_place(text: str, words: str) -> None:
    with pytest.raises(InvalidConfiguration, match=words) as caught:
        parse_range(text)

    assert caught.value.hint or "256" in words


@pytest.mark.parametrize(
    ("tag", "numbers", "prerelease", "variant"),
    [
        ("1.2", (1, 2), "", ""),
        ("v1.2.0", (1, 2), "", ""),
        ("0", (0,), "", ""),
        ("1.2.3_5", (1, 2, 3), "", ""),
        ("3.22-alpine", (3, 22), "", "alpine"),
        ("1.2.3-rc.1", (1, 2, 3), "rc.1", ""),
        ("1.2.3-RC1-alpine", (1, 2, 3), "rc1", "alpine"),
        ("17-jdk-ea", (17,), "ea", "jdk"),
        ("1.0-M1", (1,), "m1", ""),
        ("1.0-SNAPSHOT", (1,), "snapshot", ""),
        ("1.0-alpha-2", (1,), "alpha.2", ""),
        ("1.2.3-debian-12-r4", (1, 2, 3), "", "debian-12-r4"),
    ],
)
def test_a_tag_names_a_version(
    tag: str, numbers: tuple[int, ...], prerelease: str, variant: str
) -> None:
    version = parse_tag(tag)

    assert version is not None
    assert (version.numbers, version.prerelease, version.variant) == (numbers, prerelease, variant)


@pytest.mark.parametrize("tag", ["latest", "main", "1a2b3c4", "v", "1.2.3rc1", "stable-1.2", "1."])
def test_a_tag_that_names_no_version_is_in_no_range(tag: str) -> None:
    assert parse_tag(tag) is None
    assert not parse_range("*").takes(tag)


def test_versions_are_ordered_whatever_order_they_come_in() -> None:
    ordered = [
        "0.9",
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0-rc2",
        "1",
        "1-alpine",
        "1-debian-9",
        "1-debian-12",
        "1.0.0.1",
        "1.9",
        "1.10",
        "2.0-SNAPSHOT",
        "2",
    ]
    seed = random.randrange(1 << 30)
    print("seed", seed)
    shuffled = random.Random(seed).sample(ordered, len(ordered))

    def order(tag: str) -> object:
        version = parse_tag(tag)
        assert version is not None
        return version.order

    assert sorted(shuffled, key=order) == ordered  # type: ignore[arg-type, return-value]
