"""The OpenAPI document, made from the routes and the marshmallow schemas; nothing is written twice."""

from __future__ import annotations

import re
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from marshmallow import Schema, fields

from api.operations import Operation, operation_of
from api.pagination import PARAMETERS
from api.schemas.agent import AccountSchema, LeaseWishSchema
from api.schemas.answers import ProblemSchema
from api.schemas.common import StrictSchema
from api.schemas.credentials import MOST, Credentials, Password
from api.schemas.examination import NewExaminationSchema
from api.schemas.fields import Duration, Items, Text
from api.schemas.governance import (
    Grants,
    NewSecretSchema,
    NewTokenSchema,
    ProjectSchema,
    WebhookSchema,
)
from api.schemas.limits import SPEED_PATTERN, Bandwidth, BandwidthSchema, Rate, Speed
from api.schemas.pipeline import PipelineSchema
from api.schemas.promotion import (
    ApprovalInputSchema,
    GateAnswerSchema,
    NewPromotionSchema,
    RejectionSchema,
)
from api.schemas.region import (
    DEAREST,
    Cost,
    LinkSchema,
    NearerAddresses,
    NearerSchema,
    RegionSchema,
)
from api.schemas.registry import FileRegistrySchema, RegistrySchema
from api.schemas.rule import DefaultsSchema, RuleSchema
from api.schemas.selection import Filter

_DIGEST = "sha256:4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865"
EXAMPLES: dict[type[Schema], dict[str, Any]] = {
    RegistrySchema: {
        "url": "https://registry.east.example",
        "region": "us-east",
        "groups": ["prod"],
        "credentials": {"username": "robot", "password_env": "TRANSSHIP_SECRET_EAST"},
    },
    RuleSchema: {
        "source": "east",
        "select": [{"repositories": ["team*/**"], "tags": {"include": ["v*"]}}],
        "destinations": [{"registry": "west", "repository": "mirror/{repository}"}],
        "trigger": {"every": "5m"},
    },
    RegionSchema: {"jurisdiction": "eu"},
    LinkSchema: {
        "from": "us-east",
        "to": "eu-west",
        "bandwidth": "200Mbit/s",
        "cost_per_gib": 0.02,
    },
    PipelineSchema: {
        "stages": [
            {"name": "development", "registry": "dev", "repository": "shop/*", "tag": "v*"},
            {
                "name": "production",
                "registry": "prod",
                "gates": [{"approval": {"role": "admin", "count": 2}}],
            },
        ],
    },
    ApprovalInputSchema: {"digest": _DIGEST},
    RejectionSchema: {"digest": _DIGEST, "reason": "not before the holidays"},
    GateAnswerSchema: {
        "promotion": "019ec5b2a4f01c2d3e4f5a6b",
        "gate": 0,
        "digest": _DIGEST,
        "decision": "approve",
    },
    NewPromotionSchema: {"pipeline": "shop", "ref": "shop/web:v1.4", "to": "production"},
    ProjectSchema: {"read": {"east": ["team-a/**"]}, "write": {"west": ["mirror/team-a/**"]}},
    NewSecretSchema: {"value": "a password", "hosts": ["registry.east.example"]},
    NewTokenSchema: {"name": "ci", "role": "operator", "expires_in": "30d"},
    NewExaminationSchema: {"repository": "team/transship-doctor"},
    LeaseWishSchema: {
        "agent": "ap-south-agent-5e1f",
        "host": "node-1",
        "slots": 16,
        "room": 384,
        "held": [[4711, 1]],
    },
    AccountSchema: {
        "agent": "ap-south-agent-5e1f",
        "number": 7,
        "outcomes": [
            {
                "copy": 4711,
                "fence": 1,
                "state": "copied",
                "region": "",
                "digest": "sha256:4355a46b19d348dc2f57c046f8ef63d4538ebb936000f3c9ee954a27460dd865",
                "failure_class": "",
                "reason": "",
                "hint": "",
                "platforms": "",
                "blobs_copied": 3,
                "blobs_mounted": 1,
                "blobs_present": 0,
                "bytes_copied": 20000000,
                "bytes_saved": 4000000,
            }
        ],
        "executions": {
            "019ec5b2a4f01c2d3e4f5a6b": {
                "requests": {"east": 6, "west": 17},
                "bytes": [["east", "west", 20000000]],
            }
        },
        "crossings": [],
        "examinations": [],
    },
    WebhookSchema: {
        "url": "https://ops.example/transship",
        "events": ["execution.*"],
        "only": "failures",
        "secret": "a signing word",
    },
}
"""What a body may look like; a test holds each to its schema."""

PATH_EXAMPLES = {"name": "fleet", "identity": "019ec5b2a4f01c2d3e4f5a6b"}

_PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")
_GLOBS: dict[str, Any] = {"type": "array", "minItems": 1, "items": {"type": "string"}}


def routes(app: Flask) -> dict[tuple[str, str], Operation]:
    """Return every described route as (path, method); the console's pages are not among them."""
    found: dict[tuple[str, str], Operation] = {}
    for rule in app.url_map.iter_rules():
        described = operation_of(app.view_functions[rule.endpoint])
        if described is None:
            continue
        path = _PARAMETER.sub(r"{\1}", rule.rule)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            found[path, method.lower()] = described
    return found


def openapi_document(app: Flask) -> dict[str, Any]:
    """Return the document of the application's described routes."""
    plugin = MarshmallowPlugin(schema_name_resolver=_name)
    spec = APISpec(
        title="Transship",
        version="1",
        openapi_version="3.1.0",
        info={"description": "Replication of container images between registries."},
        plugins=[plugin],
    )
    _teach(plugin)
    spec.components.security_scheme("token", {"type": "http", "scheme": "bearer"})
    for (path, method), described in sorted(routes(app).items()):
        spec.path(path=path, operations={method: _operation(path, method, described)})
    document: dict[str, Any] = spec.to_dict()
    return _tighten(document)


def config_schema() -> dict[str, Any]:
    """Return the JSON Schema of transship.yaml, for editors and `transship schema`."""
    plugin = MarshmallowPlugin(schema_name_resolver=_name)
    spec = APISpec(title="t", version="1", openapi_version="3.1.0", plugins=[plugin])
    _teach(plugin)
    spec.components.schema("Config", schema=_ConfigSchema)
    found: dict[str, Any] = _tighten(spec.to_dict())["components"]["schemas"]
    top: dict[str, Any] = found.pop("Config")
    text: dict[str, Any] = _relocate({**top, "$defs": found})
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Transship", **text}


class _ConfigSchema(StrictSchema):
    version = fields.Integer(required=True, metadata={"enum": [1]})
    regions = fields.List(fields.Nested(RegionSchema))
    links = fields.List(fields.Nested(LinkSchema))
    projects = fields.List(fields.Nested(ProjectSchema))
    pipelines = fields.List(fields.Nested(PipelineSchema))
    registries = fields.List(fields.Nested(FileRegistrySchema))
    defaults = fields.Nested(DefaultsSchema)
    rules = fields.List(fields.Nested(RuleSchema))


def _name(schema: type[Schema] | Schema) -> str:
    kind = schema if isinstance(schema, type) else type(schema)
    return kind.__name__.removesuffix("Schema").lstrip("_")


def _teach(plugin: MarshmallowPlugin) -> None:
    """Tell the converter what our own fields take."""

    def ours(self: Any, field: Any, **_: Any) -> dict[str, Any]:
        if isinstance(field, Filter):
            return {"oneOf": [_GLOBS, self.resolve_nested_schema(field.schema)]}
        if isinstance(field, Grants):
            return {"type": "object", "additionalProperties": _GLOBS}
        if isinstance(field, NearerAddresses):
            nearer = self.resolve_nested_schema(NearerSchema)
            return {"type": "object", "additionalProperties": nearer}
        if isinstance(field, Credentials):
            one = self.resolve_nested_schema(field.schema)
            return {
                "oneOf": [one, {"type": "array", "minItems": 1, "maxItems": MOST, "items": one}]
            }
        if isinstance(field, Cost):
            return {"type": "number", "minimum": 0, "maximum": DEAREST}
        if isinstance(field, Password):
            kept = {"type": "object", "properties": {"set": {"type": "boolean"}}}
            return {"type": ["string", "object"], "properties": kept["properties"]}
        if isinstance(field, Items):
            return {"minItems": field.least, "maxItems": field.most}
        if isinstance(field, Duration):
            return {"pattern": r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$"}
        if isinstance(field, Speed):
            return {"pattern": SPEED_PATTERN}
        if isinstance(field, Rate):
            return {"type": "number", "minimum": 0.1, "maximum": 100_000}
        if isinstance(field, Bandwidth):
            window = self.resolve_nested_schema(BandwidthSchema)
            always = {"type": "string", "pattern": SPEED_PATTERN}
            return {"oneOf": [always, {"type": "array", "minItems": 1, "items": window}]}
        if isinstance(field, Text):
            return {"minLength": 1, "maxLength": field.longest}
        return {}

    converter = plugin.converter
    if converter is None:
        raise RuntimeError("the plugin belongs to no document yet")
    converter.add_attribute_function(ours)  # type: ignore[no-untyped-call]


def _operation(path: str, method: str, described: Operation) -> dict[str, Any]:
    words = [word for word in re.split(r"[^a-z]+", path.removeprefix("/api/v1")) if word]
    made: dict[str, Any] = {
        "operationId": "_".join([method, *words]),
        "summary": described.summary,
        "responses": _responses(described),
        "parameters": _parameters(path, described),
    }
    if described.role is not None:
        made["security"] = [{"token": []}]
        made["description"] = f"Needs the role {described.role} or a higher one."
    if described.body is not None:
        made["requestBody"] = {
            "required": any(field.required for field in described.body().fields.values()),
            "content": {"application/json": _content(described.body)},
        }
    return made


def _content(body: type[Schema]) -> dict[str, Any]:
    """Return a body's schema, with an example where it has one."""
    example = EXAMPLES.get(body)
    return {"schema": body} if example is None else {"schema": body, "example": example}


def _parameters(path: str, described: Operation) -> list[dict[str, Any]]:
    text = {"type": "string"}
    made: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": text,
            **({"example": PATH_EXAMPLES[name]} if name in PATH_EXAMPLES else {}),
        }
        for name in re.findall(r"\{(\w+)\}", path)
    ]
    query = {**(PARAMETERS if described.paged else {}), **described.query}
    for where, given in (("query", query), ("header", described.headers)):
        made += [
            {"name": name, "in": where, "description": says, "schema": text}
            for name, says in given.items()
        ]
    return made


def _responses(described: Operation) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for status, (says, schema) in described.results.items():
        made[str(status)] = {"description": says}
        if schema is not None:
            made[str(status)]["content"] = {described.media_type: {"schema": schema}}
        elif status != 204:
            kind = "object" if described.media_type == "application/json" else "string"
            made[str(status)]["content"] = {described.media_type: {"schema": {"type": kind}}}
    made["default"] = {
        "description": "what went wrong",
        "content": {"application/problem+json": {"schema": ProblemSchema}},
    }
    return made


def _tighten(document: dict[str, Any]) -> dict[str, Any]:
    """Say that objects take the named keys only, which our schemas check in their own way."""
    for schema in document["components"]["schemas"].values():
        if schema.get("type") == "object":
            schema["additionalProperties"] = False
    return document


def _relocate(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: inner.replace("#/components/schemas/", "#/$defs/")
            if key == "$ref"
            else _relocate(inner)
            for key, inner in value.items()
        }
    return [_relocate(inner) for inner in value] if isinstance(value, list) else value
