"""Regions, links, and a registry's nearer addresses: their documents as people write them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import ValidationError, fields, post_load, validates_schema

from api.schemas.common import StrictSchema, load
from api.schemas.fields import Judged, Name, Told, invalid, kind_of
from api.schemas.limits import Speed, spell_speed
from api.schemas.words import normalise_url
from service.errors import InvalidInput
from service.model.endpoint import Nearer
from service.model.reference import validate_host
from service.model.region import Link, Region

MOST_REGIONS = 1000
DEAREST = 1_000_000


class RegionSchema(StrictSchema):
    """A place where workers run and registries stand."""

    absent: ClassVar[Mapping[str, str]] = {
        "redis_url_env": "leave it out: a far region's workers are told of their Redis by TRANSSHIP_REDIS_URL",
    }
    name = Name(required=True, metadata={"example": "eu-west"})
    jurisdiction = Name(metadata={"example": "eu"})

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> Region:
        del kwargs
        return Region(**data)


class Cost(fields.Field[float]):
    """What a GiB costs; 0 or more, in whatever money the operator counts."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> float:
        del attr, data, kwargs
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise invalid(f"must be a number, not {kind_of(value)}")
        if not math.isfinite(value) or not 0 <= value <= DEAREST:
            raise invalid(f"must be between 0 and {DEAREST}")
        return float(value)


class LinkSchema(StrictSchema):
    """The way from one region to another, in this direction alone."""

    source = Name(required=True, data_key="from", metadata={"example": "us-east"})
    target = Name(required=True, data_key="to", metadata={"example": "eu-west"})
    bandwidth = Speed()
    cost_per_gib = Cost()

    @validates_schema
    def _two_ends(self, data: dict[str, Any], **kwargs: Any) -> None:
        del kwargs
        if data["source"] == data["target"]:
            raise ValidationError(
                {"to": [Told("is where the link begins", "inside a region everything is linked")]}
            )

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> Link:
        del kwargs
        return Link(**data)


def place(text: str) -> str:
    """Return host:port in lower case; raises InvalidInput saying what is missing."""
    if "//" in text or "/" in text:
        raise InvalidInput(f"{text[:80]!r} is no host:port", hint="leave scheme and path out")
    host = validate_host(text)
    if not host.rpartition("]")[2].partition(":")[2]:
        raise InvalidInput(f"{text[:80]!r} has no port", hint="write it as 10.1.0.5:443")
    return host


class NearerSchema(StrictSchema):
    """How workers of one region reach a registry: another URL, another place, or both."""

    url = Judged(normalise_url)
    connect_to = Judged(place, longest=261, metadata={"example": "10.1.0.5:443"})

    @validates_schema(pass_original=True)
    def _something(self, data: dict[str, Any], original: Any, **kwargs: Any) -> None:
        del data, kwargs
        if original == {}:
            raise invalid("has neither url nor connect_to", "give one of them, or leave it out")


class NearerAddresses(fields.Field[tuple[Nearer, ...]]):
    """Nearer addresses by region."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._region = Name()
        self.inner = fields.Nested(NearerSchema)

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[Nearer, ...]:
        del attr, data, kwargs
        if not isinstance(value, dict):
            raise invalid(
                f"must be an object of regions, not {kind_of(value)}",
                "write {eu-west: {connect_to: 10.1.0.5:443}}",
            )
        if len(value) > MOST_REGIONS:
            raise invalid(f"may have at most {MOST_REGIONS} regions, has {len(value)}")
        found, wrong = [], {}
        for region, address in value.items():
            try:
                name = self._region.deserialize(region)
                found.append(Nearer(str(name), **(self.inner.deserialize(address) or {})))
            except ValidationError as error:
                wrong[str(region)[:80]] = error.messages
        if wrong:
            raise ValidationError(wrong)
        return tuple(found)


def load_region(document: Any) -> Region:
    """Read a region's document; raises InvalidFields."""
    loaded: Region = load(RegionSchema(), document)
    return loaded


def load_link(document: Any) -> Link:
    """Read a link's document; raises InvalidFields."""
    loaded: Link = load(LinkSchema(), document)
    return loaded


def effective_region(region: Region) -> dict[str, Any]:
    """Return the region in the shape of the document."""
    given = {"jurisdiction": region.jurisdiction}
    return {"name": region.name, **{key: value for key, value in given.items() if value}}


def effective_link(link: Link) -> dict[str, Any]:
    """Return the link in the shape of the document."""
    shown: dict[str, Any] = {"from": link.source, "to": link.target}
    if link.bandwidth is not None:
        shown["bandwidth"] = spell_speed(link.bandwidth)
    if link.cost_per_gib is not None:
        cost = link.cost_per_gib
        shown["cost_per_gib"] = int(cost) if cost.is_integer() else cost
    return shown


def effective_nearer(addresses: tuple[Nearer, ...]) -> dict[str, Any]:
    """Return nearer addresses in the shape of the document."""
    return {
        one.region: {
            key: value
            for key, value in (("url", one.url), ("connect_to", one.connect_to))
            if value is not None
        }
        for one in addresses
    }
