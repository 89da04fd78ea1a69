"""Each alert of deploy/prometheus/alerts.yml fires and clears in a real Prometheus over real processes (docs/how-to/watch.md)."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from http.client import HTTPException
from pathlib import Path

import pytest
from sqlalchemy import update

from api.samples.http_messages import WireFault
from service.store.tables import executions, rules
from tests.e2e.watched import Watched, watching_lab
from tests.faults.lab import PREFIX
from tests.support.content import push_image
from tests.support.gateway import Client
from tests.support.images import push_image as push_layers
from tests.support.processes import free_port, wait_until
from tests.support.prometheus import RULES

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

DAY = 86400.0
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watching_lab(tmp_path_factory.mktemp("watched")) as made:
        yield made


def test_nothing_fires_while_all_is_well(watched: Watched) -> None:
    east, _ = watched.registries("well")
    push_image(east.storage, "team/app", "v1")
    watched.rule("well", freshness="1h")
    assert watched.run("well") == "succeeded"
    query = 'max(transship_rule_last_success_timestamp_seconds{rule="well"})'
    wait_until(lambda: watched.prometheus.ask("query", query=query)["result"], 20, "it is told")
    watched.prometheus.wait_cleared("TransshipSchedulerDown")  # it was before its first round

    wait_until(lambda: not watched.prometheus.firing(), 30, "nothing to fire")


def test_rule_that_fails_and_one_that_succeeds_again(watched: Watched) -> None:
    east, west = watched.registries("fails")
    push_image(east.storage, "team/app", "v1")
    watched.rule("fails")
    refused = west.fault("/manifests/", method="PUT", status=403, times=1)
    assert watched.run("fails") == "failed"
    assert refused.fired
    watched.prometheus.wait_firing("TransshipRuleFails", rule="fails")

    assert watched.run("fails") == "succeeded"
    watched.prometheus.wait_cleared("TransshipRuleFails", rule="fails")


def test_registry_that_is_not_well(watched: Watched) -> None:
    east, west = watched.registries("ill")
    push_image(east.storage, "team/app", "v1")
    watched.rule("ill")
    watched.run("ill")
    query = 'transship_registry_healthy{registry="ill-west"} == 1'
    wait_until(lambda: watched.prometheus.ask("query", query=query)["result"], 20, "a check")
    outage = west.fault("", status=503, times=1 << 30)
    watched.prometheus.wait_firing("TransshipRegistryUnhealthy", registry="ill-west")

    assert outage.fired
    west.faults.clear()
    watched.prometheus.wait_cleared("TransshipRegistryUnhealthy", registry="ill-west")


def test_registry_that_wants_fewer_requests(watched: Watched) -> None:
    east, west = watched.registries("slow")
    push_image(east.storage, "team/app", "v1")
    watched.rule("slow")
    told = west.fault("/manifests/", method="PUT", status=429, headers={"Retry-After": "8"})
    identity = watched.lab.run("slow")
    watched.prometheus.wait_firing("TransshipRegistryThrottles", registry="slow-west")

    assert told.fired
    watched.prometheus.wait_cleared("TransshipRegistryThrottles", registry="slow-west")
    assert watched.lab.wait(identity, 60)["state"] == "succeeded"


def test_deletion_that_waits_for_approval(watched: Watched) -> None:
    east, west = watched.registries("gone")
    for number in range(30):
        push_image(east.storage, "team/app", f"v{number}", mark="same")
    watched.rule("gone", delete={"enabled": True, "grace": "0s", "cap": "1%"})
    watched.run("gone")
    for number in range(25):
        east.storage.delete_tag("team/app", f"v{number}")
    watched.run("gone")
    watched.prometheus.wait_firing("TransshipDeletionsWait")

    (waiting,) = watched.lab.ask("GET", "/deletions?state=waiting")["items"]
    watched.lab.ask("POST", f"/deletions/{waiting['id']}/cancel")
    watched.prometheus.wait_cleared("TransshipDeletionsWait")
    assert len(west.storage.tags(f"{PREFIX}team/app") or {}) == 30


def test_registry_that_has_lost_content(watched: Watched) -> None:
    east, west = watched.registries("lost")
    push_image(east.storage, "team/app", "v1", mark="same")
    watched.rule("lost")
    watched.run("lost")
    before = west.storage.tags(f"{PREFIX}team/app")
    west.storage.delete_tag(f"{PREFIX}team/app", "v1")
    watched.run("lost")
    watched.prometheus.wait_firing("TransshipContentLost", registry="lost-west")

    assert west.storage.tags(f"{PREFIX}team/app") == before
    watched.prometheus.wait_cleared("TransshipContentLost", registry="lost-west")


def test_replica_that_somebody_else_has_changed(watched: Watched) -> None:
    east, west = watched.registries("drift")
    digest = push_image(east.storage, "team/app", "v1")
    place = {"registry": "drift-west"}
    watched.rule("drift", mode="replicate", delete={"enabled": False}, destinations=[place])
    watched.run("drift")
    push_image(west.storage, "team/app", "extra", mark="by hand")
    watched.run("drift")
    watched.prometheus.wait_firing("TransshipReplicaDrifted", rule="drift", registry="drift-west")

    west.storage.delete_tag("team/app", "extra")
    watched.run("drift")
    watched.prometheus.wait_cleared("TransshipReplicaDrifted", rule="drift")
    assert (west.storage.tags("team/app") or {})["v1"] == digest


def test_workers_that_are_gone(watched: Watched) -> None:
    east, _ = watched.registries("alone")
    push_image(east.storage, "team/app", "v1")
    watched.rule("alone", freshness="1s")
    age = update(rules).where(rules.c.name == "alone").values(created_at=rules.c.created_at - DAY)
    watched.lab.database.write(lambda connection: connection.execute(age))  # late ever since
    held = east.fault("/manifests/", times=1 << 30, status=503)
    identity = watched.lab.run("alone")
    wait_until(lambda: held.fired, 20, "the copy to be begun")
    watched.lab.processes["worker"].kill()
    east.faults.clear()
    watched.prometheus.wait_firing("TransshipProcessesDie")
    watched.prometheus.wait_firing("TransshipRuleLate", rule="alone")
    watched.prometheus.wait_firing("TransshipErrorBudgetSpent", rule="alone")

    watched.lab.processes["worker"].start()
    assert watched.lab.wait(identity, 60)["state"] == "succeeded"
    watched.prometheus.wait_cleared("TransshipProcessesDie")
    watched.rule("alone", freshness="1h")
    watched.prometheus.wait_cleared("TransshipRuleLate", rule="alone")
    watched.lab.ask("DELETE", "/rules/alone")
    watched.prometheus.wait_cleared("TransshipErrorBudgetSpent", rule="alone")


def test_region_that_nobody_serves(watched: Watched) -> None:
    """What goes to another region is planned at home, and waits there for a worker."""
    lab = watched.lab
    east, west = watched.registries("afar")
    lab.ask("PUT", "/regions/afar", {})
    lab.ask("PUT", "/registries/afar-west", {"url": west.url, "region": "afar"})
    push_image(east.storage, "team/app", "v1")
    watched.rule("afar")
    identity = lab.run("afar")
    watched.prometheus.wait_firing("TransshipNoWorkers", region="afar")
    watched.prometheus.wait_firing("TransshipBacklog", region="afar")

    lab.start("worker-afar", TRANSSHIP_REGION="afar")
    assert lab.wait(identity, 60)["state"] == "succeeded"
    watched.prometheus.wait_cleared("TransshipNoWorkers", region="afar")
    watched.prometheus.wait_cleared("TransshipBacklog", region="afar")


def test_scheduler_that_is_dead(watched: Watched) -> None:
    scheduler = watched.lab.processes["scheduler"]
    scheduler.kill()
    watched.prometheus.wait_firing("TransshipSchedulerDown")

    scheduler.start()
    watched.prometheus.wait_cleared("TransshipSchedulerDown")


def test_rules_that_do_not_run_and_rules_that_match_nothing(watched: Watched) -> None:
    """What is due is kept from being started by a date in SQL."""
    east, _ = watched.registries("odd")
    push_image(east.storage, "team/app", "v1")
    watched.rule("odd")
    watched.run("odd")
    east.storage.delete_tag("team/app", "v1")
    watched.run("odd")
    watched.registries("missed")
    watched.rule("missed", trigger={"every": "1h"})
    late = (
        update(rules)
        .where(rules.c.name == "missed")
        .values(created_at=rules.c.created_at - DAY, next_run_at=rules.c.created_at + DAY)
    )
    began = (
        update(executions)
        .where(executions.c.rule == "missed")
        .values(created_at=executions.c.created_at - DAY, started_at=executions.c.started_at - DAY)
    )
    runs = "/executions?rule=missed"  # the first is started by the scheduler, in its own time
    wait_until(lambda: watched.lab.ask("GET", runs)["items"], 20, "the first run")
    watched.lab.quiesce()
    for statement in (late, began):
        watched.lab.database.write(lambda connection, it=statement: connection.execute(it))
    watched.prometheus.wait_firing("TransshipRuleIdle", rule="missed")
    watched.prometheus.wait_firing("TransshipRuleEmpty", rule="odd")

    push_image(east.storage, "team/app", "v2")
    watched.run("odd")
    watched.run("missed")
    watched.prometheus.wait_cleared("TransshipRuleIdle", rule="missed")
    watched.prometheus.wait_cleared("TransshipRuleEmpty", rule="odd")


def test_gateway_that_is_dead_and_one_that_cannot_give_what_it_has(watched: Watched) -> None:
    """A registry that does not answer, one that gives other bytes, and one that is deleted."""
    east, west = watched.registries("pulled")
    layers = [f"layer {number}".encode() * 20 for number in range(400)]  # each is cut once only
    push_layers(east, "team/app", "v1", layers=layers)
    blobs = [f"/v2/team/app/blobs/sha256:{hashlib.sha256(one).hexdigest()}" for one in layers]
    with watched.gateway("pulled-east", "pulled-west") as client:
        prometheus = watched.prometheus
        away = east.fault("/manifests/", status=503, times=1 << 30)
        with _asking(client, ["/v2/team/app/manifests/v1"]):
            prometheus.wait_firing("TransshipGatewayFails")
            assert away.fired
            east.faults.clear()
            prometheus.wait_cleared("TransshipGatewayFails")

        wrong = east.fault("/blobs/", wire=WireFault(flip_at=10), times=1 << 30)
        with _asking(client, blobs):
            prometheus.wait_firing("TransshipGatewayCorrupt")
        assert wrong.fired
        east.faults.clear()
        prometheus.wait_cleared("TransshipGatewayCorrupt")

        watched.lab.ask("DELETE", "/registries/pulled-west")
        prometheus.wait_firing("TransshipGatewayNameWithoutRegistry")
        watched.lab.ask("PUT", "/registries/pulled-west", {"url": west.url})
        prometheus.wait_cleared("TransshipGatewayNameWithoutRegistry")

        process = watched.lab.processes["gateway"]
        process.kill()
        prometheus.wait_firing("TransshipGatewayDown", instance=watched.places["gateway"])
        process.start()
        prometheus.wait_cleared("TransshipGatewayDown")


@contextmanager
def _asking(client: Client, paths: list[str]) -> Iterator[None]:
    """Have these asked for meanwhile, one after the other and again; what comes of it is not looked at."""
    over = threading.Event()

    def ask() -> None:
        for path in itertools.cycle(paths):
            if over.wait(0.1):
                return
            with suppress(OSError, HTTPException):
                client.get(path)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_every_metric_occurs_in_a_scrape_and_every_expression_is_answered(watched: Watched) -> None:
    page = (ROOT / "docs/reference/metrics.md").read_text("utf-8")
    known = set(re.findall(r"^\| `(transship_\w+)`", page, re.MULTILINE))
    watched.registries("shown")
    with watched.gateway("shown-east"):
        shown = {
            name
            for process in watched.places
            for name in re.findall(
                r"^# TYPE (transship_\w+)", watched.scrape(process), re.MULTILINE
            )
        }
    assert known <= shown
    assert {one for one in shown - known if not one.endswith("_created")} == set()

    dashboard = json.loads((ROOT / "deploy/grafana/transship.json").read_text("utf-8"))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            watched.prometheus.ask("query", query=target["expr"].replace("$__rate_interval", "1m"))


def test_metrics_move_by_what_was_done(watched: Watched) -> None:
    lab = watched.lab
    for region in ("here", "there"):
        lab.ask("PUT", f"/regions/{region}", {})
    lab.ask("PUT", "/links/here:there", {"cost_per_gib": 2.5})
    east, west = watched.registries("moved", region="there")
    lab.ask("PUT", "/registries/moved-east", {"url": east.url, "region": "here"})
    lab.start(
        "worker-there",
        TRANSSHIP_REGION="there",
        TRANSSHIP_METRICS_LISTEN=watched.places.setdefault("there", f"127.0.0.1:{free_port()}"),
    )
    for number in range(3):
        push_image(east.storage, "team/app", f"v{number}")
    push_image(east.storage, "team/lib", "refused")
    watched.rule("moved")
    refused = west.fault("team/lib/manifests/", method="PUT", status=403, times=1)
    identity = lab.run("moved")
    assert lab.wait(identity, 60)["state"] == "partial"
    assert refused.fired == 1
    found = lab.execution(identity)
    place = {"rule": "moved", "region": "there", "destination": "moved-west"}

    def counted() -> float:
        """The worker counts a copy when SQL has it, from which the execution's end is told."""
        states = ("copied", "failed")
        return sum(
            watched.value("there", "transship_copies_total", **place, state=one) for one in states
        )

    wait_until(lambda: counted() == 4, 20, "all copies to be counted")
    samples = watched.samples("there")

    def of(name: str, **labels: str) -> float:
        return samples.get((f"transship_{name}", frozenset(labels.items())), 0.0)

    assert of("copies_total", **place, state="copied") == 3
    assert of("copies_total", **place, state="failed") == 1
    assert (
        of(
            "copy_failures_total",
            **{"rule": "moved", "destination": "moved-west", "class": "denied"},
        )
        == 1
    )
    moved = of("crossed_bytes_total", **{"rule": "moved", "from": "moved-east", "to": "moved-west"})
    assert moved == found["bytes"]["copied"] > 0
    assert of("bytes_total", rule="moved", region="there", kind="copied") == moved
    assert of("blobs_total", destination="moved-west", way="copied") == found["blobs"]["copied"] > 0
    sent = of("requests_total", registry="moved-west")
    written = [one for one in west.log if one.method in ("POST", "PUT", "PATCH")]
    assert sent >= len(written) > 0

    def told(name: str, **labels: str) -> float:
        return watched.value("scheduler", f"transship_{name}", **labels)

    assert told("cost_per_gib", **{"from": "moved-east", "to": "moved-west"}) == 2.5
    ended = told("rule_last_end_timestamp_seconds", rule="moved")
    assert ended == pytest.approx(datetime.fromisoformat(found["finished_at"]).timestamp(), abs=1)
    assert told("rule_last_success_timestamp_seconds", rule="moved") == 0
    partial = told("executions", state="partial")
    assert watched.run("moved") == "succeeded"
    assert told("rule_last_success_timestamp_seconds", rule="moved") > ended
    assert told("executions", state="partial") == partial
    for kind, name, gauge in (
        ("rules", "moved", "rule_active"),
        ("registries", "moved-west", "registry_paused"),
    ):
        label = {kind.removesuffix("s").replace("registrie", "registry"): name}
        before = told(gauge, **label)
        lab.ask("POST", f"/{kind}/{name}/pause")
        assert told(gauge, **label) == 1 - before
        lab.ask("POST", f"/{kind}/{name}/resume")
        assert told(gauge, **label) == before


def test_every_alert_is_made_to_fire_here() -> None:
    alerts = {line.split()[-1] for line in RULES.read_text().splitlines() if "- alert:" in line}
    asked = Path(__file__).read_text()
    assert {name for name in alerts if f'wait_firing("{name}"' not in asked} == set()
