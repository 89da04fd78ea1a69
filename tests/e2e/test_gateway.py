"""Images under one name: whatever registry stands behind it, and while one takes the place of another."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.samples.auth import BasicAuth
from api.samples.registry import SampleRegistry
from tests.support.gateway import Gateway, beside, running_gateway
from tests.support.images import push_image
from tests.support.processes import require, wait_until
from tests.support.servers import RealRegistry
from tests.support.up import Up, running_up

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


class Stage:
    """An engine, an old and a new registry, and a gateway before them."""

    def __init__(self, up: Up, old: SampleRegistry, new: RealRegistry, gateway: Gateway) -> None:
        self.up = up
        self.old = old
        self.new = new
        self.gateway = gateway


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("gateway")
    with (
        SampleRegistry() as old,
        RealRegistry() as new,
        running_up(folder) as up,
    ):
        up.registry("old", old.url)
        up.registry("new", new.url)
        up.rule("move", "old", "new")
        config = {"names": [{"registry": "old"}]}
        kept = {"TRANSSHIP_GATEWAY_CACHE_BYTES": "0"}
        with running_gateway(folder, config, **beside(folder / "data"), **kept) as gateway:
            gateway.token = up.ask("POST", "/pull-tokens", {"name": "all", "repositories": ["**"]})[
                "token"
            ]
            yield Stage(up, old, new, gateway)


def test_a_pull_comes_from_the_source_and_then_from_the_copy(stage: Stage, tmp_path: Path) -> None:
    digest = push_image(stage.old, "team/app", "v1")
    assert stage.gateway.pull("team/app", "v1") == digest
    # the miss has asked the rule for the copy, and once it is proved, it is read from there
    wait_until(lambda: b"v1" in _tags(stage.new, "team/app"), 30, "the copy")
    stage.up.idle()
    before = len(stage.old.log)
    wait_until(lambda: _is_read_from_new(stage), 20, "the new registry being read")
    subprocess.run(
        [require("skopeo"), "copy", "-q", "--src-tls-verify=false",
         f"--src-creds=any:{stage.gateway.token}",
         f"docker://{stage.gateway.host}/team/app:v1", f"dir:{tmp_path / 'image'}"],
        check=True, timeout=60,
    )  # fmt: skip
    blobs = [one for one in stage.old.log[before:] if "/blobs/" in one.path]
    assert not blobs, f"the old registry was read from: {blobs}"


def _is_read_from_new(stage: Stage) -> bool:
    stage.new.clear_access_log()
    stage.gateway.pull("team/app", "v1")
    return any("/blobs/" in one.path for one in stage.new.access_log())


def _tags(registry: RealRegistry, repository: str) -> bytes:
    import httpx

    return httpx.get(f"{registry.url}/v2/{repository}/tags/list", trust_env=False).content


__all__ = ["BasicAuth"]
