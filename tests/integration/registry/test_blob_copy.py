"""copy_blob between two sample registries, with what can go wrong on either side."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.samples.registry import DISTRIBUTION_2, OCI_1_1, SampleRegistry, WireFault
from service.errors import (
    BlobNotFound,
    Cancelled,
    Corrupt,
    Denied,
    NetworkError,
    RegistryError,
    Rejected,
    ServerError,
    Throttled,
    TooSlow,
)
from service.model.descriptor import Descriptor
from service.registry.blob_copy import copy_blob
from service.registry.client import RegistryClient
from service.registry.results import UploadSession
from service.registry.timeouts import Timeouts
from tests.integration.registry.support import blob, client

MIB = 1024 * 1024
BLOBS = r"/v2/a/b/blobs/sha256"


def stored(registry: SampleRegistry, descriptor: Descriptor) -> bytes:
    return registry.storage.blob_bytes(str(descriptor.digest))


def plant(source: RegistryClient, size: int) -> tuple[bytes, Descriptor]:
    data, descriptor = blob(size)
    source.put_blob("a/b", descriptor.digest, data)
    return data, descriptor


def copy(
    source: RegistryClient, destination: RegistryClient, descriptor: Descriptor, **options: object
) -> int:
    return copy_blob(source, "a/b", destination, "m/b", descriptor, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "size",
    [0, 1, 2, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, MIB, 3 * MIB + 1, 40 * MIB],
)
def test_blobs_of_any_size_arrive_byte_for_byte(
    source: RegistryClient, destination: RegistryClient, west: SampleRegistry, size: int
) -> None:
    data, descriptor = plant(source, size)
    seen: list[int] = []

    read = copy(source, destination, descriptor, progress=seen.append)

    assert read == size
    assert sum(seen) == size
    assert stored(west, descriptor) == data
    assert west.storage.open_uploads == 0


def test_one_put_carries_the_whole_blob(
    source: RegistryClient, destination: RegistryClient, west: SampleRegistry
) -> None:
    _, descriptor = plant(source, 2 * MIB)

    copy(source, destination, descriptor)

    assert [entry.method for entry in west.log] == ["POST", "PUT"]
    assert west.connections == 1


def test_a_session_that_is_given_is_used(
    source: RegistryClient, destination: RegistryClient, west: SampleRegistry
) -> None:
    _, descriptor = plant(source, 2 * MIB)
    session = destination.mount_blob("m/b", descriptor.digest, "no/where")
    assert isinstance(session, UploadSession)
    west.log.clear()

    copy(source, destination, descriptor, session=session)

    assert [entry.method for entry in west.log] == ["PUT"]


@pytest.mark.parametrize("at", [0, 1, MIB + 17, 3 * MIB - 1])
@pytest.mark.parametrize("kind", ["reset_at", "truncate_at"])
def test_a_source_that_breaks_off_is_resumed_into_the_same_put(
    source: RegistryClient,
    destination: RegistryClient,
    east: SampleRegistry,
    west: SampleRegistry,
    at: int,
    kind: str,
) -> None:
    data, descriptor = plant(source, 3 * MIB)
    rule = east.fault(BLOBS, method="GET", wire=WireFault(**{kind: at}))

    read = copy(source, destination, descriptor)

    assert rule.fired == 1
    assert stored(west, descriptor) == data
    assert [entry.method for entry in west.log] == ["POST", "PUT"]
    assert read <= 3 * MIB + MIB


def test_a_source_that_ignores_range_is_read_over(
    source: RegistryClient, destination: RegistryClient, east: SampleRegistry, west: SampleRegistry
) -> None:
    data, descriptor = plant(source, 3 * MIB)
    east.fault(BLOBS, method="GET", wire=WireFault(reset_at=MIB + 5))
    ignored = east.fault(
        BLOBS, method="GET", status=200, body=data, headers={"Content-Range": None}
    )

    copy(source, destination, descriptor)

    assert ignored.fired == 1
    assert stored(west, descriptor) == data


def test_a_wrong_content_range_is_not_believed(
    source: RegistryClient, destination: RegistryClient, east: SampleRegistry, west: SampleRegistry
) -> None:
    data, descriptor = plant(source, 3 * MIB)
    east.fault(BLOBS, method="GET", wire=WireFault(reset_at=MIB))
    wrong = east.fault(
        BLOBS, method="GET", headers={"Content-Range": f"bytes 0-{3 * MIB - 1}/{3 * MIB}"}
    )

    copy(source, destination, descriptor)

    assert wrong.fired == 1
    assert stored(west, descriptor) == data


def test_a_source_that_never_gets_anywhere_is_given_up(
    source: RegistryClient, destination: RegistryClient, east: SampleRegistry, west: SampleRegistry
) -> None:
    _, descriptor = plant(source, 3 * MIB)
    rule = east.fault(BLOBS, method="GET", times=99, wire=WireFault(reset_at=1000))

    with pytest.raises(NetworkError) as caught:
        copy(source, destination, descriptor)

    assert caught.value.registry == "east"
    assert rule.fired == 6
    assert west.storage.open_uploads == 0
    assert west.storage.blob("m/b", str(descriptor.digest)) is None


@pytest.mark.parametrize("size", [1000, 3 * MIB])
@pytest.mark.parametrize("where", [0, -1])
def test_a_flipped_byte_never_completes_an_upload(
    source: RegistryClient,
    destination: RegistryClient,
    east: SampleRegistry,
    west: SampleRegistry,
    size: int,
    where: int,
) -> None:
    _, descriptor = plant(source, size)
    east.fault(BLOBS, method="GET", times=9, wire=WireFault(flip_at=where % size))

    with pytest.raises(Corrupt) as caught:
        copy(source, destination, descriptor)

    assert "east" in caught.value.message
    assert west.storage.open_uploads == 0
    assert west.storage.blob_digests() == set()
    puts = [entry for entry in west.log if entry.method == "PUT"]
    assert all(entry.received < size for entry in puts)


@pytest.mark.parametrize("size", [1000, 3 * MIB])
@pytest.mark.parametrize("difference", [-1, 1])
def test_a_descriptor_with_a_wrong_size_is_corrupt(
    source: RegistryClient,
    destination: RegistryClient,
    west: SampleRegistry,
    size: int,
    difference: int,
) -> None:
    _, descriptor = plant(source, size)
    wrong = Descriptor(descriptor.media_type, descriptor.digest, size + difference)

    with pytest.raises(Corrupt):
        copy(source, destination, wrong)

    assert west.storage.open_uploads == 0


def test_a_chunked_source_is_read_as_well(
    source: RegistryClient, destination: RegistryClient, east: SampleRegistry, west: SampleRegistry
) -> None:
    data, descriptor = plant(source, 3 * MIB)
    rule = east.fault(BLOBS, method="GET", wire=WireFault(chunked=True, informational=True))

    copy(source, destination, descriptor)

    assert rule.fired == 1
    assert stored(west, descriptor) == data


def test_a_body_without_end_is_cut(
    source: RegistryClient, destination: RegistryClient, east: SampleRegistry, west: SampleRegistry
) -> None:
    data, descriptor = plant(source, 2 * MIB)
    east.fault(BLOBS, method="GET", body=data + bytes(MIB), wire=WireFault(chunked=True))

    copy(source, destination, descriptor)

    assert stored(west, descriptor) == data


def test_a_missing_blob_says_so_and_leaves_no_upload(
    source: RegistryClient, destination: RegistryClient, west: SampleRegistry
) -> None:
    for size in (10, 3 * MIB):
        _, descriptor = blob(size, seed=9)
        with pytest.raises(BlobNotFound) as caught:
            copy(source, destination, descriptor)
        assert caught.value.registry == "east"
    assert west.storage.open_uploads == 0


@pytest.mark.parametrize("profile", ["oci", "distribution"])
@pytest.mark.parametrize("at", [0, MIB + 7, 20 * MIB + 3])
def test_an_upload_that_is_cut_is_resumed_or_begun_anew(
    source: RegistryClient, profile: str, at: int
) -> None:
    data, descriptor = plant(source, 24 * MIB)
    options = {} if profile == "oci" else {"profile": DISTRIBUTION_2}
    with SampleRegistry(**options) as west:  # type: ignore[arg-type]
        destination = client(west.url, name="west")
        rule = west.fault("/blobs/uploads/", method="PUT", reset_request_at=at)

        copy(source, destination, descriptor)

        assert rule.fired == 1
        assert stored(west, descriptor) == data
        if profile == "oci":  # distribution 2.8.2 knows a cut upload no more, not even to delete it
            assert west.storage.open_uploads == 0
        methods = [entry.method for entry in west.log]
        if profile == "oci" and at > 0:
            assert "PATCH" in methods
            received = sum(entry.received for entry in west.log)
            assert received <= 24 * MIB + MIB
        destination.close()


def test_a_put_whose_answer_is_lost_is_not_sent_twice(
    source: RegistryClient, destination: RegistryClient, west: SampleRegistry
) -> None:
    data, descriptor = plant(source, 3 * MIB)
    rule = west.fault("/blobs/uploads/", method="PUT", wire=WireFault(reset_at=0))

    copy(source, destination, descriptor)

    assert rule.fired == 1
    assert stored(west, descriptor) == data
    assert [entry.method for entry in west.log].count("PUT") == 1


def test_a_session_that_is_forgotten_is_replaced(
    source: RegistryClient, destination: RegistryClient, west: SampleRegistry
) -> None:
    for size in (100, 3 * MIB):
        data, descriptor = plant(source, size)
        rule = west.fault("/blobs/uploads/", method="POST", forget_upload=True)

        copy(source, destination, descriptor)

        assert rule.fired == 1
        assert stored(west, descriptor) == data


def test_a_registry_that_fails_again_and_again_is_given_up(
    source: RegistryClient, destination: RegistryClient, west: SampleRegistry
) -> None:
    _, descriptor = plant(source, 3 * MIB)
    west.fault("/blobs/uploads/", method="PUT", times=99, status=500)

    with pytest.raises(ServerError):
        copy(source, destination, descriptor)

    assert west.storage.open_uploads == 0


def test_no_room_and_no_right_are_final(
    source: RegistryClient, destination: RegistryClient, west: SampleRegistry
) -> None:
    _, descriptor = plant(source, 3 * MIB)
    for status, error in ((507, Rejected), (403, Denied), (400, Rejected)):
        west.faults.clear()
        rule = west.fault("/blobs/uploads/", method="PUT", times=99, status=status)
        with pytest.raises(error):
            copy(source, destination, descriptor)
        assert rule.fired == 1
        assert west.storage.open_uploads == 0


def test_a_long_retry_after_is_the_callers_to_wait(
    source: RegistryClient, destination: RegistryClient, west: SampleRegistry
) -> None:
    _, descriptor = plant(source, 3 * MIB)
    west.fault(
        "/blobs/uploads/", method="POST", times=99, status=429, headers={"Retry-After": "120"}
    )

    with pytest.raises(Throttled) as caught:
        copy(source, destination, descriptor)

    assert caught.value.retry_after_seconds == 120


def test_a_body_too_large_for_one_put_goes_in_chunks_from_then_on(
    source: RegistryClient, destination: RegistryClient, west: SampleRegistry
) -> None:
    data, descriptor = plant(source, 40 * MIB)
    rule = west.fault(r"digest=", method="PUT", status=413)

    copy(source, destination, descriptor)

    assert rule.fired == 1
    assert stored(west, descriptor) == data
    assert destination.chunk_bytes == 16 * MIB
    patches = [entry for entry in west.log if entry.method == "PATCH"]
    assert [entry.received for entry in patches] == [16 * MIB, 16 * MIB, 8 * MIB]


def test_chunks_are_at_least_as_large_as_the_registry_asks(source: RegistryClient) -> None:
    data, descriptor = plant(source, 5 * MIB)
    with SampleRegistry(chunk_minimum=2 * MIB) as west:
        destination = client(west.url, name="west")
        destination.learnt_chunk_bytes = MIB

        copy(source, destination, descriptor)

        assert stored(west, descriptor) == data
        patches = [entry.received for entry in west.log if entry.method == "PATCH"]
        assert patches == [2 * MIB, 2 * MIB, MIB]
        destination.close()


@pytest.mark.parametrize("at", [0, MIB // 2])
def test_a_chunk_that_is_cut_goes_on_where_the_registry_stands(
    source: RegistryClient, destination: RegistryClient, west: SampleRegistry, at: int
) -> None:
    data, descriptor = plant(source, 5 * MIB)
    destination.learnt_chunk_bytes = 2 * MIB
    rule = west.fault("/blobs/uploads/", method="PATCH", nth=2, reset_request_at=at)

    copy(source, destination, descriptor)

    assert rule.fired == 1
    assert stored(west, descriptor) == data
    assert west.storage.open_uploads == 0


def test_a_registry_that_took_less_of_a_chunk_gets_the_rest(
    source: RegistryClient, destination: RegistryClient, west: SampleRegistry
) -> None:
    data, descriptor = plant(source, 5 * MIB)
    destination.learnt_chunk_bytes = 2 * MIB

    def halve(request: object, response: object) -> None:
        upload = west.storage.upload("m/b", response.headers["Docker-Upload-UUID"])  # type: ignore[attr-defined]
        assert upload is not None
        del upload.data[MIB:]
        response.headers["Range"] = f"0-{MIB - 1}"  # type: ignore[attr-defined]

    rule = west.fault("/blobs/uploads/", method="PATCH", after=halve)

    copy(source, destination, descriptor)

    assert rule.fired == 1
    assert stored(west, descriptor) == data


def test_an_upload_lies_under_no_other_name(
    source: RegistryClient, destination: RegistryClient, west: SampleRegistry
) -> None:
    _, descriptor = plant(source, 3 * MIB)
    west.fault(
        "digest=", method="PUT", headers={"Docker-Content-Digest": f"sha256:{'0' * 64}"}, times=9
    )

    with pytest.raises(Corrupt):
        copy(source, destination, descriptor)


@pytest.mark.parametrize("size", [3 * MIB, 100])
def test_work_that_is_stopped_stops_and_leaves_no_upload(
    source: RegistryClient, destination: RegistryClient, west: SampleRegistry, size: int
) -> None:
    _, descriptor = plant(source, size)
    seen: list[int] = []
    session = destination.start_upload("m/b")

    with pytest.raises(Cancelled):
        copy(
            source,
            destination,
            descriptor,
            session=session,
            progress=seen.append,
            cancelled=lambda: size == 100 or sum(seen) >= MIB,
        )

    assert west.storage.open_uploads == 0
    assert west.storage.blob_digests() == set()


def test_a_redirect_to_the_blob_host_is_followed_without_credentials(
    destination: RegistryClient, west: SampleRegistry
) -> None:
    with SampleRegistry(redirect_blobs=True) as east:
        source = client(east.url, name="east")
        data, descriptor = plant(source, 3 * MIB)

        copy(source, destination, descriptor)

        assert stored(west, descriptor) == data
        assert east.cdn_log
        assert all("authorization" not in entry.headers for entry in east.cdn_log)
        source.close()


def test_a_signed_url_that_is_refused_is_asked_for_again(
    destination: RegistryClient, west: SampleRegistry
) -> None:
    with SampleRegistry(redirect_blobs=True) as east:
        source = client(east.url, name="east")
        data, descriptor = plant(source, 3 * MIB)
        rule = east.fault(r"^(?!/v2/)", method="GET", status=403)

        copy(source, destination, descriptor)

        assert rule.fired == 1
        assert stored(west, descriptor) == data
        source.close()


def test_a_source_below_the_minimum_rate_is_too_slow(
    west: SampleRegistry, east: SampleRegistry, destination: RegistryClient
) -> None:
    strict = Timeouts(connect_seconds=5, read_seconds=5, minimum_rate=64 * MIB, window_seconds=0.05)
    source = client(east.url, name="east", timeouts=strict)
    impatient = client(west.url, name="west", timeouts=strict)
    _, descriptor = plant(source, 4 * MIB)
    rule = east.fault(BLOBS, method="GET", times=99, wire=WireFault(bytes_per_second=8 * MIB))

    with pytest.raises(TooSlow):
        copy(source, impatient, descriptor)

    assert rule.fired >= 1
    assert west.storage.open_uploads == 0
    source.close()
    impatient.close()


@pytest.mark.parametrize("size", [1000, 3 * MIB])
def test_the_session_is_asked_for_while_the_source_answers(
    source: RegistryClient,
    destination: RegistryClient,
    east: SampleRegistry,
    west: SampleRegistry,
    size: int,
) -> None:
    data, descriptor = plant(source, size)
    opened = threading.Event()
    west.fault("/blobs/uploads/", method="POST", after=lambda *_: opened.set())
    rule = east.fault(BLOBS, method="GET", hold=opened)

    copy(source, destination, descriptor)  # would stand still if GET came first

    assert rule.fired == 1
    assert stored(west, descriptor) == data
    assert [entry.method for entry in west.log] == ["POST", "PUT"]


def test_an_opening_that_fails_is_tried_again(
    source: RegistryClient, destination: RegistryClient, west: SampleRegistry
) -> None:
    faults = [{"status": 503}, {"wire": WireFault(reset_at=0)}, {"status": 429}]
    for number, options in enumerate(faults):
        data, descriptor = plant(source, 1000 + number)
        rule = west.fault("/blobs/uploads/", method="POST", **options)
        copy(source, destination, descriptor)
        assert rule.fired == 1
        assert stored(west, descriptor) == data


def test_a_large_blob_is_given_time_to_settle(source: RegistryClient, east: SampleRegistry) -> None:
    data, descriptor = plant(source, 16 * MIB)  # a second more
    with SampleRegistry() as west:
        limits = Timeouts(connect_seconds=5, read_seconds=2, head_seconds=2)
        destination = client(west.url, name="west", timeouts=limits)
        rule = west.fault("digest=", method="PUT", wire=WireFault(delay_seconds=2.5))

        copy(source, destination, descriptor)

        assert rule.fired == 1
        assert stored(west, descriptor) == data
        assert [entry.method for entry in west.log] == ["POST", "PUT"]
        destination.close()


@settings(max_examples=30, deadline=None)
@given(
    size=st.integers(256 * 1024 + 1, 2 * MIB),
    source_cuts=st.lists(st.integers(0, 2 * MIB), max_size=4),
    upload_cuts=st.lists(st.integers(0, 2 * MIB), max_size=2),
    chunk=st.none() | st.integers(100_000, MIB),
    resumes=st.booleans(),
    flip=st.none() | st.integers(0, 256 * 1024),
)
def test_whatever_is_cut_the_blob_is_whole_or_absent(
    size: int,
    source_cuts: list[int],
    upload_cuts: list[int],
    chunk: int | None,
    resumes: bool,
    flip: int | None,
) -> None:
    data, descriptor = blob(size)
    profile = OCI_1_1 if resumes else DISTRIBUTION_2
    with SampleRegistry() as east, SampleRegistry(profile=profile) as west:
        source, destination = client(east.url), client(west.url, name="west")
        east.storage.put_blob("a/b", str(descriptor.digest), data)
        destination.learnt_chunk_bytes = chunk
        if flip is not None:
            east.fault(BLOBS, method="GET", wire=WireFault(flip_at=flip))
        for cut in source_cuts:
            east.fault(BLOBS, method="GET", wire=WireFault(reset_at=cut))
        for cut in upload_cuts:
            west.fault("/blobs/uploads/.", method="PATCH" if chunk else "PUT", reset_request_at=cut)

        failed = None
        try:
            copy(source, destination, descriptor)
        except RegistryError as error:
            failed = error

        if failed is None:
            assert stored(west, descriptor) == data
        else:
            assert isinstance(failed, Corrupt)
            assert flip is not None
            assert west.storage.blob_digests() == set()
        source.close()
        destination.close()
