"""The commands of docker-compose.yml (docs/how-to/run-a-fleet.md), started as processes, carry a fleet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.samples.fleet import FleetSummary, push_fleet
from api.samples.fleet_plan import FleetSpec
from tests.oracle.closure import check
from tests.support.compose import ComposedFleet
from tests.support.gateway import Client
from tests.support.processes import wait_until
from tests.support.servers import PostgresServer, RealRegistry
from tests.support.transship import clean_environment, transship

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

MIB = 1 << 20
OURS = ("api", "scheduler", "worker-eu", "worker-us", "gateway")
SMALL = FleetSpec(
    seed=3, repositories=6, tags=24, unique_bytes=40 * MIB, big_images=1, big_image_bytes=20 * MIB
)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[ComposedFleet]:
    with PostgresServer() as postgres:
        composed = ComposedFleet(tmp_path, postgres)
        try:
            yield composed
        finally:
            composed.stop()


def test_the_services_of_the_compose_file_replicate_in_two_regions(
    fleet: ComposedFleet, tmp_path: Path
) -> None:
    with RealRegistry() as source, RealRegistry() as europe, RealRegistry() as america:
        pushed = push_fleet(source.url, SMALL)
        _start(fleet)
        rules = tmp_path / "transship.yaml"
        rules.write_text(json.dumps(_document(source, europe, america)))

        applied = transship("apply", "-f", str(rules), environment=_client(fleet))
        ran = transship("rules", "run", "out", "--wait", "--json", environment=_client(fleet))

        assert applied.returncode == 0, applied.stderr
        assert ran.returncode == 0, ran.stderr + ran.stdout
        expected = {place: place for place in pushed.tag_digests}
        for registry in (europe, america):
            report = check(source.url, registry.url, expected)
            assert not report.faults, str(report)
        _pulled_from_the_nearest(fleet, europe, pushed)
        states = httpx.get(
            f"http://127.0.0.1:{fleet.flower_port}/api/tasks?limit=10000",
            auth=("admin", (fleet.volume / "flower_password").read_text().strip()),
            trust_env=False,
            timeout=60,
        ).json()
        workers = {task["worker"].split("@")[0] for task in states.values() if task["worker"]}
        assert workers == {"copy.eu", "copy.us"}
        codes = fleet.stop()
        assert {codes[name] for name in OURS} == {0}


def _pulled_from_the_nearest(
    fleet: ComposedFleet, europe: RealRegistry, pushed: FleetSummary
) -> None:
    """The gateway of the file's profile (docs/how-to/one-domain.md), which stands in region eu."""
    config = {"names": [{"registry": "source"}], "anonymous": ["**"]}
    (fleet.volume / "gateway.yaml").write_text(json.dumps({"version": 1, "gateway": config}))
    fleet.start("gateway")
    client = Client(fleet.gateway_port)
    wait_until(lambda: _is_ready(client), 20, "the gateway")
    europe.clear_access_log()
    for (repository, tag), digest in sorted(pushed.tag_digests.items())[:5]:
        assert client.pull(repository, tag) == digest
    assert any("/blobs/" in one.path for one in europe.access_log())


def _is_ready(client: Client) -> bool:
    try:
        return client.get("/readyz").status == 200
    except OSError:
        return False


def _start(fleet: ComposedFleet) -> None:
    fleet.start("redis")
    fleet.run("files")
    fleet.run("database")
    for name in ("flower", "api", "scheduler", "worker-eu", "worker-us"):
        fleet.start(name)

    def up() -> bool:
        try:
            ready = httpx.get(
                f"http://127.0.0.1:{fleet.api_port}/readyz", trust_env=False, timeout=60
            )
            flower = httpx.get(
                f"http://127.0.0.1:{fleet.flower_port}/healthcheck", trust_env=False, timeout=60
            )
        except httpx.HTTPError:
            return False
        return ready.status_code == flower.status_code == 200

    wait_until(up, 40, "API and Flower")


def _client(fleet: ComposedFleet) -> dict[str, str]:
    return {
        **clean_environment(),
        "TRANSSHIP_URL": f"http://127.0.0.1:{fleet.api_port}",
        "TRANSSHIP_TOKEN": (fleet.volume / "admin_token").read_text().strip(),
    }


def _document(source: RealRegistry, europe: RealRegistry, america: RealRegistry) -> object:
    return {
        "version": 1,
        "registries": [
            {"name": "source", "url": source.url, "region": "us"},
            {"name": "europe", "url": europe.url, "region": "eu", "groups": ["prod"]},
            {"name": "america", "url": america.url, "region": "us", "groups": ["prod"]},
        ],
        "rules": [
            {
                "name": "out",
                "source": "source",
                "select": [{"repositories": ["**"]}],
                "destinations": [{"group": "prod"}],
            }
        ],
    }
