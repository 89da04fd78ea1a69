"""A sync rule's document (DESIGN section 8) as far as this version has its keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import fields, post_load, validates_schema

from api.schemas.common import StrictSchema, load
from api.schemas.fields import Choice, Duration, Flag, Items, Judged, Name, invalid, seconds
from service.errors import InvalidConfiguration
from service.model.glob import compile_glob
from service.model.mapping import placeholders
from service.model.rule import Destination, NameFilter, Selection, SyncRule, Trigger

_LATER = "leave it out"


def _template(text: str) -> str:
    if "digest" in placeholders(text):
        raise InvalidConfiguration("this version does not have {digest} in templates")
    return text


class FilterSchema(StrictSchema):
    """Names by glob: what matches an include (none means all) and no exclude."""

    absent: ClassVar[Mapping[str, str]] = {
        "regex": "use include and exclude",
        "semver": "use include and exclude",
        "newest": "use include and exclude",
    }
    includes = Items(Judged(compile_glob), most=1000, least=1, data_key="include")
    excludes = Items(Judged(compile_glob), most=1000, data_key="exclude")

    @validates_schema
    def _not_nothing(self, data: dict[str, Any], **kwargs: Any) -> None:
        del kwargs
        if not data:
            raise invalid("names nothing", 'write ["**"] to take everything')
        if data.get("includes") and set(data["includes"]) <= set(data.get("excludes", ())):
            raise invalid("excludes all that it includes")

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> NameFilter:
        del kwargs
        return NameFilter(tuple(data.get("includes", ())), tuple(data.get("excludes", ())))


class Filter(fields.Field[NameFilter]):
    """A filter, or a plain list that is short for its include."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._short = Items(Judged(compile_glob), most=1000, least=1)

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> NameFilter:
        del kwargs
        if isinstance(value, list):
            names: list[Any] = self._short.deserialize(value, attr, data) or []
            return NameFilter(tuple(names))
        if not isinstance(value, dict):
            raise invalid("must be a list of globs, or an object with include and exclude")
        made: NameFilter = FilterSchema().load(value)
        return made


class RenameSchema(StrictSchema):
    """The names that one entry's finds get, in place of the destinations' templates."""

    repository = Judged(_template)
    tag = Judged(_template)


class SelectionSchema(StrictSchema):
    """One entry of `select`: every condition must hold; entries are united."""

    absent: ClassVar[Mapping[str, str]] = {"types": _LATER, "platforms": _LATER}
    repositories = Filter(required=True)
    tags = Filter()
    to = fields.Nested(RenameSchema)

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> Selection:
        del kwargs
        to = data.get("to", {})
        return Selection(
            repositories=data["repositories"],
            tags=data.get("tags", NameFilter()),
            to_repository=to.get("repository"),
            to_tag=to.get("tag"),
        )


class DestinationSchema(StrictSchema):
    """Where the rule writes: a registry, or every registry of a group but the source."""

    registry = Name()
    group = Name()
    repository = Judged(_template)
    tag = Judged(_template)

    @validates_schema
    def _one_place(self, data: dict[str, Any], **kwargs: Any) -> None:
        del kwargs
        if ("registry" in data) == ("group" in data):
            raise invalid("needs a registry or a group, and not both")

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> Destination:
        del kwargs
        return Destination(**data)


class TriggerSchema(StrictSchema):
    """When the rule runs by itself."""

    absent: ClassVar[Mapping[str, str]] = {
        "event": "use every",
        "schedule": "use every",
        "timezone": "use every",
        "missed": "use every",
    }
    every = Duration(least=1, most=366 * 86400)

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> Trigger:
        del kwargs
        return Trigger(seconds(data["every"]) if "every" in data else None)


class DefaultsSchema(StrictSchema):
    """Values for rules that do not give them."""

    referrers = Flag()
    priority = Choice("urgent", "normal", "bulk")
    on_empty = Choice("warn", "fail")


class RuleSchema(DefaultsSchema):
    """A sync rule, read into a SyncRule."""

    absent: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("mode", "require", "on_conflict", "delete", "bandwidth", "freshness", "deadline"), _LATER
    )
    name = Name(required=True)
    project = Choice("default", absent="this version has the one project default")
    enabled = Flag()
    source = Name(required=True)
    select = Items(fields.Nested(SelectionSchema), most=1000, least=1, required=True)
    destinations = Items(fields.Nested(DestinationSchema), most=100, least=1, required=True)
    trigger = fields.Nested(TriggerSchema)

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> SyncRule:
        del kwargs
        data["select"] = tuple(data["select"])
        data["destinations"] = tuple(data["destinations"])
        return SyncRule(**data)


def load_rule(document: Any, defaults: Mapping[str, Any] | None = None) -> SyncRule:
    """Read a rule's document, `defaults` beneath it; raises InvalidFields."""
    whole = {**defaults, **document} if defaults and isinstance(document, dict) else document
    loaded: SyncRule = load(RuleSchema(), whole)
    return loaded


def effective_rule(rule: SyncRule) -> dict[str, Any]:
    """Return the rule with every default filled in, in the shape of the document."""
    every = rule.trigger.every_seconds
    return {
        "name": rule.name,
        "project": rule.project,
        "enabled": rule.enabled,
        "source": rule.source,
        "select": [_selection(selection) for selection in rule.select],
        "destinations": [_destination(destination) for destination in rule.destinations],
        "trigger": {} if every is None else {"every": f"{every:g}s"},
        "referrers": rule.referrers,
        "on_empty": rule.on_empty,
        "priority": rule.priority,
    }


def _names(names: NameFilter) -> dict[str, list[str]]:
    return {"include": list(names.include) or ["**"], "exclude": list(names.exclude)}


def _selection(selection: Selection) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "repositories": _names(selection.repositories),
        "tags": _names(selection.tags),
    }
    to = {"repository": selection.to_repository, "tag": selection.to_tag}
    if given := {key: value for key, value in to.items() if value is not None}:
        shown["to"] = given
    return shown


def _destination(destination: Destination) -> dict[str, str]:
    place = (
        {"registry": destination.registry}
        if destination.registry is not None
        else {"group": destination.group or ""}
    )
    return {**place, "repository": destination.repository, "tag": destination.tag}
