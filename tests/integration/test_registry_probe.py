"""One list of behaviours, held by the sample registry and by docker-registry 2.8.2 alike.

Where kinds of registries differ, the difference is a field of api.samples.profiles.Profile; the
sample in its 2.8.2 profile and the real 2.8.2 share one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from api.samples.registry import DISTRIBUTION_2, OCI_1_1, Profile, SampleRegistry
from tests.support.processes import wait_until
from tests.support.servers import RealRegistry, require
from tests.support.wire import (
    DOCKER_IMAGE,
    DOCKER_LIST,
    OCI_IMAGE,
    OCI_INDEX,
    Answer,
    Wire,
    descriptor,
    image_body,
    sha256,
    with_query,
)


@dataclass(frozen=True)
class Target:
    kind: str  # sample | real
    profile: Profile
    url: str


@pytest.fixture(scope="module", params=["oci-1.1", "distribution-2.8.2", "docker-registry"])
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    if request.param == "docker-registry":
        with RealRegistry() as real:
            yield Target("real", DISTRIBUTION_2, real.url)
        return
    profile = OCI_1_1 if request.param == "oci-1.1" else DISTRIBUTION_2
    with SampleRegistry(profile=profile) as sample:
        yield Target("sample", profile, sample.url)


@pytest.fixture
def wire(target: Target) -> Iterator[Wire]:
    with Wire(target.url) as wire:
        yield wire


_numbers = itertools.count()


@pytest.fixture
def name() -> str:
    """A repository that no other test uses."""
    return f"team/app-{next(_numbers)}"


def test_the_ping_answers(wire: Wire):
    answer = wire.request("GET", "/v2/")
    assert answer.status == 200
    assert answer["Docker-Distribution-Api-Version"] == "registry/2.0"


# blobs


@pytest.mark.parametrize("size", [0, 1, 100_000, 3 << 20])
def test_a_blob_pushed_whole_is_there_byte_for_byte(wire: Wire, name: str, size: int):
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    digest = sha256(data)
    path = f"/v2/{name}/blobs/{digest}"
    if size:  # another repository's empty blob must not count either, but 2.8.2 knows it at once
        assert wire.request("HEAD", path).status == 404
        assert wire.request("GET", path).code == "BLOB_UNKNOWN"
    answer = wire.push_blob(name, data)
    assert (answer.status, answer["Docker-Content-Digest"]) == (201, digest)
    head = wire.request("HEAD", path)
    assert (head.status, head["Content-Length"], head.body) == (200, str(size), b"")
    assert head["Docker-Content-Digest"] == digest
    assert wire.request("GET", path).body == data


def test_a_blob_belongs_to_its_repository(wire: Wire, name: str):
    data = name.encode()
    wire.push_blob(name, data)
    assert wire.request("HEAD", f"/v2/{name}-other/blobs/{sha256(data)}").status == 404


@pytest.mark.parametrize(
    "header, start, end",
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-", 10, 1000),
        ("bytes=999-999", 999, 1000),
        ("bytes=-5", 995, 1000),
        ("bytes=990-2000", 990, 1000),
    ],
)
def test_ranges_of_a_blob(wire: Wire, name: str, header: str, start: int, end: int):
    data = bytes(n % 251 for n in range(1000))
    wire.push_blob(name, data)
    answer = wire.request("GET", f"/v2/{name}/blobs/{sha256(data)}", None, {"Range": header})
    assert answer.status == 206
    assert answer["Content-Range"] == f"bytes {start}-{end - 1}/1000"
    assert answer.body == data[start:end]


def test_a_range_behind_the_end_is_refused(wire: Wire, name: str):
    data = b"a" * 1000
    wire.push_blob(name, data)
    path = f"/v2/{name}/blobs/{sha256(data)}"
    assert wire.request("GET", path, None, {"Range": "bytes=1000-"}).status == 416


def test_a_wrong_digest_is_refused_and_ends_the_session(wire: Wire, name: str):
    location = wire.start(name)
    answer = wire.request("PUT", f"{location}digest={sha256(b'other')}", b"data")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert wire.request("GET", location.rstrip("?&")).status == 404
    for data in (b"data", b"other"):
        assert wire.request("HEAD", f"/v2/{name}/blobs/{sha256(data)}").status == 404


def test_a_malformed_digest_is_refused(wire: Wire, name: str):
    location = wire.start(name)
    assert wire.request("PUT", f"{location}digest=sha256:abc", b"x").status >= 400
    location = wire.start(name)
    answer = wire.request("PUT", location.rstrip("?&"), b"x")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


def test_a_blob_in_chunks(wire: Wire, name: str):
    data = bytes(n % 253 for n in range(5000))
    location = wire.start(name)
    for start, end in ((0, 2000), (2000, 4000)):
        headers = {"Content-Range": f"{start}-{end - 1}"}
        answer = wire.request("PATCH", location.rstrip("?&"), data[start:end], headers)
        assert (answer.status, answer["Range"]) == (202, f"0-{end - 1}")
        location = with_query(answer["Location"])
    status = wire.request("GET", location.rstrip("?&"))
    assert (status.status, status["Range"]) == (204, "0-3999")
    location = with_query(status["Location"])
    answer = wire.request("PUT", f"{location}digest={sha256(data)}", data[4000:])
    assert answer.status == 201
    assert wire.request("GET", f"/v2/{name}/blobs/{sha256(data)}").body == data


def test_a_chunk_out_of_order(wire: Wire, name: str, target: Target):
    location = wire.start(name)
    answer = wire.request("PATCH", location.rstrip("?&"), b"a" * 400, {"Content-Range": "0-399"})
    location = answer["Location"]
    answer = wire.request("PATCH", location, b"b" * 400, {"Content-Range": "600-999"})
    if target.profile.checks_chunk_ranges:
        assert (answer.status, answer["Range"]) == (416, "0-399")
    else:
        assert (answer.status, answer["Range"]) == (202, "0-799")


def test_a_chunk_without_length(wire: Wire, name: str, target: Target):
    location = wire.start(name).rstrip("?&")
    host, port = wire.host.split(":")
    path = location if location.startswith("/") else location[location.index("/v2/") :]
    with socket.create_connection((host, int(port))) as sock:
        head = f"PATCH {path} HTTP/1.1\r\nHost: {wire.host}\r\nTransfer-Encoding: chunked\r\n\r\n"
        sock.sendall(head.encode() + b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n")
        answer = sock.recv(65536).decode()
    assert answer.startswith("HTTP/1.1 202 ")
    location = with_query(re.search(r"\r\nLocation: (\S+)\r\n", answer)[1])
    answer = wire.request("PUT", f"{location}digest={sha256(b'hello world')}")
    assert answer.status == 201


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_an_upload_cut_in_the_middle(wire: Wire, name: str, target: Target, method: str):
    data = bytes(n % 241 for n in range(200_000))
    location = wire.start(name)
    query = f"digest={sha256(data)}" if method == "PUT" else ""
    wire.cut(method, location + query, len(data), data[:100_000])

    def settled() -> Answer | None:
        answer = wire.request("GET", location.rstrip("?&"))
        return None if answer["Range"] == "0-0" else answer

    status = wait_until(settled, 5, "the server to notice the cut")
    if not target.profile.resumes_uploads:
        assert (status.status, status.code) == (404, "BLOB_UPLOAD_INVALID")
        return
    assert (status.status, status["Range"]) == (204, "0-99999")
    assert wire.request("PUT", location + f"digest={sha256(data)}", data).status == 416
    rest = {"Content-Range": "100000-199999"}
    answer = wire.request("PATCH", status["Location"], data[100_000:], rest)
    assert answer.status == 202
    location = with_query(answer["Location"])
    assert wire.request("PUT", f"{location}digest={sha256(data)}").status == 201


def test_an_upload_can_be_cancelled(wire: Wire, name: str):
    location = wire.start(name).rstrip("?&")
    assert wire.request("DELETE", location).status == 204
    answer = wire.request("GET", location)
    assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_an_upload_belongs_to_its_location(wire: Wire, name: str):
    location = wire.start(name).partition("?")[0]
    answer = wire.request("PUT", f"{location}?digest={sha256(b'x')}", b"x")
    assert answer.status in (400, 404)


def test_a_post_with_digest(wire: Wire, name: str, target: Target):
    data = name.encode()
    answer = wire.request("POST", f"/v2/{name}/blobs/uploads/?digest={sha256(data)}", data)
    assert answer.status == (201 if target.profile.single_post else 202)


def test_mounts(wire: Wire, name: str):
    data = name.encode() * 10
    digest = sha256(data)
    wire.push_blob(name, data)
    uploads = f"/v2/{name}-two/blobs/uploads/?mount={digest}"
    unknown_source = wire.request("POST", f"{uploads}&from={name}-none")
    assert unknown_source.status == 202
    assert unknown_source["Location"]
    assert wire.request("POST", uploads).status == 202  # without `from`
    absent = f"/v2/{name}-two/blobs/uploads/?mount={sha256(b'no')}&from={name}"
    assert wire.request("POST", absent).status == 202
    mounted = wire.request("POST", f"{uploads}&from={name}")
    assert (mounted.status, mounted["Docker-Content-Digest"]) == (201, digest)
    assert wire.request("GET", f"/v2/{name}-two/blobs/{digest}").body == data


def test_sha512_blobs(wire: Wire, name: str, target: Target):
    data = name.encode()
    digest = f"sha512:{hashlib.sha512(data).hexdigest()}"
    kept = digest if target.profile.keeps_sha512 else sha256(data)
    answer = wire.push_blob(name, data, digest)
    assert (answer.status, answer["Docker-Content-Digest"]) == (201, kept)
    head = wire.request("HEAD", f"/v2/{name}/blobs/{digest}")
    assert (head.status, head["Docker-Content-Digest"]) == (200, kept)


def test_blobs_are_deleted_from_one_repository(wire: Wire, name: str):
    data = name.encode()
    wire.push_blob(name, data)
    wire.push_blob(f"{name}-two", data)
    path = f"/v2/{name}/blobs/{sha256(data)}"
    assert wire.request("DELETE", path).status == 202
    assert wire.request("HEAD", path).status == 404
    assert wire.request("DELETE", path).status == 404
    assert wire.request("HEAD", f"/v2/{name}-two/blobs/{sha256(data)}").status == 200


def test_expect_100_continue(wire: Wire, name: str):
    location = wire.start(name)
    path = location[location.index("/v2/") :]
    host, port = wire.host.split(":")
    with socket.create_connection((host, int(port))) as sock:
        head = f"PUT {path}digest={sha256(b'hello')} HTTP/1.1\r\nHost: {wire.host}\r\n"
        sock.sendall(f"{head}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n".encode())
        assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"hello")
        assert sock.recv(1000).startswith(b"HTTP/1.1 201 ")


# manifests


@pytest.mark.parametrize("kind", [OCI_IMAGE, DOCKER_IMAGE])
def test_an_image_comes_back_verbatim(wire: Wire, name: str, kind: str):
    config, layer = b'{"os":"linux","architecture":"amd64"}', name.encode()
    for data in (config, layer):
        wire.push_blob(name, data)
    raw = json.dumps(image_body(config, [layer], mediaType=kind), indent=3).encode() + b"\n"
    path = f"/v2/{name}/manifests/v1"
    put = wire.request("PUT", path, raw, {"Content-Type": kind})
    assert (put.status, put["Docker-Content-Digest"]) == (201, sha256(raw))
    for reference in ("v1", sha256(raw)):
        answer = wire.get_manifest(name, reference)
        assert (answer.status, answer.body, answer["Content-Type"]) == (200, raw, kind)
        assert answer["Docker-Content-Digest"] == sha256(raw)
    head = wire.request("HEAD", path, None, {"Accept": kind})
    assert (head.status, head["Content-Length"], head.body) == (200, str(len(raw)), b"")
    assert head["Docker-Content-Digest"] == sha256(raw)
    etag = {"Accept": kind, "If-None-Match": head["ETag"]}
    assert wire.request("GET", path, None, etag).status == 304


@pytest.mark.parametrize("kind", [OCI_INDEX, DOCKER_LIST])
def test_an_index_wants_its_children(wire: Wire, name: str, kind: str):
    child = wire.image(name, "child")
    entry = descriptor(child, OCI_IMAGE, platform={"os": "linux", "architecture": "amd64"})
    body = {"schemaVersion": 2, "mediaType": kind, "manifests": [entry]}
    assert wire.put_manifest(name, "multi", body).status == 201
    assert wire.get_manifest(name, "multi").json() == body
    missing = {**entry, "digest": sha256(b"missing")}
    answer = wire.put_manifest(name, "holes", {**body, "manifests": [entry, missing]})
    assert (answer.status, answer.code) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert wire.get_manifest(name, "holes").status == 404


def test_an_image_wants_its_blobs(wire: Wire, name: str):
    wire.push_blob(name, b"{}")
    answer = wire.put_manifest(name, "v1", image_body(b"{}", [b"missing"]))
    assert (answer.status, answer.code) == (400, "MANIFEST_BLOB_UNKNOWN")
    assert sha256(b"missing") in answer.body.decode()
    wire.push_blob(f"{name}-two", b"missing")  # another repository's blob does not count
    assert wire.put_manifest(name, "v1", image_body(b"{}", [b"missing"])).status == 400


def test_manifests_that_are_refused(wire: Wire, name: str):
    raw = wire.image(name, "v1")
    body = json.loads(raw)
    for content_type in ("application/json", "text/plain", DOCKER_IMAGE):
        answer = wire.put_manifest(name, "bad", body, content_type=content_type)
        assert (answer.status, answer.code) == (400, "MANIFEST_INVALID"), content_type
    answer = wire.put_manifest(name, sha256(b"another"), body)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    path = f"/v2/{name}/manifests/bad"
    for junk in (b"", b"{", b"[]"):
        answer = wire.request("PUT", path, junk, {"Content-Type": OCI_IMAGE})
        assert (answer.status, answer.code) == (400, "MANIFEST_INVALID"), junk
    assert wire.get_manifest(name, "bad").status == 404


def test_a_manifest_above_4_mib_is_refused(wire: Wire, name: str, target: Target):
    raw = wire.image(name, "v1")
    padded = raw + b" " * (4 << 20)
    path = f"/v2/{name}/manifests/large"
    answer = wire.request("PUT", path, padded, {"Content-Type": OCI_IMAGE})
    assert (answer.status, answer.code) == (target.profile.too_large, "MANIFEST_INVALID")


def test_sizes_in_a_manifest(wire: Wire, name: str, target: Target):
    body = json.loads(wire.image(name, "v1"))
    body["layers"][0]["size"] += 1
    answer = wire.put_manifest(name, "v2", body)
    assert answer.status == (400 if target.profile.checks_sizes else 201)


def test_accept_is_heeded(wire: Wire, name: str, target: Target):
    wire.image(name, "v1")
    for accept in (DOCKER_IMAGE, "*/*"):
        answer = wire.get_manifest(name, "v1", accept)
        assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")
    head = wire.request("HEAD", f"/v2/{name}/manifests/v1", None, {"Accept": DOCKER_IMAGE})
    assert head.status == (404 if target.profile.narrow_head else 200)
    assert wire.get_manifest(name, "v1", f"{DOCKER_IMAGE}, {OCI_IMAGE};q=0.5").status == 200


def test_unknown_manifests(wire: Wire, name: str):
    for reference in ("none", sha256(b"none")):
        answer = wire.get_manifest(name, reference)
        assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")
    wire.image(name, "v1")
    assert wire.get_manifest(name, "none").code == "MANIFEST_UNKNOWN"


def test_subjects_and_referrers(wire: Wire, name: str, target: Target):
    subject = wire.image(name, "v1")
    extra = {"subject": descriptor(subject, OCI_IMAGE), "artifactType": "text/sbom"}
    body = image_body(b"{}", [b"sbom"], **extra)
    for data in (b"{}", b"sbom"):
        wire.push_blob(name, data)
    answer = wire.put_manifest(name, sha256(json.dumps(body).encode()), body)
    api = target.profile.referrers_api
    assert answer.status == 201
    assert answer["OCI-Subject"] == (sha256(subject) if api else None)
    found = wire.request("GET", f"/v2/{name}/referrers/{sha256(subject)}")
    if not api:
        assert found.status == 404
        return
    assert (found.status, found["Content-Type"]) == (200, OCI_INDEX)
    entry = descriptor(json.dumps(body).encode(), OCI_IMAGE, artifactType="text/sbom")
    assert found.json()["manifests"] == [entry]
    other = wire.request("GET", f"/v2/{name}/referrers/{sha256(subject)}?artifactType=x")
    assert (other.json()["manifests"], other["OCI-Filters-Applied"]) == ([], "artifactType")
    assert wire.request("GET", f"/v2/{name}/referrers/{sha256(b'x')}").json()["manifests"] == []


# lists and deletes


def follow(wire: Wire, path: str, key: str) -> list[str]:
    found: list[str] = []
    for _ in range(1000):
        answer = wire.request("GET", path)
        assert answer.status == 200
        found += answer.json()[key] or []
        if answer["Link"] is None:
            return found
        path = re.fullmatch(r'<([^>]+)>; rel="next"', answer["Link"])[1]
    raise AssertionError("the list has no end")


def test_tags_are_listed_whole_by_following_links(wire: Wire, name: str, target: Target):
    answer = wire.request("GET", f"/v2/{name}/tags/list")
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")
    tags = ["v10", "v1", "v2", "latest", "B", "a"]
    for tag in tags:
        wire.image(name, tag)
    for query in ("", "?n=2", "?n=1", "?n=6", "?n=1000"):
        listed = follow(wire, f"/v2/{name}/tags/list{query}", "tags")
        assert sorted(listed) == sorted(tags), query
    page = wire.request("GET", f"/v2/{name}/tags/list?n=2")
    assert len(page.json()["tags"]) == (2 if target.profile.pages_tags else 6)
    if target.profile.pages_tags:
        later = wire.request("GET", f"/v2/{name}/tags/list?n=10&last=latest").json()
        assert later["tags"] == ["v1", "v10", "v2"]


def test_the_catalog_is_listed_whole_by_following_links(wire: Wire, name: str):
    names = [f"{name}/{part}" for part in ("a", "b", "c")]
    for repository in names:
        wire.image(repository, "v1")
    for query in ("", "?n=2", "?n=1000"):
        listed = follow(wire, f"/v2/_catalog{query}", "repositories")
        assert len(set(listed)) == len(listed)
        assert set(names) <= set(listed)
    answer = wire.request("GET", "/v2/_catalog?n=1001")
    assert (answer.status, answer.code) == (400, "PAGINATION_NUMBER_INVALID")


def test_deleting_a_tag(wire: Wire, name: str, target: Target):
    raw = wire.image(name, "v1")
    wire.put_manifest(name, "v2", json.loads(raw))
    answer = wire.request("DELETE", f"/v2/{name}/manifests/v1")
    if not target.profile.deletes_tags:
        assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
        assert wire.get_manifest(name, "v1").status == 200
        return
    assert answer.status == 202
    assert wire.get_manifest(name, "v1").status == 404
    assert wire.get_manifest(name, "v2").status == 200
    assert wire.request("DELETE", f"/v2/{name}/manifests/v1").status == 404


def test_deleting_a_manifest_takes_its_tags_along(wire: Wire, name: str):
    raw = wire.image(name, "v1")
    wire.put_manifest(name, "v2", json.loads(raw))
    wire.image(name, "keep")
    path = f"/v2/{name}/manifests/{sha256(raw)}"
    assert wire.request("DELETE", path).status == 202
    for reference in ("v1", "v2", sha256(raw)):
        assert wire.get_manifest(name, reference).status == 404
    assert wire.request("DELETE", path).status == 404
    assert wire.request("GET", f"/v2/{name}/tags/list").json()["tags"] == ["keep"]


def test_names_that_are_none(wire: Wire, target: Target):
    for bad in ("UPPER/case", "a..b/c", "-a/b", "a/_b"):
        answer = wire.request("GET", f"/v2/{bad}/tags/list")
        assert answer.status in (400, 404, 500), bad
        answer = wire.request("POST", f"/v2/{bad}/blobs/uploads/")
        assert answer.status in (400, 404, 500), bad


def test_skopeo_takes_it_for_a_registry(target: Target, name: str, tmp_path: Path):
    skopeo = require("skopeo")
    with Wire(target.url) as wire:
        raw = wire.image(name, "v1", layers=3)
    host = target.url.removeprefix("http://")
    plain = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    source = f"docker://{host}/{name}:v1"
    for pair in (
        [source, f"docker://{host}/{name}-copy:v2"],
        [f"docker://{host}/{name}-copy:v2", f"dir:{tmp_path}"],
    ):
        subprocess.run(
            [skopeo, "copy", "-q", "--preserve-digests", *plain, *pair], check=True, timeout=60
        )
    assert (tmp_path / "manifest.json").read_bytes() == raw
