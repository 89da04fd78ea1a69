"""Traps of registries as profiles of the sample registry: one a name, each with a test in test_quirks_*.py.

Where each was seen is in its `seen`. The profile makes a strict registry behave so for every request that it concerns.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

from api.samples.auth import BearerAuth, TokenService
from api.samples.faults import FOREVER
from api.samples.http_messages import Request, Response
from api.samples.registry import DISTRIBUTION_2, OCI_1_1, SampleRegistry

MIB = 1 << 20
HTML = {"Content-Type": "text/html; charset=utf-8"}
USERS = {"u": "s3cret"}
UPLOADS = "/blobs/uploads/"

Arm = Callable[[SampleRegistry], object]


@dataclass(frozen=True)
class Quirk:
    """One trap: `options` of the registry, and what is done to it before it serves."""

    seen: str
    arm: Arm = lambda _: None
    options: Callable[[], Mapping[str, Any]] = dict


def having(**options: Any) -> Callable[[], Mapping[str, Any]]:
    """These options of a registry."""
    return lambda: options


def always(path: str, method: str = "", **fault: Any) -> Arm:
    """Every such request is answered so."""
    return lambda registry: registry.fault(path, method=method, times=FOREVER, **fault)


def once(path: str, method: str = "", **fault: Any) -> Arm:
    """The first such request is answered so."""
    return lambda registry: registry.fault(path, method=method, **fault)


def with_status(status: int, *, of: int) -> Callable[[Request, Response], None]:
    """Answer by another status what is answered by `of`."""

    def change(_: Request, response: Response) -> None:
        if response.status == of:
            response.status = status

    return change


def error(code: str, message: str = "") -> bytes:
    """The body of an OCI error."""
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


def _status_without_location(registry: SampleRegistry) -> None:
    def change(_: Request, response: Response) -> None:
        if response.status == 204:
            identity = response.headers["Docker-Upload-UUID"]
            (upload,) = [
                u for name in ("a/b", "c/d") if (u := registry.storage.upload(name, identity))
            ]
            response.headers["Range"] = f"bytes=0-{len(upload.data)}"
            del response.headers["Location"]

    registry.fault(UPLOADS, method="GET", times=FOREVER, after=change)


def _minus_one(registry: SampleRegistry) -> None:
    def change(_: Request, response: Response) -> None:
        if response.headers.get("Range") == "0-0":
            response.headers["Range"] = "bytes=0--1"

    for method in ("POST", "GET"):
        registry.fault(UPLOADS, method=method, times=FOREVER, after=change)


def _corrupt_second_patch(registry: SampleRegistry) -> None:
    def change(_: Request, response: Response) -> None:
        identity = response.headers.get("Docker-Upload-UUID", "")
        upload = registry.storage.upload("c/d", identity)
        if response.status == 202 and upload is not None:
            upload.sha256.update(b"\0")

    registry.fault(UPLOADS, method="PATCH", nth=2, times=FOREVER, after=change)


def _gzip_if_accepted(registry: SampleRegistry) -> None:
    def change(request: Request, response: Response) -> None:
        if response.status == 200 and "gzip" in request.headers.get("accept-encoding", ""):
            response.body = gzip.compress(bytes(response.body))
            response.headers["Content-Encoding"] = "gzip"

    registry.fault("/blobs/sha256", method="GET", times=FOREVER, after=change)


def _empty_last_page(registry: SampleRegistry) -> None:
    def change(request: Request, response: Response) -> None:
        if "last=" not in request.target:
            response.headers["Link"] = '</v2/a/b/tags/list?last=zz&n=1000>; rel="next"'
        else:
            response.body = b'{"name":"a/b","tags":[]}'

    registry.fault("/tags/list", times=FOREVER, after=change)


def _opaque_pages(registry: SampleRegistry) -> None:
    def change(request: Request, response: Response) -> None:
        first = "next_page=" not in request.target
        names = ["v1"] if first else ["v2"]
        response.body = json.dumps({"name": "a/b", "tags": names}).encode()
        if first:
            response.headers["Link"] = '</v2/a/b/tags/list?n=1&next_page=gAAAAB%3D%3D>; rel="next"'

    registry.fault("/tags/list", times=FOREVER, after=change)


def _unquoted_links(registry: SampleRegistry) -> None:
    def change(request: Request, response: Response) -> None:
        first = "page=2" not in request.target
        response.body = json.dumps({"name": "a/b", "tags": ["v1" if first else "v2"]}).encode()
        if first:
            one = "</v2/a/b/tags/list?page=9>; rel=prev"
            response.headers["Link"] = f"{one}, </v2/a/b/tags/list?page=2>; rel=next"

    registry.fault("/tags/list", times=FOREVER, after=change)


def _tokens(realm: str = "", **fields: Any) -> Callable[[], Mapping[str, Any]]:
    """Options of a registry with a token service."""
    return lambda: {"auth": BearerAuth(TokenService(USERS, **fields), realm)}


def _signed_elsewhere() -> Mapping[str, Any]:
    return {"redirect_blobs": True, **_tokens()()}


def _changed_tokens(change: Callable[[dict[str, Any]], None]) -> Arm:
    def after(_: Request, response: Response) -> None:
        answer = json.loads(bytes(response.body))
        change(answer)
        response.body = json.dumps(answer).encode()

    return always("^/token", after=after)


class _FirstScope(TokenService):
    """Grants what the first scope asks for, whatever else is asked."""

    def handle(self, request: Request) -> Response:
        kept = [one for one in request.query_text.split("&") if one.startswith("scope=")][1:]
        fields = [one for one in request.query_text.split("&") if one not in kept]
        request.query_text = "&".join(fields)
        return super().handle(request)


def _skewed(answer: dict[str, Any]) -> None:
    answer["issued_at"] = (datetime.now(UTC) - timedelta(days=2)).isoformat()


def _in_two_seconds() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)


QUIRKS: Mapping[str, Quirk] = {
    # Uploads, sections 1.1 and 1.2 of the reference
    "mount_202": Quirk(
        "distribution: a mount that was none opens a session",
        always("mount=", method="POST", refuse_mount=True),
    ),
    "mount_refused": Quirk("old registries", always("mount=", method="POST", status=405)),
    "single_post_202": Quirk(
        "distribution: the body of a POST with a digest is thrown away",
        options=having(profile=replace(OCI_1_1, single_post=False)),
    ),
    "absolute_location": Quirk("most clouds", options=having(absolute_locations=True)),
    "location_with_query": Quirk("distribution: _state has to be kept"),
    "location_missing": Quirk(
        "old registries: Docker-Upload-UUID alone",
        always(UPLOADS, method="POST", headers={"Location": None}),
    ),
    "put_204": Quirk(
        "old registries", always(UPLOADS, method="PUT", after=with_status(204, of=201))
    ),
    "patch_201": Quirk("ECR", always(UPLOADS, method="PATCH", after=with_status(201, of=202))),
    "patch_204": Quirk(
        "old registries", always(UPLOADS, method="PATCH", after=with_status(204, of=202))
    ),
    "chunk_minimum": Quirk("OCI-Chunk-Min-Length", options=having(chunk_minimum=2 * MIB)),
    "range_0_minus_1": Quirk("Quay: Range of a fresh session is bytes=0--1", _minus_one),
    "range_0_0": Quirk("distribution: after no byte and after one it is the same"),
    "range_one_too_high": Quirk(
        "Quay: status has no Location, and an end that is one too high", _status_without_location
    ),
    "session_lost": Quirk(
        "distribution 2.8.2: a cut upload is a stale offset, and is gone",
        options=having(profile=DISTRIBUTION_2),
    ),
    "bytes_kept": Quirk("distribution 3: a cut PUT leaves its bytes, a second one is 416"),
    "ranges_ignored": Quirk(
        "distribution 2.8.2: a PATCH that is sent again is appended",
        options=having(profile=replace(OCI_1_1, checks_chunk_ranges=False)),
    ),
    "several_patches_corrupt": Quirk(
        "GAR and S3-fronted registries: only whole uploads hold", _corrupt_second_patch
    ),
    "no_patch": Quirk("GAR", always(UPLOADS, method="PATCH", status=405)),
    "body_limit": Quirk("proxies: 413", once(f"{UPLOADS}.*digest=", method="PUT", status=413)),
    "sha512_by_sha256": Quirk(
        "distribution: kept, and told, by sha256", options=having(profile=DISTRIBUTION_2)
    ),
    "manifest_put_202": Quirk(
        "Quay once", always("/manifests/", method="PUT", after=with_status(202, of=201))
    ),
    "manifest_digest_invalid": Quirk(
        "distribution 2.8.2: a manifest whose child is put at that moment",
        once("/manifests/", method="PUT", status=400, body=error("DIGEST_INVALID")),
    ),
    "manifest_limit_400": Quirk(
        "distribution: above 4 MiB, 400 instead of 413", options=having(profile=DISTRIBUTION_2)
    ),
    "head_of_a_collected_blob": Quirk(
        "distribution: its descriptor cache answers HEAD for bytes that are gone"
    ),
    # Reads, sections 1.1 and 1.3
    "head_without_digest": Quirk(
        "old registries",
        always("/manifests/", method="HEAD", headers={"Docker-Content-Digest": None}),
    ),
    "head_405": Quirk("old registries", always("/manifests/", method="HEAD", status=405)),
    "accept_404": Quirk(
        "distribution, GHCR: what Accept leaves out is not there",
        options=having(profile=replace(OCI_1_1, narrow_head=True)),
    ),
    "charset": Quirk(
        "some proxies",
        always(
            "/manifests/",
            method="GET",
            headers={"Content-Type": "application/vnd.oci.image.manifest.v1+json; charset=utf-8"},
        ),
    ),
    "other_media_type": Quirk(
        "a body that says something else than its Content-Type",
        always(
            "/manifests/",
            method="GET",
            headers={"Content-Type": "application/vnd.docker.distribution.manifest.v2+json"},
        ),
    ),
    "range_ignored": Quirk("Range is a SHOULD"),
    "range_without_content_range": Quirk("a 206 that does not say of what"),
    "longer_416": Quirk(
        "distribution 2.8.2: 416 announces 1000 bytes and sends 33",
        always(
            "/blobs/sha256",
            method="GET",
            status=416,
            headers={"Content-Length": "1000"},
            body=b"{}",
        ),
    ),
    "packed_blob": Quirk("proxies that compress for whoever takes it", _gzip_if_accepted),
    "redirected_blob": Quirk(
        "S3: Authorization beside a signed query is 400",
        options=_signed_elsewhere,
    ),
    "signed_url_ended": Quirk("CDNs: 403 after a while", options=having(redirect_blobs=True)),
    "html_blob": Quirk(
        "captive portals: 200 with a page",
        always("/blobs/sha256", method="GET", status=200, headers=HTML, body=b"<html></html>"),
    ),
    # Lists, section 1.1
    "tags_null": Quirk(
        "distribution", always("/tags/list", status=200, body=b'{"name":"a/b","tags":null}')
    ),
    "pages_ignored": Quirk(
        "distribution 2.8.2: n and last are ignored", options=having(profile=DISTRIBUTION_2)
    ),
    "empty_last_page": Quirk("distribution: a Link to a page with nothing on it", _empty_last_page),
    "opaque_pages": Quirk("Quay: next_page=<opaque>", _opaque_pages),
    "unquoted_links": Quirk("RFC 8288 allows rel=next, and several links", _unquoted_links),
    "link_circle": Quirk(
        "a page that names itself",
        always("/tags/list", headers={"Link": '</v2/a/b/tags/list?n=1000>; rel="next"'}),
    ),
    "link_elsewhere": Quirk(
        "a page at another host",
        always("/tags/list", headers={"Link": '<http://evil.example/v2/>; rel="next"'}),
    ),
    "catalog_limit": Quirk("distribution: n above 1000 is 400"),
    "catalog_missing": Quirk(
        "Docker Hub, GHCR", always("_catalog", status=404, body=b"404 page not found\n")
    ),
    "tag_delete_400": Quirk(
        "distribution 2.8.2: DELETE of a tag is DIGEST_INVALID",
        options=having(profile=DISTRIBUTION_2),
    ),
    # Referrers, section 1.4
    "referrers_404": Quirk(
        "distribution: plain text",
        always("/referrers/", status=404, headers=HTML, body=b"404 page not found\n"),
    ),
    "referrers_303": Quirk(
        "GHCR: to a page of another host",
        always(
            "/referrers/", status=303, headers={"Location": "http://evil.example/packages", **HTML}
        ),
    ),
    "referrers_400": Quirk(
        "Quay: MANIFEST_INVALID for a subject that it does not know",
        always("/referrers/", status=400, body=error("MANIFEST_INVALID")),
    ),
    "referrers_html": Quirk(
        "200 with a page", always("/referrers/", status=200, headers=HTML, body=b"<html></html>")
    ),
    "no_oci_subject": Quirk(
        "registries without the API keep no list", options=having(referrers_api=False)
    ),
    # Errors, section 1.5
    "empty_error": Quirk(
        "distribution 2.8.2: 500 with {}", once("/manifests/", status=500, body=b"{}")
    ),
    "html_error": Quirk(
        "proxies", once("/manifests/", status=502, headers=HTML, body=b"<h1>Bad</h1>")
    ),
    "retry_after_date": Quirk(
        "RFC 9110: seconds or a date",
        lambda registry: registry.fault(
            "/manifests/", status=429, headers={"Retry-After": _in_two_seconds()}
        ),
    ),
    "bare_429": Quirk("Docker Hub's abuse limit", once("/manifests/", status=429)),
    "immutable_400": Quirk(
        "ECR",
        always(
            "/manifests/v1",
            method="PUT",
            status=400,
            body=error("TAG_INVALID", "the tag is immutable"),
        ),
    ),
    "immutable_409": Quirk(
        "Quay", always("/manifests/v1", method="PUT", status=409, body=error("TAG_IMMUTABLE"))
    ),
    "immutable_412": Quirk(
        "Harbor",
        always("/manifests/v1", method="PUT", status=412, body=error("PRECONDITION", "immutable")),
    ),
    # Tokens, sections 2.1 and 2.4
    "access_token_only": Quirk("ACR", options=_tokens(fields=("access_token",))),
    "token_only": Quirk("the first token services", options=_tokens(fields=("token",))),
    "life_not_told": Quirk(
        "60 s unless it is told",
        _changed_tokens(lambda answer: answer.pop("expires_in")),
        options=_tokens(),
    ),
    "clock_skew": Quirk("issued_at of another day", _changed_tokens(_skewed), options=_tokens()),
    "fewer_scopes": Quirk("what is not granted is left out silently", options=_tokens()),
    "two_challenges": Quirk("Basic and Bearer in one header", options=_tokens()),
    "first_scope_only": Quirk(
        "some token services: a mount's second repository is not granted",
        options=lambda: {"auth": BearerAuth(_FirstScope(USERS))},
    ),
    "identity_post_404": Quirk(
        "token services without OAuth2: identity tokens are passwords there",
        options=lambda: {
            "auth": BearerAuth(TokenService({"<token>": USERS["u"]}, allow_post=False))
        },
    ),
    "realm_elsewhere": Quirk(
        "a registry that wants the credential sent somewhere else",
        options=_tokens("http://evil.example/token"),
    ),
    "location_elsewhere": Quirk(
        "an upload at another host",
        always(UPLOADS, method="POST", headers={"Location": "http://evil.example/upload"}),
        options=_tokens(),
    ),
}
"""By name; test_quirks_*.py has `test_quirk_NAME` for each."""


@contextmanager
def quirky(name: str) -> Iterator[SampleRegistry]:
    """The sample registry with this quirk."""
    quirk = QUIRKS[name]
    with SampleRegistry(**quirk.options()) as registry:
        quirk.arm(registry)
        yield registry
