"""The chart in deploy/helm: its values' schema, which `make docs` writes, and what Helm makes of it.

Helm is a Go program: `python -m bench.peers_install helm` builds it into `.bench/bin`.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.peers_install import find
from service.settings import Settings

HELM = Path(__file__).parents[2] / "deploy/helm"
CHART = HELM / "transship"
RENDERED = Path(__file__).parents[1] / "fixtures/helm"
EXAMPLES = ("small", "fleet", "agent")
KUBERNETES = "1.31"

THE_CHARTS_OWN = frozenset({
    "database_url", "redis_url", "token", "url", "agent_dir", "secret_key_file", "secrets_dir", "listen",
    "metrics_listen", "metrics_token_file", "gateway_listen", "gateway_file", "gateway_dir", "flower_listen", "flower_password_file", "region", "one_machine",
    "testing", "crash", "without", "durable",
})  # fmt: skip
"""Settings that stand in a Secret, that the chart sets, or that no fleet has: values may not name them."""

OBJECT, OBJECTS, TEXT = {"type": "object"}, {"type": "array", "items": {"type": "object"}}, {"type": "string"}  # fmt: skip
COUNT, YES = {"type": "integer", "minimum": 0}, {"type": "boolean"}


def values_schema() -> str:
    """What values.yaml may hold; Helm refuses the rest, a misspelled TRANSSHIP_ variable included."""
    names = sorted(
        f"TRANSSHIP_{one.name.upper()}" for one in fields(Settings) if one.name not in THE_CHARTS_OWN
    )  # fmt: skip
    settings = {
        "type": "object",
        "propertyNames": {"enum": names},
        "additionalProperties": {"type": ["string", "number", "boolean"]},
    }
    keys = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))["secret"]["keys"]
    pods = {"resources": OBJECT, "scheduling": OBJECT}
    worker = _object(
        replicas=COUNT,
        urgentReplicas=COUNT,
        keda=_object(minReplicas=COUNT, maxReplicas=COUNT),
        settings=settings,
        **pods,
    )
    schema = _object(
        mode={"enum": ["fleet", "agent"]},
        image=_object(
            repository=TEXT, tag=TEXT, pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]}
        ),
        imagePullSecrets=OBJECTS,
        secret=_object(name=TEXT, keys=_object(**dict.fromkeys(keys, TEXT))),
        passwordsSecret=TEXT,
        settings=settings,
        firstToken=YES,
        api=_object(
            replicas=COUNT,
            service=_object(type=TEXT, port={"type": "integer"}, annotations=OBJECT),
            **pods,
        ),
        scheduler=_object(replicas=COUNT, **pods),
        workers={
            "type": "object",
            "propertyNames": {"pattern": "^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"},
            "additionalProperties": worker,
        },
        workerDefaults=worker,
        agent=_object(region=TEXT, url=TEXT, storage=TEXT, storageClass=TEXT, **pods),
        gateway=_object(
            enabled=YES,
            replicas=COUNT,
            region=TEXT,
            config=OBJECT,
            service=_object(type=TEXT, port={"type": "integer"}, annotations=OBJECT),
            storage=TEXT,
            **pods,
        ),
        flower=_object(enabled=YES, **pods),
        podDisruptionBudget=_object(enabled=YES, maxUnavailable={"type": ["integer", "string"]}),
        terminationGracePeriodSeconds=COUNT,
        serviceAccount=_object(create=YES, name=TEXT, annotations=OBJECT),
        podAnnotations=OBJECT,
        extraEnvFrom=OBJECTS,
        extraVolumes=OBJECTS,
        extraVolumeMounts=OBJECTS,
        serviceMonitor=_object(enabled=YES, interval=TEXT, labels=OBJECT),
        keda=_object(
            enabled=YES,
            prometheus=TEXT,
            by={"enum": ["copies", "bytes"]},
            copiesPerReplica=COUNT,
            bytesPerReplica=COUNT,
            bytesPerCopy=COUNT,
            pollingSeconds=COUNT,
            cooldownSeconds=COUNT,
            authentication=TEXT,
        ),
        networkPolicy=_object(
            enabled=YES, apiFrom=OBJECTS, gatewayFrom=OBJECTS, metricsFrom=OBJECTS, egress=OBJECTS
        ),
    )
    schema["properties"]["global"] = OBJECT  # of charts that hold this one
    return json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", **schema}, indent=1) + "\n"  # fmt: skip


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def template(*words: str) -> subprocess.CompletedProcess[str]:
    """Run `helm template` over the chart; skips the test where there is no Helm."""
    helm = find("helm")
    if helm is None:
        pytest.skip("helm is not installed: python -m bench.peers_install helm")
    return subprocess.run(
        [helm, "template", "transship", str(CHART), "--kube-version", f"{KUBERNETES}.0", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def digest(example: str) -> str:
    """Digest of all that the rendering of an example is made of (what refuses values is no part of it)."""
    files = [
        *sorted(one for one in CHART.rglob("*") if one.suffix in {".yaml", ".tpl"}),
        _values(example),
    ]
    return hashlib.sha256(b"\0".join(one.read_bytes() for one in files)).hexdigest()


def render(example: str) -> str:
    """What Helm makes of an example now, as tests/fixtures/helm has it."""
    done = template("-f", str(_values(example)))
    assert done.returncode == 0, done.stderr
    return f"# {digest(example)}: python -m tests.support.helm writes this anew\n{done.stdout}"


def written(example: str) -> str:
    """What Helm made of it: the tests need no Helm, but for the one that compares."""
    return (RENDERED / f"{example}.yaml").read_text("utf-8")


def objects(example: str) -> list[dict[str, Any]]:
    """The objects that Helm made of an example."""
    return [one for one in yaml.safe_load_all(written(example)) if one]


def pod_of(one: dict[str, Any]) -> dict[str, Any] | None:
    """The pod's spec of an object that starts pods."""
    found: dict[str, Any] | None = one.get("spec", {}).get("template", {}).get("spec")
    return found


def _values(example: str) -> Path:
    return HELM / f"examples/{example}.yaml"


def main() -> None:
    """Render the examples into tests/fixtures/helm."""
    RENDERED.mkdir(exist_ok=True)
    for example in EXAMPLES:
        (RENDERED / f"{example}.yaml").write_text(render(example), "utf-8")


if __name__ == "__main__":
    main()
