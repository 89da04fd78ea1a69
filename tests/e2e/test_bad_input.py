"""Whatever is wrong with the input: a sentence that names the place, an exit code, and no change."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from api.samples.auth import BasicAuth
from api.samples.fleet import push_fleet
from api.samples.fleet_plan import FleetSpec
from api.samples.registry import SampleRegistry
from tests.support.transship import transship

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

TINY = FleetSpec(seed=5, repositories=2, tags=4, unique_bytes=2 << 20, big_images=0)
IMAGE = ("team0/api-0", "v1.0.0")


@pytest.fixture
def source() -> Iterator[SampleRegistry]:
    with SampleRegistry() as registry:
        push_fleet(registry.url, TINY)
        yield registry


@pytest.fixture
def destination() -> Iterator[SampleRegistry]:
    with SampleRegistry() as registry:
        yield registry


def written(registry: SampleRegistry) -> list[str]:
    """What was asked of a registry that could have changed it."""
    return [line.path for line in registry.log if line.method in {"PUT", "POST", "PATCH", "DELETE"}]


def rules(source: SampleRegistry, destination: SampleRegistry, **rule: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "registries": [
            {"name": "a", "url": source.url},
            {"name": "b", "url": destination.url},
        ],
        "rules": [
            {
                "name": "r",
                "source": "a",
                "select": [{"repositories": ["**"]}],
                "destinations": [{"registry": "b"}],
                **rule,
            }
        ],
    }


def save(tmp_path: Path, document: object) -> str:
    path = tmp_path / "transship.yaml"
    path.write_text(document if isinstance(document, str) else json.dumps(document, indent=1))
    return str(path)


@pytest.mark.parametrize(
    "text, told",
    [
        ("version: 1\nrules: [\n", ":3"),
        ("version: 1\nversion: 1\n", ":2"),
        ("version: 1\nrulez: []\n", "rules"),
        ("version: 2\n", "version"),
        ("", "version"),
        (
            (
                "version: 1\nregistries: [{name: a, url: 'http://127.0.0.1:1'}]\n"
                "rules:\n  - {name: r, source: b, select: [{repositories: ['**']}],"
                " destinations: [{registry: a}]}\n"
            ),
            "rules[0].source",
        ),
        (
            "version: 1\nregistries: [{name: a, url: 'http://127.0.0.1:1', pasword: x}]\n",
            "registries[0].pasword",
        ),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_line_and_field(
    tmp_path: Path, text: str, told: str
) -> None:
    path = save(tmp_path, text)

    for command in (["validate"], ["sync"]):
        result = transship(*command, "-f", path)

        assert result.returncode == 2
        assert result.stderr.startswith(f"transship: {path}:")
        assert told in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "reference", ["host.example/UPPER/case:1", "host/a//b:1", "host/x:" + "t" * 129, "", "a b"]
)
def test_what_is_no_reference_is_refused_before_an_engine_starts(reference: str) -> None:
    result = transship("copy", reference, "127.0.0.1:1/x:1")

    assert result.returncode == 2
    assert "SOURCE" in result.stderr
    assert "engine" not in result.stderr


def test_a_registry_that_is_not_there_is_unreachable(destination: SampleRegistry) -> None:
    result = transship("copy", "127.0.0.1:1/x/y:1", f"{destination.host}/x/y:1", "--json")

    report = json.loads(result.stdout)
    assert result.returncode == 3
    assert report["failures"][0]["class"] == "network"
    assert "127.0.0.1:1" in report["failures"][0]["reason"]
    assert written(destination) == []


def test_a_tag_that_is_not_there_is_no_success(
    source: SampleRegistry, destination: SampleRegistry
) -> None:
    result = transship(
        "copy", f"{source.host}/team0/api-0:none", f"{destination.host}/x:1", "--json"
    )

    assert result.returncode == 1
    assert json.loads(result.stdout)["failures"][0]["class"] == "gone"
    assert written(destination) == []


def test_wrong_credentials_are_told_apart_from_missing_images(
    destination: SampleRegistry, tmp_path: Path
) -> None:
    secret = "correct horse"
    with SampleRegistry(auth=BasicAuth({"robot": secret})) as source:
        wrong = base64.b64encode(b"robot:battery-staple").decode()
        config = {"auths": {source.host: {"auth": wrong}}}
        (tmp_path / "config.json").write_text(json.dumps(config))

        result = transship(
            "copy",
            f"{source.host}/x/y:1",
            f"{destination.host}/x/y:1",
            "--json",
            DOCKER_CONFIG=str(tmp_path),
        )

    report = json.loads(result.stdout)
    assert result.returncode == 2
    assert report["failures"][0]["class"] == "auth"
    assert "battery-staple" not in result.stdout + result.stderr
    assert written(destination) == []


def test_a_certificate_that_does_not_verify_is_refused(
    destination: SampleRegistry, tmp_path: Path
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with SampleRegistry(tls=context) as source:
        result = transship(
            "copy", f"https://{source.host}/x/y:1", f"{destination.host}/x/y:1", "--json"
        )

    report = json.loads(result.stdout)
    assert result.returncode == 2
    assert report["failures"][0]["class"] == "policy"
    assert "ca_file" in report["failures"][0]["reason"] + report["failures"][0]["hint"]
    assert written(destination) == []


def test_a_manifest_that_lies_about_a_size_moves_no_tag(
    source: SampleRegistry, destination: SampleRegistry
) -> None:
    config = b"{}"
    layer = b"x" * 5000
    digests = [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in (config, layer)]
    for digest, data in zip(digests, (config, layer), strict=True):
        source.storage.put_blob("evil/app", digest, data)
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digests[0],
            "size": 2,
        },
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": digests[1],
                "size": 4999,
            }
        ],
    }
    source.storage.plant_manifest(
        "evil/app", json.dumps(manifest).encode(), manifest["mediaType"], "v1"
    )

    result = transship("copy", f"{source.host}/evil/app:v1", f"{destination.host}/x:1", "--json")

    failure = json.loads(result.stdout)["failures"][0]
    assert result.returncode == 1
    assert failure["class"] == "corrupt"
    assert digests[1][:19] in failure["reason"]
    assert not [path for path in written(destination) if "/manifests/" in path]


def test_two_sources_of_one_name_are_refused_before_anything_is_written(
    source: SampleRegistry, destination: SampleRegistry, tmp_path: Path
) -> None:
    document = rules(
        source, destination, destinations=[{"registry": "b", "repository": "all/in/one"}]
    )

    result = transship("sync", "-f", save(tmp_path, document), "--json")

    failure = json.loads(result.stdout)["failures"][0]
    assert result.returncode == 2
    assert "would both become all/in/one:" in failure["reason"]
    assert written(destination) == []


def test_a_rule_that_matches_nothing_says_so(
    source: SampleRegistry, destination: SampleRegistry, tmp_path: Path
) -> None:
    nothing = [{"repositories": ["nobody/**"]}]
    warned = transship(
        "sync", "-f", save(tmp_path, rules(source, destination, select=nothing)), "--json"
    )
    failed = transship(
        "sync",
        "-f",
        save(tmp_path, rules(source, destination, select=nothing, on_empty="fail")),
        "--json",
    )

    assert warned.returncode == 0
    assert "matches nothing" in json.loads(warned.stdout)["warnings"][0]
    assert failed.returncode != 0
