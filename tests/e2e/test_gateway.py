"""A fleet moves to another registry behind one name while clients pull all the time: no pull fails (issue 10)."""

from __future__ import annotations

import contextlib
import random
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from bench.peers_install import find
from tests.support.gateway import Client, Gateway, beside, running_gateway
from tests.support.processes import require, wait_until
from tests.support.servers import RealRegistry
from tests.support.up import Up, running_up
from tests.support.wire import Wire, image_body

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

MIB = 1 << 20
CONFIG = {"names": [{"registry": "old"}], "anonymous": ["public/**"]}


class Stage:
    """An engine, an old and a new registry, and a gateway before them that keeps no blobs."""

    def __init__(self, up: Up, old: RealRegistry, new: RealRegistry, gateway: Gateway) -> None:
        self.up = up
        self.old = old
        self.new = new
        self.gateway = gateway
        self.fleet: dict[tuple[str, str], str] = {}

    def push(self, repository: str, tag: str, layer: bytes) -> str:
        """Push an image of one layer to the old registry."""
        with Wire(self.old.url) as wire:
            config = f'{{"of": "{repository}:{tag}"}}'.encode()
            for blob in (layer, config):
                assert wire.push_blob(repository, blob).status == 201
            answer = wire.put_manifest(repository, tag, image_body(config, [layer]))
        assert answer.status == 201
        digest = str(answer["Docker-Content-Digest"])
        self.fleet[repository, tag] = digest
        return digest

    def new_digest(self, repository: str, tag: str) -> str | None:
        """What a tag is at the new registry."""
        with Wire(self.new.url) as wire:
            answer = wire.get_manifest(repository, tag)
        return answer["Docker-Content-Digest"] if answer.status == 200 else None

    def step(self, action: str, *states: str) -> None:
        """Take a step of the migration, and wait until it is there."""
        self.up.ask("POST", f"/migrations/move/{action}")
        wait_until(
            lambda: self.up.ask("GET", "/migrations/move")["state"] in states,
            120,
            f"{action}: {states}",
        )


class Pulling:
    """Clients that pull the fleet, all of them all the time; `failed` says what did not come, and why."""

    def __init__(self, stage: Stage, clients: int, seed: int) -> None:
        self.pulls = 0
        self.failed: list[str] = []
        self._stage = stage
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(seed + number,)) for number in range(clients)
        ]

    def _run(self, seed: int) -> None:
        dice = random.Random(seed)
        client = Client(self._stage.gateway.port, self._stage.gateway.token)
        while not self._over.is_set():
            (repository, tag), digest = dice.choice(list(self._stage.fleet.items()))
            try:
                assert client.pull(repository, tag) == digest
            except Exception as error:
                with self._lock:
                    self.failed.append(f"{repository}:{tag}: {type(error).__name__}: {error}")
            with self._lock:
                self.pulls += 1

    def more(self, count: int) -> None:
        """Wait for so many more pulls."""
        wanted = self.pulls + count
        wait_until(lambda: self.pulls >= wanted, 120, f"{count} more pulls")

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("gateway")
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(RealRegistry())
        new = stack.enter_context(RealRegistry())
        up = stack.enter_context(running_up(folder))
        up.registry("old", old.url)
        up.registry("new", new.url)
        kept = {"TRANSSHIP_GATEWAY_CACHE_BYTES": "0"}
        gateway = stack.enter_context(
            running_gateway(folder, CONFIG, **beside(folder / "data"), **kept)
        )
        wanted = {"name": "all", "repositories": ["**"], "expires_in": "1h"}
        gateway.token = up.ask("POST", "/pull-tokens", wanted)["token"]
        yield Stage(up, old, new, gateway)


def test_memory_does_not_grow_with_a_blob(stage: Stage) -> None:
    _flat(stage, 64 * MIB)


@pytest.mark.nightly
def test_memory_does_not_grow_with_a_blob_of_a_gibibyte(stage: Stage) -> None:
    _flat(stage, 1024 * MIB)


def _flat(stage: Stage, size: int) -> None:
    layer = random.Random(7).randbytes(MIB) * (size // MIB)
    stage.push("big/app", "v1", layer)
    before = _peak(stage.gateway)
    threads = [threading.Thread(target=_drain, args=(stage.gateway, layer)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _sent(stage.gateway) >= 3 * size
    assert _peak(stage.gateway) - before < 24 * MIB
    del stage.fleet["big/app", "v1"]


def _drain(gateway: Gateway, layer: bytes) -> None:
    client = Client(gateway.port, gateway.token)
    client.pull("big/app", "v1")
    assert layer


def _peak(gateway: Gateway) -> int:
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _sent(gateway: Gateway) -> float:
    return gateway.metrics().get('transship_gateway_bytes_total{registry="old"}', 0.0)


def test_skopeo_and_crane_pull_by_a_token(stage: Stage, tmp_path: Path) -> None:
    digest = stage.push("tools/app", "v1", b"a layer" * 1000)
    image = f"{stage.gateway.host}/tools/app:v1"
    skopeo = require("skopeo")
    with_token = f"--src-creds=any:{stage.gateway.token}"
    copy = [skopeo, "copy", "-q", "--src-tls-verify=false"]
    done = _run([*copy, with_token, f"docker://{image}", f"dir:{tmp_path / 'image'}"])
    assert done.returncode == 0, done.stderr
    refused = _run([*copy, f"docker://{image}", f"dir:{tmp_path / 'none'}"])
    assert refused.returncode != 0
    crane = find("crane")
    if crane is not None:
        login = [crane, "auth", "login", stage.gateway.host, "-u", "any", "-p", stage.gateway.token]
        config = {"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path)}
        assert _run(login, **config).returncode == 0
        pulled = _run([crane, "pull", "--insecure", image, str(tmp_path / "x.tar")], **config)
        assert pulled.returncode == 0, pulled.stderr
        assert _run([crane, "digest", "--insecure", image], **config).stdout.strip() == digest
    del stage.fleet["tools/app", "v1"]


def _run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env=environment or None
    )


def test_what_is_missing_where_a_rule_wants_it_is_asked_for_once(stage: Stage) -> None:
    digest = stage.push("mirror/app", "v1", b"a layer" * 500)
    select = [{"repositories": ["mirror/**"]}]
    to = [{"registry": "new", "repository": "copies/{repository}"}]
    stage.up.rule("mirror", "old", "new", select=select, destinations=to)
    client = Client(stage.gateway.port, stage.gateway.token)

    def pulled_and_there() -> str | None:
        assert client.pull("mirror/app", "v1") == digest
        return stage.new_digest("copies/mirror/app", "v1")

    there = wait_until(pulled_and_there, 30, "the copy")
    assert there == digest
    stage.up.idle()
    assert client.pull("mirror/app", "v1") == digest
    assert len(stage.up.executions(rule="mirror")) == 1
    told = [one for one in stage.up.ask("GET", "/audit")["items"] if one["actor"] == "gateway"]
    assert [(one["action"], one["name"]) for one in told] == [("run", "mirror")]
    assert told[0]["after"] == {"references": ["mirror/app:v1"]}
    stage.up.ask("DELETE", "/rules/mirror")
    del stage.fleet["mirror/app", "v1"]


@pytest.mark.parametrize(
    ("clients", "tags"), [(6, 3), pytest.param(200, 20, marks=pytest.mark.nightly)]
)
def test_a_fleet_moves_while_clients_pull_and_no_pull_fails(
    stage: Stage, clients: int, tags: int
) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    dice = random.Random(seed)
    for number in range(6):
        for tag in range(tags):
            name = f"{('team-a', 'team-b')[number % 2]}/app{number}"
            stage.push(name, f"v{tag}", dice.randbytes(dice.randrange(1000, 200_000)))
    signed = stage.fleet["team-a/app0", "v0"]
    signature = f"{signed.replace(':', '-')}.sig"
    attached = stage.push("team-a/app0", signature, b"a signature")
    del stage.fleet["team-a/app0", signature]
    stage.up.ask(
        "PUT",
        "/migrations/move",
        {
            "source": "old",
            "destination": "new",
            "namespaces": [{"from": "**", "to": "moved/{repository}"}],
            "waves": [{"name": "a", "repositories": ["team-a/**"]}, {"name": "rest"}],
        },
    )
    with Pulling(stage, clients, seed) as pulling:
        stage.step("inventory", "surveyed")
        pulling.more(clients)
        stage.step("waves/a/start", "begun")
        wait_until(lambda: _reads_new(stage), 60, "the new registry being read")
        stage.step("waves/rest/start", "moved")
        stage.step("freeze", "frozen")
        stage.step("prove", "proved")
        pulling.more(2 * clients)
        stage.old.stop()  # cut over: from now on there is the new one alone
        pulling.more(4 * clients)
    assert not pulling.failed, f"{len(pulling.failed)} of {pulling.pulls}: {pulling.failed[:5]}"
    for (repository, tag), digest in stage.fleet.items():
        assert stage.gateway.pull(repository, tag) == digest
    # a signature that nobody has asked for before is found where its image is
    assert stage.new_digest("moved/team-a/app0", signature) == attached
    assert stage.gateway.pull("team-a/app0", signature) == attached
    assert stage.gateway.get(f"/v2/team-a/app0/referrers/{signed}").status == 200
    assert stage.gateway.get("/v2/team-a/none/manifests/v1").status == 503
    print(f"{pulling.pulls} pulls, none failed")


def _reads_new(stage: Stage) -> bool:
    return stage.gateway.metrics().get('transship_gateway_bytes_total{registry="new"}', 0.0) > 0
