"""Every key of transship.yaml has a test that sets it and sees its effect at a registry or a receiver.

Generated from the schema: a new key without a test named `test_effect_<its path>` is red. What a path
is called: its parts joined by `_`, `rules.` and `registries.` may be left out.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import Any

import pytest

from api.openapi import config_schema
from api.schemas.governance import WebhookSchema

TESTS = Path(__file__).parents[1]

SHARED = {
    "defaults.deadline": "test_defaults_of_a_file_stand_beneath_its_rules",
    "defaults.freshness": "test_effect_freshness",
    "defaults.on_conflict": "test_defaults_of_a_file_stand_beneath_its_rules",
    "defaults.on_empty": "test_defaults_of_a_file_stand_beneath_its_rules",
    "defaults.priority": "test_defaults_of_a_file_stand_beneath_its_rules",
    "defaults.referrers": "test_defaults_of_a_file_stand_beneath_its_rules",
    **{
        f"pipelines.{key}": "test_effect_pipelines_stages"
        for key in (
            "name",
            *(f"stages.{one}" for one in ("name", "registry", "repository", "tag", "auto")),
        )
    },
    "pipelines.secret_env": "test_effect_pipelines_secret",
    "pipelines.stages.after.secret": "test_effect_pipelines_stages_secrets",
    "pipelines.stages.after.webhook": "test_from_a_push_in_development_to_production",
    "pipelines.stages.gates.approval.count": "test_effect_pipelines_stages_gates_approval",
    "pipelines.stages.gates.approval.own": "test_effect_pipelines_stages_gates_approval",
    "pipelines.stages.gates.approval.role": "test_from_a_push_in_development_to_production",
    "pipelines.stages.gates.scan.webhook": "test_effect_pipelines_stages_gates_scan",
    "pipelines.stages.gates.scan.worst": "test_effect_pipelines_stages_gates_scan",
    "pipelines.stages.gates.secret": "test_effect_pipelines_stages_secrets",
    "pipelines.stages.gates.signature.key_file": "test_from_a_push_in_development_to_production",
    "pipelines.stages.gates.timeout": "test_effect_pipelines_stages_gates_approval",
    "pipelines.stages.gates.webhook": "test_effect_pipelines_secret",
    "projects.name": "test_effect_projects_write",
    "registries.credentials.password.set": "test_effect_registries_credentials_password",
    "regions.name": "test_effect_links_from",
    "registries.groups": "test_effect_destinations_group",
    "registries.name": "test_effect_destinations_registry",
    "registries.region": "test_the_services_of_the_compose_file_replicate_in_two_regions",
    "registries.tls.client_key_file": "test_effect_registries_tls_client_cert_file",
    "rules.bandwidth.days": "test_effect_bandwidth_between",
    "rules.bandwidth.limit": "test_effect_bandwidth",
    "rules.name": "test_effect_priority",
    "webhooks.name": "test_effect_webhooks_url",
    "rules.select.tags.newest.count": "test_effect_select_tags_newest",
    "rules.select.to.repository": "test_effect_select_to",
    "rules.select.to.tag": "test_effect_select_to",
}
"""Keys that another key's test sets and sees."""

WITHOUT = {
    "version": "names the format of the file",
}
"""Keys that are meant to have no effect of their own."""


def leaves() -> list[str]:
    """Every key of the schema that holds no further keys, as a dotted path."""
    schema = config_schema()
    found: set[str] = set()

    def walk(node: dict[str, Any], path: tuple[str, ...], seen: tuple[str, ...]) -> bool:
        """Add the keys below; whether there were any."""
        if "$ref" in node:
            name = node["$ref"].rpartition("/")[2]
            return name not in seen and walk(schema["$defs"][name], path, (*seen, name))
        inner = [one for key in ("oneOf", "anyOf", "allOf") for one in node.get(key, [])]
        inner += [node["items"]] if "items" in node else []
        deeper = [walk(one, path, seen) for one in inner]
        for key, value in node.get("properties", {}).items():
            if not walk(value, (*path, key), seen):
                found.add(".".join((*path, key)))
            deeper.append(True)
        return any(deeper)

    walk(schema, (), ())
    return sorted(found)


@functools.cache
def known_tests() -> frozenset[str]:
    """The names of all test functions."""
    return frozenset(
        node.name
        for path in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    )


def names_for(path: str) -> set[str]:
    """What the test of a key may be called."""
    if path in SHARED:
        return {SHARED[path]}
    shorter = path.removeprefix("rules.").removeprefix("registries.")
    return {f"test_effect_{one.replace('.', '_')}" for one in (path, shorter)}


def webhook_keys() -> list[str]:
    """Every key of a webhook, which the API takes and a file does not."""
    return sorted(
        f"webhooks.{field.data_key or name}" for name, field in WebhookSchema().fields.items()
    )


@pytest.mark.parametrize("path", [*leaves(), *webhook_keys()])
def test_key_has_a_test_that_sees_its_effect(path: str) -> None:
    if path in WITHOUT:
        return
    assert names_for(path) & known_tests(), f"{path}: none of {sorted(names_for(path))}"


def test_lists_of_exceptions_name_keys_that_are_there() -> None:
    assert set(SHARED) | set(WITHOUT) <= {*leaves(), *webhook_keys()}
    assert len(WITHOUT) <= 3
