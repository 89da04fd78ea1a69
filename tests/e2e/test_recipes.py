"""The recipes of docs/how-to/promote.md: their YAML is read, their commands are run, their receiver is told.

Other people's tools are stand-ins that write down what they were told; `transship` is the real one.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from api.samples.registry import SampleRegistry
from api.schemas.pipeline import load_pipeline
from tests.support.content import push_image
from tests.support.processes import wait_until
from tests.support.promoting import SECRET
from tests.support.transship import clean_environment
from tests.support.up import Up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]
ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/how-to/promote.md").read_text("utf-8")
BLOCKS = dict(
    re.findall(r"^```(?:yaml|python)\n# (\S+)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
)
DEPLOYS = re.findall(
    r"^\| (?:a Kubernetes|Argo|GitHub|GitLab)[^|]* \| `(.+)` \|$", TEXT, re.MULTILINE
)
TOOLS = ("docker", "cosign", "kubectl", "argocd", "gh", "curl")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class Shop:
    """A service with the page's pipeline, and a folder in which a CI's job runs."""

    def __init__(self, up: Up, east: SampleRegistry, west: SampleRegistry, folder: Path) -> None:
        self.up, self.east, self.west, self.folder = up, east, west, folder
        self.said = folder / "said"
        tools = folder / "bin"
        tools.mkdir()
        note = f'#!/bin/sh\necho "$(basename "$0") $*" >> {self.said}\n'
        ours = (
            f"import sys; sys.path.insert(0, {str(ROOT)!r}); from api.cli.main import main; main()"
        )
        scripts = dict.fromkeys(TOOLS, note)
        scripts["transship"] = f'#!/bin/sh\nexec {sys.executable} -c "{ours}" "$@"\n'
        for name, text in scripts.items():
            (tools / name).write_text(text)
            (tools / name).chmod(0o700)
        (folder / "acceptance-tests").write_text(note)
        (folder / "acceptance-tests").chmod(0o700)

    def environment(self, **more: str) -> dict[str, str]:
        return {
            **clean_environment(),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "TRANSSHIP_URL": self.up.url,
            "TRANSSHIP_TOKEN": self.up.token,
            "REGISTRY": "registry.example",
            "RUNS_AT": "west.example",
            "TAG": "v1",
            "COSIGN_KEY": "",
            "TRIGGER": "",
            "GITLAB": "https://gitlab.example",
            **more,
        }

    def run(self, script: str) -> None:
        done = subprocess.run(
            ["bash", "-euc", script],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"

    def heard(self) -> list[str]:
        return self.said.read_text().splitlines() if self.said.exists() else []

    def waiting(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.up.ask("GET", "/promotions?state=waiting&pipeline=shop")[
            "items"
        ]
        return found


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, flowing: Up) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("recipes")
    with SampleRegistry() as east, SampleRegistry() as west:
        document = yaml.safe_load(BLOCKS["transship.yaml"])
        for name, registry in (("east", east), ("west", west)):
            flowing.registry(name, registry.url)
        flowing.ask("PUT", "/pipelines/shop", document["pipelines"][0])
        yield Shop(flowing, east, west, folder)


def test_every_recipe_is_yaml_and_says_something() -> None:
    assert len(DEPLOYS) == 4
    names = {"github-actions.yml", "gitlab-ci.yml", "kubernetes.yaml", "wait-and-deploy.yml"}
    assert names <= BLOCKS.keys()
    for name in names:
        assert isinstance(yaml.safe_load(BLOCKS[name]), dict), name
    deployment = yaml.safe_load(BLOCKS["kubernetes.yaml"])
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {one["name"]: one.get("value") for one in container["env"]}["DEPLOY"] == DEPLOYS[0]


def test_stage_with_secrets_of_its_own_is_one() -> None:
    (block,) = re.findall(r"^```yaml\n(gates: .*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    stage = {"name": "live", "registry": "west", **yaml.safe_load(block)}
    first = {"name": "dev", "registry": "east"}
    pipeline, _ = load_pipeline({"name": "shop", "stages": [first, stage]})
    assert [gate.secret for _, gate in pipeline.steps()] == ["gate-west", "deploy-west"]
    assert not pipeline.needs_secret


@pytest.mark.parametrize(
    "recipe", ["github-actions.yml", pytest.param("gitlab-ci.yml", marks=pytest.mark.nightly)]
)
def test_a_ci_builds_pushes_and_asks(shop: Shop, recipe: str) -> None:
    document = yaml.safe_load(BLOCKS[recipe])
    digest = push_image(shop.east.storage, "team/app", "v1", mark=recipe)
    if "jobs" in document:
        scripts = [step["run"] for step in document["jobs"]["ship"]["steps"] if "run" in step]
    else:
        jobs = [one for one in document.values() if isinstance(one, dict)]
        order = document["stages"]
        scripts = [
            "\n".join(job["script"])
            for job in sorted(jobs, key=lambda one: order.index(one["stage"]))
        ]

    for script in scripts:
        shop.run(script)

    assert (shop.west.storage.tags("test/app") or {})["v1"] == digest
    (asked,) = shop.waiting()
    assert (asked["to"], asked["digest"]) == ("production", digest)
    assert "docker push registry.example/team/app:v1" in shop.heard()
    shop.up.ask("POST", f"/promotions/{asked['id']}/cancel")


def test_a_ci_waits_for_a_rule_and_deploys(shop: Shop) -> None:
    push_image(shop.east.storage, "team/app", "v2", mark="ruled")
    shop.up.rule("fleet", "east", "west", select=[{"repositories": ["team/**"]}])
    shop.up.ask("POST", "/rules/fleet/executions")
    script = "\n".join(yaml.safe_load(BLOCKS["wait-and-deploy.yml"])["deploy"]["script"])

    shop.run(f"TAG=v2\n{script}")

    assert shop.heard()[-1] == "kubectl set image deployment/web web=west.example/team/app:v2"


def test_the_receiver_deploys_by_digest_what_is_signed_and_nothing_else(shop: Shop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = shop.folder / "receiver.py"
    script.write_text(BLOCKS["receiver.py"])
    receiver = subprocess.Popen(
        [sys.executable, str(script)],
        env=shop.environment(SIGNING_SECRET=SECRET, PORT=str(port), DEPLOY="\n".join(DEPLOYS)),
    )
    url = f"http://127.0.0.1:{port}/"
    try:
        wait_until(lambda: _posted(url, b"{}"), 20, "the receiver")
        body = b'{"type": "transship.promotion.placed", "data": {}}'
        assert _posted(url, body) == 401
        assert _posted(url, body, "t=1,v1=00") == 401
        before = len(shop.heard())
        stages = yaml.safe_load(BLOCKS["transship.yaml"])["pipelines"][0]["stages"][:2]
        told = {**stages[1], "name": "told", "repository": "told/{name}", "after": {"webhook": url}}
        shop.up.ask(
            "PUT",
            "/pipelines/told",
            {"secret_env": "TRANSSHIP_SECRET_SHOP", "stages": [stages[0], told]},
        )
        digest = push_image(shop.east.storage, "team/app", "v3", mark="told")
        wish = {"pipeline": "told", "ref": "team/app:v3", "to": "told"}
        promotion = shop.up.ask("POST", "/promotions", wish)["id"]

        def passed() -> bool:
            steps = shop.up.ask("GET", f"/promotions/{promotion}")["steps"]
            return bool(steps[-1]["state"] == "passed")

        wait_until(passed, 60, "the receiver to take it")
    finally:
        receiver.terminate()
        receiver.wait(10)

    heard = shop.heard()[before:]
    host = shop.west.host
    assert heard[0] == f"kubectl set image deployment/web web={host}/told/app@{digest}"
    assert [line.partition(" ")[0] for line in heard] == [
        "kubectl",
        "argocd",
        "argocd",
        "gh",
        "curl",
    ]
    assert [line for line in heard if DIGEST.findall(line) not in ([], [digest])] == []
    assert sum(digest in line for line in heard) == 4, "each deploys by digest"


def _posted(url: str, body: bytes, header: str = "") -> int:
    headers = {"Transship-Signature": header} if header else {}
    try:
        return httpx.post(
            url, content=body, headers=headers, trust_env=False, timeout=60
        ).status_code
    except httpx.TransportError:
        return 0
