"""Bad blobs and bad HTTP through a real worker: section 5 E of reference/reliability.md, lines 68 to 79.

Each case has a repository of its own, at a source and a destination that misbehave for it alone. All of them are
carried out by one execution, beside good images; what has to fail is classified, the rest and the good ones come
over whole, and no process minds.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from api.samples.faults import FOREVER, FaultRule
from api.samples.http_messages import Request, Response, WireFault
from tests.faults.lab import PREFIX, Lab
from tests.oracle.closure import check
from tests.support.fault_proxy import FaultProxy
from tests.support.wire import Wire, image_body

pytestmark = pytest.mark.timeout(240)

MIB5 = 5 << 20
BLOB = "blobs/sha256:"
TAG = "manifests/v1"
LIST = "tags/list"
UPLOADS = "blobs/uploads/"
ESCAPE = "\x1b[31m\x07red"


@dataclass(frozen=True)
class Strike:
    """One fault of one side, for the repository of its case."""

    path: str
    fault: dict[str, Any]
    method: str = "GET"
    side: str = "east"


@dataclass(frozen=True)
class Bad:
    """A case: its line of 5 E, what is struck, how its copy ends, and with which class."""

    line: int
    name: str
    strikes: tuple[Strike, ...] = ()
    ends: str = "copied"
    failure: str = ""
    sizes: tuple[int, ...] = (20_000, 9_000)

    @property
    def id(self) -> str:
        return f"{self.line}-{self.name}"

    @property
    def repository(self) -> str:
        return f"wire/{self.id}"


def one(path: str, method: str = "GET", side: str = "east", **fault: Any) -> tuple[Strike, ...]:
    return (Strike(path, {"times": FOREVER, **fault}, method, side),)


def once(path: str, method: str = "GET", side: str = "east", **fault: Any) -> tuple[Strike, ...]:
    return (Strike(path, fault, method, side),)


def longer(_request: Request, response: Response) -> None:
    response.body = bytes(response.body) + b"more than was announced"


def endless(_request: Request, response: Response) -> None:
    response.headers.pop("Content-Length", None)
    response.body = bytes(response.body) + b"\x00" * 8_000_000


def packed(_request: Request, response: Response) -> None:
    response.body = gzip.compress(bytes(response.body))
    response.headers["Content-Encoding"] = "gzip"


def sha512_header(_request: Request, response: Response) -> None:
    response.headers["Docker-Content-Digest"] = (
        f"sha512:{hashlib.sha512(bytes(response.body)).hexdigest()}"
    )


def redirected(to: Callable[[str], str], status: int = 307) -> dict[str, Any]:
    def after(request: Request, response: Response) -> None:
        response.status, response.body = status, b""
        response.headers = {"Location": to(request.target)}

    return {"after": after}


_hops = itertools.count(1)


def onwards(target: str) -> str:
    return f"{target.partition('?')[0]}?hop={next(_hops)}"


def tags(*names: Any, **more: Any) -> bytes:
    return json.dumps({"name": "app", "tags": list(names), **more}).encode()


LENGTH = {"wire": WireFault(chunked=True), "headers": {"Content-Length": None}}
OTHER = f"sha256:{'0' * 64}"
LARGE_TEXT = b"<html>" + b"x" * 5_000_000
MANY = tags("v1", *(f"no/tag/{n:06}" for n in range(600_000)))

CASES = [
    Bad(68, "empty-blob", sizes=(0, 500)),
    Bad(69, "one-byte", sizes=(1,)),
    Bad(69, "5-mib-less-1", sizes=(MIB5 - 1,)),
    Bad(69, "5-mib", sizes=(MIB5,)),
    Bad(69, "5-mib-and-1", sizes=(MIB5 + 1,)),
    Bad(70, "wrong-bytes", one(BLOB, wire=WireFault(flip_at=3)), "failed", "corrupt"),
    Bad(70, "short", once(BLOB, wire=WireFault(truncate_at=100))),
    Bad(70, "long", one(BLOB, after=longer), "failed", "corrupt"),
    Bad(70, "endless", one(BLOB, after=endless, wire=WireFault(chunked=True)), "failed", "corrupt"),
    Bad(70, "endless-large", one(BLOB, after=endless, wire=WireFault(chunked=True)), "failed", "corrupt", sizes=(600_000,)),
    Bad(70, "packed", one(BLOB, after=packed), "failed", "corrupt"),
    Bad(71, "no-digest", one(TAG, method="", headers={"Docker-Content-Digest": None})),
    Bad(71, "wrong-digest", one(TAG, method="", headers={"Docker-Content-Digest": OTHER}), "failed", "corrupt"),
    Bad(71, "garbage-digest", one(TAG, method="", headers={"Docker-Content-Digest": "sha256:xyz"})),
    Bad(71, "other-algorithm", one(TAG, after=sha512_header)),
    Bad(71, "stored-no-digest", one(UPLOADS, "PUT", "west", headers={"Docker-Content-Digest": None})),
    Bad(71, "stored-another", one(UPLOADS, "PUT", "west", headers={"Docker-Content-Digest": OTHER}), "failed", "corrupt"),
    Bad(72, "no-length", one(BLOB, **LENGTH)),
    Bad(72, "no-length-large", one(BLOB, **LENGTH), sizes=(600_000,)),
    Bad(72, "two-lengths", once(BLOB, headers={"Content-Length": "20000, 7"}, close=True)),
    Bad(72, "negative-length", once(BLOB, headers={"Content-Length": "-20000"}, close=True)),
    Bad(72, "text-for-length", once(BLOB, headers={"Content-Length": "many"}, close=True)),
    Bad(72, "huge-length", one(BLOB, headers={"Content-Length": "9223372036854775807"}, close=True), "failed", "corrupt"),
    Bad(73, "redirect-loop", (Strike(BLOB, {**redirected(lambda target: target), "times": 4}),)),
    Bad(73, "twenty-hops", (Strike(BLOB, {**redirected(onwards), "times": 20}),)),
    Bad(73, "redirect-to-metadata", one(BLOB, **redirected(lambda _: "http://169.254.169.254/latest/")), "failed", "policy"),
    Bad(73, "redirect-to-another-private-host", one(BLOB, **redirected(lambda _: "http://localhost:9/")), "failed", "policy"),
    Bad(73, "redirect-to-a-file", once(BLOB, **redirected(lambda _: "file:///etc/passwd"))),
    Bad(73, "redirect-relative", once(BLOB, **redirected(lambda target: target.rpartition("/")[2]))),
    Bad(73, "redirect-with-fragment", once(BLOB, **redirected(lambda target: f"{target}#part"))),
    Bad(73, "redirect-nowhere", once(BLOB, status=307)),
    Bad(74, "tags-that-are-none", one(LIST, status=200, body=tags(5, None, {"a": 1}, "v1", ["v1"], True))),
    Bad(74, "tags-twice", one(LIST, status=200, body=tags("v1", "v1", "v1"))),
    Bad(74, "tags-with-slashes", one(LIST, status=200, body=tags("v1", "a/b", "../v1", "", " ", "v1\n"))),
    Bad(74, "another-name", one(LIST, status=200, body=tags("v1", name="of/another"))),
    Bad(74, "half-a-million-tags", one(LIST, status=200, body=MANY)),
    Bad(75, "link-to-the-past", one(LIST, headers={"Link": '</v2/x>; rel="prev"'})),
    Bad(76, "html", one(BLOB, status=403, body=b"<html><script>alert(1)</script></html>"), "failed", "denied"),
    Bad(76, "5-mb", one(BLOB, status=403, body=LARGE_TEXT), "failed", "denied"),
    Bad(76, "half-json", one(BLOB, status=403, body=b'{"errors":[{"code":"DENI'), "failed", "denied"),
    Bad(76, "escapes", one(BLOB, status=403, body=json.dumps({"errors": [{"code": "DENIED", "message": ESCAPE}]}).encode()), "failed", "denied"),
    Bad(76, "bare-escapes", one(BLOB, status=403, body=ESCAPE.encode()), "failed", "denied"),
    Bad(78, "location-garbage", once(UPLOADS, "POST", "west", headers={"Location": "http://[::1"})),
    Bad(78, "location-none", once(UPLOADS, "POST", "west", headers={"Location": None, "Docker-Upload-UUID": None})),
    Bad(78, "location-spaces", once(UPLOADS, "POST", "west", headers={"Location": "/v2/a b/"})),
    Bad(78, "least-chunk-garbage", one(UPLOADS, "POST", "west", headers={"OCI-Chunk-Min-Length": "-1"}), sizes=(600_000,)),
    Bad(78, "least-chunk-huge", one(UPLOADS, "POST", "west", headers={"OCI-Chunk-Min-Length": "9" * 30}), sizes=(600_000,)),
    Bad(79, "retry-after-text", once(BLOB, status=429, headers={"Retry-After": "abc"})),
    Bad(79, "retry-after-negative", once(BLOB, status=429, headers={"Retry-After": "-1"})),
    Bad(79, "retry-after-the-past", once(BLOB, status=503, headers={"Retry-After": "Mon, 01 Jan 2001 00:00:00 GMT"})),
]  # fmt: skip

GOOD = tuple(Bad(0, f"good-{n}") for n in range(6))


def push(wire: Wire, case: Bad) -> None:
    """Push a case's image."""
    config = json.dumps({"architecture": "amd64", "os": "linux", "of": case.id}).encode()
    layers = [
        hashlib.shake_256(f"{case.id}:{n}".encode()).digest(size)
        for n, size in enumerate(case.sizes)
    ]
    for blob in (config, *layers):
        assert wire.push_blob(case.repository, blob).status == 201
    assert wire.put_manifest(case.repository, "v1", image_body(config, layers)).status == 201


@dataclass
class Outcome:
    """What came of all cases."""

    copies: dict[str, dict[str, Any]]
    fired: dict[str, int]
    faults: list[str]
    absent: dict[str, int]  # repository of a failed case -> status of its tag at the destination
    asked: list[str]


@pytest.fixture(scope="module")
def outcome(lab: Lab) -> Outcome:
    with FaultProxy(lab.source.url) as east, FaultProxy(lab.destination.url) as west:
        rules: dict[str, list[FaultRule]] = {}
        with Wire(lab.source.url) as wire:
            for case in (*CASES, *GOOD):
                push(wire, case)
                for strike in case.strikes:
                    proxy, prefix = (east, "") if strike.side == "east" else (west, PREFIX)
                    path = f"/v2/{prefix}{case.repository}/{strike.path}"
                    rule = proxy.fault(path, method=strike.method, **strike.fault)
                    rules.setdefault(case.id, []).append(rule)
        lab.ask("PUT", "/registries/liar", {"url": east.url})
        lab.ask("PUT", "/registries/taker", {"url": west.url})
        place = {"registry": "taker", "repository": PREFIX + "{repository}"}
        select = [{"repositories": ["wire/**"]}]
        lab.rule("bad-wire", source="liar", select=select, destinations=[place])
        pids = {name: process.pid for name, process in lab.processes.items()}
        execution = lab.run("bad-wire")
        assert lab.wait(execution, 120)["state"] == "partial"
        assert {name: process.pid for name, process in lab.processes.items()} == pids
        assert all(process.alive for process in lab.processes.values())
        copies = {
            copy["source"].split("/", 1)[1].partition(":")[0]: copy
            for copy in lab.copies(execution)
        }
        fired = {name: min(rule.fired for rule in mine) for name, mine in rules.items()}
    copied = [case for case in (*CASES, *GOOD) if case.ends == "copied"]
    places = {(case.repository, "v1"): (PREFIX + case.repository, "v1") for case in copied}
    faults = check(lab.source.url, lab.destination.url, places, extra=False).faults
    with Wire(lab.destination.url) as wire:
        absent = {
            case.id: wire.get_manifest(PREFIX + case.repository, "v1").status
            for case in CASES
            if case.ends != "copied"
        }
    return Outcome(copies, fired, faults, absent, [line.path for line in east.log])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_bad_http_is_classified(outcome: Outcome, case: Bad) -> None:
    if case.strikes:
        assert outcome.fired[case.id], "it did not strike"
    copy = outcome.copies[case.repository]
    assert (copy["state"], copy["class"]) == (case.ends, case.failure), copy
    if case.ends == "failed":
        assert copy["reason"]
        assert outcome.absent[case.id] == 404
        assert "Traceback" not in copy["reason"]
        assert "<script" not in copy["reason"]
        assert copy["reason"].isprintable()
        assert len(copy["reason"]) < 2000


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.id)
def test_its_neighbours_come_over(outcome: Outcome, case: Bad) -> None:
    assert outcome.copies[case.repository]["state"] == "copied"


def test_what_was_copied_is_whole(outcome: Outcome) -> None:
    assert outcome.faults == []
    assert len(outcome.asked) > 4 * len(CASES)
    assert len(outcome.asked) < 40 * len(CASES)


def test_no_tag_was_made_up(outcome: Outcome) -> None:
    """One copy a repository: names that are no tags, and tags that are told twice, make none."""
    assert set(outcome.copies) == {case.repository for case in (*CASES, *GOOD)}


# ---- 74, 75: lists that are none -----------------------------------------------------------------

LISTS = {
    "over-10-mb": {"status": 200, "body": b'{"tags":["' + b"v" * (11 << 20) + b'"]}'},
    "malformed-link": {"headers": {"Link": '/v2/x/tags/list?last=v1; rel="next"'}},
    "link-without-target": {"headers": {"Link": '<>; rel="next"'}},
    "deep": {"status": 200, "body": b'{"tags":' + b"[" * 100_000},
}


def test_lists_that_are_none_fail_their_repositories_alone(lab: Lab) -> None:
    with FaultProxy(lab.source.url) as east, Wire(lab.source.url) as wire:
        rules = {}
        for name in (*LISTS, "good"):
            push(wire, Bad(0, f"list-{name}"))
            if name in LISTS:
                path = f"/v2/wire/0-list-{name}/tags/list"
                rules[name] = east.fault(path, times=FOREVER, **LISTS[name])
        lab.ask("PUT", "/registries/lister", {"url": east.url})
        lab.rule("bad-lists", source="lister", select=[{"repositories": ["wire/0-list-*"]}])

        execution = lab.run("bad-lists")
        assert lab.wait(execution, 60)["state"] == "partial"

    copies = {c["source"].split("/", 1)[1].partition(":")[0]: c for c in lab.copies(execution)}
    for name, rule in rules.items():
        assert rule.fired
        copy = copies[f"wire/0-list-{name}"]
        assert (copy["state"], copy["class"]) == ("failed", "server"), (name, copy)
        assert copy["reason"]
    assert copies["wire/0-list-good"]["state"] == "copied"


# ---- 77: challenges ------------------------------------------------------------------------------

CHALLENGES: dict[str, str | None] = {
    "missing": None,
    "empty": "",
    "negotiate": "Negotiate",
    "basic": 'Basic realm="x"',
    "two": 'Basic realm="x", Bearer realm="http://127.0.0.1:9/token",service="s"',
    "unquoted": "Bearer realm=ftp://127.0.0.1/token,service=s",
    "10-kb": f'Bearer realm="{"x" * 10_000}"',
    "realm-without-host": 'Bearer realm="http:///token"',
    "realm-is-metadata": 'Bearer realm="http://169.254.169.254/token"',
    "broken": 'Bearer realm="http://127.0.0.1:9/tok',
}


def test_row_77_odd_challenges_fail_their_registries_alone(lab: Lab) -> None:
    with contextlib.ExitStack() as stack:
        rules = {}
        for name, challenge in CHALLENGES.items():
            proxy = stack.enter_context(FaultProxy(lab.destination.url))
            rules[name] = proxy.fault(
                "/blobs/uploads/",
                method="POST",
                status=401,
                headers={"WWW-Authenticate": challenge} if challenge is not None else {},
                times=FOREVER,
            )
            lab.ask("PUT", f"/registries/odd-{name}", {"url": proxy.url})
        names = ("west", *(f"odd-{name}" for name in CHALLENGES))
        places = [{"registry": name, "repository": f"{name}/{{repository}}"} for name in names]
        scene = lab.scene("challenges", destinations=places)
        scene.push("app:v1")

        assert scene.run(120)["state"] == "partial"

    copies = {c["destination"].partition("/")[0]: c for c in lab.copies(scene.runs[-1])}
    assert copies["west"]["state"] == "copied"
    for name, rule in rules.items():
        copy = copies[f"odd-{name}"]
        assert rule.fired, name
        assert rule.fired <= 60, name
        assert copy["state"] == "failed", (name, copy)
        assert copy["class"] in ("auth", "policy", "network", "server"), (name, copy)
        assert copy["reason"].isprintable()
        assert len(copy["reason"]) < 2000
