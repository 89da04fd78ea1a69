"""One entry of a rule's `select`: names, and how what it finds is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from marshmallow import fields, post_load, validates_schema

from api.schemas.common import StrictSchema
from api.schemas.fields import Choice, Items, Judged, Told, Whole, invalid
from service.model.content import parse_platform, validate_type
from service.model.digest import Digest
from service.model.glob import compile_glob
from service.model.mapping import placeholders
from service.model.newest import MOST as MOST_NEWEST
from service.model.patterns import compile_regex
from service.model.rule import NameFilter, Newest, Selection
from service.model.semver import parse_range

MOST_GLOBS = 1000


def template(text: str) -> str:
    """Return a template of names as it is; raises InvalidConfiguration for a broken one."""
    placeholders(text)
    return text


def _tag_glob(text: str) -> object:
    return Digest.parse(text) if ":" in text else compile_glob(text)


class FilterSchema(StrictSchema):
    """Names that match an include (none means all), no exclude, and every other condition."""

    absent: ClassVar[Mapping[str, str]] = {
        "semver": "it is a condition of tags",
        "newest": "it is a condition of tags",
    }
    includes = Items(Judged(compile_glob), most=MOST_GLOBS, least=1, data_key="include")
    excludes = Items(Judged(compile_glob), most=MOST_GLOBS, data_key="exclude")
    regex = Judged(compile_regex)

    @validates_schema(pass_original=True)
    def _not_nothing(self, data: dict[str, Any], original: Any, **kwargs: Any) -> None:
        del kwargs
        if not original:
            raise invalid("names nothing", 'write ["**"] to take everything')
        if data.get("includes") and set(data["includes"]) <= set(data.get("excludes", ())):
            raise invalid("excludes all that it includes")

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> NameFilter:
        del kwargs
        return NameFilter(tuple(data.pop("includes", ())), tuple(data.pop("excludes", ())), **data)


class NewestSchema(StrictSchema):
    """Only the newest tags of a repository, over what the other conditions of the entry left."""

    error_messages = {  # noqa: RUF012 - marshmallow declares it so
        "type": Told("must be an object", "write newest: {count: 3, by: semver}")
    }
    count = Whole(least=1, most=MOST_NEWEST, required=True)
    by = Choice("semver", "created")

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> Newest:
        del kwargs
        return Newest(**data)


class TagFilterSchema(FilterSchema):
    """Tags, and digests in the include, by every condition."""

    absent: ClassVar[Mapping[str, str]] = {}
    includes = Items(Judged(_tag_glob), most=MOST_GLOBS, least=1, data_key="include")
    semver = Judged(parse_range)
    newest = fields.Nested(NewestSchema)


class Filter(fields.Field[NameFilter]):
    """A filter, or a plain list that is short for its include."""

    def __init__(self, schema: type[FilterSchema], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.schema = schema

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> NameFilter:
        del kwargs
        if isinstance(value, list):
            short: Any = self.schema().fields["includes"]
            return NameFilter(tuple(short.deserialize(value, attr, data) or ()))
        if not isinstance(value, dict):
            raise invalid("must be a list of globs, or an object with include and exclude")
        made: NameFilter = self.schema().load(value)
        return made


class RenameSchema(StrictSchema):
    """The names that one entry's finds get, in place of the destinations' templates."""

    repository = Judged(template)
    tag = Judged(template)


class SelectionSchema(StrictSchema):
    """One entry of `select`: every condition must hold; entries are united."""

    repositories = Filter(FilterSchema, required=True)
    tags = Filter(TagFilterSchema)
    types = Items(Judged(validate_type), most=100, least=1)
    platforms = Items(Judged(parse_platform), most=100, least=1)
    to = fields.Nested(RenameSchema)

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> Selection:
        del kwargs
        to = data.get("to", {})
        return Selection(
            repositories=data["repositories"],
            tags=data.get("tags", NameFilter()),
            types=tuple(data.get("types", ())),
            platforms=tuple(data.get("platforms", ())),
            to_repository=to.get("repository"),
            to_tag=to.get("tag"),
        )


def effective_selection(selection: Selection) -> dict[str, Any]:
    """Return the entry with every default filled in, in the shape of the document."""
    shown: dict[str, Any] = {
        "repositories": _names(selection.repositories),
        "tags": _names(selection.tags),
    }
    if selection.types:
        shown["types"] = list(selection.types)
    if selection.platforms:
        shown["platforms"] = list(selection.platforms)
    to = {"repository": selection.to_repository, "tag": selection.to_tag}
    if given := {key: value for key, value in to.items() if value is not None}:
        shown["to"] = given
    return shown


def _names(names: NameFilter) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "include": list(names.include) or ["**"],
        "exclude": list(names.exclude),
    }
    conditions: dict[str, Any] = {"regex": names.regex, "semver": names.semver}
    if names.newest is not None:
        conditions["newest"] = {"count": names.newest.count, "by": names.newest.by}
    return shown | {key: value for key, value in conditions.items() if value is not None}
