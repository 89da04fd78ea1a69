"""What a gateway's clients may have, and what they may say (issue 10)."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import random
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.samples.auth import BearerAuth, TokenService
from api.samples.registry import SampleRegistry
from api.samples.storage import StoredManifest
from bench.peers_install import find
from service.model.gateway import GatewayConfig, NameRule
from service.model.media_types import OCI_INDEX
from tests.support.content import push_artifact
from tests.support.gateway import Client
from tests.support.gateway_world import World
from tests.support.images import push_image
from tests.support.processes import wait_until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("gateway"))
    yield made
    made.stores.database.close()


@pytest.fixture(scope="module")
def source() -> Iterator[SampleRegistry]:
    """A private registry, by Bearer tokens."""
    tokens = TokenService({"puller": "s3cret"})
    with SampleRegistry(auth=BearerAuth(tokens)) as registry:
        yield registry


@pytest.fixture(scope="module")
def client(world: World, source: SampleRegistry) -> Iterator[Client]:
    world.registry("private", source.url, "s3cret")
    names = (NameRule("private"), NameRule("private", "alias/of", "team"))
    process = world.gateway(GatewayConfig(names, anonymous=("public/**",)))
    yield Client(process.server.port, world.token("team", "team/**", "alias/**"))
    process.close(1.0)


def test_a_private_image_is_pulled_by_a_pull_token(client: Client, source: SampleRegistry) -> None:
    digest = push_image(source, "team/app", "v1")
    assert client.pull("team/app", "v1") == digest
    assert client.pull("alias/of/app", "v1") == digest  # another name for the same
    assert client.pull("team/app", digest) == digest


def test_who_has_not_the_token_learns_nothing_of_what_there_is(
    client: Client, source: SampleRegistry
) -> None:
    digest = push_image(source, "secret/app", "v1")
    blob = json.loads(source.storage.manifest("secret/app", "v1").raw)["config"]["digest"]  # type: ignore[union-attr]
    for token in ("", "tpt_forged.forged", client.token):
        told = set()
        for name in ("secret/app", "secret/none"):
            for path in (
                "manifests/v1", f"manifests/{digest}", f"blobs/{blob}", "tags/list", f"referrers/{digest}",
            ):  # fmt: skip
                answer = client.get(f"/v2/{name}/{path}", token=token)
                told.add(
                    (
                        answer.status,
                        answer.headers["www-authenticate"].replace(name, "N"),
                        answer.body,
                    )
                )
        assert len(told) == 1, told
        assert told.pop()[0] == 401


def test_a_blob_of_another_repository_is_not_had_through_one_that_may_be_read(
    client: Client, source: SampleRegistry
) -> None:
    push_image(source, "secret/layers", "v1")
    raw = source.storage.manifest("secret/layers", "v1").raw  # type: ignore[union-attr]
    blob = json.loads(raw)["layers"][0]["digest"]
    push_image(source, "team/other", "v1")
    client.pull("team/other", "v1")
    # also where the registry itself would give any blob by any repository's name
    source.storage.put_blob("team/other", blob, source.storage.blob_bytes(blob))
    assert client.get(f"/v2/team/other/blobs/{blob}").code == "BLOB_UNKNOWN"
    assert client.get(f"/v2/team/other/blobs/{blob}", method="HEAD").status == 404


def test_what_is_kept_of_another_repository_is_not_had_by_naming_it(
    world: World, client: Client, source: SampleRegistry, tmp_path: Path
) -> None:
    """Some registries take manifests that name what they have not got there; the gateway has it on its disk."""
    del client  # its registry is saved
    process = world.gateway(
        GatewayConfig((NameRule("private"),)),
        gateway_dir=str(tmp_path),
        gateway_cache_bytes=10_000_000,
    )
    try:
        data = b"a secret" * 1000
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        image = push_image(source, "secret/kept", "v1", layers=[data])
        everybody = Client(process.server.port, world.token("all", "**"))
        everybody.pull("secret/kept", "v1")
        stored = source.storage.manifest("secret/kept", "v1")
        assert stored is not None
        index = {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [
                {"mediaType": stored.media_type, "digest": image, "size": len(stored.raw)}
            ],
        }
        copied = {**json.loads(stored.raw), "annotations": {"mine": "now"}}
        for tag, document, kind in (
            ("index", index, OCI_INDEX),
            ("copy", copied, stored.media_type),
        ):
            raw = json.dumps(document).encode()
            named = f"sha256:{hashlib.sha256(raw).hexdigest()}"
            source.storage.put_manifest("team/thief", StoredManifest(raw, kind, named), tag)
        thief = Client(process.server.port, world.token("thief", "team/**"))

        for tag in ("index", "copy"):
            assert thief.get(f"/v2/team/thief/manifests/{tag}").status == 200
        assert thief.get(f"/v2/team/thief/blobs/{digest}").code == "BLOB_UNKNOWN"
        assert thief.get(f"/v2/team/thief/manifests/{image}").code == "MANIFEST_UNKNOWN"

        # once the registry gives it by that name, too, it is sent from the disk
        source.storage.put_blob("team/thief", digest, data)
        before = len(source.log)
        assert thief.blob("team/thief", digest, len(data)) == data
        assert thief.blob("team/thief", digest, len(data)) == data
        asked = [one.method for one in list(source.log)[before:] if digest in one.path]
        assert asked == ["HEAD"]
    finally:
        process.close(1.0)


def test_docker_login_and_its_tokens(client: Client, source: SampleRegistry) -> None:
    push_image(source, "team/login", "v1")
    refused = client.get("/v2/", token="")
    challenge = refused.headers["www-authenticate"]
    realm = re.search(r'realm="http://[^"/]+(/[^"]+)"', challenge)
    assert refused.status == 401
    assert realm
    service = re.search(r'service="([^"]+)"', challenge)
    assert service
    query = f"?service={service[1]}&scope=repository:team/login:pull,push&scope=repository:secret/app:pull"
    answer = client.get(realm[1] + query)
    access = json.loads(answer.body)
    assert answer.status == 200
    assert access["token"] == access["access_token"]
    bearer = {"Authorization": f"Bearer {access['token']}"}
    assert client.get("/v2/", token="", **bearer).status == 200
    assert client.get("/v2/team/login/manifests/v1", token="", **bearer).status == 200
    assert client.get("/v2/team/app/manifests/v1", token="", **bearer).status == 401
    assert client.get("/v2/secret/app/manifests/v1", token="", **bearer).status == 401
    # what one pull is given is no password
    again = base64.b64encode(f"t:{access['token']}".encode()).decode()
    assert client.get(realm[1] + query, token="", Authorization=f"Basic {again}").status == 401
    assert client.get(realm[1] + query, token="tpt_none.none").status == 401
    # nobody in particular gets a token for what anybody may read, and for nothing else
    push_image(source, "public/app", "v1")
    nobody = json.loads(client.get(f"{realm[1]}?scope=repository:team/login:pull", token="").body)
    bearer = {"Authorization": f"Bearer {nobody['token']}"}
    assert client.get("/v2/team/login/manifests/v1", token="", **bearer).status == 401
    assert client.get("/v2/public/app/manifests/v1", token="").status == 200


def test_a_token_ends_when_it_is_revoked_or_over(world: World, client: Client) -> None:
    fresh = world.token("short", "team/**", lifetime=3600)
    over = world.token("over", "team/**", lifetime=-1)
    assert client.get("/v2/", token=fresh).status == 200
    assert client.get("/v2/", token=over).status == 401
    world.stores.pull_tokens.revoke("short")
    wait_until(lambda: client.get("/v2/", token=fresh).status == 401, 15, "the revocation")


def test_a_changed_text_is_no_token(client: Client) -> None:
    seed = random.randrange(1 << 30)
    draw = random.Random(seed)
    for _ in range(200):
        place = draw.randrange(len(client.token))
        other = draw.choice("AZaz09-_.")
        text = client.token[:place] + other + client.token[place + 1 :]
        if text != client.token:
            assert client.get("/v2/", token=text).status == 401, f"seed {seed}: {text}"


def test_nothing_is_pushed_or_listed(client: Client, source: SampleRegistry) -> None:
    before = len(source.log)
    for method in ("PUT", "POST", "PATCH", "DELETE"):
        answer = client.get("/v2/team/app/manifests/v1", method=method)
        assert (answer.status, answer.code) == (405, "UNSUPPORTED"), method
    assert client.get("/v2/_catalog").status == 405
    assert len(source.log) == before


@pytest.mark.parametrize("name", ["..", "team//app", "TEAM/app", "team/app%2f..", "a" * 300])
def test_a_name_that_is_none_reaches_no_registry(
    client: Client, source: SampleRegistry, name: str
) -> None:
    before = len(source.log)
    answer = client.get(f"/v2/{name}/manifests/v1")
    assert answer.status in (400, 404)
    assert len(source.log) == before


def test_ranges_and_heads(client: Client, source: SampleRegistry) -> None:
    data = bytes(range(256)) * 40
    push_image(source, "team/ranges", "v1", layers=[data])
    client.pull("team/ranges", "v1")
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    path = f"/v2/team/ranges/blobs/{digest}"
    size = len(data)
    for asked, first, last in (
        ("bytes=0-0", 0, 0),
        ("bytes=100-199", 100, 199),
        ("bytes=9000-", 9000, size - 1),
        ("bytes=-5", size - 5, size - 1),
        ("bytes=10-999999", 10, size - 1),
    ):
        answer = client.get(path, Range=asked)
        assert answer.status == 206, asked
        assert answer.headers["content-range"] == f"bytes {first}-{last}/{size}"
        assert answer.body == data[first : last + 1]
    assert client.get(path, Range=f"bytes={size}-").status == 416
    assert client.get(path, Range="bytes=5-2").status == 200  # no range: ignored
    assert client.get(path, Range="bytes=0-1,4-5").body == data
    head = client.get(path, method="HEAD")
    assert (head.status, head.headers["content-length"], head.body) == (200, str(size), b"")
    manifest = client.get("/v2/team/ranges/manifests/v1")
    head = client.get("/v2/team/ranges/manifests/v1", method="HEAD")
    assert head.headers["content-length"] == str(len(manifest.body))
    assert head.body == b""
    assert head.headers["docker-content-digest"] == manifest.headers["docker-content-digest"]


def test_tags_come_by_pages(client: Client, source: SampleRegistry) -> None:
    for number in range(7):
        push_image(source, "team/pages", f"v{number}")
    found, path = [], "/v2/team/pages/tags/list?n=3"
    while path:
        answer = client.get(path)
        page = json.loads(answer.body)
        assert page["name"] == "team/pages"
        assert len(page["tags"]) <= 3
        found += page["tags"]
        link = re.fullmatch(r'<([^>]+)>; rel="next"', answer.headers.get("link", ""))
        path = link[1] if link else ""
    assert found == [f"v{number}" for number in range(7)]
    assert client.get("/v2/team/nothing/tags/list").code == "NAME_UNKNOWN"
    assert client.get("/v2/team/pages/tags/list?n=x").status == 400


def test_what_is_attached_is_told(client: Client, source: SampleRegistry) -> None:
    digest = push_image(source, "team/signed", "v1")
    for kind in ("application/vnd.test.sig", "application/vnd.test.sbom"):
        push_artifact(source.storage, "team/signed", None, subject=digest, artifact_type=kind)
    answer = client.get(f"/v2/team/signed/referrers/{digest}")
    kinds = {one["artifactType"] for one in json.loads(answer.body)["manifests"]}
    assert kinds == {"application/vnd.test.sig", "application/vnd.test.sbom"}
    only = client.get(f"/v2/team/signed/referrers/{digest}?artifactType=application%2Fvnd.test.sig")
    assert [one["artifactType"] for one in json.loads(only.body)["manifests"]] == [
        "application/vnd.test.sig"
    ]
    assert only.headers["oci-filters-applied"] == "artifactType"
    nothing = client.get(f"/v2/team/signed/referrers/sha256:{'0' * 64}")
    assert nothing.status == 200
    assert json.loads(nothing.body)["manifests"] == []


@pytest.mark.parametrize(
    "text",
    [
        "GET /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "GET /v2/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: a\r\n X: folded\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
        "GET /v2/ HTTP/1.1\nHost: a\n\nGET /v2/ HTTP/1.1\r\n\r\n",
        "GET http://a/v2/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /v2/ HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET /v2/\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        'GET /v2/ HTTP/1.1\r\nHost: a",realm="x\r\n\r\n',
        "GET /v2/ HTTP/1.1\r\nHost: a\r\n" + "X: y\r\n" * 100 + "\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: a\r\nX: " + "y" * 20000 + "\r\n\r\n",
    ],
)
def test_an_ambiguous_request_is_refused_and_the_connection_closed(
    client: Client, text: str
) -> None:
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as sock:
        sock.sendall(text.encode("latin-1") + b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        got = b""
        while piece := sock.recv(65536):
            got += piece
    assert re.match(rb"HTTP/1.1 (400|405|431) ", got), got[:100]
    assert got.count(b"HTTP/1.1 ") == 1, "what came behind it was answered, too"


def test_a_connection_serves_one_request_after_another(
    client: Client, source: SampleRegistry
) -> None:
    push_image(source, "team/kept", "v1")
    connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=20)
    connection.request("GET", "/healthz")
    connection.getresponse().read()
    sock = connection.sock
    for _ in range(3):
        connection.request("GET", "/v2/team/none/manifests/v1")
        assert connection.getresponse().read()
    assert connection.sock is sock
    connection.close()


def test_the_conformance_suite_of_the_oci_finds_nothing_amiss(
    client: Client, source: SampleRegistry, tmp_path: Path
) -> None:
    """Its read-only part: ping, tags, manifests, blobs, referrers, and what is not there."""
    suite = find("oci-conformance")
    if suite is None:
        pytest.skip("it is not installed: python -m bench.peers_install oci-conformance")
    name = "team/conformance"
    digests = [push_image(source, name, tag, layers=[tag.encode() * 999]) for tag in ("v1", "v2")]
    digests.append(
        push_artifact(
            source.storage, name, None, subject=digests[0], artifact_type="application/vnd.test.sig"
        )
    )
    layer = hashlib.sha256(b"v1" * 999).hexdigest()
    environment = {
        "OCI_REGISTRY": f"127.0.0.1:{client.port}",
        "OCI_TLS": "disabled",
        "OCI_REPO1": name,
        "OCI_USERNAME": "any",
        "OCI_PASSWORD": client.token,
        "OCI_API_PUSH": "false",
        "OCI_API_MANIFESTS_DELETE": "false",
        "OCI_API_TAGS_DELETE": "false",
        "OCI_API_BLOBS_DELETE": "false",
        "OCI_API_BLOBS_DIGEST_HEADER": "true",
        "OCI_RO_DATA_TAGS": "v1 v2",
        "OCI_RO_DATA_MANIFESTS": " ".join(digests),
        "OCI_RO_DATA_BLOBS": f"sha256:{layer}",
        "OCI_RO_DATA_REFERRERS": digests[0],
        "OCI_RESULTS_DIR": str(tmp_path),
    }
    done = subprocess.run(  # its exit code is of no use: it stumbles over its own file of results
        [suite],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    found = dict(re.findall(r"^  (\w+)\.+: +(\d+)$", done.stdout, re.MULTILINE))
    assert "OCI Conformance Result: Pass" in done.stdout, done.stdout[-6000:]
    assert (found["FAIL"], found["Error"]) == ("0", "0")
    assert int(found["Pass"]) >= 20
    for api in (
        "Blob get",
        "Manifest get by tag",
        "Manifest head by digest",
        "Tag listing",
        "Referrers",
    ):
        assert re.search(rf"^  {api}\.+: +Pass$", done.stdout, re.MULTILINE), api
