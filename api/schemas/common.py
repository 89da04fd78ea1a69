"""What all documents share: unknown keys are refused with a hint, errors become field paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from marshmallow import EXCLUDE, Schema, ValidationError, validates_schema

from api.schemas.fields import Told, kind_of
from service.errors import FieldProblem, InvalidFields
from service.model.rule_check import suggest

Path = tuple[str | int, ...]
READ_ONLY = (
    "effective",
    "version",
    "created_at",
    "updated_at",
    "next_run_at",
    "paused_at",
    "health",
    "late_since",
    "alerts",
    "paused",
    "set",
    "id",
    "declared",
    "workers",
    "served_by",
    "queue",
    "crossed_bytes",
)
"""Keys that the API adds to what was written; a document that has them is refused."""


class StrictSchema(Schema):
    """A document whose keys are all known. `absent` names keys that this version does not have."""

    absent: ClassVar[Mapping[str, str]] = {}

    class Meta:
        """Unknown keys are judged below, where a hint can be given."""

        unknown = EXCLUDE

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def _refuse_unknown_keys(self, data: Any, original: Any, **kwargs: Any) -> None:
        del data, kwargs
        if not isinstance(original, Mapping):
            return
        known = {field.data_key or name for name, field in self.load_fields.items()}
        errors: dict[str, Any] = {}
        for key in original:
            if key in known:
                continue
            if key in self.absent:
                hint = self.absent[key] or "leave it out"
                errors[key] = [Told("this version does not have this key", hint)]
            else:
                errors[str(key)] = [Told("unknown key", suggest(str(key), known))]
        if errors:
            raise ValidationError(errors)


def load(schema: Schema, document: Any) -> Any:
    """Return what the schema makes of the document; raises InvalidFields."""
    if not isinstance(document, dict):
        raise InvalidFields((FieldProblem("", f"must be an object, not {kind_of(document)}"),))
    try:
        return schema.load(document)
    except ValidationError as error:
        raise InvalidFields(tuple(problems(error.messages))) from error


def problems(messages: Any, path: Path = ()) -> Iterator[FieldProblem]:
    """Flatten marshmallow's nested messages into one problem a field."""
    if isinstance(messages, Mapping):
        for key, inner in messages.items():
            yield from problems(inner, path if key == "_schema" else (*path, key))
    elif isinstance(messages, list):
        for message in messages:
            yield from problems(message, path)
    else:
        yield FieldProblem(spell(path), _plain(messages), getattr(messages, "hint", ""))


_PLAIN = {
    "Missing data for required field.": "is missing",
    "Field may not be null.": "may not be null; leave the key out",
    "Invalid input type.": "must be an object",
}


def _plain(message: str) -> str:
    return _PLAIN.get(str(message), str(message))


def spell(path: Path) -> str:
    """Write a path as people do: `select[0].tags`."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def under(prefix: Path, path: str) -> str:
    """Put a path below another one."""
    start = spell(prefix)
    if not path or path.startswith("["):
        return start + path
    return f"{start}.{path}" if start else path
