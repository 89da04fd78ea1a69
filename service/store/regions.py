"""Regions and links as saved: what was written, and the values that it means."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Table, delete, func, or_, select, update

from service.errors import Conflict, NotFoundInStore
from service.model.region import Link, Region
from service.store import codec
from service.store.clock import now_epoch
from service.store.database import Database, upsert
from service.store.tables import registries
from service.store.tables_regions import execution_links, links, regions
from service.store.versions import check_created, check_set, check_version, is_unchanged


@dataclass(frozen=True, slots=True)
class StoredRegion:
    """One region with its document and version."""

    region: Region
    document: dict[str, Any]
    version: int
    created_at: float
    updated_at: float
    set: str | None = None  # the `apply --set` that it belongs to


@dataclass(frozen=True, slots=True)
class StoredLink:
    """One link with its document and version."""

    link: Link
    document: dict[str, Any]
    version: int
    created_at: float
    updated_at: float
    set: str | None = None


class RegionStore:
    """The table of regions; the name is the identity."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(
        self,
        region: Region,
        *,
        document: Mapping[str, Any],
        expected_version: int | None = None,
        set_name: str | None = None,
    ) -> StoredRegion:
        """Create or replace a region; one that is so already keeps its version.

        Raises Conflict when `expected_version` is not the one in the store (0: must not exist), or it
        belongs to another set than `set_name`.
        """
        values = {"document": codec.dump(document), "spec": codec.dump(region)}
        self._database.write(
            lambda connection: _put(
                connection, regions, "region", region.name, values, expected_version, set_name
            )
        )
        return self.get(region.name)

    def get(self, name: str) -> StoredRegion:
        """Return one region. Raises NotFoundInStore."""
        with self._database.read() as connection:
            row = connection.execute(select(regions).where(regions.c.name == name)).first()
        if row is None:
            raise NotFoundInStore(f"there is no region named {name}")
        return _stored_region(row)

    def list(self, after: str | None = None, limit: int = 1000) -> list[StoredRegion]:
        """Return regions by name, from the first one after `after`."""
        with self._database.read() as connection:
            rows = connection.execute(_page(regions, after, limit)).all()
        return [_stored_region(row) for row in rows]

    def jurisdictions(self) -> dict[str, str | None]:
        """Return the jurisdiction of every declared region; None for one that has none."""
        with self._database.read() as connection:
            specs = connection.execute(select(regions.c.spec)).scalars().all()
        found = [codec.load(Region, json.loads(spec)) for spec in specs]
        return {region.name: region.jurisdiction for region in found}

    def delete(self, name: str, *, in_use: bool = False) -> None:
        """Forget a region. Raises NotFoundInStore, and Conflict while a registry or link names it.

        `in_use`: registries may go on naming it, as one that nobody has declared.
        """

        def work(connection: Connection) -> None:
            if not in_use:
                _refuse_named(connection, name)
            joined = or_(
                links.c.name.startswith(f"{name}:", autoescape=True),
                links.c.name.endswith(f":{name}", autoescape=True),
            )
            link = connection.execute(select(links.c.name).where(joined).limit(1)).scalar()
            if link is not None:
                raise Conflict(
                    f"region {name} is named by link {link}", hint="delete the link first"
                )
            if connection.execute(delete(regions).where(regions.c.name == name)).rowcount < 1:
                raise NotFoundInStore(f"there is no region named {name}")

        self._database.write(work)


class LinkStore:
    """The table of links; FROM:TO is the identity."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(
        self,
        link: Link,
        *,
        document: Mapping[str, Any],
        expected_version: int | None = None,
        set_name: str | None = None,
    ) -> StoredLink:
        """Create or replace a link between two declared regions.

        Raises Conflict as RegionStore.put does, and when one of the regions is not there.
        """
        values = {"document": codec.dump(document), "spec": codec.dump(link)}

        def work(connection: Connection) -> bool:
            ends = (link.source, link.target)
            there = set(
                connection.execute(
                    select(regions.c.name)
                    .where(regions.c.name.in_(ends))
                    .with_for_update(read=True)
                ).scalars()
            )
            for end in ends:
                if end not in there:
                    raise Conflict(
                        f"link {link.name} names region {end}, which is not declared",
                        hint=f"declare {end} first: a region of this name",
                    )
            return _put(connection, links, "link", link.name, values, expected_version, set_name)

        self._database.write(work)
        return self.get(link.name)

    def get(self, name: str) -> StoredLink:
        """Return one link by FROM:TO. Raises NotFoundInStore."""
        with self._database.read() as connection:
            row = connection.execute(select(links).where(links.c.name == name)).first()
        if row is None:
            raise NotFoundInStore(f"there is no link {name}")
        return _stored_link(row)

    def list(self, after: str | None = None, limit: int = 1000) -> list[StoredLink]:
        """Return links by name, from the first one after `after`."""
        with self._database.read() as connection:
            rows = connection.execute(_page(links, after, limit)).all()
        return [_stored_link(row) for row in rows]

    def all(self) -> tuple[Link, ...]:
        """Return every link, by name."""
        with self._database.read() as connection:
            specs = connection.execute(select(links.c.spec).order_by(links.c.name)).scalars().all()
        return tuple(codec.load(Link, json.loads(spec)) for spec in specs)

    def crossed(self) -> dict[str, int]:
        """Return the bytes of blobs that went each way, FROM:TO, in the executions that are kept.

        By the regions in which the registries stand now; what stayed in one region is not among them.
        """
        query = select(
            execution_links.c.from_registry,
            execution_links.c.to_registry,
            func.sum(execution_links.c.bytes),
        ).group_by(execution_links.c.from_registry, execution_links.c.to_registry)
        with self._database.read() as connection:
            rows = connection.execute(select(registries.c.name, registries.c.endpoint))
            places = {name: codec.load_endpoint(endpoint).region for name, endpoint in rows}
            found: dict[str, int] = {}
            for sender, receiver, count in connection.execute(query):
                here, there = places.get(sender), places.get(receiver)
                if here is not None and there is not None and here != there:
                    way = f"{here}:{there}"
                    found[way] = found.get(way, 0) + int(count)
        return found

    def delete(self, name: str) -> None:
        """Forget a link. Raises NotFoundInStore."""

        def work(connection: Connection) -> None:
            if connection.execute(delete(links).where(links.c.name == name)).rowcount < 1:
                raise NotFoundInStore(f"there is no link {name}")

        self._database.write(work)


def _refuse_named(connection: Connection, region: str) -> None:
    for row in connection.execute(select(registries.c.name, registries.c.endpoint)):
        endpoint = codec.load_endpoint(row.endpoint)
        if region in (endpoint.region, *(nearer.region for nearer in endpoint.endpoints)):
            raise Conflict(
                f"region {region} is named by registry {row.name}",
                hint="delete the registry, or give it another region, first",
            )


def _put(
    connection: Connection,
    table: Table,
    kind: str,
    name: str,
    values: dict[str, Any],
    expected_version: int | None,
    set_name: str | None,
) -> bool:
    """Create or replace a row; whether anything was written."""
    row = connection.execute(select(table).where(table.c.name == name).with_for_update()).first()
    check_version(kind, name, row, expected_version)
    check_set(kind, name, row, set_name)
    values = {**values, "set_name": set_name or (row.set_name if row else None)}
    if row is None:
        made = connection.execute(
            upsert(connection, table)
            .values(name=name, version=1, created_at=now_epoch(), updated_at=now_epoch(), **values)
            .on_conflict_do_nothing()
        )
        check_created(kind, name, made.rowcount)
        return True
    if is_unchanged(row, values):
        return False
    connection.execute(
        update(table)
        .where(table.c.name == name)
        .values(version=row.version + 1, updated_at=now_epoch(), **values)
    )
    return True


def _page(table: Table, after: str | None, limit: int) -> Any:
    query = select(table).order_by(table.c.name).limit(limit)
    return query if after is None else query.where(table.c.name > after)


def _stored_region(row: Row[Any]) -> StoredRegion:
    return StoredRegion(
        region=codec.load(Region, json.loads(row.spec)),
        document=json.loads(row.document),
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
        set=row.set_name,
    )


def _stored_link(row: Row[Any]) -> StoredLink:
    return StoredLink(
        link=codec.load(Link, json.loads(row.spec)),
        document=json.loads(row.document),
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
        set=row.set_name,
    )
