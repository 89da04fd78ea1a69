"""The chart's containers, run as processes: their commands, users, variables and files as deploy/helm renders them.

Only what Kubernetes would give is put in their place: addresses, ports, and folders for the volumes.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.fernet import Fernet

from tests.support.cluster import Cluster, Pod, fence, status
from tests.support.processes import scratch_directory, wait_until
from tests.support.servers import PostgresServer, RedisServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

ADMIN, METRICS = "tsp_of-the-chart-00000000000000000", "metrics-token-0123456789"


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    folder = scratch_directory("helm")
    with (
        PostgresServer() as postgres,
        RedisServer(tcp=True) as redis,
        RedisServer(tcp=True) as far,
    ):
        made = Cluster(
            folder,
            {
                "database-url": postgres.fresh_database(),
                "redis-url": redis.url,
                "secret-keys": f"{Fernet.generate_key().decode()}\n",
                "metrics-token": METRICS,
                "admin-token": ADMIN,
                "flower-password": "of-the-chart-0123",
                "far-redis": far.url,
            },
        )
        try:
            yield made
        finally:
            for process in reversed(made.running):
                process.stop(timeout=30)
            shutil.rmtree(folder, ignore_errors=True)


SOME = ("api", "worker-eu-west")
ALL = ("api", "scheduler", "worker-eu-west", "urgent-eu-west", "worker-us-east", "flower")


@pytest.mark.parametrize(
    "names",
    [pytest.param(SOME, id="some"), pytest.param(ALL, id="all", marks=pytest.mark.nightly)],
)
def test_the_charts_containers_make_a_fleet(cluster: Cluster, names: tuple[str, ...]) -> None:
    for _ in range(1 if names == SOME else 2):  # before an upgrade it is run once more
        cluster.start("fleet", "transship-upgrade").end()
    pods = {name: cluster.start("fleet", f"transship-{name}") for name in names}
    for pod in pods.values():
        pod.ready()
    home, worker = pods["api"].address(8470), pods["worker-eu-west"].address(9400)
    client = httpx.Client(
        base_url=f"{home}/api/v1", headers={"Authorization": f"Bearer {ADMIN}"}, trust_env=False
    )
    with client:
        expected = {"eu-west": sum("eu-west" in name for name in names)}
        if names == ALL:
            token = {"name": "ap-south", "role": "agent", "region": "ap-south"}
            made = client.post("/tokens", json=token)
            assert made.status_code == 201, made.text
            far = {"agent-token": made.json()["token"], "redis-url": cluster.secret["far-redis"]}
            cluster.secret |= far
            cluster.variables["TRANSSHIP_URL"] = home
            pods["agent"] = cluster.start("agent", "transship-agent-ap-south")
            pods["agent"].ready()
            expected |= {"us_east": 1, "ap-south": 1}
        for region, count in expected.items():
            wait_until(
                lambda region=region, count=count: (
                    client.get(f"/regions/{region}").json().get("workers", {}).get("processes")
                    == count
                ),
                30,
                f"{count} workers of {region}",
            )
    assert status(f"{worker}/metrics") == 401
    assert status(f"{worker}/metrics", METRICS) == 200
    for pod in pods.values():
        _has_no_rights(pod, fenced=bool(fence(10001, cluster.folder / "stage")))
    for pod in reversed(pods.values()):
        assert pod.process is not None
        assert pod.process.stop(timeout=pod.spec["terminationGracePeriodSeconds"]) == 0, (
            pod.process.output()
        )


def _has_no_rights(pod: Pod, *, fenced: bool) -> None:
    assert pod.process is not None
    facts = Path(f"/proc/{pod.process.pid}/status").read_text()
    assert not fenced or re.search(r"^Uid:\s+10001\s+10001\s", facts, re.MULTILINE), facts
    assert not fenced or re.search(r"^CapEff:\s+0+$", facts, re.MULTILINE), facts
