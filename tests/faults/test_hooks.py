"""Events that come in the wrong order, and receivers of ours that hang, refuse and redirect: rows F077, F170, F171."""

from __future__ import annotations

import contextlib
import itertools
import json
from typing import Any

import httpx
import pytest

from tests.faults.lab import Lab, Scene
from tests.support.processes import wait_until
from tests.support.receiver import Receiver

pytestmark = pytest.mark.timeout(180)

_events = itertools.count(1)


class Told:
    """A scene whose source tells of pushes, as docker-registry does."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        source = f"east-{name}"
        lab.ask("PUT", f"/registries/{source}", {"url": lab.east.url})
        self.scene: Scene = lab.scene(name, source=source, trigger={"event": True})
        hook = lab.ask("PUT", f"/registries/{source}/hook", {})
        self._headers = {"Authorization": f"Bearer {hook['secret']}"}
        base = str(lab.client.base_url).partition("/api/")[0]
        self._url = f"{base}/hooks/distribution/{source}"

    def tell(self, *words: tuple[str, str]) -> None:
        """Post one notification with the event of each ("app:v1", digest), in this order."""
        events = [self._event(*word) for word in words]
        answer = httpx.post(
            self._url,
            content=json.dumps({"events": events}).encode(),
            headers=self._headers,
            trust_env=False,
            timeout=60,
        )
        assert answer.status_code == 202, answer.text

    def _event(self, place: str, digest: str) -> dict[str, Any]:
        repository, _, tag = place.partition(":")
        target = {"repository": f"{self.scene.name}/{repository}", "tag": tag, "digest": digest}
        return {"id": f"{self.scene.name}-{next(_events)}", "action": "push", "target": target}

    def arrives(self, place: str) -> None:
        """Wait until a tag is at the destination as it last was at the source."""
        wait_until(
            lambda: self.scene.tag_names(place) == self.scene.digest(place), 20, f"{place} to come"
        )

    def runs(self) -> list[str]:
        """The ids of the rule's executions."""
        items = self.lab.ask("GET", "/executions?limit=200")["items"]
        return [one["id"] for one in items if one["rule"] == self.scene.name]


def test_f077_an_older_event_after_a_newer_one_writes_what_the_source_has(lab: Lab) -> None:
    told = Told(lab, "f077")
    scene = told.scene
    scene.push("app:v1", seed="old")
    old = scene.digest("app:v1")
    scene.push("app:v1", seed="new")
    new = scene.digest("app:v1")

    told.tell(("app:v1", new))
    told.arrives("app:v1")
    before = len(told.runs())
    told.tell(("app:v1", old))
    wait_until(lambda: len(told.runs()) > before, 20, "the look that the old event is worth")
    lab.quiesce()
    told.tell(("app:v1", new), ("app:v1", old), ("app:v1", old))
    scene.push("last:v1")
    told.tell(("last:v1", scene.digest("last:v1")))
    told.arrives("last:v1")
    lab.quiesce()

    assert scene.tag_names("app:v1") == new
    assert len(scene.tag_puts("app:v1")) == 1, "an event moved a tag that was in place"
    scene.runs += reversed(told.runs())
    verdict = scene.verdict(tags=2, blobs=6)
    assert verdict.faults == [], str(verdict)


def test_f077_events_of_one_tag_in_any_order_end_at_the_source(lab: Lab) -> None:
    told = Told(lab, "f077-many")
    scene = told.scene
    digests = []
    for seed in "abcdef":
        scene.push("app:v1", (2_000,), seed=seed)
        digests.append(scene.digest("app:v1"))
        told.tell(*(("app:v1", digest) for digest in reversed(digests)))

    told.arrives("app:v1")
    lab.quiesce()

    assert scene.tag_names("app:v1") == digests[-1]
    scene.runs += reversed(told.runs())
    verdict = scene.verdict(tags=1, blobs=2)
    assert verdict.faults == [], str(verdict)


BAD = ("refuse", "hang", "redirect", "drip", "flood")


def test_f171_receivers_that_misbehave_hold_up_no_copy_and_nobody_else(lab: Lab) -> None:
    scene = lab.scene("f171")
    images = [f"app{number}:v1" for number in range(6)]
    for image in images:
        scene.push(image)
    with contextlib.ExitStack() as stack:
        good = stack.enter_context(Receiver())
        receivers = {mode: stack.enter_context(Receiver(mode)) for mode in BAD}
        for name, receiver in {"good": good, **receivers}.items():
            body = {"url": receiver.url, "events": ["copy.*"], "rules": [scene.name]}
            lab.ask("PUT", f"/webhooks/f171-{name}", body)

        assert scene.run()["state"] == "succeeded"
        wait_until(lambda: len(good.received) == 6, 10, "the good receiver's events")
        for mode, receiver in receivers.items():
            wait_until(lambda receiver=receiver: receiver.received, 10, f"an event for {mode}")
        assert all(one.path == "/events" for one in receivers["redirect"].received)
        first = {
            mode: {one.headers["transship-event"] for one in receiver.received}
            for mode, receiver in receivers.items()
        }
        for receiver in receivers.values():
            receiver.mode = "ok"
            receiver.let_go.set()

        def delivered(mode: str) -> bool:
            items = lab.ask("GET", f"/webhooks/f171-{mode}/deliveries")["items"]
            return len(items) == 6 and all(one["state"] == "delivered" for one in items)

        for mode, receiver in receivers.items():
            wait_until(lambda mode=mode: delivered(mode), 60, f"the deliveries to {mode}")
            ids = {one.headers["transship-event"] for one in receiver.received}
            assert len(ids) == 6
            assert first[mode] <= ids
        for name in ("good", *BAD):
            lab.ask("DELETE", f"/webhooks/f171-{name}")
    assert len({one.event["id"] for one in good.received}) == 6
    verdict = scene.verdict(tags=6, blobs=18)
    assert verdict.faults == [], str(verdict)
