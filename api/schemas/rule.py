"""A sync rule's document (DESIGN section 8) as far as this version has its keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from marshmallow import ValidationError, fields, post_load, validates_schema

from api.schemas.common import StrictSchema, load
from api.schemas.deletion import DeleteSchema, effective_delete, takes_everything
from api.schemas.fields import Choice, Duration, Flag, Items, Judged, Name, Told, invalid, seconds
from api.schemas.limits import Bandwidth, effective_bandwidth
from api.schemas.requirement import ReadKey, RequireSchema, read_key_here
from api.schemas.selection import SelectionSchema, effective_selection, template
from api.schemas.trigger import TriggerSchema, effective_trigger
from service.model.public_key import is_pem
from service.model.rule import DeletePolicy, Destination, Selection, SyncRule

MAX_ENTRIES = 20_000
"""Entries of one rule's `select`: a list of as many images, each with its own name at the destination, is one rule."""


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
    freshness = Duration(least=1, most=366 * 86400, attribute="freshness_seconds")


class RuleSchema(DefaultsSchema):
    """A sync rule, read into a SyncRule."""

    name = Name(required=True)
    bandwidth = Bandwidth()
    project = Name()
    enabled = Flag()
    source = Name(required=True)
    mode = Choice("sync", "replicate")
    drift = Choice("report", "repair")
    select = Items(fields.Nested(SelectionSchema), most=MAX_ENTRIES, least=1)
    destinations = Items(fields.Nested(DestinationSchema), most=100, least=1, required=True)
    trigger = fields.Nested(TriggerSchema)
    require = fields.Nested(RequireSchema)
    delete = fields.Nested(DeleteSchema)

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def _what_it_takes(self, data: dict[str, Any], original: Any, **kwargs: Any) -> None:
        del kwargs
        if not isinstance(original, Mapping):
            return
        if data.get("mode") == "replicate":
            _check_replica(original)
        elif "drift" in original:
            raise ValidationError(
                {"drift": [Told("goes with mode replicate only", "write mode: replicate")]}
            )
        elif "select" not in original:
            raise ValidationError({"select": [Told("is missing", "name what the rule takes")]})
        elif _deletes_widely(data.get("delete")):
            entries = data.get("select", ())
            if any(isinstance(one, Selection) and takes_everything(one) for one in entries):
                raise ValidationError(
                    {
                        "delete": [
                            Told(
                                "the rule takes every repository, and would delete in all of them",
                                "write all: true beside enabled if that is meant",
                            )
                        ]
                    }
                )

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> SyncRule:
        del kwargs
        if "require" in data:
            data["signature_key"] = data.pop("require")["signature"]
        data["select"] = tuple(data.get("select", (Selection(),)))
        data["destinations"] = tuple(data["destinations"])
        for key in ("deadline_seconds", "freshness_seconds"):
            if key in data:
                data[key] = seconds(data[key])
        return SyncRule(**data)


def _deletes_widely(policy: Any) -> bool:
    return isinstance(policy, DeletePolicy) and policy.enabled and not policy.everything


def _check_replica(document: Mapping[str, Any]) -> None:
    """Hold a replica to the whole instance, its own names, and a word on what happens to what goes."""
    errors: dict[str, Any] = {}
    if "select" in document:
        errors["select"] = [
            Told("mode replicate takes the whole instance", "leave select out, or use mode sync")
        ]
    if "delete" not in document:
        errors["delete"] = [
            Told("is missing", "mode replicate wants it said: delete: {enabled: true} or false")
        ]
    destinations = document.get("destinations")
    for index, one in enumerate(destinations if isinstance(destinations, list) else []):
        if isinstance(one, Mapping) and {"repository", "tag"} & one.keys():
            told = Told("mode replicate keeps every name", "leave repository and tag out")
            errors.setdefault("destinations", {})[index] = [told]
    if errors:
        raise ValidationError(errors)


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
        "mode": rule.mode,
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
    if rule.freshness_seconds is not None:
        shown["freshness"] = f"{rule.freshness_seconds:g}s"
    if rule.mode == "replicate":
        del shown["select"]
        shown["drift"] = rule.drift
        shown["destinations"] = [_place(destination) for destination in rule.destinations]
    if rule.delete != DeletePolicy() or rule.mode == "replicate":
        shown["delete"] = effective_delete(rule.delete)
    if rule.signature_key is not None:
        shown["require"] = {"signature": {"key": rule.signature_key}}
    if rule.bandwidth:
        shown["bandwidth"] = effective_bandwidth(rule.bandwidth)
    return shown


def _destination(destination: Destination) -> dict[str, str]:
    return {
        **_place(destination),
        "repository": destination.repository,
        "tag": destination.tag,
    }


def _place(destination: Destination) -> dict[str, str]:
    if destination.registry is not None:
        return {"registry": destination.registry}
    return {"group": destination.group or ""}
