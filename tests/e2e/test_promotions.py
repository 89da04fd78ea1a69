"""An image flows from a push in development to production: through an approval and a signature gate, across two
accounts and a border, with the trace of every step (issue 10)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from api.samples.auth import BasicAuth
from api.samples.manifests import OCI_IMAGE
from api.samples.registry import SampleRegistry
from tests.e2e.conftest import DEV, PROD
from tests.support.content import push_image
from tests.support.processes import wait_until
from tests.support.promoting import SECRET, GateReceiver
from tests.support.signing import Signer
from tests.support.transship import clean_environment, transship
from tests.support.up import Up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def registries() -> Iterator[dict[str, SampleRegistry]]:
    with (
        SampleRegistry(auth=BasicAuth(dict([DEV]))) as dev,
        SampleRegistry(auth=BasicAuth(dict([PROD]))) as prod,
    ):
        yield {"dev": dev, "prod": prod}


def declared(registries: dict[str, SampleRegistry], hook: str) -> dict[str, Any]:
    """What a team writes down: two accounts on two sides of a border, and the way from one to the other."""
    accounts = {"dev": ("us-east", "us", DEV[0]), "prod": ("eu-west", "eu", PROD[0])}
    return {
        "version": 1,
        "regions": [{"name": region, "jurisdiction": law} for region, law, _ in accounts.values()],
        "registries": [
            {
                "name": name,
                "url": registries[name].url,
                "region": region,
                "credentials": {
                    "username": user,
                    "password_env": f"TRANSSHIP_SECRET_{name.upper()}",
                },
            }
            for name, (region, _, user) in accounts.items()
        ],
        "pipelines": [
            {
                "name": "flagship",
                "secret_env": "TRANSSHIP_SECRET_SHOP",
                "stages": [
                    {
                        "name": "development",
                        "registry": "dev",
                        "repository": "shop/*",
                        "tag": "v*",
                    },
                    {
                        "name": "production",
                        "registry": "prod",
                        "repository": "live/{name}",
                        "auto": True,
                        "gates": [
                            {"approval": {"role": "admin"}},
                            {"signature": {"key_file": "cosign.pub"}},
                        ],
                        "after": {"webhook": hook},
                    },
                ],
            }
        ],
    }


class Person:
    """Somebody with a token and the command line."""

    def __init__(self, up: Up, token: str) -> None:
        self.environment = {
            **clean_environment(),
            "TRANSSHIP_URL": up.url,
            "TRANSSHIP_TOKEN": token,
        }

    def run(self, *words: str, code: int = 0) -> str:
        done = transship(*words, environment=self.environment)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + ("" if code == 0 else done.stderr)

    def json(self, *words: str, code: int = 0) -> Any:
        done = transship(*words, "--json", environment=self.environment)
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)


def person(up: Up, name: str, role: str) -> Person:
    return Person(up, up.ask("POST", "/tokens", {"name": name, "role": role})["token"])


def test_from_a_push_in_development_to_production(
    flowing: Up, registries: dict[str, SampleRegistry], signer: Signer, tmp_path: Path
) -> None:
    up = flowing
    dev, prod = registries["dev"].storage, registries["prod"].storage
    pulled: list[str] = []

    def pull(data: dict[str, Any]) -> tuple[int, bytes, str]:
        """Pull the image by its digest with production's account, and say what came."""
        host, _, rest = data["image"].partition("/")
        repository = rest.partition("@")[0]
        with httpx.Client(auth=PROD, trust_env=False, headers={"Accept": OCI_IMAGE}) as client:
            base = f"http://{host}/v2/{repository}"
            manifest = client.get(f"{base}/manifests/{data['digest']}")
            found = f"sha256:{hashlib.sha256(manifest.content).hexdigest()}"
            for blob in (manifest.json()["config"], *manifest.json()["layers"]):
                content = client.get(f"{base}/blobs/{blob['digest']}").content
                assert f"sha256:{hashlib.sha256(content).hexdigest()}" == blob["digest"]
        pulled.append(found)
        return 200, b"", ""

    with GateReceiver(say=pull) as deployer:
        file = tmp_path / "transship.yaml"
        file.write_text(yaml.safe_dump(declared(registries, deployer.url)))
        owner = Person(up, up.token)
        assert "pipelines/flagship created" in owner.run("apply", "-f", str(file))
        assert "pipelines/flagship unchanged" in owner.run("apply", "-f", str(file))
        assert owner.json("diff", "-f", str(file))["different"] is False
        assert "flagship" in owner.run("pipelines", "ls")
        anna, ben = person(up, "anna", "admin"), person(up, "ben", "operator")

        digest = push_image(dev, "shop/web", "v1", mark="the first")
        secret = up.hook("dev")
        pushed = {
            "events": [
                {
                    "id": "1",
                    "action": "push",
                    "target": {
                        "mediaType": OCI_IMAGE,
                        "repository": "shop/web",
                        "tag": "v1",
                        "digest": digest,
                    },
                }
            ]
        }
        told = up.notify(
            "distribution/dev",
            json.dumps(pushed).encode(),
            {"Authorization": f"Bearer {secret}"},
        )
        assert told.status_code == 202, told.text
        (waiting,) = wait_until(
            lambda: ben.json("promotions", "ls", "--state", "waiting")["items"], 20, "the promotion"
        )
        assert (waiting["digest"], waiting["trigger"], waiting["gate"]) == (digest, "auto", 0)
        identity = waiting["id"]

        assert "needs admin" in ben.run("promotions", "approve", identity, code=2)
        assert anna.json("promotions", "approve", identity)["gate"] == 1
        moved = push_image(dev, "shop/web", "v1", mark="pushed between approval and promotion")
        late = ben.json("promotions", "show", identity, "--wait", "--timeout", "2s", code=3)
        assert "no signature" in late["steps"][1]["reason"]
        assert prod.tags("live/web") is None
        signature = signer.attach(dev, "shop/web", digest)

        placed = ben.json("promotions", "show", identity, "--wait", "--timeout", "60s")
        wait_until(
            lambda: ben.json("promotions", "show", identity)["steps"][2]["state"] == "passed",
            20,
            "the deployer to be told",
        )

    assert placed["state"] == "placed"
    tags = prod.tags("live/web")
    assert tags is not None
    assert tags.pop("v1") == digest != moved
    assert tags == {f"{digest.replace(':', '-')}.sig": signature}, "the signature comes along"
    assert pulled == [digest]
    assert deployer.received[0].is_signed_with(SECRET)
    history = ben.json("promotions", "show", identity)["history"]
    assert [(one["actor"], one["event"], one["gate"]) for one in history] == [
        ("pipeline flagship", "asked", None),
        ("anna", "approved", 0),
        ("anna", "gate.passed", 0),
        ("pipeline flagship", "gate.passed", 1),
        ("pipeline flagship", "copying", None),
        ("pipeline flagship", "placed", None),
        ("pipeline flagship", "after.delivered", None),
    ]
    assert [one["at"] for one in history] == sorted(one["at"] for one in history)
    rows = up.ask("GET", "/audit?limit=100")["items"]
    trace = [
        (row["actor"], row["action"])
        for row in reversed(rows)
        if row["kind"] == "promotions" and row["name"] == identity
    ]
    assert trace == [
        ("pipeline flagship", "ask"),
        ("anna", "approve"),
        ("pipeline flagship", "pass"),
        ("pipeline flagship", "copy"),
        ("pipeline flagship", "place"),
        ("pipeline flagship", "after.delivered"),
    ]
    crossed = [row for row in rows if row["action"] == "cross"]
    assert crossed, "the image has crossed a border, and the audit log does not say so"
    assert up.ask("GET", "/audit/verification")["broken"] is None


def test_ask_wait_and_roll_back_by_hand(
    flowing: Up, registries: dict[str, SampleRegistry], tmp_path: Path
) -> None:
    """A second pipeline, without gates: what a script does, and the way back."""
    up = flowing
    dev, prod = registries["dev"].storage, registries["prod"].storage
    document = {
        "stages": [
            {"name": "development", "registry": "dev", "repository": "plain/*"},
            {"name": "production", "registry": "prod"},
        ]
    }
    owner = Person(up, up.token)
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(document))
    (tmp_path / "secret").write_text(SECRET + "\n")
    words = ("-f", str(tmp_path / "plain.yaml"), "--secret-file", str(tmp_path / "secret"))
    assert owner.json("pipelines", "put", "plain", *words)["secret"] == {"set": True}
    digests, identities = [], []
    for mark in ("one", "two"):
        digests.append(push_image(dev, "plain/app", "stable", mark=mark))
        words = ("plain", "plain/app:stable", "--to", "production", "--wait", "--timeout", "60s")
        identities.append(owner.json("promote", *words)["id"])
    assert (prod.tags("plain/app") or {})["stable"] == digests[1]

    back = owner.json("promotions", "rollback", identities[1], "--wait", "--timeout", "60s")

    assert (back["state"], back["digest"], back["takes_back"]) == (
        "placed",
        digests[0],
        identities[1],
    )
    assert (prod.tags("plain/app") or {})["stable"] == digests[0]
    exported = yaml.safe_load(owner.run("export", "--pipeline", "plain"))
    assert exported["pipelines"] == [{"name": "plain", **document, "secret": {"set": True}}]
    assert "development" in owner.run("pipelines", "show", "plain")
    gone = f"plain/app:stable@sha256:{'0' * 64}"
    failed = owner.json("promote", "plain", gone, "--to", "production", "--wait", code=1)
    assert failed["state"] == "failed"
    assert "executions failures" in failed["reason"]
    assert "is used by pipeline" in owner.run("registries", "delete", "prod", code=2)
    owner.run("pipelines", "delete", "plain")


def test_a_promotion_is_rejected_and_another_one_cancelled(
    flowing: Up, registries: dict[str, SampleRegistry]
) -> None:
    owner = Person(flowing, flowing.token)
    stages = [
        {"name": "development", "registry": "dev", "repository": "gated/*"},
        {"name": "production", "registry": "prod", "gates": [{"approval": {}}]},
    ]
    flowing.ask("PUT", "/pipelines/gated", {"stages": stages})
    push_image(registries["dev"].storage, "gated/app", "v1")
    words = ("promote", "gated", "gated/app:v1", "--to", "production")

    first = owner.json(*words)["id"]
    assert owner.json(*words)["id"] == first, "asked again: the same"
    rejected = owner.json("promotions", "reject", first, "--reason", "not on a friday")
    second = owner.json(*words)["id"]
    cancelled = owner.json("promotions", "cancel", second)

    assert (rejected["state"], rejected["reason"]) == ("rejected", "not on a friday")
    assert (cancelled["state"], second != first) == ("cancelled", True)
    listed = owner.run("promotions", "ls", "--pipeline", "gated")
    assert "not on a friday" in listed
    assert registries["prod"].storage.tags("gated/app") is None
