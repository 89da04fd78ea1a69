"""The cost of a run is read from either registry's log alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from api.samples.registry import DISTRIBUTION_2, SampleRegistry
from tests.support.servers import RealRegistry
from tests.support.source_log import RequestCost
from tests.support.wire import OCI_IMAGE, Wire, sha256


@dataclass
class Logged:
    url: str
    server: SampleRegistry | RealRegistry

    def cost(self) -> RequestCost:
        if isinstance(self.server, SampleRegistry):
            return RequestCost.of(self.server.log)
        return RequestCost.of(self.server.access_log())


@pytest.fixture(params=["sample", "real"])
def logged(request: pytest.FixtureRequest) -> Iterator[Logged]:
    make = RealRegistry() if request.param == "real" else SampleRegistry(profile=DISTRIBUTION_2)
    with make as server:
        yield Logged(server.url, server)


def test_requests_are_counted_by_kind_and_blobs_by_digest(logged: Logged):
    data = b"x" * 5000
    digest = sha256(data)
    with Wire(logged.url) as wire:
        raw = wire.image("a/b", "v1")
        wire.push_blob("a/b", data)
        uploads = "/v2/a/c/blobs/uploads/"
        assert wire.request("POST", f"{uploads}?mount={digest}&from=a/b").status == 201
        assert wire.request("POST", f"{uploads}?mount={digest}&from=a/none").status == 202
        before = logged.cost()
        assert before.pings == 0 or isinstance(logged.server, RealRegistry)  # readiness
        assert before.kinds["POST upload"] == before.kinds["PUT upload"] == 3
        assert before.kinds["POST mount"] == 2
        assert before.mounts == {digest: 1}
        assert before.blobs_put[digest] == 1
        assert before.manifests_put == {("a/b", "v1"): 1}
        for path in ("/v2/a/b/tags/list?n=5", "/v2/_catalog", f"/v2/a/b/referrers/{digest}"):
            wire.request("GET", path)
        for method in ("HEAD", "GET", "GET"):
            wire.request(method, "/v2/a/b/manifests/v1", None, {"Accept": OCI_IMAGE})
            wire.request(method, f"/v2/a/b/blobs/{digest}")
        wire.request("GET", f"/v2/a/b/blobs/{digest}", None, {"Range": "bytes=4999-"})
        wire.request("GET", f"/v2/a/b/blobs/{sha256(raw)}")  # 404
    cost = logged.cost()
    assert cost.kinds["HEAD manifest"] == cost.kinds["HEAD blob"] == 1
    assert cost.kinds["GET manifest"] == 2
    assert cost.kinds["GET blob"] == 4
    assert cost.kinds["GET referrers"] == 1
    assert cost.listings == 2
    assert cost.kinds["other"] == 0
    assert cost.reads_of_blobs() == {digest: 2}
    assert cost.blobs_served_more_than_once() == {digest: 2}
    assert cost.bytes_of_blobs()[digest] == 10_001
    assert cost.bytes_served_twice({digest: 5000, sha256(raw): 1000}) == 5001
    assert cost.requests - before.requests - cost.pings + before.pings == 11
