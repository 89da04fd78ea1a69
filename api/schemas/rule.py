"""A sync rule's document (DESIGN section 8) as far as this version has its keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from marshmallow import fields, post_load, validates_schema

from api.schemas.common import StrictSchema, load
from api.schemas.fields import Choice, Duration, Flag, Items, Judged, Name, invalid, seconds
from api.schemas.requirement import ReadKey, RequireSchema, read_key_here
from api.schemas.limits import Bandwidth, effective_bandwidth
from api.schemas.selection import SelectionSchema, effective_selection, template
from api.schemas.trigger import TriggerSchema, effective_trigger
from service.model.public_key import is_pem
from service.model.rule import Destination, SyncRule

_LATER = "leave it out"


class DestinationSchema(StrictSchema):
    """Where the rule writes: a registry, or every registry of a group but the source."""

    registry = Name()
    group = Name()
    repository = Judged(template)
    tag = Judged(template)

    @validates_schema
    def _one_place(self, data: dict[str, Any], **kwargs: Any) -> None:
        del kwargs
        if ("registry" in data) == ("group" in data):
            raise invalid("needs a registry or a group, and not both")

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> Destination:
        del kwargs
        return Destination(**data)


class DefaultsSchema(StrictSchema):
    """Values for rules that do not give them."""

    referrers = Flag()
    priority = Choice("urgent", "normal", "bulk")
    on_empty = Choice("warn", "fail")
    on_conflict = Choice("overwrite", "keep", "fail")
    deadline = Duration(least=1, most=366 * 86400, attribute="deadline_seconds")


class RuleSchema(DefaultsSchema):
    """A sync rule, read into a SyncRule."""

    absent: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("mode", "delete", "freshness"), _LATER
    )
    name = Name(required=True)
    bandwidth = Bandwidth()
    project = Name()
    enabled = Flag()
    source = Name(required=True)
    select = Items(fields.Nested(SelectionSchema), most=1000, least=1, required=True)
    destinations = Items(fields.Nested(DestinationSchema), most=100, least=1, required=True)
    trigger = fields.Nested(TriggerSchema)
    require = fields.Nested(RequireSchema)

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> SyncRule:
        del kwargs
        if "require" in data:
            data["signature_key"] = data.pop("require")["signature"]
        data["select"] = tuple(data["select"])
        data["destinations"] = tuple(data["destinations"])
        if "deadline_seconds" in data:
            data["deadline_seconds"] = seconds(data["deadline_seconds"])
        return SyncRule(**data)


def load_rule(
    document: Any, defaults: Mapping[str, Any] | None = None, *, read_key: ReadKey = read_key_here
) -> SyncRule:
    """Read a rule's document, `defaults` beneath it; raises InvalidFields.

    `read_key` returns the public key in a file that the document names.
    """
    whole = {**defaults, **document} if defaults and isinstance(document, dict) else document
    loaded: SyncRule = load(RuleSchema(), whole)
    if loaded.signature_key is not None and not is_pem(loaded.signature_key):
        return replace(loaded, signature_key=read_key(loaded.signature_key))
    return loaded


def effective_rule(rule: SyncRule) -> dict[str, Any]:
    """Return the rule with every default filled in, in the shape of the document."""
    shown = {
        "name": rule.name,
        "project": rule.project,
        "enabled": rule.enabled,
        "source": rule.source,
        "select": [effective_selection(selection) for selection in rule.select],
        "destinations": [_destination(destination) for destination in rule.destinations],
        "trigger": effective_trigger(rule.trigger),
        "referrers": rule.referrers,
        "on_empty": rule.on_empty,
        "on_conflict": rule.on_conflict,
        "priority": rule.priority,
    }
    if rule.deadline_seconds is not None:
        shown["deadline"] = f"{rule.deadline_seconds:g}s"
    if rule.bandwidth:
        shown["bandwidth"] = effective_bandwidth(rule.bandwidth)
    if rule.signature_key is not None:
        shown["require"] = {"signature": {"key": rule.signature_key}}
    return shown


def _destination(destination: Destination) -> dict[str, str]:
    place = (
        {"registry": destination.registry}
        if destination.registry is not None
        else {"group": destination.group or ""}
    )
    return {**place, "repository": destination.repository, "tag": destination.tag}
