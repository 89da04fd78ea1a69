"""The chart in deploy/helm, as Helm rendered it for three files of values (tests/fixtures/helm)."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from api.schemas.gateway import read_gateway
from service.settings import Settings
from tests.support import helm
from tests.support.processes import require

NAMES = {f"TRANSSHIP_{name.upper()}" for name in Settings.__dataclass_fields__}
METRICS = (helm.HELM.parents[1] / "docs/reference/metrics.md").read_text("utf-8")
OBJECTS = {example: helm.objects(example) for example in helm.EXAMPLES}
EACH = pytest.mark.parametrize("example", helm.EXAMPLES)

WORD = {"type": "string", "minLength": 1}
COUNT = {"type": "integer", "minimum": 0}


def closed(*needed: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(needed),
        "properties": properties,
    }


OTHERS = {
    # keda.sh/v1alpha1, as KEDA 2.17 documents it: what we use of it
    "ScaledObject": closed(
        "scaleTargetRef",
        "triggers",
        scaleTargetRef=closed("name", name=WORD),
        minReplicaCount=COUNT,
        maxReplicaCount=COUNT,
        pollingInterval=COUNT,
        cooldownPeriod=COUNT,
        fallback=closed(
            "failureThreshold",
            "replicas",
            failureThreshold=COUNT,
            replicas=COUNT,
            behavior={
                "enum": [
                    "static",
                    "currentReplicas",
                    "currentReplicasIfHigher",
                    "currentReplicasIfLower",
                ]
            },
        ),
        triggers={
            "type": "array",
            "minItems": 1,
            "items": closed(
                "type",
                "metadata",
                type={"const": "prometheus"},
                authenticationRef=closed("name", name=WORD),
                metadata={
                    "type": "object",
                    "required": ["serverAddress", "query", "threshold"],
                    "additionalProperties": {"type": "string"},  # KEDA takes no number there
                },
            ),
        },
    ),
    # monitoring.coreos.com/v1
    "ServiceMonitor": closed(
        "selector",
        "endpoints",
        selector=closed("matchLabels", matchLabels={"type": "object"}),
        endpoints={
            "type": "array",
            "items": closed(
                "port",
                port=WORD,
                path=WORD,
                interval={"type": "string", "pattern": r"^\d+(ms|s|m)$"},
                honorLabels={"type": "boolean"},
                authorization=closed(
                    "type",
                    "credentials",
                    type=WORD,
                    credentials=closed("name", "key", name=WORD, key=WORD),
                ),
            ),
        },
    ),
}


def pods(example: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each object that starts pods, and the pods' spec."""
    return [(one, pod) for one in OBJECTS[example] if (pod := helm.pod_of(one)) is not None]


def boxes(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


def of_kind(example: str, kind: str) -> list[dict[str, Any]]:
    return [one for one in OBJECTS[example] if one["kind"] == kind]


@EACH
def test_rendering_is_of_the_chart_as_it_is(example: str) -> None:
    assert helm.written(example).startswith(f"# {helm.digest(example)}"), (
        "the chart has changed: python -m tests.support.helm"
    )


@EACH
def test_helm_makes_what_is_written(example: str) -> None:
    assert helm.render(example) == helm.written(example)


@EACH
@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_kubernetes_takes_every_object(example: str, version: str) -> None:
    for one in OBJECTS[example]:
        if one["kind"] in OTHERS:
            jsonschema.validate(one["spec"], OTHERS[one["kind"]])
        else:
            kubernetes_validate.validate(one, version, strict=True)


def test_kinds_and_names_are_those_of_the_values() -> None:
    names = {
        example: {f"{one['kind']}/{one['metadata']['name']}" for one in found}
        for example, found in OBJECTS.items()
    }

    assert {
        "Job/transship-upgrade",
        "Deployment/transship-api",
        "Deployment/transship-scheduler",
        "Deployment/transship-worker-local",
    } <= names["small"]
    assert {
        "Deployment/transship-worker-eu-west",
        "Deployment/transship-urgent-eu-west",
        "Deployment/transship-worker-us-east",
        "Deployment/transship-flower",
        "ServiceMonitor/transship",
        "NetworkPolicy/transship",
        "ScaledObject/transship-worker-us-east",
    } <= names["fleet"]
    assert {one for one in names["agent"] if not re.match("ConfigMap|Service", one)} == {
        "StatefulSet/transship-agent-ap-south"
    }
    assert all(len(found) == len(names[example]) for example, found in OBJECTS.items())


@EACH
def test_pods_run_with_few_rights(example: str) -> None:
    for _, pod in pods(example):
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        for box in boxes(pod):
            assert box["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert box["image"] == "registry.example/transship:0.1.0"
            assert box["resources"]["limits"]["memory"]


def test_user_is_the_images_own() -> None:
    dockerfile = (helm.HELM.parents[1] / "Dockerfile").read_text("utf-8")

    assert re.search("^USER 10001$", dockerfile, re.MULTILINE)


@EACH
def test_every_variable_is_a_setting_and_every_file_is_mounted(example: str) -> None:
    (config,) = [one for one in of_kind(example, "ConfigMap") if "gateway.yaml" not in one["data"]]
    for owner, pod in pods(example):
        files = {
            f"/run/transship/{item['path']}"
            for volume in pod["volumes"]
            if volume["name"] == "secret"
            for item in volume["secret"]["items"]
        }
        for box in boxes(pod):
            values = {one["name"]: one.get("value") for one in box["env"]}
            if "envFrom" in box:
                assert box["envFrom"] == [{"configMapRef": {"name": config["metadata"]["name"]}}]
                values = {**config["data"], **values}
            assert {name for name in values if name != "HOME"} <= NAMES
            named = {
                value
                for name, value in values.items()
                if value
                and value.startswith("/run/transship/")
                # Flower's password is Flower's alone
                and (name != "TRANSSHIP_FLOWER_PASSWORD_FILE" or box["name"] == "flower")
            }
            assert named <= files, owner["metadata"]["name"]
            assert {mount["name"] for mount in box["volumeMounts"]} <= {
                *(volume["name"] for volume in pod["volumes"]),
                *(
                    claim["metadata"]["name"]
                    for claim in owner["spec"].get("volumeClaimTemplates", ())
                ),
            }
            Settings.from_env({name: value for name, value in values.items() if value})


def test_a_gateways_file_is_one_that_it_can_read(tmp_path: Path) -> None:
    (file,) = [
        one["data"]["gateway.yaml"]
        for one in of_kind("fleet", "ConfigMap")
        if "gateway.yaml" in one["data"]
    ]
    (tmp_path / "gateway.yaml").write_text(file)
    config = read_gateway(str(tmp_path / "gateway.yaml"))
    assert config.place_of("team/app") == ("old", "team/app")
    (box,) = [box for _, pod in pods("fleet") for box in boxes(pod) if box["name"] == "gateway"]
    paths = {mount["mountPath"] for mount in box["volumeMounts"]}
    assert {"/data", "/etc/transship"} <= paths
    assert box["command"][2:4] == ["-f", "/etc/transship/gateway.yaml"]


@EACH
def test_what_is_secret_comes_from_the_secret_alone(example: str) -> None:
    for _, pod in pods(example):
        for box in boxes(pod):
            for one in box["env"]:
                if re.search(r"DATABASE_URL|REDIS_URL|TOKEN$|PASSWORD$", one["name"]):
                    assert one["valueFrom"]["secretKeyRef"]["name"] == "transship"
    assert not re.search(r"://[^/@\s]*:[^/@\s]*@|kind: Secret", helm.written(example))


@EACH
def test_selectors_find_their_pods(example: str) -> None:
    labels = [one["spec"]["template"]["metadata"]["labels"] for one, _ in pods(example)]

    for kind in ("Deployment", "StatefulSet", "PodDisruptionBudget"):
        for one in of_kind(example, kind):
            wanted = one["spec"]["selector"]["matchLabels"].items()
            assert sum(wanted <= found.items() for found in labels) == 1, one["metadata"]["name"]
    for one in of_kind(example, "Service"):
        ports = {
            port["name"]
            for owner, pod in pods(example)
            if one["spec"]["selector"].items()
            <= owner["spec"]["template"]["metadata"]["labels"].items()
            for box in pod["containers"]
            for port in box.get("ports", ())
        }
        assert {port["targetPort"] for port in one["spec"]["ports"]} <= ports


def test_keda_scales_deployments_that_say_no_number_by_metrics_that_there_are() -> None:
    deployments = {one["metadata"]["name"]: one["spec"] for one in of_kind("fleet", "Deployment")}
    scaled = of_kind("fleet", "ScaledObject")

    assert len(scaled) == 2
    for one in scaled:
        assert "replicas" not in deployments[one["spec"]["scaleTargetRef"]["name"]]
        named = set(
            re.findall(r"transship_[a-z_]+", one["spec"]["triggers"][0]["metadata"]["query"])
        )
        assert named
        assert all(f"`{name}`" in METRICS for name in named)


@pytest.mark.parametrize(
    ("copied", "copies", "expected"),
    [
        # ten MiB a copy of the last hours, a MiB at least, and what values say where there were none
        (f"0+{10 << 20}x360", "0+1x360", 500 * (10 << 20)),
        ("0x360", "0+1x360", 500 * (1 << 20)),
        ("0x360", "0x360", 500 * 104857600),
    ],
)
def test_keda_asks_prometheus_for_bytes(
    copied: str, copies: str, expected: int, tmp_path: Path
) -> None:
    promtool = require("promtool")
    scaled = {one["metadata"]["name"]: one["spec"] for one in of_kind("fleet", "ScaledObject")}
    query = scaled["transship-worker-eu-west"]["triggers"][0]["metadata"]["query"]
    series = {
        'transship_region_waiting_copies{region="eu-west",pod="a"}': "500x360",
        'transship_region_waiting_copies{region="eu-west",pod="b"}': "500x360",  # a second scheduler
        'transship_region_waiting_copies{region="us_east",pod="a"}': "9x360",
        'transship_bytes_total{region="eu-west",kind="copied",rule="r"}': copied,
        'transship_bytes_total{region="eu-west",kind="saved",rule="r"}': "0+77777777x360",
        'transship_copies_total{region="eu-west",state="committed",rule="r"}': copies,
    }
    test = {
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": k, "values": v} for k, v in series.items()],
                "promql_expr_test": [
                    {
                        "expr": f"round({query})",
                        "eval_time": "6h",
                        "exp_samples": [{"labels": "{}", "value": expected}],
                    }
                ],
            }
        ]
    }
    (tmp_path / "test.yml").write_text(json.dumps(test))

    done = subprocess.run(
        [promtool, "test", "rules", "test.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "values",
    [
        {"settings": {"TRANSSHIP_LOG_LEVL": "INFO"}},
        {"settings": {"TRANSSHIP_DATABASE_URL": "postgresql://u:p@db/x"}},
        {"settings": {"TRANSSHIP_TESTING": "true"}},
        {"workers": {"eu west": {}}},
        {"workers": {"eu": {"replica": 2}}},
        {"keda": {"by": "mood"}},
    ],
)
def test_values_that_are_refused(values: dict[str, Any]) -> None:
    schema = json.loads(helm.values_schema())

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, schema)


@pytest.mark.parametrize(
    "file",
    [helm.CHART / "values.yaml", *sorted((helm.HELM / "examples").glob("*.yaml"))],
    ids=lambda file: file.name,
)
def test_values_are_of_the_schemas_shape(file: Path) -> None:
    schema = json.loads(helm.values_schema())

    jsonschema.validate(yaml.safe_load(file.read_text("utf-8")), schema)
    if file.name == "values.yaml":
        assert set(yaml.safe_load(file.read_text("utf-8"))) == set(schema["properties"]) - {
            "global"
        }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "settings.TRANSSHIP_LOG_LEVL=x"], "TRANSSHIP_LOG_LEVL"),
        (["--set", "mode=agent"], "agent.url: the https:// address"),
        (["--set", "mode=agent,agent.url=https://home.example"], "agent.region: the region"),
        (["--set", "keda.enabled=true"], "keda.prometheus: the address"),
        (["--set", "workers.eu_west.replicas=1,workers.eu-west.replicas=1"], "of the same name"),
    ],
)
def test_helm_refuses_what_cannot_run(words: list[str], said: str) -> None:
    done = helm.template(*words)

    assert done.returncode == 1
    assert said in done.stderr


def test_version_is_the_same_everywhere() -> None:
    root = helm.HELM.parents[1]
    chart = yaml.safe_load((helm.CHART / "Chart.yaml").read_text("utf-8"))
    version = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"]

    assert (chart["version"], chart["appVersion"]) == (version, version)
    assert f"image: transship:{version}\n" in (root / "docker-compose.yml").read_text("utf-8")


def test_values_of_the_page_are_of_the_schemas_shape() -> None:
    page = (helm.HELM.parents[1] / "docs/how-to/run-a-fleet.md").read_text("utf-8")
    (values,) = re.findall(r"<<'END'\n(.+?)^END$", page, re.MULTILINE | re.DOTALL)
    table = re.findall(r"^\| [^|]+ \| `([a-zA-Z]+: (?:\{.+?\}|\[.+?\]))`", page, re.MULTILINE)
    schema = json.loads(helm.values_schema())

    assert len(table) == 6
    for text in (values, *(one.replace("...", "") for one in table)):
        jsonschema.validate(yaml.safe_load(text), schema)
