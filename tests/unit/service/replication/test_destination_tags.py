"""A listing of a destination is asked for where it spares requests, and believed no further than it may be."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from service.errors import (
    AuthenticationFailed,
    Denied,
    InvalidReference,
    NetworkError,
    ProtocolError,
    RepositoryNotFound,
    ServerError,
    Throttled,
    TransshipError,
    Unsupported,
)
from service.registry.results import TagPage
from service.replication import destination_tags as module
from service.replication.destination_tags import MAX_REFUSALS, DestinationTags

SIGNATURE = f"sha256-{'a' * 64}.sig"
TAGS = [f"v{number}" for number in range(10)]


@dataclass
class West:
    """A registry that lists what it is told to, and counts its pages."""

    tags: Sequence[str] = ()
    error: TransshipError | None = None
    page: int = 1000
    name: str = "west"
    asked: list[str] = field(default_factory=list)

    def list_tags(self, repository: str) -> Iterator[TagPage]:
        for start in range(0, max(len(self.tags), 1), self.page):
            self.asked.append(repository)
            if self.error is not None:
                raise self.error
            end = start + self.page
            yield TagPage(tuple(self.tags[start:end]), "more" if end < len(self.tags) else None)


def nobody(_registry: str, _repository: str, _tags: Sequence[str]) -> Collection[str]:
    return ()


def page(
    *tags: str, repository: str = "app", registry: str = "west"
) -> list[list[tuple[str, ...]]]:
    return [[(registry, repository, tag)] for tag in tags]


def missing(tags: DestinationTags, west: West, *names: str, repository: str = "app") -> list[str]:
    """Ask for names one after the other, all of which are missing; return those that were asked for."""
    asked = []
    for name in names:
        if not tags.lacks(west.name, repository, name):
            asked.append(name)
            tags.saw(west, repository, name, there=False)
    return asked


def test_one_listing_tells_of_all_that_is_missing() -> None:
    tags, west = DestinationTags(nobody), West()

    first = tags.expect(page(*TAGS))

    assert first == {0}
    assert missing(tags, west, *TAGS) == TAGS[:1]
    assert west.asked == ["app"]


def test_what_is_listed_is_asked_for() -> None:
    tags, west = DestinationTags(nobody), West(["v4", "v5", "other"])
    tags.expect(page(*TAGS))

    asked = missing(tags, west, *TAGS[:3]) + [n for n in TAGS if not tags.lacks("west", "app", n)]

    assert asked == ["v0", "v4", "v5"]


def test_nothing_is_listed_where_nothing_is_missing() -> None:
    tags, west = DestinationTags(nobody), West()
    tags.expect(page(*TAGS))

    for name in TAGS:
        assert not tags.lacks("west", "app", name)
        tags.saw(west, "app", name, there=True)

    assert west.asked == []


@pytest.mark.parametrize(("count", "listings"), [(1, 0), (2, 0), (3, 1)])
def test_a_listing_has_to_spare_something(count: int, listings: int) -> None:
    tags, west = DestinationTags(nobody), West()

    first = tags.expect(page(*TAGS[:count]))

    assert bool(first) is bool(listings)
    missing(tags, west, *TAGS[:count])
    assert len(west.asked) == listings


def test_few_missing_among_many_that_are_there_are_not_worth_a_listing() -> None:
    tags, west = DestinationTags(nobody), West(TAGS)
    tags.expect(page(*TAGS))

    for name in TAGS[:-3]:
        tags.saw(west, "app", name, there=True)
    missing(tags, west, *TAGS[-3:])

    assert west.asked == []


def test_no_more_pages_are_followed_than_the_listing_can_spare() -> None:
    tags, west = DestinationTags(nobody), West([f"x{number}" for number in range(100)], page=1)
    tags.expect(page(*TAGS))

    assert missing(tags, west, *TAGS) == TAGS  # 9 were left: 8 pages, and no more tries

    assert len(west.asked) == 8


def test_a_later_page_of_the_repository_asks_for_nothing_more() -> None:
    tags, west = DestinationTags(nobody), West()
    tags.expect(page(*TAGS))
    missing(tags, west, *TAGS)

    assert tags.expect(page("w1", "w2", "w3")) == set()
    assert missing(tags, west, "w1", "w2", "w3") == []
    assert west.asked == ["app"]


def test_each_repository_and_registry_has_its_own_listing() -> None:
    tags, west, north = DestinationTags(nobody), West(), West(name="north")
    both = [[("west", "a", tag), ("north", "a", tag)] for tag in TAGS]
    tags.expect([*both, *page(*TAGS, repository="b")])

    assert missing(tags, west, *TAGS, repository="a") == TAGS[:1]
    assert not tags.lacks("north", "a", "v1")
    assert missing(tags, north, *TAGS, repository="a") == TAGS[:1]
    assert missing(tags, west, *TAGS, repository="b") == TAGS[:1]


def test_what_we_wrote_ourselves_is_asked_for_and_not_first() -> None:
    def written(registry: str, repository: str, names: Sequence[str]) -> Collection[str]:
        assert (registry, repository) == ("west", "app")
        return {"v1", "v2"} & set(names)

    tags, west = DestinationTags(written), West()

    assert tags.expect(page(*TAGS)) == set()
    assert missing(tags, west, *TAGS) == ["v0", "v1", "v2"]


def test_a_name_that_was_not_announced_is_asked_for() -> None:
    """Whether we wrote it is not known: a lagging listing would make a loss of it."""
    tags, west = DestinationTags(nobody), West()
    tags.expect(page(*TAGS))
    missing(tags, west, *TAGS)

    assert not tags.lacks("west", "app", "unheard-of")


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationFailed("no", registry="west", status=401),
        Denied("no", registry="west", status=403, oci_code="DENIED"),
        RepositoryNotFound("no such page", registry="west", status=404),
        RepositoryNotFound("no", registry="west", status=404, oci_code="NOT_FOUND"),
        Unsupported("no", registry="west", status=405),
        Throttled("slower", registry="west", status=429),
        ServerError("no", registry="west", status=500),
        NetworkError("no", registry="west"),
        ProtocolError("no JSON", registry="west"),
        InvalidReference("not a repository"),
    ],
    ids=lambda error: f"{type(error).__name__}-{getattr(error, 'oci_code', '')}",
)
def test_a_listing_that_is_refused_says_nothing(error: TransshipError) -> None:
    tags, west = DestinationTags(nobody), West(error=error)
    for number in range(MAX_REFUSALS + 2):
        tags.expect(page(*TAGS, repository=f"app{number}"))

        assert missing(tags, west, *TAGS, repository=f"app{number}") == TAGS

    assert len(west.asked) == MAX_REFUSALS, "a registry that does not list was asked on and on"


def test_a_list_that_breaks_off_says_nothing() -> None:
    class Breaking(West):
        def list_tags(self, repository: str) -> Iterator[TagPage]:
            yield TagPage(("x",), "more")
            raise RepositoryNotFound("no", registry="west", status=404, oci_code="NAME_UNKNOWN")

    tags, west = DestinationTags(nobody), Breaking()
    tags.expect(page(*TAGS))

    assert missing(tags, west, *TAGS) == TAGS


def test_a_listing_without_a_tag_that_was_seen_there_says_nothing() -> None:
    tags, west = DestinationTags(nobody), West([])
    tags.expect(page(*TAGS))
    tags.saw(west, "app", "v0", there=True)

    assert missing(tags, west, *TAGS[1:]) == TAGS[1:]
    assert west.asked == ["app"]


def test_a_listing_is_not_believed_any_more_once_a_tag_that_it_lacks_is_seen() -> None:
    tags, west = DestinationTags(nobody), West([])
    tags.expect(page(*TAGS))
    missing(tags, west, "v0")
    assert tags.lacks("west", "app", "v1")

    tags.saw(west, "app", "v2", there=True)  # asked for before the listing came

    assert not tags.lacks("west", "app", "v1")


def test_signatures_are_missing_only_with_their_repository() -> None:
    """Some registries list no signatures."""
    gone = RepositoryNotFound("no", registry="west", status=404, oci_code="NAME_UNKNOWN")
    for west, expected in ((West([]), False), (West(error=gone), True)):
        tags = DestinationTags(nobody)
        tags.expect(page(*TAGS))
        missing(tags, west, *TAGS)

        assert tags.lacks("west", "app", SIGNATURE) is expected
        assert tags.is_gone("west", "app") is expected
        assert tags.lacks("west", "app", "v5")

        tags.saw(west, "app", SIGNATURE, there=True)
        assert not tags.is_gone("west", "app")


def test_digests_and_signatures_call_for_no_listing() -> None:
    tags, west = DestinationTags(nobody), West()
    names = [f"sha256:{number:064x}" for number in range(5)]
    names += [f"sha256-{number:064x}" for number in range(5)]

    assert tags.expect(page(*names)) == set()
    assert missing(tags, west, *names) == names
    assert west.asked == []


def test_memory_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NAMES_KEPT", 50)
    monkeypatch.setattr(module, "PLACES_KEPT", 20)
    tags, west = DestinationTags(nobody), West([f"x{number}" for number in range(5)])
    for number in range(100):
        tags.expect(page(*TAGS, repository=f"app{number}"))
        missing(tags, west, *TAGS, repository=f"app{number}")

    kept = list(tags._places.values())
    assert len(kept) == 20
    assert tags._names == sum(known.names for known in kept) <= 50
    assert tags.lacks("west", "app99", "v1")
    assert not tags.lacks("west", "app90", "v1")
