"""The OpenAPI document: it has every route, and the answers keep to it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from marshmallow import Schema

from api.config_file import load_text
from api.openapi import EXAMPLES, config_schema, routes
from tests.unit.api.conftest import EAST, FLEET, Api

ROOT = Path(__file__).parents[3]


def document(api: Api) -> dict[str, Any]:
    found: dict[str, Any] = api.get("/openapi.json", role=None).get_json()
    return found


def test_document_has_every_route_and_no_other(api: Api) -> None:
    served = {
        (re.sub(r"<\w+:", "<", str(rule)), method)
        for rule in api.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    pages = {("/", "GET"), ("/docs", "GET"), ("/console/<name>", "GET")}
    told = {
        (path.replace("{", "<").replace("}", ">"), method.upper())
        for path, item in document(api)["paths"].items()
        for method in item
    }

    assert told == served - pages
    assert len(told) == len(routes(api.app))


def test_operations_have_ids_of_their_own(api: Api) -> None:
    ids = [
        operation["operationId"]
        for item in document(api)["paths"].values()
        for operation in item.values()
    ]

    assert len(ids) == len(set(ids))


def test_every_reference_resolves(api: Api) -> None:
    made = document(api)
    names = set(made["components"]["schemas"])

    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            here = (
                {value["$ref"].rsplit("/", 1)[1]} if isinstance(value.get("$ref"), str) else set()
            )
            return here.union(*[references(inner) for inner in value.values()])
        if isinstance(value, list):
            return set().union(*[references(inner) for inner in value])
        return set()

    assert references(made) <= names


def check(api: Api, name: str, value: Any) -> None:
    made = document(api)
    schema = {"$ref": f"#/components/schemas/{name}", "components": made["components"]}
    jsonschema.Draft202012Validator(schema).validate(value)


def test_answers_keep_to_their_schemas(fleet: Api) -> None:
    secret = {**EAST, "credentials": {"username": "u", "password": "x-word"}}
    check(fleet, "RegistryAnswer", fleet.put("/api/v1/registries/spare", secret).get_json())
    check(fleet, "RegistryPage", fleet.get("/api/v1/registries").get_json())
    check(fleet, "RuleAnswer", fleet.get("/api/v1/rules/fleet").get_json())
    check(fleet, "RulePage", fleet.get("/api/v1/rules").get_json())
    run = fleet.post("/api/v1/rules/fleet/executions").get_json()
    check(fleet, "ExecutionDetail", run)
    check(fleet, "ExecutionPage", fleet.get("/api/v1/executions").get_json())
    check(fleet, "CopyPage", fleet.get(f"/api/v1/executions/{run['id']}/copies").get_json())
    check(fleet, "Token", fleet.post("/api/v1/tokens", {"name": "t", "role": "viewer"}).get_json())
    check(fleet, "TokenPage", fleet.get("/api/v1/tokens").get_json())
    check(fleet, "Health", fleet.get("/healthz").get_json())
    check(fleet, "Ready", fleet.get("/readyz").get_json())
    check(fleet, "Problem", fleet.put("/api/v1/rules/x", {}).get_json())
    check(fleet, "Problem", fleet.get("/api/v1/rules/x").get_json())


@pytest.mark.parametrize("body", EXAMPLES, ids=lambda body: body.__name__)
def test_examples_keep_to_their_schemas(api: Api, body: type[Schema]) -> None:
    example = EXAMPLES[body]
    name = body.__name__.removesuffix("Schema")

    named = {"name": "fleet", **example} if "name" in body().fields else example

    assert body().load(named)
    check(api, name, named)


def test_every_body_with_fields_has_an_example(api: Api) -> None:
    """Its own, or one of each field that has to be there."""
    made = document(api)
    missing = []
    for path, item in made["paths"].items():
        for method, operation in item.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            name = body.get("schema", {}).get("$ref", "").rsplit("/", 1)[-1]
            kind = made["components"]["schemas"].get(name, {})
            fields = kind.get("properties", {})
            bare = [one for one in kind.get("required", []) if "example" not in fields[one]]
            if "example" not in body and bare:
                missing.append((method, path, bare))

    assert missing == []


def test_what_the_api_takes_keeps_to_the_schemas(api: Api) -> None:
    check(api, "Registry", {"name": "east", **EAST})
    check(api, "Rule", {"name": "fleet", **FLEET})
    with pytest.raises(jsonschema.ValidationError):
        check(api, "Rule", {"name": "fleet", **FLEET, "extra": 1})


def test_schema_of_the_file_takes_what_the_reader_takes() -> None:
    import yaml

    text = (ROOT / "docs/reference/transship-yaml.md").read_text("utf-8")
    example = text.split("```yaml\n")[1].split("```")[0]
    schema = config_schema()
    jsonschema.Draft202012Validator.check_schema(schema)

    assert load_text(example).rules
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(example))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate({"version": 1, "rulez": []})


def test_reference_page_of_the_file_names_every_key() -> None:
    text = (ROOT / "docs/reference/transship-yaml.md").read_text("utf-8")

    def keys(schema: dict[str, Any]) -> set[str]:
        found = set(schema.get("properties", {}))
        return found.union(*[keys(inner) for inner in schema.get("$defs", {}).values()])

    assert [key for key in sorted(keys(config_schema())) if f"`{key}`" not in text] == []
