"""Bad content at a source, through a real worker: section 5 D of reference/reliability.md.

All of it lies in one registry under one rule, beside good images: each bad one is classified, or copied
byte for byte where it is only odd; the good ones come over, and no process minds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from api.samples.registry import SampleRegistry
from tests.faults.lab import PREFIX, Lab
from tests.oracle.closure import check
from tests.support.wire import Wire

pytestmark = pytest.mark.timeout(180)

IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"

CONFIG = b'{"architecture":"amd64","os":"linux"}'
LAYER = b"a layer of an odd image" * 40
EMPTY = b"{}"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def described(data: bytes, kind: str, **changes: Any) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest_of(data), "size": len(data), **changes}


def image(**changes: Any) -> dict[str, Any]:
    body: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": described(CONFIG, CONFIG_TYPE),
        "layers": [described(LAYER, LAYER_TYPE)],
        **changes,
    }
    return {key: value for key, value in body.items() if value is not ...}


def index(*children: bytes, **changes: Any) -> dict[str, Any]:
    listed = [
        {**described(child, IMAGE), "platform": {"architecture": "amd64", "os": "linux"}}
        for child in children
    ]
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed, **changes}


def dumped(body: Any) -> bytes:
    return json.dumps(body).encode()


CHILD = dumped(image())


def layer(**changes: Any) -> dict[str, Any]:
    return image(layers=[described(LAYER, LAYER_TYPE, **changes)])


def nested(depth: int) -> list[bytes]:
    """Indexes in one another, the innermost first."""
    found = [CHILD]
    for _ in range(depth):
        found.append(
            dumped(
                {**index(), "manifests": [described(found[-1], INDEX if len(found) > 1 else IMAGE)]}
            )
        )
    return found


@dataclass(frozen=True)
class Bad:
    """A manifest under a tag: how its copy ends, and with which class."""

    tag: str
    raw: bytes
    ends: str
    failure: str = ""
    kind: str = IMAGE
    beside: tuple[bytes, ...] = ()  # manifests that it names


CASES = [
    Bad("zero-layers", dumped(image(layers=[])), "copied"),
    Bad("no-layers", dumped(image(layers=...)), "failed", "invalid"),
    Bad("duplicate-layers", dumped(image(layers=[described(LAYER, LAYER_TYPE)] * 3)), "copied"),
    Bad("size-0", dumped(layer(size=0)), "failed", "corrupt"),
    Bad("size-negative", dumped(layer(size=-1)), "failed", "invalid"),
    Bad("size-fraction", dumped(layer(size=1.5)), "failed", "invalid"),
    Bad("size-text", dumped(layer(size="10")), "failed", "invalid"),
    Bad("size-huge", dumped(layer(size=10**12)), "failed", "corrupt"),
    Bad("size-2-to-63", dumped(layer(size=2**63)), "failed", "invalid"),
    Bad("size-off-by-one", dumped(layer(size=len(LAYER) + 1)), "failed", "corrupt"),
    Bad("two-sizes", dumped(image(layers=[described(LAYER, LAYER_TYPE), described(LAYER, LAYER_TYPE, size=7)])), "failed", "invalid"),
    Bad("no-media-type", dumped(image(mediaType=...)), "copied"),
    Bad("other-media-type", dumped(image(mediaType=INDEX)), "failed", "invalid"),
    Bad("both-kinds", dumped({**image(), "manifests": []}), "failed", "invalid"),
    Bad("twin-keys", dumped({**image(layers=[]), "Layers": [described(LAYER, LAYER_TYPE)]}), "failed", "invalid"),
    Bad("repeated-keys", dumped(image())[:-1] + b',"schemaVersion":2}', "failed", "invalid"),
    Bad("schema-1", dumped({"schemaVersion": 1, "name": "x", "tag": "y", "fsLayers": []}), "failed", "invalid"),
    Bad("schema-3", dumped(image(schemaVersion=3)), "failed", "invalid"),
    Bad("schema-text", dumped(image(schemaVersion="2")), "failed", "invalid"),
    Bad("not-json", b"<html>an error page</html>", "failed", "invalid"),
    Bad("null", b"null", "failed", "invalid"),
    Bad("a-list", b"[]", "failed", "invalid"),
    Bad("empty", b"", "failed", "invalid"),
    Bad("utf-16", dumped(image()).decode().encode("utf-16"), "failed", "invalid"),
    Bad("bom", b"\xef\xbb\xbf" + dumped(image()), "failed", "invalid"),
    Bad("leading-space", b"\n\t " + dumped(image()), "copied"),
    Bad("raw-byte", dumped(image(annotations={"a": "X"})).replace(b'"X"', b'"\xff"'), "failed", "invalid"),
    Bad("trailing-garbage", dumped(image()) + b"garbage", "failed", "invalid"),
    Bad("deep", dumped(image())[:-1] + b',"x":' + b"[" * 9000 + b"]" * 9000 + b"}", "failed", "invalid"),
    Bad("nan", dumped(image())[:-1] + b',"x":NaN}', "failed", "invalid"),
    Bad("large-number", dumped(image())[:-1] + b',"x":' + b"9" * 5000 + b"}", "failed", "invalid"),
    Bad("md5", dumped(layer(digest="md5:" + "0" * 32)), "failed", "invalid"),
    Bad("digest-upper", dumped(layer(digest=digest_of(LAYER).upper())), "failed", "invalid"),
    Bad("digest-path", dumped(layer(digest="sha256:../../../etc/passwd")), "failed", "invalid"),
    Bad("digest-short", dumped(layer(digest="sha256:abc")), "failed", "invalid"),
    Bad("layer-missing", dumped(layer(digest="sha256:" + "1" * 64)), "failed", "gone"),
    Bad("annotations-large", dumped(image(annotations={"a": "x" * 3_000_000})), "copied"),
    Bad("annotations-hostile", dumped(image(annotations={"a": "<script>alert(1)</script>\x1b[31m"})), "copied"),
    Bad("too-large", dumped(image(annotations={"a": "x" * (4 << 20)})), "failed", "invalid"),
    Bad("metadata-url", dumped(layer(urls=["http://169.254.169.254/latest/meta-data"])), "failed", "server"),  # refused by 500
    Bad("artifact", dumped(image(artifactType="application/x.thing", config=described(EMPTY, "application/vnd.oci.empty.v1+json"))), "copied"),
    Bad("subject-missing", dumped(image(subject=described(b"nobody", IMAGE))), "copied"),
    Bad("config-is-a-layer", dumped(image(layers=[described(CONFIG, LAYER_TYPE)])), "copied"),
    Bad("index-empty", dumped(index()), "copied", kind=INDEX),
    Bad("index-child-missing", dumped(index(b"nothing there")), "failed", "gone", INDEX),
    Bad("index-child-size", dumped({**index(), "manifests": [described(CHILD, IMAGE, size=7)]}), "failed", "corrupt", INDEX, (CHILD,)),
    Bad("index-child-twice", dumped(index(CHILD, CHILD)), "copied", kind=INDEX, beside=(CHILD,)),
    Bad("index-of-blob", dumped({**index(), "manifests": [described(LAYER, IMAGE)]}), "failed", "gone", INDEX),
    Bad("index-nested-3", nested(3)[-1], "copied", kind=INDEX, beside=tuple(nested(3)[:-1])),
    Bad("index-nested-40", nested(40)[-1], "failed", "invalid", INDEX, tuple(nested(40)[:-1])),
    Bad("index-of-10000", dumped({**index(), "manifests": [described(b"%d" % n, IMAGE) for n in range(10_000)]}), "failed", "invalid", INDEX),
]  # fmt: skip


def is_fallback(tag: str) -> bool:
    """Whether it lists the referrers of a subject, as of the one whose subject is missing."""
    return tag.startswith("sha256-") and len(tag) == 71


GOOD = tuple(f"good-{n}" for n in range(6))


@pytest.fixture(scope="module")
def outcomes(lab: Lab) -> Iterator[dict[str, dict[str, Any]]]:
    """Tag -> its copy, of one execution over all of it."""
    with SampleRegistry() as liar:
        for data in (CONFIG, LAYER, EMPTY):
            liar.storage.put_blob("odd/app", digest_of(data), data)
        for case in CASES:
            for raw in case.beside:
                kind = INDEX if b'"manifests"' in raw else IMAGE
                liar.storage.plant_manifest("odd/app", raw, kind)
            liar.storage.plant_manifest("odd/app", case.raw, case.kind, case.tag)
        for number, tag in enumerate(GOOD):
            raw = dumped(image(annotations={"number": str(number)}))
            liar.storage.plant_manifest("odd/app", raw, IMAGE, tag)
        lab.ask("PUT", "/registries/liar", {"url": liar.url})
        lab.rule("bad-content", source="liar", select=[{"repositories": ["odd/**"]}])
        worker = lab.processes["worker"].pid
        execution = lab.run("bad-content")
        assert lab.wait(execution, 90)["state"] == "partial"
        assert lab.processes["worker"].alive
        assert lab.processes["worker"].pid == worker
        found = {copy["source"].rpartition(":")[2]: copy for copy in lab.copies(execution)}
        copied = [case.tag for case in CASES if case.ends == "copied"] + list(GOOD)
        places = {("odd/app", tag): (f"{PREFIX}odd/app", tag) for tag in copied}
        faults = check(liar.url, lab.destination.url, places, extra=False).faults
        with Wire(lab.destination.url) as wire:
            listed = wire.request("GET", f"/v2/{PREFIX}odd/app/tags/list").json()["tags"]
        found["report"] = {"faults": faults, "extra": set(listed) - set(copied)}
        found["asked"] = {"paths": [line.path for line in liar.log]}
        yield found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.tag)
def test_bad_content_is_classified(outcomes: dict[str, dict[str, Any]], case: Bad) -> None:
    copy = outcomes[case.tag]

    assert (copy["state"], copy["class"]) == (case.ends, case.failure), copy
    if case.ends == "failed":
        assert copy["reason"]
        assert "Traceback" not in copy["reason"]
        assert "\x1b" not in copy["reason"]
        assert len(copy["reason"]) < 2000


@pytest.mark.parametrize("tag", GOOD)
def test_its_neighbours_come_over(outcomes: dict[str, dict[str, Any]], tag: str) -> None:
    assert outcomes[tag]["state"] == "copied"


def test_what_was_copied_is_whole_and_what_was_not_has_no_tag(
    outcomes: dict[str, dict[str, Any]],
) -> None:
    assert outcomes["report"]["faults"] == []
    assert all(is_fallback(tag) for tag in outcomes["report"]["extra"])
    assert not any("passwd" in path for path in outcomes["asked"]["paths"])
    assert len(outcomes["asked"]["paths"]) > len(CASES)
