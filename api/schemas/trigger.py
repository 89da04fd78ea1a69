"""A rule's trigger: events, an interval, a schedule; any together."""

from __future__ import annotations

from typing import Any

from marshmallow import post_load, validates_schema

from api.schemas.common import StrictSchema
from api.schemas.fields import Choice, Duration, Flag, Judged, invalid, seconds
from service.model.rule import Trigger
from service.model.schedule import check_schedule, check_timezone


class TriggerSchema(StrictSchema):
    """When the rule runs by itself."""

    event = Flag()
    every = Duration(least=1, most=366 * 86400)
    schedule = Judged(check_schedule, longest=256)
    timezone = Judged(check_timezone, longest=64)
    missed = Choice("once", "skip")

    @validates_schema
    def _of_a_schedule(self, data: dict[str, Any], **kwargs: Any) -> None:
        del kwargs
        if "missed" in data and "schedule" not in data:
            raise invalid("has missed and no schedule", "give a schedule, or leave missed out")

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> Trigger:
        del kwargs
        every = data.pop("every", None)
        return Trigger(every_seconds=None if every is None else seconds(every), **data)


def effective_trigger(trigger: Trigger) -> dict[str, Any]:
    """Return the trigger with its defaults, in the shape of the document."""
    shown: dict[str, Any] = {"event": trigger.event}
    if trigger.every_seconds is not None:
        shown["every"] = f"{trigger.every_seconds:g}s"
    if trigger.schedule is not None:
        shown |= {"schedule": trigger.schedule, "missed": trigger.missed}
    if trigger.schedule is not None or trigger.timezone != "UTC":
        shown["timezone"] = trigger.timezone
    return shown
