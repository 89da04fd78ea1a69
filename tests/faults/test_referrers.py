"""What is attached to one image by many at once: row F082.

Neither registry has the referrers API, so the list of what refers to an image is a tag, and registries
cannot compare and swap: each copy has to read it, add to it and write it while nobody else does.
"""

from __future__ import annotations

import json

import pytest

from api.samples.faults import FOREVER
from api.samples.http_messages import WireFault
from tests.faults.lab import PREFIX, Lab, Scene
from tests.support.wire import OCI_IMAGE, Wire, descriptor, sha256

pytestmark = pytest.mark.timeout(180)

EMPTY = b"{}"
ATTACHED = 20


def attach(lab: Lab, scene: Scene, number: int, subject: dict[str, object]) -> str:
    """Push an artifact under a tag of its own that refers to an image; its digest.

    The source's list is left alone: only who copies can keep the destination's.
    """
    repository = f"{scene.name}/app"
    statement = f"statement {number}".encode()
    body = {
        "schemaVersion": 2,
        "mediaType": OCI_IMAGE,
        "artifactType": "application/vnd.example.statement",
        "config": descriptor(EMPTY, "application/vnd.oci.empty.v1+json"),
        "layers": [descriptor(statement, "application/octet-stream")],
        "subject": subject,
    }
    with Wire(lab.source.url) as wire:
        for blob in (EMPTY, statement):
            assert wire.push_blob(repository, blob).status == 201
        assert wire.put_manifest(repository, f"a{number}", body).status == 201
    digest = sha256(json.dumps(body).encode())
    scene.pushes.add((repository, f"a{number}"), digest)
    scene.expected[repository, f"a{number}"] = (PREFIX + repository, f"a{number}")
    return digest


def test_f082_twenty_that_are_attached_at_once_are_all_listed(lab: Lab) -> None:
    scene = lab.scene("f082")
    scene.push("app:v1")
    assert scene.run()["state"] == "succeeded"
    subject = scene.digest("app:v1")
    raw = json.dumps(scene.manifest("app:v1")).encode()
    assert sha256(raw) == subject
    attached = {attach(lab, scene, n, descriptor(raw, OCI_IMAGE)) for n in range(ATTACHED)}
    fallback = scene.at_destination(f"app/manifests/{subject.replace(':', '-')}")
    slow = scene.west.fault(
        fallback, method="GET", wire=WireFault(delay_seconds=0.05), times=FOREVER
    )
    lab.start("worker-2")
    try:
        assert scene.run(60)["state"] == "succeeded"
    finally:
        lab.processes.pop("worker-2").kill()
        scene.heal()

    assert slow.fired, "nobody has read the list"
    puts = [one for one in list(scene.west.log) if (one.method, one.path) == ("PUT", fallback)]
    assert puts
    with Wire(lab.destination.url) as wire:
        listed = wire.get_manifest(PREFIX + f"{scene.name}/app", subject.replace(":", "-")).json()
    assert {entry["digest"] for entry in listed["manifests"]} == attached
    assert len(listed["manifests"]) == ATTACHED
    kinds = {entry.get("artifactType") for entry in listed["manifests"]}
    assert kinds == {"application/vnd.example.statement"}
    verdict = scene.verdict(tags=1 + ATTACHED, blobs=3 + ATTACHED)
    assert verdict.faults == [], str(verdict)
