"""The `gateway:` of transship.yaml as people write it; a gateway reads it, `apply` leaves it alone."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from marshmallow import fields, post_load

from api.schemas.answers import AnswerSchema
from api.schemas.common import StrictSchema, load, under
from api.schemas.fields import Duration, Flag, Items, Judged, Name, Text, invalid
from api.yaml_lines import MAX_BYTES, line_of, read_yaml
from service.errors import FieldProblem, InvalidConfiguration, InvalidFields
from service.model.gateway import GatewayConfig, NameRule
from service.model.glob import compile_glob
from service.model.pull_token import MOST_PATTERNS
from service.model.reference import validate_repository

_KEY = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


class GatewayUrl(Text):
    """What clients call the gateway: scheme, host and port."""

    def judge(self, value: str) -> str:
        """Hold the value to http or https, and to no path."""
        if not re.fullmatch(r"https?://[a-zA-Z0-9._\[\]:-]{1,255}", value):
            raise invalid(f"{value[:80]!r} is no address", 'write "https://images.example.com"')
        return value


class NameRuleSchema(StrictSchema):
    """Names under a prefix, and the registry that they come from."""

    prefix = Judged(validate_repository, metadata={"example": "team-a"})
    registry = Name(required=True)
    repository = Judged(validate_repository, metadata={"example": "library"})

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> NameRule:
        del kwargs
        return NameRule(data["registry"], data.get("prefix", ""), data.get("repository", ""))


class GatewaySchema(StrictSchema):
    """What a gateway serves."""

    url = GatewayUrl(metadata={"example": "https://images.example.com"})
    names = Items(fields.Nested(NameRuleSchema), most=1000, least=1, required=True)
    anonymous = Items(Judged(compile_glob), most=1000)
    prefer = Items(Name(), most=100)
    redirects = Flag()
    stream = Items(Name(), most=1000)

    @post_load
    def _make(self, data: dict[str, Any], **kwargs: Any) -> GatewayConfig:
        del kwargs
        lists = {
            name: tuple(data.get(name, ())) for name in ("names", "anonymous", "prefer", "stream")
        }
        return GatewayConfig(
            url=data.get("url", ""), redirects=data.get("redirects", True), **lists
        )


class NewPullTokenSchema(StrictSchema):
    """A pull token to be made."""

    name = Name(required=True, metadata={"example": "cluster-1"})
    repositories = Items(
        Judged(compile_glob, longest=255),
        most=MOST_PATTERNS,
        least=1,
        required=True,
        metadata={"example": ["team-a/**"]},
    )
    expires_in = Duration(least=60, most=3660 * 86400)


class PullTokenSchema(AnswerSchema):
    """What is known of a pull token; its text is shown once, when it is made."""

    name = fields.String(required=True)
    repositories = fields.List(fields.String(), required=True)
    expires_at = fields.DateTime(allow_none=True, required=True)
    created_at = fields.DateTime(required=True)
    revoked_at = fields.DateTime(allow_none=True, required=True)
    token = fields.String()


class PullTokenPageSchema(AnswerSchema):
    """One page of pull tokens."""

    items = fields.List(fields.Nested(PullTokenSchema), required=True)
    next = fields.String(allow_none=True, required=True)


def read_gateway(path: str) -> GatewayConfig:
    """Read the `gateway:` of a file. Raises InvalidConfiguration, with file and line."""
    try:
        with Path(path).open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InvalidConfiguration(
            f"{path}: cannot be read: {reason}", field="TRANSSHIP_GATEWAY_FILE"
        ) from None
    document, lines = read_yaml(text, path)
    if not isinstance(document, dict) or not isinstance(document.get("gateway"), dict):
        problem = FieldProblem(
            "gateway",
            "is missing",
            "write gateway: {names: [{registry: east}]}, see docs/how-to/one-domain.md",
        )
        raise InvalidFields((problem,), source=path)
    try:
        config: GatewayConfig = load(GatewaySchema(), document["gateway"])
    except InvalidFields as error:
        told = []
        for one in error.problems:
            where = under(("gateway",), one.path)
            keys = tuple(int(index) if index else key for key, index in _KEY.findall(where))
            told.append(replace(one, path=where, line=line_of(lines, keys)))
        raise InvalidFields(tuple(told), source=path) from error
    return config
