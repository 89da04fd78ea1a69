"""Scenarios in which a protection of deletions, liveness, order or hooks is the last line of defence."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

import httpx
from sqlalchemy import select

from api.samples.faults import FOREVER
from api.samples.http_messages import Access, WireFault
from api.samples.registry import OCI_1_1, SampleRegistry
from service.model.events.signing import sign
from service.model.work import CopyRef
from service.store.tables import copies
from service.store.tables_deletions import deletion_scans
from tests.faults.lab import Lab, Scene
from tests.faults.teeth import Stage, books, lines_of, whole
from tests.faults.test_processes import held_at
from tests.oracle.closure import check
from tests.oracle.cost import Bounds, judge_source
from tests.oracle.deletions import Seen, judge_deletions
from tests.oracle.states import ENDED, ENDED_COPIES
from tests.support.processes import wait_until
from workers.envelope import PREFIX, queue_key
from workers.queues import copy as copy_queue
from workers.signatures import QueuePublisher

ABSENCE_SECONDS = 0.2
"""TRANSSHIP_ABSENCE_SECONDS of the lab that these scenarios run in."""

DENIED = b'{"errors":[{"code":"DENIED","message":"requested access is denied"}]}'
UNKNOWN = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'


# ---- deletions -----------------------------------------------------------------------------------


def a_source_answers_half(stage: Stage) -> list[str]:
    """A run's list leaves a tag out; the next list breaks off, and the tag's manifest is told to be unknown.

    Nobody has removed anything: a part of the source is away. The tag is asked for three times, and each
    time the answer is a clear 404; a list without any tag would want an approval (other lines).
    """
    with SampleRegistry(profile=OCI_1_1) as destination:
        scene = _deleting(stage, destination, cap="100%")
        for tag in ("v1", "v2"):
            scene.push(f"app:{tag}")
        assert scene.run()["state"] == "succeeded"
        listed = scene.at_source("app/tags/list")
        stale = json.dumps({"name": f"{stage.name}/app", "tags": ["v1"]}).encode()
        scene.east.fault(listed, method="GET", status=200, body=stale)
        refused = scene.east.fault(
            f"{listed}.*last=", method="GET", status=403, body=DENIED, times=FOREVER
        )
        scene.east.fault(
            listed,
            method="GET",
            status=200,
            body=stale,
            headers={"Link": f'<{listed}?last=v1&n=100>; rel="next"'},
            times=FOREVER,
        )
        away = scene.at_source("app/manifests/v2")
        scene.east.fault(away, status=404, body=UNKNOWN, times=FOREVER)
        assert scene.run()["state"] == "succeeded"
        _settled(stage.lab, scene)
        assert refused.fired
        scene.heal()
        return _judge_deletions(scene, destination)


def most_tags_go_at_once(stage: Stage) -> list[str]:
    """21 of 24 tags are removed at the source, and nobody approves that as many go at the destination."""
    with SampleRegistry(profile=OCI_1_1) as destination:
        scene = _deleting(stage, destination)
        tags = [f"app:v{number}" for number in range(24)]
        for tag in tags:
            scene.push(tag, (100,))
        assert scene.run()["state"] == "succeeded"
        for tag in tags[:21]:
            scene.remove(tag)
        assert scene.run()["state"] == "succeeded"
        (found,) = _settled(stage.lab, scene)
        assert (found["tags"], found["of_tags"]) == (21, 24)
        return _judge_deletions(scene, destination)


def _deleting(stage: Stage, destination: SampleRegistry, **more: str) -> Scene:
    """A rule that deletes at a registry which can delete tags: docker-registry 2.8.2 cannot."""
    stage.lab.ask("PUT", f"/registries/{stage.name}", {"url": destination.url})
    return stage.scene(
        destinations=[{"registry": stage.name}], delete={"enabled": True, "grace": "0s", **more}
    )


def _settled(lab: Lab, scene: Scene) -> list[dict[str, object]]:
    """Wait until the last run was looked at for deletions, and nothing of that is open; what came of it."""
    query = select(deletion_scans.c.execution_id).where(deletion_scans.c.rule == scene.name)

    def looked_at() -> bool:
        with lab._services.database.read() as connection:
            return connection.execute(query).scalar() == scene.runs[-1]

    def decided() -> list[dict[str, object]] | None:
        items: list[dict[str, object]] = lab.ask("GET", f"/deletions?rule={scene.name}")["items"]
        return items if all(one["state"] in ("done", "waiting") for one in items) else None

    wait_until(looked_at, 20, "the scan")
    wait_until(lambda: decided() is not None, 20, "the deletion's end, or its wait for an approval")
    return decided() or []


def _judge_deletions(scene: Scene, destination: SampleRegistry) -> list[str]:
    """Judge all deletions of a scene in which nobody has asked for any (O8), and what is left (O1, O2)."""
    report = check(
        scene.lab.source.url, destination.url, {p: p for p in scene.expected}, extra=False
    )
    assert report.tags
    seen = (_seen(list(scene.east.log)), _seen(list(destination.log)))
    return [
        *judge_deletions(*seen, {}, apart_seconds=ABSENCE_SECONDS),
        *report.faults,
        *books(scene),
    ]


def _seen(log: Iterable[Access]) -> list[Seen]:
    return [Seen(one.method, one.path, one.status, one.started) for one in log]


# ---- liveness ------------------------------------------------------------------------------------


def a_blob_is_corrupt_for_good(stage: Stage) -> list[str]:
    """F049: the copy has to end, with a class, and not to be tried for ever."""
    scene = stage.scene()
    scene.push("app:v1")
    scene.push("neighbour:v1")
    rule = scene.east.fault(
        scene.at_source("app/blobs/"), method="GET", wire=WireFault(flip_at=7), times=FOREVER
    )
    stage.ends(scene.start())
    found = books(scene)
    assert rule.fired
    scene.heal()
    return found


def a_message_is_lost_before_it_is_sent(stage: Stage) -> list[str]:
    """F009: Redis is away from the API, which accepts all the same; nobody is told of the execution."""
    lab, scene = stage.lab, stage.scene()
    scene.push("app:v1")
    lab.redis_ways["api"].refuse()
    identity = scene.start()
    lost = f'"execution": "{identity}"'
    told = [one for one in lab.processes["api"].output(1 << 20).splitlines() if lost in one]
    assert any("announcement_lost" in one for one in told), "the message was not lost"
    lab.redis_ways["api"].heal()
    stage.ends(identity)
    return whole(scene, tags=1, blobs=3)


def a_worker_dies_and_another_starts(stage: Stage) -> list[str]:
    """F040: what it had in hand has no message and no process any more."""
    lab, scene = stage.lab, stage.scene()
    scene.push("app:v1")
    scene.push("neighbour:v1")
    held = held_at(scene, "reading-a-blob")
    identity = scene.start()
    held.reached()
    lab.processes["worker"].kill()
    held.let_go()
    lab.start("worker")
    stage.ends(identity)
    return whole(scene, tags=2, blobs=6)


# ---- order ---------------------------------------------------------------------------------------


def a_message_comes_again_when_all_is_over(stage: Stage) -> list[str]:
    """F037: its copy has succeeded, and could not any more: the destination takes no tags from us now."""
    lab, scene = stage.lab, stage.scene()
    scene.push("app:v1")
    assert scene.run()["state"] == "succeeded"
    scene.west.fault(
        scene.at_destination("app/manifests/"),
        method="PUT",
        status=403,
        body=DENIED,
        times=FOREVER,
    )
    with lab._services.database.read() as connection:
        row = connection.execute(select(copies).where(copies.c.execution_id == scene.runs[0])).one()
    queue = queue_key(copy_queue(row.region))
    with lab.redis.client() as client:
        sender = QueuePublisher(client)
        # A worker that was killed for another tooth has left some.
        others = set(client.hkeys(f"{PREFIX}unacked"))
        sender.replicate(row.region, [[CopyRef(row.id, row.fence)]], urgent=False)
        wait_until(lambda: not client.llen(queue), 10, "the message to be taken")
        wait_until(
            lambda: set(client.hkeys(f"{PREFIX}unacked")) <= others, 10, "its acknowledgement"
        )
    behind = lab.scene(f"{stage.name}-behind")
    behind.push("app:v1")
    assert behind.run()["state"] == "succeeded"  # what stood before it in the queue is through
    wait_until(lambda: scene.copy("app:v1")["state"] in ENDED_COPIES, 20, "the copy's end")
    scene.heal()
    return books(scene)


# ---- hooks ---------------------------------------------------------------------------------------

REPLAYS = 3


def a_notification_is_sent_again_by_others(stage: Stage) -> list[str]:
    """It moves nothing, as it is a hint; but each one that is taken has the source asked again."""
    lab = stage.lab
    lab.ask("PUT", f"/registries/{stage.name}", {"url": lab.east.url})
    secret = lab.ask("PUT", f"/registries/{stage.name}/hook")["secret"]
    scene = stage.scene(source=stage.name, trigger={"event": True})
    sizes = (20_000, 40_000)
    image = scene.push("app:v1", sizes)
    target = {"repository": f"{stage.name}/app", "tag": "v1"}
    event = {"id": stage.name, "action": "push", "target": target}
    body = json.dumps({"events": [event]}).encode()
    now = int(time.time())
    signed = {
        "X-Transship-Timestamp": str(now),
        "X-Transship-Signature": sign(secret, now, body),
    }
    address = str(lab.client.base_url).replace("/api/v1/", f"/hooks/distribution/{stage.name}")

    def ended() -> list[str]:
        items = lab.ask("GET", "/executions?limit=200")["items"]
        return [one["id"] for one in items if one["rule"] == stage.name and one["state"] in ENDED]

    def tell() -> int:
        return httpx.post(
            address, content=body, headers=signed, trust_env=False, timeout=60
        ).status_code

    assert tell() == 202
    wait_until(ended, 20, "the event's execution")
    once = len(lines_of(scene))
    answers = []
    for _ in range(REPLAYS):
        before = len(ended())
        answers.append(tell())
        if answers[-1] == 202:
            wait_until(lambda before=before: len(ended()) > before, 20, "what the replay started")
    assert set(answers) <= {202, 401}, answers
    scene.runs += ended()
    unique = sum(sizes) + image["config"]["size"]
    return [
        *judge_source(lines_of(scene), unique, Bounds(requests=once)),
        *whole(scene, tags=1, blobs=3),
    ]
