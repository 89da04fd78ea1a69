"""Limits of a registry, and a rule's bandwidth with its windows."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from marshmallow import fields, post_load, validates_schema

from api.schemas.common import StrictSchema
from api.schemas.fields import Items, Text, Whole, invalid, kind_of
from service.model.bandwidth import DAYS
from service.model.endpoint import Limits
from service.model.rule import BandwidthLimit

SPEED_PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,3})? ?([kKMGT]i?)?(B|bit)/s$"
_SPEED = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?) ?([kKMGT]i?)?(B|bit)/s")
_DECIMAL = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"ki": 1 << 10, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
SLOWEST = 10_000  # bytes a second: below, connections time out before they have moved anything
FASTEST = 10**12

_BETWEEN = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-([01][0-9]|2[0-4]):([0-5][0-9])")


class Speed(Text):
    """Bytes or bits a second with their unit, read into bytes a second.

    kB, MB, GB are decimal, KiB, MiB, GiB binary, Mbit bits: 8 Mbit/s are 1 MB/s.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(longest=32, metadata={"example": "100MB/s"}, **kwargs)

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        return bytes_per_second(super()._deserialize(value, attr, data, **kwargs))


def bytes_per_second(text: str) -> int:
    """Return what a speed means; raises ValidationError."""
    match = _SPEED.fullmatch(text)
    if match is None:
        raise invalid(f"{text!r} is not a speed", 'write "50MB/s", "100MiB/s" or "200Mbit/s"')
    unit = match[2] or ""
    factor = (_DECIMAL | _BINARY)[unit]
    found = float(match[1]) * factor / (8 if match[3] == "bit" else 1)
    if not SLOWEST <= found <= FASTEST:
        raise invalid("must be between 10kB/s and 1TB/s")
    return int(found)


def spell_speed(speed: int) -> str:
    """Return a speed as people write it, exactly."""
    for unit in ("TB", "GB", "MB", "kB"):
        factor = _DECIMAL[unit[:-1]]
        if speed % factor == 0:
            return f"{speed // factor}{unit}/s"
    return f"{speed}B/s"


class Rate(fields.Field[float]):
    """A number of times a second; whole or not."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> float:
        del attr, data, kwargs
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise invalid(f"must be a number, not {kind_of(value)}")
        if not math.isfinite(value) or not 0.1 <= value <= 100_000:
            raise invalid("must be between 0.1 and 100000")
        return float(value)


class LimitsSchema(StrictSchema):
    """What the registry is asked for at most, by the whole fleet together."""

    requests_per_second = Rate()
    concurrency = Whole(least=1, most=10_000)
    bandwidth = Speed()

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> Limits:
        del kwargs
        return Limits(**data)


def effective_limits(limits: Limits) -> dict[str, Any]:
    """Return the limits that are set, in the shape of the document."""
    shown: dict[str, Any] = {}
    if limits.requests_per_second is not None:
        rate = limits.requests_per_second
        shown["requests_per_second"] = int(rate) if rate.is_integer() else rate
    if limits.concurrency is not None:
        shown["concurrency"] = limits.concurrency
    if limits.bandwidth is not None:
        shown["bandwidth"] = spell_speed(limits.bandwidth)
    return shown


class Days(fields.Field[tuple[int, ...]]):
    """Days of the week: `mon-fri`, `sat,sun`, or a list of them."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[int, ...]:
        del attr, data, kwargs
        if isinstance(value, str):
            value = value.replace(" ", "").split(",")
        if not isinstance(value, list) or not value or len(value) > len(DAYS):
            raise invalid("must be days such as mon-fri, or [sat, sun]")
        found: set[int] = set()
        for item in value:
            found |= _span(item)
        return tuple(sorted(found))


def _span(item: Any) -> set[int]:
    first, dash, last = item.lower().partition("-") if isinstance(item, str) else ("", "", "")
    if first not in DAYS or (dash and last not in DAYS):
        raise invalid(f"{str(item)[:20]!r} is no day", f"one of {', '.join(DAYS)}")
    begin = DAYS.index(first)
    count = (DAYS.index(last) - begin) % len(DAYS) if dash else 0
    return {(begin + step) % len(DAYS) for step in range(count + 1)}


class BandwidthSchema(StrictSchema):
    """One bound: how much, between which times of the day, on which days."""

    limit = Speed(required=True)
    between = Text(longest=11, metadata={"example": "08:00-20:00"})
    days = Days(metadata={"type": ["string", "array"], "items": {"type": "string"}})

    @validates_schema
    def _times(self, data: dict[str, Any], **kwargs: Any) -> None:
        del kwargs
        if "between" in data:
            minutes(data["between"])

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> BandwidthLimit:
        del kwargs
        begin, end = minutes(data["between"]) if "between" in data else (None, None)
        return BandwidthLimit(data["limit"], begin, end, data.get("days", ()))


def minutes(text: str) -> tuple[int, int]:
    """Return begin and end of `HH:MM-HH:MM` in minutes from midnight; raises ValidationError."""
    match = _BETWEEN.fullmatch(text)
    begin, end = (
        (int(match[1]) * 60 + int(match[2]), int(match[3]) * 60 + int(match[4]))
        if match
        else (0, 0)
    )
    if begin == end or end > 24 * 60:
        raise invalid(f"{text!r} is no time of the day", 'write "08:00-20:00", or "22:00-06:00"')
    return begin, end


class Bandwidth(fields.Field[tuple[BandwidthLimit, ...]]):
    """A speed that always holds, or a list of bounds of which the least counts."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._always = Speed()
        self._windows = Items(fields.Nested(BandwidthSchema), most=50, least=1)

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> tuple[BandwidthLimit, ...]:
        del kwargs
        if isinstance(value, str):
            return (BandwidthLimit(bytes_per_second(Text(longest=32).deserialize(value))),)
        if not isinstance(value, list):
            raise invalid(f"must be a speed or a list of bounds, not {kind_of(value)}")
        found: Any = self._windows.deserialize(value, attr, data)
        return tuple(found)


def effective_bandwidth(limits: Sequence[BandwidthLimit]) -> list[dict[str, Any]]:
    """Return the bounds in the shape of the document."""
    shown = []
    for limit in limits:
        one: dict[str, Any] = {"limit": spell_speed(limit.bytes_per_second)}
        if limit.from_minute is not None and limit.to_minute is not None:
            one["between"] = f"{_clock(limit.from_minute)}-{_clock(limit.to_minute)}"
        if limit.days:
            one["days"] = [DAYS[day] for day in limit.days]
        shown.append(one)
    return shown


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
