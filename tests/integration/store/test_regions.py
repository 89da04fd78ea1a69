"""Regions and links: versions, sets, and that nothing is left hanging in the air."""

from __future__ import annotations

import pytest
from sqlalchemy import insert

from service.errors import Conflict, NotFoundInStore
from service.model.endpoint import Nearer
from service.model.region import Link, Region
from service.store.database import Database
from service.store.executions import ExecutionStore
from service.store.regions import LinkStore, RegionStore
from service.store.registries import RegistryStore
from service.store.tables_regions import execution_links
from tests.integration.store.builders import a_rule, an_endpoint, in_threads
from tests.integration.store.conftest import OpenDatabase

EU, US = Region("eu", "eu"), Region("us")


@pytest.fixture
def regions(database: Database) -> RegionStore:
    return RegionStore(database)


@pytest.fixture
def links(database: Database) -> LinkStore:
    return LinkStore(database)


def test_each_change_raises_the_version_and_no_change_does_not(regions: RegionStore) -> None:
    first = regions.put(EU, document={"name": "eu"}, expected_version=0)
    same = regions.put(EU, document={"name": "eu"})
    second = regions.put(
        Region("eu", "de"), document={"name": "eu", "jurisdiction": "de"}, expected_version=1
    )

    assert (first.version, same.version, second.version) == (1, 1, 2)
    assert (second.region.jurisdiction, second.document["jurisdiction"]) == ("de", "de")
    assert second.created_at == first.created_at
    assert second.updated_at >= first.updated_at
    with pytest.raises(Conflict, match="is at version 2, not 1"):
        regions.put(EU, document={}, expected_version=1)


def test_another_set_does_not_take_a_region(regions: RegionStore, links: LinkStore) -> None:
    regions.put(EU, document={}, set_name="one")
    regions.put(US, document={})
    links.put(Link("eu", "us"), document={}, set_name="one")

    with pytest.raises(Conflict, match="belongs to the set one"):
        regions.put(EU, document={"x": 1}, set_name="two")
    with pytest.raises(Conflict, match="belongs to the set one"):
        links.put(Link("eu", "us"), document={"x": 1}, set_name="two")
    assert regions.put(EU, document={"x": 1}).set == "one"


def test_of_writers_that_saw_the_same_version_one_wins(
    open_database: OpenDatabase, database: Database
) -> None:
    stores = [RegionStore(database), *(RegionStore(open_database()) for _ in range(3))]

    def write(number: int) -> bool:
        try:
            stores[number].put(EU, document={"by": number}, expected_version=0)
        except Conflict:
            return False
        return True

    assert in_threads(4, write).count(True) == 1


def test_all_are_read_at_once(regions: RegionStore, links: LinkStore) -> None:
    for name in ("a", "b", "c"):
        regions.put(Region(name, None if name == "c" else name), document={})
    links.put(Link("b", "a", 1000, 0.5), document={})
    links.put(Link("a", "b"), document={})

    assert regions.jurisdictions() == {"a": "a", "b": "b", "c": None}
    assert links.all() == (Link("a", "b"), Link("b", "a", 1000, 0.5))
    assert [one.region.name for one in regions.list("a", 1)] == ["b"]
    assert [one.link.name for one in links.list("a:b")] == ["b:a"]


def test_link_needs_both_of_its_regions(regions: RegionStore, links: LinkStore) -> None:
    regions.put(EU, document={})

    with pytest.raises(Conflict, match="names region us, which is not declared") as caught:
        links.put(Link("eu", "us"), document={})
    assert "declare us first" in caught.value.hint
    assert links.all() == ()


def test_region_that_something_names_stays(
    regions: RegionStore, links: LinkStore, database: Database
) -> None:
    for name in ("eu", "us", "u", "s"):
        regions.put(Region(name), document={})
    registries = RegistryStore(database, None)
    registries.put(an_endpoint(region="eu"), document={})
    registries.put(
        an_endpoint("west", endpoints=(Nearer("us", None, "10.0.0.1:443"),)), document={}
    )
    links.put(Link("us", "u"), document={})

    for name, named in (("eu", "registry east"), ("us", "registry west"), ("u", "link us:u")):
        with pytest.raises(Conflict, match=named):
            regions.delete(name)
    regions.delete("s")
    registries.delete("west")
    with pytest.raises(Conflict, match="link us:u"):
        regions.delete("us")
    links.delete("us:u")
    regions.delete("us")
    assert sorted(regions.jurisdictions()) == ["eu", "u"]


def test_names_are_no_patterns(regions: RegionStore, links: LinkStore) -> None:
    for name in ("a_b", "axb", "z"):
        regions.put(Region(name), document={})
    links.put(Link("axb", "z"), document={})

    regions.delete("a_b")
    with pytest.raises(Conflict):
        regions.delete("axb")


@pytest.mark.parametrize("kind", ["regions", "links"])
def test_what_is_not_there_is_not_found(kind: str, regions: RegionStore, links: LinkStore) -> None:
    store = regions if kind == "regions" else links

    with pytest.raises(NotFoundInStore):
        store.get("x:y")
    with pytest.raises(NotFoundInStore):
        store.delete("x:y")


def test_registry_s_nearer_addresses_survive(database: Database) -> None:
    near = (Nearer("eu", "https://near.example", "10.0.0.1:443"), Nearer("us", None, "[fd00::1]:1"))
    store = RegistryStore(database, None)

    store.put(an_endpoint(endpoints=near), document={})

    assert store.get("east").endpoint.endpoints == near


def test_what_crossed_is_told_by_the_regions_of_registries(
    database: Database, links: LinkStore
) -> None:
    store = RegistryStore(database, None)
    for name, region in (("a", "eu"), ("b", "eu"), ("c", "us"), ("d", "us")):
        store.put(an_endpoint(name, region=region), document={})
    moved = [("a", "b", 1), ("a", "c", 10), ("b", "d", 100), ("c", "a", 1000), ("gone", "c", 9)]
    execution = ExecutionStore(database).create(a_rule(), trigger="test").id
    rows = [
        {
            "execution_id": execution,
            "from_registry": here,
            "to_registry": to,
            "copies": 1,
            "bytes": n,
        }
        for here, to, n in moved
    ]
    database.write(lambda connection: connection.execute(insert(execution_links), rows))

    assert links.crossed() == {"eu:us": 110, "us:eu": 1000}
