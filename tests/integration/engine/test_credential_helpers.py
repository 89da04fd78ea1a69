"""Docker credential helpers: run when the operator allows them, and never otherwise."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from api.samples.auth import BasicAuth
from api.samples.registry import SampleRegistry
from service.errors import InvalidConfiguration
from service.model.endpoint import CredentialSpec, RegistryEndpoint
from tests.support.world import World

HELPER = """#!/bin/sh
[ "$1" = get ] || exit 2
read -r server
printf '%s %s\\n' "$server" "${TRANSSHIP_SECRET_OTHER:-nothing}" >> "$SEEN"
printf '{"ServerURL":"%s","Username":"robot","Secret":"word"}' "$server"
"""


@pytest.fixture
def seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A helper on the path, and where it writes down for what it was run."""
    folder = tmp_path / "bin"
    folder.mkdir()
    helper = folder / "docker-credential-vault"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("TRANSSHIP_SECRET_OTHER", "of another registry")
    return tmp_path / "seen"


def save(world: World, registry: SampleRegistry) -> None:
    endpoint = RegistryEndpoint(
        "guarded", registry.url, credentials=CredentialSpec(docker_config=True)
    )
    world.services.registries.put(endpoint, document={})
    config = {"credHelpers": {endpoint.host: "vault"}}
    (world.folder / "config.json").write_text(json.dumps(config))


def test_an_allowed_helper_gives_the_credentials_of_its_registry(world: World, seen: Path) -> None:
    with SampleRegistry(auth=BasicAuth({"robot": "word"})) as registry:
        save(world, registry)
        services = world.open(replace(world.settings, credential_helpers="other, vault"))
        for _ in range(3):
            services.clients.get("guarded").http.auth._basic = ""  # ask for it anew
            services.clients.get("guarded").ping()
        assert seen.read_text().splitlines() == [f"{registry.host} nothing"], "run once for all"


def test_a_helper_that_is_not_allowed_is_not_run(world: World, seen: Path) -> None:
    with SampleRegistry(auth=BasicAuth({"robot": "word"})) as registry:
        save(world, registry)
        services = world.open(replace(world.settings, credential_helpers="other"))
        with pytest.raises(
            InvalidConfiguration, match="'vault', which is not allowed here"
        ) as told:
            services.clients.get("guarded").ping()
    assert "TRANSSHIP_CREDENTIAL_HELPERS" in told.value.hint
    assert not seen.exists()


@pytest.mark.parametrize("name", ["../bin/vault", "vault;id", "Vault", ""])
def test_a_helper_has_a_name_and_no_path(world: World, seen: Path, name: str) -> None:
    with SampleRegistry(auth=BasicAuth({"robot": "word"})) as registry:
        save(world, registry)
        config = {"credHelpers": {registry.host: name}}
        (world.folder / "config.json").write_text(json.dumps(config))
        services = world.open(replace(world.settings, credential_helpers=f"{name},vault"))
        with pytest.raises(InvalidConfiguration, match="not allowed"):
            services.clients.get("guarded").ping()
    assert not seen.exists()
