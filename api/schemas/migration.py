"""Migrations: what goes in, and how they are told of."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import fields, post_load, validates_schema

from api.schemas.answers import AnswerSchema
from api.schemas.common import StrictSchema, load
from api.schemas.fields import Choice, Flag, Items, Judged, Name, Text, invalid, kind_of
from api.schemas.limits import Days, minutes
from api.schemas.selection import MOST_GLOBS, SelectionSchema, template
from service.model.glob import compile_glob
from service.model.migration import (
    MAX_WAVES,
    REST,
    Migration,
    Namespace,
    SurveyState,
    Wave,
    WaveState,
    Window,
)
from service.model.schedule import check_timezone

MOST_RULE_NAME = 63
_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?) ?([kKMGTP]i?)?B")
_UNITS = ("", "K", "M", "G", "T", "P")


class Size(Text):
    """A number of bytes with its unit: kB, MB, GB, TB are decimal, KiB, MiB, GiB, TiB binary."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(longest=32, metadata={"example": "50GiB"}, **kwargs)

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        if not isinstance(value, str):
            raise invalid(f"must be a size, not {kind_of(value)}", 'write "50GiB" or "500MB"')
        text = super()._deserialize(value, attr, data, **kwargs)
        match = _SIZE.fullmatch(text)
        if match is None:
            raise invalid(f"{text!r} is not a size", 'write "50GiB" or "500MB"')
        unit = match[2] or ""
        base = 1024 if unit.endswith("i") else 1000
        found = int(float(match[1]) * base ** _UNITS.index(unit[:1].upper()))
        if found < 1:
            raise invalid("must be at least one byte")
        return found


class NamespaceSchema(StrictSchema):
    """Repositories, by a glob or as a prefix, and the template of their names at the destination."""

    source = Judged(compile_glob, required=True, data_key="from", metadata={"example": "team/**"})
    to = Judged(template, required=True, metadata={"example": "mirror/{repository[1:]}"})

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> Namespace:
        del kwargs
        return Namespace(**data)


class WaveSchema(StrictSchema):
    """A part of the fleet that moves together; without globs and size it takes what is left."""

    name = Name(required=True)
    repositories = Items(Judged(compile_glob), most=MOST_GLOBS, least=1)
    max_bytes = Size()

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> Wave:
        del kwargs
        return Wave(data["name"], tuple(data.get("repositories", ())), data.get("max_bytes"))


class WindowSchema(StrictSchema):
    """When waves may move: between two times of the day, on some days."""

    between = Text(longest=11, metadata={"example": "20:00-06:00"})
    days = Days(metadata={"type": ["string", "array"], "items": {"type": "string"}})

    @validates_schema
    def _something(self, data: dict[str, Any], **kwargs: Any) -> None:
        del kwargs
        if not data:
            raise invalid("names no time", 'write between: "20:00-06:00", or days')
        if "between" in data:
            minutes(data["between"])

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> Window:
        del kwargs
        begin, end = minutes(data["between"]) if "between" in data else (None, None)
        return Window(begin, end, data.get("days", ()))


class MigrationInputSchema(StrictSchema):
    """A migration from one registry to another one."""

    name = Name()
    project = Name()
    source = Name(required=True, metadata={"example": "east"})
    destination = Name(required=True, metadata={"example": "west"})
    final = Name(
        metadata={"description": "the registry by whose name the move is proved; the destination"}
    )
    select = Items(fields.Nested(SelectionSchema), most=1000, least=1)
    namespaces = Items(fields.Nested(NamespaceSchema), most=1000, least=1)
    waves = Items(fields.Nested(WaveSchema), most=MAX_WAVES - 1, least=1)
    windows = Items(fields.Nested(WindowSchema), most=50, least=1)
    timezone = Judged(check_timezone, longest=64)
    priority = Choice("urgent", "normal", "bulk")
    referrers = Flag()

    @validates_schema
    def _waves(self, data: dict[str, Any], **kwargs: Any) -> None:
        del kwargs
        waves = data.get("waves", ())
        names = [wave.name for wave in waves]
        if len(set(names)) < len(names):
            raise invalid("two waves have one name", "give each its own")
        for wave in waves[:-1]:
            if wave.is_rest:
                raise invalid(
                    f"wave {wave.name} takes everything, and others come after it",
                    "write repositories or max_bytes, or make it the last one",
                )
        if waves and not waves[-1].is_rest and REST in names:
            raise invalid(
                f"the wave {REST} does not take the rest",
                "leave its conditions out and make it the last one, or call it otherwise",
            )

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> Migration:
        del kwargs
        for key in ("select", "namespaces", "windows", "waves"):
            if key in data:
                data[key] = tuple(data[key])
        if "waves" in data and not data["waves"][-1].is_rest:
            data["waves"] = (*data["waves"], Wave(REST))
        made = Migration(**data)
        for wave in made.waves:
            if len(made.rule_name(wave.name)) > MOST_RULE_NAME:
                raise invalid(
                    f"wave {wave.name}: its rule would be called {made.rule_name(wave.name)}, "
                    f"which is longer than {MOST_RULE_NAME} characters",
                    "give the migration or the wave a shorter name",
                )
        return made


def load_migration(document: Any) -> Migration:
    """Read a migration's document; raises InvalidFields."""
    loaded: Migration = load(MigrationInputSchema(), document)
    return loaded


class FleetSchema(AnswerSchema):
    """How large a fleet, or a wave of it, is."""

    repositories = fields.Integer()
    tags = fields.Integer()
    bytes = fields.Integer(metadata={"description": "as images count them"})
    unique_bytes = fields.Integer(metadata={"description": "each blob and manifest once"})


class SurveySchema(AnswerSchema):
    """One look at the fleet."""

    state = fields.String(required=True, metadata={"enum": [one.value for one in SurveyState]})
    phase = fields.String(required=True)
    reason = fields.String(required=True)
    fleet = fields.Nested(FleetSchema, required=True)
    listed = fields.Integer(required=True, metadata={"description": "repositories listed whole"})
    findings = fields.Dict(
        keys=fields.String(),
        values=fields.Integer(),
        required=True,
        metadata={"description": "how many things are wrong, by kind"},
    )
    created_at = fields.DateTime(required=True)
    ended_at = fields.DateTime(required=True, allow_none=True)


class WaveProgressSchema(AnswerSchema):
    """How far the present run of a wave is."""

    copied = fields.Integer(required=True)
    unchanged = fields.Integer(required=True)
    skipped = fields.Integer(required=True)
    failed = fields.Integer(required=True)
    pending = fields.Integer(required=True)
    bytes_copied = fields.Integer(required=True)
    bytes_saved = fields.Integer(required=True)
    seconds = fields.Float(required=True, metadata={"description": "that it has run so far"})
    seconds_left = fields.Float(
        required=True,
        allow_none=True,
        metadata={"description": "an estimate from the pace so far; none of a final delta"},
    )


class WaveAnswerSchema(AnswerSchema):
    """A wave, and where it stands."""

    name = fields.String(required=True)
    rule = fields.String(required=True)
    state = fields.String(required=True, metadata={"enum": [one.value for one in WaveState]})
    delta = fields.Boolean(required=True, metadata={"description": "its last run is the final one"})
    execution = fields.String(required=True, allow_none=True)
    executions = fields.List(
        fields.String(), required=True, metadata={"description": "of all of its runs"}
    )
    fleet = fields.Nested(FleetSchema, required=True)
    progress = fields.Nested(WaveProgressSchema, required=True, allow_none=True)
    reason = fields.String(required=True)
    started_at = fields.DateTime(required=True, allow_none=True)
    ended_at = fields.DateTime(required=True, allow_none=True)


class MigrationSchema(AnswerSchema):
    """A migration as it was written, and where it stands."""

    schema = fields.Integer(required=True)
    name = fields.String(required=True)
    project = fields.String(required=True)
    source = fields.String(required=True)
    destination = fields.String(required=True)
    document = fields.Dict(required=True, metadata={"description": "what was written"})
    state = fields.String(
        required=True,
        metadata={
            "enum": [
                "new",
                "surveying",
                "surveyed",
                "begun",
                "moving",
                "paused",
                "moved",
                "freezing",
                "frozen",
                "proving",
                "proved",
                "refused",
            ]
        },
    )
    proved = fields.Boolean(
        required=True,
        allow_none=True,
        metadata={"description": "none: there is no proof of the newest freeze and waves"},
    )
    inventory = fields.Nested(SurveySchema, required=True, allow_none=True)
    freeze = fields.Nested(SurveySchema, required=True, allow_none=True)
    proof = fields.Nested(SurveySchema, required=True, allow_none=True)
    waves = fields.List(fields.Nested(WaveAnswerSchema), required=True)
    paused_at = fields.DateTime(required=True, allow_none=True)
    version = fields.Integer(required=True)
    created_at = fields.DateTime(required=True)
    updated_at = fields.DateTime(required=True)


class MigrationPageSchema(AnswerSchema):
    """One page."""

    items = fields.List(fields.Nested(MigrationSchema), required=True)
    next = fields.String(required=True, allow_none=True)


class MigrationRepositorySchema(AnswerSchema):
    """A repository of the newest inventory or freeze."""

    repository = fields.String(required=True)
    wave = fields.String(required=True, allow_none=True)
    tags = fields.Integer(required=True)
    bytes = fields.Integer(required=True)
    unique_bytes = fields.Integer(required=True)


class MigrationRepositoryPageSchema(AnswerSchema):
    """One page."""

    items = fields.List(fields.Nested(MigrationRepositorySchema), required=True)
    next = fields.String(required=True, allow_none=True)


FINDING_KINDS = (
    "broken",
    "collision",
    "denied",
    "hole",
    "missing",
    "moved",
    "pushed",
    "removed",
    "too_large",
    "unlisted",
    "unnamed",
    "unread",
    "unreadable",
)


class MigrationFindingSchema(AnswerSchema):
    """What is wrong with one tag, or with a repository."""

    kind = fields.String(required=True, metadata={"enum": list(FINDING_KINDS)})
    repository = fields.String(required=True)
    tag = fields.String(required=True, allow_none=True)
    destination = fields.String(required=True, allow_none=True)
    wanted = fields.String(required=True, allow_none=True)
    found = fields.String(required=True, allow_none=True)
    reason = fields.String(required=True)


class MigrationFindingPageSchema(AnswerSchema):
    """One page."""

    items = fields.List(fields.Nested(MigrationFindingSchema), required=True)
    next = fields.String(required=True, allow_none=True)


class MigrationBeforeSchema(AnswerSchema):
    """What stood under one name at the destination before the migration wrote there."""

    repository = fields.String(required=True)
    tag = fields.String(required=True)
    before = fields.String(
        required=True, allow_none=True, metadata={"description": "its digest; none: nothing"}
    )
    written = fields.String(
        required=True, allow_none=True, metadata={"description": "what Transship wrote last"}
    )


class MigrationBeforePageSchema(AnswerSchema):
    """One page."""

    items = fields.List(fields.Nested(MigrationBeforeSchema), required=True)
    next = fields.String(required=True, allow_none=True)
