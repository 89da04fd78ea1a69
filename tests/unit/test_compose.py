"""docker-compose.yml: every reference resolves, nothing secret is in it, ports stay on loopback."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if one["image"].startswith("transship:")}

WORDS = {"type": "array", "items": {"type": "string"}}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "services", "volumes"],
    "patternProperties": {"^x-": {}},
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
        "volumes": {"type": "object", "additionalProperties": {"type": "object"}},
        "services": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["image"],
                "additionalProperties": False,
                "properties": {
                    "image": {"type": "string", "pattern": r"^[a-z0-9./-]+:[a-z0-9.-]+$"},
                    "build": {"const": "."},
                    "restart": {"enum": ["no", "unless-stopped"]},
                    "read_only": {"type": "boolean"},
                    "tmpfs": WORDS,
                    "cap_drop": WORDS,
                    "security_opt": WORDS,
                    "stop_grace_period": {"type": "string", "pattern": r"^\d+s$"},
                    "volumes": WORDS,
                    "ports": WORDS,
                    "profiles": WORDS,
                    "command": WORDS,
                    "environment": {
                        "type": "object",
                        "additionalProperties": {"type": "string"},
                    },
                    "depends_on": {
                        "type": "object",
                        "additionalProperties": {
                            "type": "object",
                            "required": ["condition"],
                            "additionalProperties": False,
                            "properties": {
                                "condition": {
                                    "enum": ["service_healthy", "service_completed_successfully"]
                                }
                            },
                        },
                    },
                    "healthcheck": {
                        "type": "object",
                        "required": ["test"],
                        "additionalProperties": False,
                        "properties": {
                            "test": WORDS,
                            "interval": {"type": "string"},
                            "timeout": {"type": "string"},
                            "retries": {"type": "integer"},
                        },
                    },
                },
            },
        },
    },
}


def test_file_has_the_shape_that_compose_reads() -> None:
    jsonschema.validate(COMPOSE, SCHEMA)


def test_fleet_is_whole() -> None:
    assert {"redis", "postgres", "api", "scheduler", "worker-eu", "worker-us", "flower"} <= set(
        SERVICES
    )
    demo = [name for name, service in SERVICES.items() if service.get("profiles") == ["demo"]]
    assert len(demo) == 2
    assert SERVICES["worker-eu"]["command"] == ["transship", "worker", "--region", "eu"]


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_waits_for_can_become_so(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        needs = "healthcheck" if how["condition"] == "service_healthy" else "command"
        assert needs in SERVICES[other], other
        assert not SERVICES[other].get("profiles")
        if needs == "command":
            assert SERVICES[other]["restart"] == "no"


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_loopback_and_volumes_exist(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))
    volumes = {volume.partition(":")[0] for volume in SERVICES[name].get("volumes", [])}
    assert volumes <= set(COMPOSE["volumes"])


def test_no_secret_stands_in_the_file() -> None:
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            assert not re.search(r"://[^/@]*:[^/@]*@", value), key
            if re.search("PASSWORD|SECRET|TOKEN|KEY", key):
                assert value.startswith("/run/transship"), key


def test_our_processes_run_with_few_rights_and_one_environment() -> None:
    environments = [service["environment"] for service in OURS.values()]

    assert all(environment == environments[0] for environment in environments)
    for service in OURS.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
    assert re.search(r"^USER (?!0|root)", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)


def test_every_variable_of_ours_is_a_setting() -> None:
    from service.settings import Settings

    names = {f"TRANSSHIP_{name.upper()}" for name in Settings.__dataclass_fields__}

    assert {name for service in OURS.values() for name in service["environment"]} <= names
