"""What a rule requires of all that it copies: a signature by a key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from marshmallow import fields, post_load, validates_schema

from api.schemas.common import StrictSchema
from api.schemas.fields import Text, invalid
from service.errors import FieldProblem, InvalidFields, InvalidInput
from service.model.public_key import MOST_BYTES, check_public_key, is_pem

ReadKey = Callable[[str], str]


class PublicKey(fields.Field[str]):
    """A public key in PEM."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> str:
        del attr, data, kwargs
        if not isinstance(value, str):
            raise invalid("must be a public key in PEM")
        try:
            return check_public_key(value)
        except InvalidInput as error:
            raise invalid(error.message, error.hint) from None


class KeyFile(Text):
    """The path of a file with a public key; a key pasted in its place is told so, and not repeated."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> str:
        if isinstance(value, str) and is_pem(value):
            raise invalid("is the path of a file, not a key", "give a public key as `key`")
        return super()._deserialize(value, attr, data, **kwargs)


class SignatureSchema(StrictSchema):
    """The key that must have signed it."""

    key_file = KeyFile()
    key = PublicKey()

    @validates_schema
    def _one_key(self, data: dict[str, Any], **kwargs: Any) -> None:
        del kwargs
        if len(data) != 1:
            raise invalid("needs key_file or key, and not both")

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> str:
        del kwargs
        return str(data.get("key") or data["key_file"])


class RequireSchema(StrictSchema):
    """What must hold of everything that the rule copies."""

    signature = fields.Nested(SignatureSchema, required=True)


def read_key_here(path: str) -> str:
    """Return the key in a file of this machine; raises InvalidFields, which does not repeat it."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(MOST_BYTES + 1).decode("ascii", "replace")
    except OSError as error:
        raise _wrong(
            f"cannot be read: {error.strerror}", "or give the key itself as `key`"
        ) from None
    try:
        return check_public_key(text)
    except InvalidInput as error:
        raise _wrong(f"{path[:200]}: {error.message}", error.hint) from None


def leave_to_server(path: str) -> str:
    """Return the path: the server that the file goes to reads the key."""
    return path


def _wrong(message: str, hint: str) -> InvalidFields:
    return InvalidFields((FieldProblem("require.signature.key_file", message, hint),))
