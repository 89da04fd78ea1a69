"""What registries do to a copy, at each side: section 2.3 of reference/reliability.md, rows F034-F126.

Each row strikes one request of one image. It says how that copy ends while the fault stands: brought over
all the same, or failed with a class. The fault must have struck before the copy was through, the neighbour must
come over whatever happens, and after healing and one more run all is whole by the oracle.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from api.samples.faults import FOREVER, FaultRule
from api.samples.http_messages import Request, Response, WireFault
from tests.faults.lab import Lab

pytestmark = pytest.mark.timeout(180)

LAYER = "app/blobs/sha256:"  # of the struck image; a GET of any
UPLOADS = "app/blobs/uploads/"
TAG = "app/manifests/v1"
SMALL, LARGE = (20_000, 40_000), (600_000, 700_000)  # read whole before its upload; streamed


@dataclass(frozen=True)
class Row:
    """One row: which request is struck at which side, how, and how the copy ends."""

    row: str
    name: str
    side: str  # east: the source, west: the destination
    method: str
    path: str
    fault: dict[str, Any]
    ends: str = "copied"  # state of the struck copy while the fault stands
    failure: str = ""  # its class
    sizes: tuple[int, ...] = SMALL
    reads: int = 0  # of one blob at the source at most; 0: not looked at
    leaves_upload: bool = False  # the lie itself keeps a session open

    @property
    def id(self) -> str:
        return f"{self.row}-{self.name}"


def applied_but(status: int) -> Callable[[Request, Response], None]:
    """The registry has done it, and the answer says otherwise."""

    def change(_request: Request, response: Response) -> None:
        response.status, response.body = status, b""

    return change


def longer(_request: Request, response: Response) -> None:
    response.body = bytes(response.body) + b"more than was announced"


def nonsense(_request: Request, response: Response) -> None:
    response.body = bytes(response.body).replace(b"sha256:", b"sha256:0", 1)[: len(response.body)]


IMMUTABLE = b'{"errors":[{"code":"TAG_IMMUTABLE","message":"the tag is immutable"}]}'
DENIED = b'{"errors":[{"code":"DENIED","message":"requested access is denied"}]}'
QUOTA = b'{"errors":[{"code":"DENIED","message":"quota exceeded"}]}'
GONE = b'{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]}'

ROWS = [
    # ---- the source ----
    Row("F036", "manifest-swapped-once", "east", "GET", "app/manifests/", {"after": nonsense}),
    Row("F046", "reset-at-0", "east", "GET", LAYER, {"wire": WireFault(reset_at=0)}, reads=2),
    Row("F046", "reset-in-the-middle", "east", "GET", LAYER, {"wire": WireFault(reset_at=9000)}, reads=2),
    Row("F046", "reset-large", "east", "GET", LAYER, {"wire": WireFault(reset_at=300_000)}, sizes=LARGE, reads=2),
    Row("F046", "reset-at-the-last-byte", "east", "GET", LAYER, {"wire": WireFault(reset_at=599_999)}, sizes=(600_000,) * 2, reads=2),
    Row("F047", "truncated", "east", "GET", LAYER, {"wire": WireFault(truncate_at=5000)}, reads=2),
    Row("F047", "truncated-large", "east", "GET", LAYER, {"wire": WireFault(truncate_at=500_000)}, sizes=LARGE, reads=2),
    Row("F047", "truncated-chunked", "east", "GET", LAYER, {"wire": WireFault(truncate_at=5000, chunked=True), "headers": {"Content-Length": None}}, reads=2),
    Row("F049", "one-byte-flipped", "east", "GET", LAYER, {"wire": WireFault(flip_at=7)}, reads=2),
    Row("F049", "flipped-large", "east", "GET", LAYER, {"wire": WireFault(flip_at=7)}, sizes=LARGE, reads=2),
    Row("F049", "flipped-for-good", "east", "GET", LAYER, {"wire": WireFault(flip_at=7), "times": FOREVER}, "failed", "corrupt"),
    Row("F050", "longer-than-told", "east", "GET", LAYER, {"after": longer}, reads=2),
    Row("F050", "longer-for-good", "east", "GET", LAYER, {"after": longer, "times": FOREVER}, "failed", "corrupt"),
    Row("F051", "content-encoding-gzip", "east", "GET", LAYER, {"headers": {"Content-Encoding": "gzip"}, "times": FOREVER}),
    Row("F110", "429-with-seconds", "east", "GET", LAYER, {"status": 429, "headers": {"Retry-After": "1"}}),
    Row("F110", "429-without", "east", "GET", "app/manifests/", {"status": 429}),
    Row("F110", "429-of-a-listing", "east", "GET", "app/tags/list", {"status": 429, "headers": {"Retry-After": "1"}}),
    Row("F111", "503-storm", "east", "GET", LAYER, {"status": 503, "times": 3}),
    Row("F111", "500-of-a-manifest", "east", "GET", "app/manifests/", {"status": 500, "times": 2}),
    Row("F111", "500-for-good", "east", "GET", LAYER, {"status": 500, "times": FOREVER}, "failed", "server"),
    Row("F114", "403-on-one-repository", "east", "GET", LAYER, {"status": 403, "body": DENIED, "times": FOREVER}, "failed", "denied"),
    Row("F115", "head-405", "east", "HEAD", TAG, {"status": 405, "times": FOREVER}),
    Row("F115", "listed-and-404-once", "east", "GET", "app/manifests/", {"status": 404}, "skipped"),
    Row("F116", "layer-collected", "east", "GET", LAYER, {"status": 404, "body": GONE, "times": FOREVER}, "failed", "gone"),
    # ---- the destination ----
    Row("F060", "session-forgotten", "west", "POST", UPLOADS, {"forget_upload": True}, reads=2),
    Row("F060", "session-forgotten-large", "west", "POST", UPLOADS, {"forget_upload": True}, sizes=LARGE, reads=2),
    Row("F062", "blob-201-and-absent", "west", "PUT", UPLOADS, {"status": 201}, leaves_upload=True),
    Row("F063", "final-put-stored-and-cut", "west", "PUT", UPLOADS, {"wire": WireFault(reset_at=0)}, sizes=LARGE, reads=2),
    Row("F066", "413", "west", "PUT", UPLOADS, {"status": 413, "times": FOREVER}, "failed", "invalid"),
    Row("F066", "507", "west", "PUT", UPLOADS, {"status": 507, "times": FOREVER}, "failed", "invalid"),
    Row("F066", "quota-403", "west", "POST", UPLOADS, {"status": 403, "body": QUOTA, "times": FOREVER}, "failed", "denied"),
    Row("F079", "tag-201-and-absent", "west", "PUT", TAG, {"status": 201}),
    Row("F079", "tag-201-and-absent-for-good", "west", "PUT", TAG, {"status": 201, "times": FOREVER}, "failed", "server"),
    Row("F080", "tag-500-and-applied", "west", "PUT", TAG, {"after": applied_but(500)}),
    Row("F080", "tag-put-cut-off", "west", "PUT", TAG, {"wire": WireFault(reset_at=0)}),
    Row("F120", "429-of-an-upload", "west", "POST", UPLOADS, {"status": 429, "headers": {"Retry-After": "1"}}),
    Row("F120", "503-of-an-upload", "west", "PUT", UPLOADS, {"status": 503, "times": 2}),
    Row("F120", "500-storm-of-manifests", "west", "PUT", "app/manifests/", {"status": 500, "times": 3}),
    Row("F120", "500-for-good", "west", "PUT", TAG, {"status": 500, "times": FOREVER}, "failed", "server"),
    Row("F120", "request-reset", "west", "PUT", UPLOADS, {"reset_request_at": 5000}),
    Row("F120", "request-reset-large", "west", "P", UPLOADS, {"reset_request_at": 100_000, "nth": 2}, sizes=LARGE, reads=2),
    Row("F121", "read-only", "west", "POST", UPLOADS, {"status": 405, "times": FOREVER}, "failed", "invalid"),
    Row("F125", "tag-immutable", "west", "PUT", TAG, {"status": 409, "body": IMMUTABLE, "times": FOREVER}, "failed", "invalid"),
    Row("F126", "read-back-is-late", "west", "HEAD", TAG, {"status": 404, "nth": 2}),
]  # fmt: skip


LONG = {"F120-500-for-good"}  # as F111 at the source, with all of its pauses

CASES = [
    pytest.param(row, id=row.id, marks=[pytest.mark.nightly] if row.id in LONG else [])
    for row in ROWS
]


@pytest.mark.parametrize("row", CASES)
def test_a_registry_strikes_one_copy(lab: Lab, row: Row) -> None:
    carry_out(lab, row, armed=True)


DISARMED_SEED = 20261126
DISARMED = sorted(random.Random(DISARMED_SEED).sample(range(len(ROWS)), 12))


@pytest.mark.parametrize("number", DISARMED)
def test_without_its_fault_a_row_fails(lab: Lab, number: int) -> None:
    """So no row passes for another reason than its fault."""
    print("seed", DISARMED_SEED)
    with pytest.raises(AssertionError):
        carry_out(lab, ROWS[number], armed=False)


def carry_out(lab: Lab, row: Row, *, armed: bool) -> None:
    scene = lab.scene(f"{row.id.lower()}{'' if armed else '-disarmed'}")
    struck_image = scene.push("app:v1", row.sizes)
    scene.push("neighbour:v1")
    side = scene.east if row.side == "east" else scene.west
    place = scene.at_source if row.side == "east" else scene.at_destination
    rule = FaultRule(place(row.path), method=row.method, **row.fault)
    if row.method == "P":
        rule.method = ""
    if armed:
        side.faults.add(rule)
    try:
        scene.run(60)
    finally:
        scene.heal()

    assert rule.fired, "the fault did not strike"
    copy = scene.copy("app:v1")
    if row.ends == "copied":
        assert scene.went_on_after(rule, "app"), "it struck when the copy was through"
    assert (copy["state"], copy["class"]) == (row.ends, row.failure), copy
    if row.ends != "copied":
        assert copy["reason"]
    assert scene.copy("neighbour:v1")["state"] == "copied"
    if row.reads:
        for layer in struck_image["layers"]:
            assert scene.reads(layer["digest"]) <= row.reads
    if row.ends == "failed":  # a blob found bad is believed mended when somebody asks again
        assert scene.retry()["state"] == "succeeded"
    elif row.ends == "skipped":
        assert scene.run()["state"] == "succeeded"
    verdict = scene.verdict(tags=2, blobs=6, uploads=row.leaves_upload)
    assert verdict.faults == [], str(verdict)
