"""Which lists of digests are asked for, and how long they are believed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from service.errors import RegistryError, ServerError
from service.replication import listed_digests
from service.replication.listed_digests import BELIEVED_SECONDS, ListedDigests

TAGS = [f"v{number}" for number in range(40)]
WANTED = [("west", "app", tag) for tag in TAGS]


class Registry:
    """Lists ten digests a page; counts the pages."""

    def __init__(self, *tags: str, error: RegistryError | None = None) -> None:
        self.tags = tags
        self.pages = 0
        self.error = error
        self.has_list = True

    def tags_with_digests(self, repository: str) -> Iterator[Mapping[str, str]] | None:
        return self._pages() if self.has_list else None

    def _pages(self) -> Iterator[Mapping[str, str]]:
        for start in range(0, len(self.tags), 10):
            self.pages += 1
            if self.error:
                raise self.error
            yield {tag: f"of {tag}" for tag in self.tags[start : start + 10]}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def listed(registry: Registry, clock: Clock | None = None) -> ListedDigests:
    return ListedDigests(lambda _: registry, clock or Clock())


def test_list_is_read_as_far_as_it_is_needed() -> None:
    registry = Registry(*TAGS)
    found = listed(registry)

    found.expect(WANTED[:20])

    assert [found.of(*place) for place in WANTED[:20]] == [f"of {tag}" for tag in TAGS[:20]]
    assert registry.pages == 2
    assert found.of("west", "app", "v30") == ""

    found.expect(WANTED[20:])
    assert found.of("west", "app", "v39") == "of v39"
    assert registry.pages == 4


def test_few_tags_and_digests_are_not_worth_a_list() -> None:
    registry = Registry(*TAGS)
    found = listed(registry)

    found.expect(WANTED[:2])
    found.expect(("west", "app", f"sha256:{number:064}") for number in range(9))

    assert registry.pages == 0


def test_long_list_is_given_up_when_it_costs_more_than_it_spares() -> None:
    registry = Registry(*(f"other{number}" for number in range(1000)))
    found = listed(registry)

    found.expect(WANTED)

    assert registry.pages == len(WANTED) / listed_digests.HEADS_A_PAGE


def test_list_that_fails_is_not_asked_again() -> None:
    registry = Registry(*TAGS, error=ServerError("no"))
    found = listed(registry)

    found.expect(WANTED)
    found.expect(WANTED)

    assert registry.pages == 1
    assert found.of(*WANTED[0]) == ""


def test_list_is_believed_for_a_minute() -> None:
    clock = Clock()
    found = listed(Registry(*TAGS), clock)
    found.expect(WANTED)

    clock.now += BELIEVED_SECONDS - 1
    assert found.of(*WANTED[0])
    clock.now += 1
    assert found.of(*WANTED[0]) == ""


def test_provider_that_is_recognised_later_is_asked_then() -> None:
    registry = Registry(*TAGS)
    registry.has_list = False
    found = listed(registry)
    found.expect(WANTED)
    registry.has_list = True

    found.expect(WANTED)

    assert found.of(*WANTED[0]) == "of v0"


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed_digests, "KEPT", 50)
    found = listed(Registry(*TAGS))

    for name in ("first", "second"):
        found.expect(("west", name, tag) for tag in TAGS)

    assert found.of("west", "first", "v0") == ""
    assert found.of("west", "second", "v0") == "of v0"
