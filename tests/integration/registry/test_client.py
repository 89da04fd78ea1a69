"""RegistryClient against the sample registry: manifests, lists, referrers, mounts, wire faults."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from api.samples.registry import DISTRIBUTION_2, SampleRegistry, WireFault
from service import errors
from service.model.digest import Digest
from service.model.media_types import OCI_INDEX
from service.registry.client import RegistryClient
from service.registry.results import MOUNTED, ManifestHead, UploadSession
from tests.integration.registry.support import Pauses, blob, client, entry, push

ABSENT = Digest.of(b"never pushed")


def test_what_was_pushed_is_told_and_fetched(source: RegistryClient) -> None:
    manifest = push(source, "a/b", "v1", b"one", b"two")

    assert source.head_manifest("a/b", "v1") == ManifestHead(
        manifest.digest, manifest.media_type, len(manifest.raw)
    )
    assert source.get_manifest("a/b", "v1") == manifest
    assert source.get_manifest("a/b", str(manifest.digest)).raw == manifest.raw


def test_what_is_not_there_is_none_or_its_own_error(source: RegistryClient) -> None:
    assert source.head_manifest("a/b", "v1") is None
    assert source.head_blob("a/b", ABSENT) is None
    assert source.probe_blob("a/b", ABSENT, 5) is False
    with pytest.raises(errors.ManifestNotFound):
        source.get_manifest("a/b", "v1")
    with pytest.raises(errors.BlobNotFound):
        source.read_blob("a/b", ABSENT, 5, 10)
    with pytest.raises(errors.RepositoryNotFound):
        list(source.list_tags("a/b"))
    with pytest.raises(errors.ManifestNotFound):
        source.delete_manifest("a/b", "v1")


def test_bad_names_never_become_requests(source: RegistryClient) -> None:
    calls: list[Callable[[], object]] = [
        lambda: source.get_manifest("a/../b", "v1"),
        lambda: source.get_manifest("A", "v1"),
        lambda: source.head_manifest("a/b", "v1/../x"),
        lambda: source.head_manifest("a/b", "-v"),
        lambda: source.head_manifest("a/b", "v1\r\nX: y"),
        lambda: source.head_manifest("a/b", "sha256:beef"),
        lambda: source.mount_blob("a/b", ABSENT, "c d"),
        lambda: list(source.list_tags("a//b")),
        lambda: source.referrers("a?b", ABSENT),
    ]
    for call in calls:
        with pytest.raises(errors.InvalidInput):
            call()
    assert source.requests == 0


def test_head_without_its_digest_falls_back_to_get(
    source: RegistryClient, east: SampleRegistry
) -> None:
    manifest = push(source, "a/b", "v1", b"one")
    for options in (
        {"headers": {"Docker-Content-Digest": None}},
        {"headers": {"Docker-Content-Digest": "nonsense"}},
        {"headers": {"Content-Type": None}},
        {"status": 405},
    ):
        rule = east.fault("/manifests/", method="HEAD", **options)
        head = source.head_manifest("a/b", "v1")
        assert rule.fired == 1
        assert head is not None
        assert (head.digest, head.size) == (manifest.digest, len(manifest.raw))
    east.fault("/manifests/", method="HEAD", status=405)
    assert source.head_manifest("a/b", "v2") is None


def test_other_bytes_than_the_digest_asked_for_are_corrupt(
    source: RegistryClient, east: SampleRegistry
) -> None:
    first = push(source, "a/b", "v1", b"one")
    second = push(source, "a/b", "v2", b"two")
    rule = east.fault(
        "/manifests/sha256",
        method="GET",
        body=second.raw,
        headers={"Docker-Content-Digest": str(first.digest)},
    )
    with pytest.raises(errors.Corrupt):
        source.get_manifest("a/b", str(first.digest))
    assert rule.fired == 1
    rule = east.fault("/manifests/v1", method="GET", wire=WireFault(flip_at=40))
    with pytest.raises((errors.Corrupt, errors.InvalidManifest)):
        source.get_manifest("a/b", "v1")
    assert rule.fired == 1


def test_a_manifest_put_that_stores_something_else_is_corrupt(
    source: RegistryClient, east: SampleRegistry
) -> None:
    manifest = push(source, "a/b", "v1", b"one")
    east.fault("/manifests/", method="PUT", headers={"Docker-Content-Digest": f"sha256:{'0' * 64}"})
    with pytest.raises(errors.Corrupt):
        source.put_manifest("a/b", "v2", manifest)


def test_a_missing_layer_is_named_by_the_error(
    source: RegistryClient, destination: RegistryClient
) -> None:
    manifest = push(source, "a/b", "v1", b"one")
    with pytest.raises(errors.ManifestBlobUnknown) as caught:
        destination.put_manifest("a/b", "v1", manifest)
    assert str(manifest.layers[0].digest) in caught.value.message or manifest.config


def test_immutable_tags_have_their_own_error(source: RegistryClient, east: SampleRegistry) -> None:
    manifest = push(source, "a/b", "v1", b"one")
    answers = [
        (409, "TAG_IMMUTABLE", "tag is immutable"),
        (412, "PRECONDITION", "Failed to process request due to 'v1' configured as immutable."),
        (400, "TAG_INVALID", "The image tag 'v1' already exists and is immutable"),
        (403, "DENIED", "immutable tag"),
    ]
    for status, code, message in answers:
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        east.fault("/manifests/", method="PUT", status=status, body=body)
        with pytest.raises(errors.TagImmutable):
            source.put_manifest("a/b", "v1", manifest)


def test_tags_come_page_by_page_and_a_cursor_goes_on(
    source: RegistryClient, east: SampleRegistry
) -> None:
    for number in range(7):
        push(source, "a/b", f"v{number}", b"one")

    pages = list(source.list_tags("a/b", page_size=3))

    assert [page.tags for page in pages] == [("v0", "v1", "v2"), ("v3", "v4", "v5"), ("v6",)]
    assert pages[-1].next is None
    assert pages[0].next is not None
    rest = list(source.list_tags("a/b", page_size=3, cursor=pages[0].next))
    assert [page.tags for page in rest] == [("v3", "v4", "v5"), ("v6",)]
    after = list(source.list_tags("a/b", page_size=100, last="v4"))
    assert [page.tags for page in after] == [("v5", "v6")]


def test_repositories_come_page_by_page(source: RegistryClient) -> None:
    for name in ("a/b", "a/c", "d"):
        push(source, name, "v1", b"one")
    pages = list(source.list_repositories(page_size=2))
    assert [name for page in pages for name in page.repositories] == ["a/b", "a/c", "d"]


@pytest.mark.parametrize(
    "link",
    [
        "</v2/a/b/tags/list?n=1000>; rel=next",  # itself
        '<http://elsewhere.example/v2/a/b/tags/list?last=x>; rel="next"',
        '<ftp://x/>; rel="next"',
        '<//evil.example/v2/a/b/tags/list>; rel="next"',
        '</v2/\u00e9>; rel="next"',
    ],
)
def test_a_list_that_goes_astray_raises(
    source: RegistryClient, east: SampleRegistry, link: str
) -> None:
    push(source, "a/b", "v1", b"one")
    rule = east.fault("tags/list", times=9, headers={"Link": link})
    with pytest.raises(errors.ProtocolError):
        list(source.list_tags("a/b"))
    assert rule.fired <= 2


def test_what_is_no_tag_is_left_out_and_null_is_empty(
    source: RegistryClient, east: SampleRegistry
) -> None:
    east.fault(
        "tags/list",
        status=200,
        body=json.dumps({"name": "a/b", "tags": ["v1", "v1", 5, None, "a/b", "", "v2"]}).encode(),
    )
    assert [page.tags for page in source.list_tags("a/b")] == [("v1", "v2")]
    east.fault("tags/list", status=200, body=b'{"name":"a/b","tags":null}')
    assert [page.tags for page in source.list_tags("a/b")] == [()]
    for body in (b"<html>", b"[]", b'{"tags":{}}'):
        east.fault("tags/list", status=200, body=body)
        with pytest.raises(errors.ProtocolError):
            list(source.list_tags("a/b"))


def test_a_catalog_that_is_missing_is_unsupported(
    source: RegistryClient, east: SampleRegistry
) -> None:
    east.fault("_catalog", status=404)
    with pytest.raises(errors.Unsupported):
        list(source.list_repositories())


def test_referrers_are_listed_where_the_registry_keeps_them(source: RegistryClient) -> None:
    subject = push(source, "a/b", "v1", b"one")
    signature = push(
        source, "a/b", "sig", b"signed", subject=entry(subject.descriptor()), artifactType="x/sig"
    )
    found = source.referrers("a/b", subject.digest)
    assert found is not None
    assert [(item.digest, item.artifact_type) for item in found] == [(signature.digest, "x/sig")]
    assert source.referrers("a/b", signature.digest) == ()
    assert source.put_manifest("a/b", "sig", signature).subject_stored is True
    assert source.put_manifest("a/b", "v1", subject).subject_stored is False


def test_a_registry_without_referrers_is_asked_once() -> None:
    with SampleRegistry(profile=DISTRIBUTION_2) as registry:
        made = client(registry.url)
        push(made, "a/b", "v1", b"one")
        before = made.requests
        assert made.referrers("a/b", ABSENT) is None
        assert made.referrers("a/b", ABSENT) is None
        assert made.requests == before + 1
        made.close()


@pytest.mark.parametrize(
    "options",
    [
        {"status": 303, "headers": {"Location": "https://github.example/packages"}},
        {"status": 200, "body": b"<html>", "headers": {"Content-Type": "text/html"}},
        {"status": 405},
    ],
)
def test_answers_that_are_no_referrers_mean_unsupported(
    source: RegistryClient, east: SampleRegistry, options: dict[str, object]
) -> None:
    east.fault("/referrers/", **options)
    assert source.referrers("a/b", ABSENT) is None
    assert source.referrers("a/b", ABSENT) is None
    assert source.requests == 1


def test_referrers_go_over_pages(source: RegistryClient, east: SampleRegistry) -> None:
    def page(number: int) -> bytes:
        item = {"mediaType": "m", "digest": str(Digest.of(b"%d" % number)), "size": 1}
        return json.dumps(
            {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [item]}
        ).encode()

    kind = {"Content-Type": OCI_INDEX}
    following = {**kind, "Link": f'</v2/a/b/referrers/{ABSENT}?next=2>; rel="next"'}
    east.fault("/referrers/", status=200, body=page(1), headers=following)
    east.fault("/referrers/", status=200, body=page(2), headers=kind)
    found = source.referrers("a/b", ABSENT)
    assert found is not None
    assert [item.digest for item in found] == [Digest.of(b"1"), Digest.of(b"2")]


def test_a_mount_is_201_and_nothing_else(source: RegistryClient, east: SampleRegistry) -> None:
    _, descriptor = blob(1000)
    source.put_blob("a/b", descriptor.digest, blob(1000)[0])

    assert source.mount_blob("c/d", descriptor.digest, "a/b") is MOUNTED
    opened = source.mount_blob("c/d", ABSENT, "a/b")
    assert isinstance(opened, UploadSession)
    assert east.storage.open_uploads == 1
    source.cancel_upload(opened)
    assert east.storage.open_uploads == 0
    for status in (400, 403, 404, 405, 500):
        east.fault("mount=", status=status, times=4 if status == 500 else 1)
        assert source.mount_blob("e/f", descriptor.digest, "a/b") is None


def test_a_probe_wants_the_byte_itself(source: RegistryClient, east: SampleRegistry) -> None:
    data, descriptor = blob(1000)
    source.put_blob("a/b", descriptor.digest, data)

    assert source.probe_blob("a/b", descriptor.digest, 1000) is True
    assert source.probe_blob("a/b", descriptor.digest, 1001) is False
    assert source.probe_blob("a/b", descriptor.digest, 999) is False
    assert source.probe_blob("a/b", Digest.of(b""), 0) is True
    assert source.probe_blob("a/b", ABSENT, 0) is False  # nothing else is empty
    faults = [
        {"wire": WireFault(truncate_at=0)},
        {"wire": WireFault(reset_at=0)},
        {"status": 206, "body": b""},
        {"status": 416, "headers": {"Content-Length": "1000"}},
        {"status": 200, "body": data, "wire": WireFault(truncate_at=999)},
        {"status": 200, "body": data[:-1]},
    ]
    for options in faults:
        rule = east.fault("/blobs/", method="GET", **options)
        assert source.probe_blob("a/b", descriptor.digest, 1000) is False, options
        assert rule.fired == 1
    east.fault("/blobs/", method="GET", status=200, body=data)
    assert source.probe_blob("a/b", descriptor.digest, 1000) is True


def test_small_blobs_are_read_whole_and_verified(
    source: RegistryClient, east: SampleRegistry
) -> None:
    data, descriptor = blob(1000)
    source.put_blob("a/b", descriptor.digest, data)

    assert source.read_blob("a/b", descriptor.digest, 1000, 1000) == data
    with pytest.raises(errors.Rejected):
        source.read_blob("a/b", descriptor.digest, 1000, 999)
    for size in (999, 1001):
        with pytest.raises(errors.Corrupt):
            source.read_blob("a/b", descriptor.digest, size, 2000)
    east.fault("/blobs/", method="GET", wire=WireFault(flip_at=999))
    with pytest.raises(errors.Corrupt):
        source.read_blob("a/b", descriptor.digest, 1000, 1000)


def test_failures_are_tried_again_up_to_three_times(
    east: SampleRegistry, source: RegistryClient
) -> None:
    manifest = push(source, "a/b", "v1", b"one")
    pauses = Pauses()
    patient = client(east.url, sleep=pauses)

    rule = east.fault("/manifests/", method="HEAD", status=502, times=3)
    assert patient.head_manifest("a/b", "v1") is not None
    assert (rule.fired, len(pauses.seconds)) == (3, 3)
    assert 0.1 <= pauses.seconds[0] <= 0.2

    rule = east.fault("/manifests/", method="PUT", status=503, times=4)
    with pytest.raises(errors.ServerError):
        patient.put_manifest("a/b", "v1", manifest)
    assert rule.fired == 4

    rule = east.fault("/manifests/", method="GET", wire=WireFault(reset_at=10), times=2)
    assert patient.get_manifest("a/b", "v1").digest == manifest.digest
    assert rule.fired == 2
    patient.close()


def test_a_short_retry_after_is_waited_for_and_a_long_one_told(
    east: SampleRegistry, source: RegistryClient
) -> None:
    push(source, "a/b", "v1", b"one")
    pauses = Pauses()
    patient = client(east.url, sleep=pauses)
    east.fault("/manifests/", status=429, headers={"Retry-After": "7"})
    assert patient.head_manifest("a/b", "v1") is not None
    assert pauses.seconds == [7.0]

    east.fault("/manifests/", status=503, headers={"Retry-After": "11"}, times=9)
    with pytest.raises(errors.Throttled) as caught:
        patient.head_manifest("a/b", "v1")
    assert caught.value.retry_after_seconds == 11
    assert len(pauses.seconds) == 1
    patient.close()


def test_a_kept_connection_that_died_is_replaced_without_a_failure(
    east: SampleRegistry, source: RegistryClient
) -> None:
    push(source, "a/b", "v1", b"one")
    pauses = Pauses()
    patient = client(east.url, sleep=pauses)
    assert patient.head_manifest("a/b", "v1") is not None
    east.cut_connections()
    assert patient.head_manifest("a/b", "v1") is not None
    assert pauses.seconds == []
    patient.close()


def test_connections_are_kept_and_shared_by_threads(
    east: SampleRegistry, source: RegistryClient
) -> None:
    manifest = push(source, "a/b", "v1", b"one")
    with ThreadPoolExecutor(16) as pool:
        heads = list(pool.map(lambda _: source.head_manifest("a/b", "v1"), range(400)))
    assert {head.digest for head in heads if head} == {manifest.digest}
    assert len(heads) == 400
    assert east.connections <= 17
    assert source.requests == len(east.log)


def test_every_request_is_told_to_the_callback(east: SampleRegistry) -> None:
    told: list[tuple[str, str, int]] = []
    made = client(east.url, on_request=lambda *what: told.append(what))
    made.ping()
    made.head_manifest("a/b", "v1")
    made.mount_blob("a/b", ABSENT, "c/d")
    assert told == [("GET", "ping", 200), ("HEAD", "manifest", 404), ("POST", "mount", 202)]
    assert made.requests == 3
    made.close()


def test_a_registry_that_is_not_there_is_a_network_error() -> None:
    made = client("http://127.0.0.1:1")
    with pytest.raises(errors.NetworkError) as caught:
        made.ping()
    assert "127.0.0.1:1" in caught.value.message
    assert caught.value.registry == "east"
    made.close()


def test_error_bodies_are_cut_and_cleaned(source: RegistryClient, east: SampleRegistry) -> None:
    message = "\x1b[31mred\nline https://u:p@s3.example/x?X-Amz-Signature=abc Bearer abcdefghijkl"
    body = json.dumps({"errors": [{"code": "DENIED", "message": message + "x" * 9000}]}).encode()
    east.fault("/manifests/", status=403, body=body)
    with pytest.raises(errors.Denied) as caught:
        source.head_manifest("a/b", "v1") or source.get_manifest("a/b", "v1")
    east.fault("/manifests/", status=403, body=body)
    with pytest.raises(errors.Denied) as caught:
        source.get_manifest("a/b", "v1")
    text = caught.value.message
    assert len(text) < 600
    for secret in ("\x1b", "\n", "X-Amz-Signature", "u:p", "abcdefghijkl"):
        assert secret not in text


def test_a_whole_lot_of_error_body_is_not_read(
    source: RegistryClient, east: SampleRegistry
) -> None:
    east.fault("/manifests/", method="GET", status=400, body=bytes(8 * 1024 * 1024))
    with pytest.raises(errors.Rejected):
        source.get_manifest("a/b", "v1")


def test_an_upload_may_go_on_under_an_absolute_location(east: SampleRegistry) -> None:
    with SampleRegistry(absolute_locations=True) as registry:
        made = client(registry.url)
        push(made, "a/b", "v1", b"one")
        assert made.head_manifest("a/b", "v1") is not None
        made.close()


def test_a_forgotten_location_is_rebuilt_from_the_upload_id(
    source: RegistryClient, east: SampleRegistry
) -> None:
    east.fault("/blobs/uploads/", method="POST", headers={"Location": None})
    data, descriptor = blob(10)
    opened = source.start_upload("a/b")
    assert opened.target.startswith("/v2/a/b/blobs/uploads/")
    source.cancel_upload(opened)
    east.fault(
        "/blobs/uploads/", method="POST", headers={"Location": None, "Docker-Upload-UUID": None}
    )
    with pytest.raises(errors.ProtocolError):
        source.put_blob("a/b", descriptor.digest, data)


def test_requests_of_many_threads_are_counted_exactly(east: SampleRegistry) -> None:
    lock = threading.Lock()
    told = 0

    def count(*_: object) -> None:
        nonlocal told
        with lock:
            told += 1

    made = client(east.url, on_request=count)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: made.head_blob("a/b", ABSENT), range(200)))
    assert (made.requests, told, len(east.log)) == (200, 200, 200)
    made.close()


@pytest.mark.parametrize(("times", "works"), [(1, True), (3, True), (4, False)])
def test_a_manifest_refused_for_a_digest_that_is_right_is_put_again(
    times: int, works: bool
) -> None:
    """distribution rewrites links in place: a child that is put again just then reads as nothing."""
    with SampleRegistry() as registry:
        made = client(registry.url)
        manifest = push(made, "a/b", "v1", b"one")
        body = b'{"errors":[{"code":"DIGEST_INVALID","message":"did not match"}]}'
        registry.fault(
            "/manifests/v2",
            method="PUT",
            status=400,
            body=body,
            times=times,
            headers={"Content-Type": "application/json"},
        )
        if works:
            made.put_manifest("a/b", "v2", manifest)
            assert made.head_manifest("a/b", "v2") is not None
        else:
            with pytest.raises(errors.Rejected, match="DIGEST_INVALID"):
                made.put_manifest("a/b", "v2", manifest)
        made.close()
