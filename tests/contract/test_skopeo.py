"""contract:skopeo. skopeo logs in, pulls and pushes through every fake: what it takes for a registry is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.skopeo import copy_by_skopeo, needs_skopeo
from tests.contract.stands import STANDS, stand
from tests.integration.registry.support import push


@needs_skopeo
@pytest.mark.parametrize("provider", STANDS)
def test_skopeo_logs_in_pushes_and_pulls_through_the_fake(provider: str, tmp_path: Path) -> None:
    with stand(provider) as made:
        owner = made.client()
        pushed = push(owner, made.repository("app"), "v1", b"layer" * 100)
        push(owner, made.repository("other"), "v1", b"so that it is there")
        given = made.ready_made()
        host = made.registry.host
        source = f"{made.repository('app')}:v1"
        whole = owner.capabilities.uploads == "whole"  # skopeo pushes by PATCH
        target = f"dir:{tmp_path}/image" if whole else f"{made.repository('other')}:2"

        copy_by_skopeo(host, given.username, given.password, source, target, tmp_path)

        found = made.registry.storage.manifest(made.repository("other"), "2")
        if whole:
            assert (tmp_path / "image/manifest.json").read_bytes() == pushed.raw
        else:
            assert found is not None
            assert found.digest == str(pushed.digest)
