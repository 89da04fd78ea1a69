"""A push at the source, told by webhook, is at the destination; a forged word of it is not."""

from __future__ import annotations

import hashlib
import hmac
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.samples.manifests import OCI_IMAGE
from api.samples.registry import SampleRegistry
from service.model.events.parsing import PROVIDERS
from service.model.events.signing import sign
from tests.contract import claims
from tests.support.images import CONFIG, LAYER, digest_at, push_image
from tests.support.load import busy
from tests.support.processes import wait_until
from tests.support.servers import RealRegistry
from tests.support.up import Up, running_up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

FIXTURES = Path(__file__).parents[1] / "fixtures/events"
PLACES = {  # what the push fixture of each provider names
    "distribution": ("team/src", "v1"),
    "gitlab": ("group/project/app", "1.4.2"),
    "harbor": ("proj/debian", "latest"),
    "tcr": ("shop/api", "2.0"),
    "dockerhub": ("svendowideit/testhook", "latest"),
    "quay": ("mynamespace/repository", "latest"),
    "ghcr": ("codertocat/hello_docker", "v1"),
    "github": ("codertocat/hello_docker", "v1"),
    "ecr": ("my-repository-name", "latest"),
    "acr": ("hello-world", "v1"),
    "gar": ("my-project/my-repo/hello-world", "1.1"),
    "aliyun-acr": ("namespace/repotest", "latest"),
    "jfrog": ("docker-local/library/ubuntu", "latest"),
    "zot": ("team/app", "v1"),
    "artifacthub": ("repo1/sample-package", "1.0.0_build.5"),
}
OF_THEIR_OWN = {"github", *(name for name in PLACES if claims.is_own(name, "events"))}
"""Providers whose notifications nobody understands but their parser."""

IN_ADDRESS = {"dockerhub", "quay", "gar", "aliyun-acr"}


class Stage:
    """A running service, and a source and a destination of its own for each provider."""

    def __init__(self, up: Up, east: SampleRegistry, west: SampleRegistry) -> None:
        self.up = up
        self.east = east
        self.west = west
        self.secrets: dict[str, str] = {}

    def ready(self, provider: str) -> str:
        """Have the provider's registry and rule; returns the hook's secret."""
        if provider not in self.secrets:
            self.up.registry(f"east-{provider}", self.east.url)
            self.up.rule(
                provider,
                f"east-{provider}",
                "west",
                destinations=[{"registry": "west", "repository": f"{provider}/{{repository}}"}],
                trigger={"event": True},
            )
            self.secrets[provider] = self.up.hook(f"east-{provider}")
        return self.secrets[provider]

    def send(self, provider: str, body: bytes, secret: str) -> int:
        """Post as the provider would."""
        path = f"{provider}/east-{provider}"
        if provider in IN_ADDRESS:
            return self.up.notify(f"{path}/{secret}", body).status_code
        headers = {"Authorization": f"Bearer {secret}"}
        if provider in {"ghcr", "github"}:
            digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
            kind = "registry_package" if provider == "ghcr" else "package"
            headers = {
                "X-Hub-Signature-256": f"sha256={digest}",
                "X-GitHub-Event": kind,
                "X-GitHub-Delivery": hashlib.sha256(body).hexdigest(),
            }
        if provider == "jfrog":
            headers = {"X-JFrog-Event-Auth": secret}
        return self.up.notify(path, body, headers).status_code

    def send_as_any(self, provider: str, body: bytes, secret: str) -> int:
        """Post it as what any OCI registry would send: what its strategy of events is swapped for."""
        headers = {"Authorization": f"Bearer {secret}"}
        return self.up.notify(f"distribution/east-{provider}", body, headers).status_code

    def at_west(self, provider: str, repository: str, tag: str) -> str | None:
        return digest_at(self.west, f"{provider}/{repository}", tag)

    def sentinel(self, provider: str, number: int) -> None:
        """Have another tag come over by the same way: whatever was told before is done with."""
        repository = f"sentinel/{provider}"
        digest = push_image(self.east, repository, f"s{number}")
        event = {
            "id": f"{provider}{number}",
            "action": "push",
            "target": {"repository": repository, "tag": f"s{number}"},
        }
        body = json.dumps({"events": [event]}).encode()
        now = int(time.time())
        signed = {
            "X-Transship-Timestamp": str(now),
            "X-Transship-Signature": sign(self.secrets[provider], now, body),
        }
        told = self.up.notify(f"distribution/east-{provider}", body, signed)
        assert told.status_code == 202, told.text
        wait_until(
            lambda: self.at_west(provider, repository, f"s{number}") == digest, 15, "the sentinel"
        )
        self.up.idle()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running_up(tmp_path_factory.mktemp("events")) as running:
        yield running


@pytest.fixture(scope="module")
def stage(up: Up) -> Iterator[Stage]:
    with SampleRegistry() as east, SampleRegistry() as west:
        up.registry("west", west.url)
        yield Stage(up, east, west)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_notification_of_a_provider_makes_the_tag_appear(stage: Stage, provider: str) -> None:
    secret = stage.ready(provider)
    repository, tag = PLACES[provider]
    digest = push_image(stage.east, repository, tag)
    body = (FIXTURES / provider / "push.json").read_bytes()

    assert stage.send(provider, body, "tsh_forged") == 401
    if provider in OF_THEIR_OWN:
        assert stage.send_as_any(provider, body, secret) in (202, 400)
    stage.sentinel(provider, 1)
    assert stage.at_west(provider, repository, tag) is None, (
        "a forged word moves nothing, nor one of others"
    )

    assert stage.send(provider, body, secret) == 202
    wait_until(lambda: stage.at_west(provider, repository, tag) == digest, 15, "the tag")
    stage.up.idle()


@pytest.mark.parametrize("provider", sorted(set(PROVIDERS) - {"quay", "jfrog"}))
def test_replayed_notification_moves_nothing(stage: Stage, provider: str) -> None:
    """Quay and JFrog send nothing that tells a replay: theirs is one more look at the source."""
    secret = stage.ready(provider)
    repository, tag = PLACES[provider]
    body = (FIXTURES / provider / "push.json").read_bytes()
    push_image(stage.east, repository, tag)
    stage.send(provider, body, secret)
    wait_until(lambda: stage.at_west(provider, repository, tag) is not None, 15, "the tag")
    stage.up.idle()
    before = stage.at_west(provider, repository, tag)
    push_image(stage.east, repository, tag, mark="moved, and nobody has told yet")

    answer = stage.send(provider, body, secret)
    stage.sentinel(provider, 2)

    assert answer == (401 if provider in {"ghcr", "github"} else 202)
    assert stage.at_west(provider, repository, tag) == before


def test_event_outside_of_every_rule_starts_nothing(stage: Stage) -> None:
    secret = stage.ready("harbor")
    stage.up.rule(
        "harbor",
        "east-harbor",
        "west",
        select=[{"repositories": ["only/**"]}],
        trigger={"event": True},
    )
    before = len(stage.up.executions(rule="harbor"))
    body = (FIXTURES / "harbor/push.json").read_bytes().replace(b"1586922308", b"1586922999")

    assert stage.send("harbor", body, secret) == 202
    stage.ready("acr")
    stage.sentinel("acr", 3)

    assert len(stage.up.executions(rule="harbor")) == before


def test_deleted_event_deletes_nothing(stage: Stage) -> None:
    secret = stage.ready("tcr")
    repository, tag = PLACES["tcr"]
    digest = push_image(stage.east, repository, tag)
    stage.send("tcr", (FIXTURES / "tcr/push.json").read_bytes(), secret)
    wait_until(lambda: stage.at_west("tcr", repository, tag) == digest, 15, "the tag")
    stage.east.storage.delete_tag(repository, tag)
    before = len(stage.up.executions(rule="tcr"))

    assert stage.send("tcr", (FIXTURES / "tcr/delete.json").read_bytes(), secret) == 202
    stage.sentinel("tcr", 30)

    looked = stage.up.executions(rule="tcr")
    assert len(looked) > before, "it was looked at"
    assert {one["state"] for one in looked} == {"succeeded"}
    assert stage.at_west("tcr", repository, tag) == digest


def test_signature_pushed_after_its_image_follows_it(stage: Stage) -> None:
    stage.up.registry("signed", stage.east.url)
    stage.up.rule(
        "signed",
        "signed",
        "west",
        select=[{"repositories": ["signed/**"], "tags": ["v*"]}],
        trigger={"event": True},
    )
    secret = stage.up.hook("signed")

    def tell(tag: str) -> None:
        event = {"id": tag, "action": "push", "target": {"repository": "signed/app", "tag": tag}}
        body = json.dumps({"events": [event]}).encode()
        stage.up.notify("distribution/signed", body, {"Authorization": secret})

    digest = push_image(stage.east, "signed/app", "v1")
    tell("v1")
    wait_until(lambda: digest_at(stage.west, "signed/app", "v1") == digest, 15, "the image")
    stage.up.idle()
    signature = digest.replace(":", "-") + ".sig"
    signed = push_image(stage.east, "signed/app", signature)

    tell(signature)

    wait_until(lambda: digest_at(stage.west, "signed/app", signature) == signed, 15, "signature")


def test_rules_both_ways_do_not_play_ping_pong(stage: Stage) -> None:
    """Each side tells of every manifest it takes, as our own pushes make it do."""
    stage.up.registry("there", stage.east.url)
    stage.up.registry("back", stage.west.url)
    names = {"select": [{"repositories": ["pong/**"]}], "trigger": {"event": True}}
    stage.up.rule("there", "there", "back", **names)
    stage.up.rule("back", "back", "there", **names)
    secrets = {name: stage.up.hook(name) for name in ("there", "back")}
    told = {"there": 0, "back": 0}
    sides = {"there": stage.east, "back": stage.west}

    def tell() -> None:
        for name, registry in sides.items():
            puts = [
                line
                for line in list(registry.log)
                if line.method == "PUT" and line.path.startswith("/v2/pong/app/manifests/v")
            ]
            for _ in puts[told[name] :]:
                told[name] += 1
                _tell(stage.up, name, secrets[name], f"{name}{told[name]}", "transship/0.1")

    digest = push_image(stage.east, "pong/app", "v1")
    _tell(stage.up, "there", secrets["there"], "first", "docker/27")
    wait_until(lambda: digest_at(stage.west, "pong/app", "v1") == digest, 15, "the tag")
    stage.ready("acr")
    for number in range(10, 13):
        tell()
        stage.sentinel("acr", number)

    assert told == {"there": 0, "back": 1}
    assert len(stage.up.executions(rule="there")) == 1
    assert len(stage.up.executions(rule="back")) == 0


def _tell(up: Up, registry: str, secret: str, identity: str, agent: str) -> None:
    event = {
        "id": identity,
        "action": "push",
        "target": {"repository": "pong/app", "tag": "v1"},
        "request": {"useragent": agent},
    }
    body = json.dumps({"events": [event]}).encode()
    told = up.notify(f"distribution/{registry}", body, {"Authorization": secret})
    assert told.status_code == 202, told.text


def test_effect_trigger_event(stage: Stage) -> None:
    """Two rules of one source, one of them listens: only its destination gets the tag."""
    stage.up.registry("heard", stage.east.url)
    for name, event in (("listens", True), ("sleeps", False)):
        stage.up.rule(
            name,
            "heard",
            "west",
            select=[{"repositories": ["heard/**"]}],
            destinations=[{"registry": "west", "repository": f"{name}/{{repository}}"}],
            trigger={"event": event},
        )
    secret = stage.up.hook("heard")
    digest = push_image(stage.east, "heard/app", "v1")
    event = {"id": "h1", "action": "push", "target": {"repository": "heard/app", "tag": "v1"}}

    stage.up.notify(
        "distribution/heard", json.dumps({"events": [event]}).encode(), {"Authorization": secret}
    )
    wait_until(lambda: digest_at(stage.west, "listens/heard/app", "v1") == digest, 15, "the tag")
    stage.ready("acr")
    stage.sentinel("acr", 20)

    assert digest_at(stage.west, "sleeps/heard/app", "v1") is None


def test_real_registry_tells_and_the_tag_is_committed_soon(up: Up, tmp_path: Path) -> None:
    """docker-registry 2.8.2 with its own notifications; prints the median from push to commit."""
    up.registry("loud", "http://127.0.0.1:1")
    secret = up.hook("loud")
    endpoint = {
        "name": "transship",
        "url": f"{up.url}/hooks/distribution/loud",
        "headers": {"Authorization": [f"Bearer {secret}"]},
        "timeout": "2s",
        "threshold": 5,
        "backoff": "1s",
    }
    with (
        RealRegistry(configuration={"notifications": {"endpoints": [endpoint]}}) as source,
        RealRegistry() as destination,
    ):
        up.registry("loud", source.url)
        up.registry("quiet", destination.url)
        up.rule("loud", "loud", "quiet", trigger={"event": True})
        seconds = []
        for number in range(11):
            tag = f"v{number}"
            raw = _push_real(source.url, tag)
            began = time.monotonic()
            wait_until(lambda tag=tag, raw=raw: _get(destination.url, tag) == raw, 15, tag)
            seconds.append(time.monotonic() - began)
    median = statistics.median(seconds[1:])  # the first one finds cold connections
    jobs = busy()
    print(f"push event to committed tag: median {median:.3f} s of {sorted(seconds[1:])}")
    assert median < 2.0 * jobs, f"the aim is 1 s on an idle machine; {jobs:.1f} jobs a core here"


def _push_real(url: str, tag: str) -> bytes:
    """Push an image of two small blobs by HTTP; returns its manifest."""
    with httpx.Client(base_url=url, trust_env=False) as client:
        described = []
        for kind in ("config", "layer"):
            blob = f"{kind} of {tag}".encode()
            digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
            opened = client.post("/v2/team/app/blobs/uploads/")
            where = httpx.URL(opened.headers["Location"]).copy_add_param("digest", digest)
            octets = {"Content-Type": "application/octet-stream"}
            assert client.put(where, content=blob, headers=octets).status_code == 201
            described.append({"mediaType": CONFIG, "digest": digest, "size": len(blob)})
        described[1]["mediaType"] = LAYER
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE,
            "config": described[0],
            "layers": described[1:],
        }
        raw = json.dumps(manifest).encode()
        put = client.put(
            f"/v2/team/app/manifests/{tag}", content=raw, headers={"Content-Type": OCI_IMAGE}
        )
        assert put.status_code == 201, put.text
    return raw


def _get(url: str, tag: str) -> bytes:
    headers = {"Accept": OCI_IMAGE}
    answer = httpx.get(
        f"{url}/v2/team/app/manifests/{tag}", headers=headers, trust_env=False, timeout=60
    )
    return answer.content if answer.status_code == 200 else b""
