"""A directory as a registry: service/registry/layout between files, registries, threads and processes (docs/adr/0025)."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from service import crashpoints
from service.crashpoints import CrashRaised
from service.errors import (
    BlobNotFound,
    Corrupt,
    InvalidReference,
    LayoutFailed,
    ManifestBlobUnknown,
    ManifestNotFound,
    ProtocolError,
    RegistryError,
    Rejected,
    RepositoryNotFound,
)
from service.model.descriptor import Descriptor
from service.model.digest import Digest
from service.model.endpoint import Credential, RegistryEndpoint
from service.model.manifest import Manifest, parse_manifest
from service.model.media_types import OCI_INDEX
from service.registry.blob_copy import copy_blob
from service.registry.client import RegistryClient
from service.registry.layout.client import LayoutClient
from service.registry.layout.folder import LEFT_SECONDS
from service.registry.layout.repositories import start_plain
from tests.integration.registry.support import blob, entry, image, push
from tests.support.processes import wait_until
from tests.support.tally import killed

MIB = 1 << 20
ROOT = Path(__file__).parents[3]
REF_NAME = "org.opencontainers.image.ref.name"


def layout(path: Path) -> LayoutClient:
    return LayoutClient(RegistryEndpoint("disk", f"oci:{path}"), Credential)


@pytest.fixture
def disk(tmp_path: Path) -> LayoutClient:
    return layout(tmp_path / "disk")


def tags(client: RegistryClient, repository: str) -> list[str]:
    return [tag for page in client.list_tags(repository) for tag in page.tags]


def left(path: Path) -> list[str]:
    """Files that are neither in their place nor a lock."""
    found = path / ".transship/uploads"
    return sorted(one.name for one in found.iterdir()) if found.is_dir() else []


def index(path: Path) -> list[dict[str, object]]:
    entries: list[dict[str, object]] = json.loads((path / "index.json").read_text())["manifests"]
    return entries


def incomplete(path: Path) -> list[str]:
    """What is wrong with a layout, read as the specification has it, without our client."""
    wrong = []
    for mark in path.rglob("oci-layout"):
        assert json.loads(mark.read_text()) == {"imageLayoutVersion": "1.0.0"}
        for one in index(mark.parent):
            waiting = [one]
            while waiting:
                named = waiting.pop()
                algorithm, _, encoded = str(named["digest"]).partition(":")
                file = path / "blobs" / algorithm / encoded
                if not file.is_file() or Digest.of(file.read_bytes()).encoded != encoded:
                    wrong.append(f"{mark.parent.name}: {named['digest']}")
                elif "manifest" in str(named["mediaType"]) or "index" in str(named["mediaType"]):
                    body = json.loads(file.read_bytes())
                    waiting += [*body.get("layers", []), *body.get("manifests", [])]
                    waiting += [body["config"]] if "config" in body else []
    return wrong


# ---- blobs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 256 * 1024 + 1, 3 * MIB + 1])
def test_blobs_come_and_go_byte_for_byte(
    source: RegistryClient, destination: RegistryClient, disk: LayoutClient, size: int
) -> None:
    data, descriptor = blob(size)
    source.put_blob("a/b", descriptor.digest, data)

    copy_blob(source, "a/b", disk, "m/b", descriptor)
    copy_blob(disk, "m/b", destination, "a/b", descriptor)

    assert disk.head_blob("m/b", descriptor.digest) == size
    assert disk.probe_blob("m/b", descriptor.digest, size)
    assert disk.mount_blob("elsewhere", descriptor.digest, "m/b") is not None
    assert destination.read_blob("a/b", descriptor.digest, size, 4 * MIB) == data
    assert left(Path(disk.folder.root)) == []


def test_a_read_begins_at_any_byte(disk: LayoutClient) -> None:
    data, descriptor = blob(1000)
    disk.put_blob("a", descriptor.digest, data)

    body = disk.blobs.open("a", descriptor.digest, 990)

    assert (body.status, body.length, body.read(100)) == (206, 10, data[990:])


def test_bytes_that_are_not_the_digests_are_not_kept(disk: LayoutClient) -> None:
    data, descriptor = blob(1000)

    with pytest.raises(Rejected, match="other ones"):
        disk.put_blob("a", descriptor.digest, data[:-1] + b"x")

    assert disk.head_blob("a", descriptor.digest) is None
    assert left(Path(disk.folder.root)) == []


@pytest.mark.parametrize("size", [1000, 3 * MIB])
def test_a_flipped_byte_is_found_and_its_file_named(
    disk: LayoutClient, destination: RegistryClient, size: int
) -> None:
    data, descriptor = blob(size)
    disk.put_blob("a", descriptor.digest, data)
    file = Path(disk.folder.root, "blobs/sha256", descriptor.digest.encoded)
    file.write_bytes(data[:500] + bytes([data[500] ^ 1]) + data[501:])

    with pytest.raises(Corrupt, match=str(file)) as caught:
        copy_blob(disk, "a", destination, "a", descriptor)

    assert caught.value.registry == "disk"
    assert destination.head_blob("a", descriptor.digest) is None


def test_a_blob_that_is_cut_off_is_no_blob(disk: LayoutClient, destination: RegistryClient) -> None:
    data, descriptor = blob(MIB)
    disk.put_blob("a", descriptor.digest, data)
    os.truncate(Path(disk.folder.root, "blobs/sha256", descriptor.digest.encoded), 1000)

    assert not disk.probe_blob("a", descriptor.digest, MIB)
    with pytest.raises(Corrupt, match="1000 bytes instead of"):
        copy_blob(disk, "a", destination, "a", descriptor)


def test_a_file_that_the_file_system_does_not_take_leaves_nothing_and_says_what_to_do(
    disk: LayoutClient,
) -> None:
    data, descriptor = blob(MIB)
    push(disk, "app", "v1", b"layer")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB // 2, limits[1]))
    try:
        with pytest.raises(LayoutFailed, match="too large") as caught:
            disk.put_blob("app", descriptor.digest, data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert "4 GiB" in caught.value.hint
    assert left(Path(disk.folder.root)) == []
    assert disk.head_blob("app", descriptor.digest) is None


# ---- manifests, tags, lists ----------------------------------------------------------------------


def test_tags_move_and_go_and_what_others_wrote_stays(disk: LayoutClient) -> None:
    first = push(disk, "team/app", "v1", b"one")
    other = {"mediaType": "text/plain", "digest": str(first.digest), "size": 7, "annotations": {REF_NAME: "no tag!", "x": "y"}}  # fmt: skip
    path = Path(disk.folder.root, "team/app")
    (path / "index.json").write_text(
        json.dumps({"schemaVersion": 2, "manifests": [*index(path), other], "annotations": {"k": "v"}})
    )  # fmt: skip

    second = push(disk, "team/app", "v1", b"two")
    push(disk, "team/app", "v0", b"one")
    disk.delete_manifest("team/app", "v0")

    assert tags(disk, "team/app") == ["v1"]
    head = disk.head_manifest("team/app", "v1")
    assert head is not None
    assert head.digest == second.digest
    assert disk.get_manifest("team/app", str(first.digest)).raw == first.raw
    assert other in index(path)
    assert json.loads((path / "index.json").read_text())["annotations"] == {"k": "v"}
    with pytest.raises(ManifestNotFound):
        disk.delete_manifest("team/app", "v0")


def test_lists_come_sorted_page_by_page(disk: LayoutClient) -> None:
    for name in ("team/app", "team", "a"):
        for tag in ("v3", "v1", "v2"):
            push(disk, name, tag, b"layer")

    pages = list(disk.list_tags("team", page_size=2))
    repositories = list(disk.list_repositories(page_size=2))

    assert [page.tags for page in pages] == [("v1", "v2"), ("v3",)]
    assert [page.tags for page in disk.list_tags("team", cursor=pages[0].next)] == [("v3",)]
    assert [page.repositories for page in repositories] == [("a", "team"), ("team/app",)]
    assert list(disk.tags_with_digests("a") or ()) == [
        {tag: str(disk.get_manifest("a", tag).digest) for tag in ("v1", "v2", "v3")}
    ]


def test_the_index_has_roots_alone_and_referrers_are_found_by_their_subject(
    disk: LayoutClient,
) -> None:
    child = put(disk, *image_of(disk, b"amd64"))
    root = parse_manifest(
        json.dumps(
            {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry(child.descriptor())]}
        ).encode(),
        None,
    )
    disk.put_manifest("app", str(root.digest), root)
    disk.put_manifest("app", "v1", root)
    signature = put(
        disk,
        *image_of(disk, b"signature", subject=entry(root.descriptor()), artifactType="a/b"),
    )

    listed = {one["digest"] for one in index(Path(disk.folder.root, "app"))}
    found = layout(Path(disk.folder.root)).referrers("app", root.digest)

    assert listed == {str(root.digest), str(signature.digest)}
    assert found is not None
    assert [(one.digest, one.artifact_type) for one in found] == [(signature.digest, "a/b")]
    assert disk.referrers("app", child.digest) == ()
    assert disk.get_manifest("app", str(child.digest)).raw == child.raw


def test_a_referrer_that_was_damaged_is_still_listed_so_that_it_is_missed(
    disk: LayoutClient,
) -> None:
    root = push(disk, "app", "v1", b"layer")
    signature = put(disk, *image_of(disk, b"signature", subject=entry(root.descriptor())))
    Path(disk.folder.root, "blobs/sha256", signature.digest.encoded).write_bytes(b"{}")

    again = layout(Path(disk.folder.root))
    found = again.referrers("app", root.digest)

    assert found is not None
    assert [one.digest for one in found] == [signature.digest]
    with pytest.raises(Corrupt):
        again.get_manifest("app", str(signature.digest))


def test_a_tag_that_lost_its_manifest_is_no_tag_that_went(disk: LayoutClient) -> None:
    manifest = push(disk, "app", "v1", b"layer")
    Path(disk.folder.root, "blobs/sha256", manifest.digest.encoded).unlink()

    with pytest.raises(Corrupt, match=r"index\.json has it as v1") as caught:
        disk.get_manifest("app", "v1")
    with pytest.raises(ManifestNotFound):
        disk.get_manifest("app", str(manifest.digest))

    assert "verify --repair" in caught.value.hint
    push(disk, "app", "v1", b"layer")
    assert incomplete(Path(disk.folder.root)) == []


def test_a_manifest_without_its_blobs_is_not_taken(disk: LayoutClient) -> None:
    manifest, _ = image(blob(100)[1])

    with pytest.raises(ManifestBlobUnknown):
        disk.put_manifest("app", "v1", manifest)

    assert not Path(disk.folder.root, "app").exists()


def test_a_blob_that_is_json_is_no_manifest(disk: LayoutClient) -> None:
    push(disk, "app", "v1", b"layer")

    assert disk.head_manifest("app", str(Digest.of(b"{}"))) is None


def image_of(
    client: RegistryClient, layer: bytes, **fields: object
) -> tuple[Manifest, RegistryClient]:
    described = Descriptor("application/vnd.oci.image.layer.v1.tar", Digest.of(layer), len(layer))
    manifest, (config, its) = image(described, **fields)
    for data, one in ((layer, described), (config, its)):
        client.put_blob("app", one.digest, data)
    return manifest, client


def put(client: RegistryClient, manifest: Manifest, _: object) -> Manifest:
    client.put_manifest("app", str(manifest.digest), manifest)
    return manifest


# ---- names and files that lie --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../up", "a/../b", "/etc", "a//b", "A", "", "a/./b", "a\0b"])
def test_no_name_leads_out(disk: LayoutClient, name: str) -> None:
    data, descriptor = blob(10)

    with pytest.raises(InvalidReference):
        disk.put_blob(name, descriptor.digest, data)
    with pytest.raises(InvalidReference):
        disk.start_upload(name)

    assert list(Path(disk.folder.root).parent.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["blobs", "team/blobs", "index.json", "a/oci-layout", "left-out.json"]
)
def test_names_that_the_layout_has_itself_are_refused(disk: LayoutClient, name: str) -> None:
    with pytest.raises(Rejected, match="of its own") as caught:
        push(disk, name, "v1", b"layer")

    assert "another name" in caught.value.hint


def test_links_are_refused_whoever_made_them(disk: LayoutClient, tmp_path: Path) -> None:
    push(disk, "app", "v1", b"layer")
    root, away = Path(disk.folder.root), tmp_path / "away"
    away.mkdir()
    (away / "secret").write_text("secret")
    (root / "team").symlink_to(away)
    encoded = Digest.of(b"secret").encoded
    (root / "blobs/sha256" / encoded).symlink_to(away / "secret")

    with pytest.raises(Rejected, match="is a link"):
        push(disk, "team/app", "v1", b"layer")
    with pytest.raises(Rejected, match="is a link"):
        disk.read_blob("app", Digest("sha256", encoded), 6, 100)

    assert [page.repositories for page in disk.list_repositories()] == [("app",)]
    assert [one.name for one in away.iterdir()] == ["secret"]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"\xff\xfe{\x00}\x00",
        b'\xef\xbb\xbf{"manifests": []}',
        b'{"manifests": 7}',
        b'{"manifests": [], "manifests": []}',
        b"[" * 100_000,
        b'{"manifests": [{"mediaType": "a/b", "digest": "sha256:../../../etc/passwd", "size": 1}]}',
        b'{"manifests": [{"mediaType": "a/b", "digest": "sha256:' + b"0" * 64 + b'", "size": -1}]}',
        b'{"manifests": NaN}',
        b"{}\x00",
    ],
)
def test_an_index_that_is_none_is_told_with_its_file(disk: LayoutClient, text: bytes) -> None:
    push(disk, "app", "v1", b"layer")
    file = Path(disk.folder.root, "app/index.json")
    file.write_bytes(text)

    with pytest.raises(ProtocolError, match=r"app/index\.json") as caught:
        tags(disk, "app")
    with pytest.raises(ProtocolError):
        push(disk, "app", "v2", b"layer")

    assert caught.value.hint
    assert file.read_bytes() == text


@pytest.mark.parametrize(
    "name", ["../../etc", "a b", "x" * 129, "reg.example/app:v1", "\u202ev1", "-rf", ""]
)
def test_names_that_are_no_tags_are_passed_by(disk: LayoutClient, name: str) -> None:
    push(disk, "app", "v1", b"layer")
    path = Path(disk.folder.root, "app")
    entries = index(path)
    entries.append({**entries[0], "annotations": {REF_NAME: name}})
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))

    assert tags(disk, "app") == ["v1"]


def test_another_version_of_layouts_is_told(disk: LayoutClient) -> None:
    push(disk, "app", "v1", b"layer")
    Path(disk.folder.root, "app/oci-layout").write_text('{"imageLayoutVersion": "2.0.0"}')

    with pytest.raises(ProtocolError, match=r"version '2\.0\.0'"):
        tags(disk, "app")


def test_what_is_not_there_is_told_with_what_to_do(tmp_path: Path) -> None:
    away = layout(tmp_path / "no/such/disk")

    with pytest.raises(LayoutFailed, match="no directory") as caught:
        list(away.list_repositories())
    with pytest.raises(LayoutFailed) as written:
        push(away, "app", "v1", b"layer")
    with pytest.raises(RepositoryNotFound):
        tags(layout(tmp_path), "app")
    (tmp_path / "there").mkdir()
    with pytest.raises(BlobNotFound) as missed:
        layout(tmp_path / "there").blobs.open("app", blob(10)[1].digest)

    with pytest.raises(LayoutFailed):
        away.check()
    layout(tmp_path / "made by the first write").check()

    assert "not brought over whole" in missed.value.hint
    assert "mount it" in caught.value.hint
    assert "mount it" in written.value.hint
    assert not (tmp_path / "no").exists()


# ---- plain layouts -------------------------------------------------------------------------------


def test_a_plain_layout_is_a_registry_of_one_repository(tmp_path: Path) -> None:
    many = layout(tmp_path / "many")
    pushed = push(many, "app", "v1", b"layer")
    plain = tmp_path / "My App"
    (tmp_path / "many/app").rename(plain)
    (tmp_path / "many/blobs").rename(plain / "blobs")

    one = layout(plain)
    push(one, "my-app", "v2", b"more")

    assert [page.repositories for page in one.list_repositories()] == [("my-app",)]
    assert one.get_manifest("my-app", "v1").raw == pushed.raw
    assert tags(one, "my-app") == ["v1", "v2"]
    assert incomplete(plain) == []
    with pytest.raises(RepositoryNotFound, match="one repository, my-app"):
        tags(one, "other")


def test_a_plain_layout_whose_beginning_died_is_gone_on_with(tmp_path: Path) -> None:
    """Between the two files that make one: the next command took it for somebody else's directory."""
    folder = layout(tmp_path / "whole").folder
    assert start_plain(folder)
    written = sorted(
        ("oci-layout", "index.json"),
        key=lambda name: (tmp_path / "whole" / name).stat().st_mtime_ns,
    )
    disk = tmp_path / "app"
    disk.mkdir()
    shutil.copy(tmp_path / "whole" / written[0], disk)

    assert start_plain(layout(disk).folder)
    push(layout(disk), "app", "v1", b"layer")

    assert tags(layout(disk), "app") == ["v1"]
    assert incomplete(disk) == []


def test_a_plain_layout_inside_of_another_keeps_blobs_of_its_own(tmp_path: Path) -> None:
    many = layout(tmp_path / "many")
    push(many, "app", "v1", b"layer")
    (tmp_path / "many/blobs").rename(tmp_path / "many/app/blobs")

    assert many.get_manifest("app", "v1").layers
    assert many.read_blob("app", Digest.of(b"layer"), 5, 100) == b"layer"
    push(many, "team", "v1", b"other")
    assert [page.repositories for page in many.list_repositories()] == [("app", "team")]


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_skopeo_reads_what_is_written_and_what_it_writes_is_read(tmp_path: Path) -> None:
    many = push(layout(tmp_path / "disk"), "team/app", "v1", b"one", b"two")
    start_plain(layout(tmp_path / "plain").folder)
    one = push(layout(tmp_path / "plain"), "plain", "v1", b"three")

    shared = f"--src-shared-blob-dir={tmp_path}/disk/blobs"
    skopeo(shared, f"oci:{tmp_path}/disk/team/app:v1", f"dir:{tmp_path}/a")
    skopeo(f"oci:{tmp_path}/plain:v1", f"oci:{tmp_path}/theirs:v2")
    skopeo(f"oci:{tmp_path}/theirs:v2", f"oci:{tmp_path}/plain:v2")

    assert (tmp_path / "a/manifest.json").read_bytes() == many.raw
    assert layout(tmp_path / "theirs").get_manifest("theirs", "v2").raw == one.raw
    assert tags(layout(tmp_path / "plain"), "plain") == ["v1", "v2"]


def skopeo(*words: str) -> None:
    """Copy by skopeo, for any platform: these images are of none."""
    command = ["skopeo", "--insecure-policy", "copy", "-q", "--preserve-digests", *words]
    subprocess.run(command, timeout=60, check=True)


# ---- many at once, and the dead ------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from tests.integration.registry.test_layout import layout, many_tags
many_tags(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
"""


def many_tags(path: Path, mark: str, count: int) -> None:
    """Push tags by four threads with one client."""
    client = layout(path)

    def some(thread: int) -> None:
        for number in range(count):
            push(client, "app", f"{mark}-{thread}-{number}", f"{mark} {number}".encode(), b"base")

    threads = [threading.Thread(target=some, args=(number,)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


def start_writer(path: Path, *words: str, **variables: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), *words],
        cwd=ROOT,
        env={**os.environ, **variables},
        stderr=subprocess.PIPE,
    )


def test_threads_and_processes_write_one_index_and_no_tag_is_lost(tmp_path: Path) -> None:
    writers = [start_writer(tmp_path / "disk", mark, "10") for mark in ("a", "b")]

    for one in writers:
        _, said = one.communicate(timeout=60)
        assert one.returncode == 0, said.decode()

    wanted = {f"{mark}-{t}-{n}" for mark in "ab" for t in range(4) for n in range(10)}
    assert set(tags(layout(tmp_path / "disk"), "app")) == wanted
    assert incomplete(tmp_path / "disk") == []
    assert left(tmp_path / "disk") == []


def test_a_write_that_fails_takes_nobody_elses_change_along(disk: LayoutClient) -> None:
    first, second = push(disk, "app", "base", b"base"), push(disk, "app", "other", b"other")
    failed: list[BaseException] = []

    def tag(name: str, manifest: Manifest) -> None:
        try:
            disk.put_manifest("app", name, manifest)
        except CrashRaised as error:
            failed.append(error)

    writers = [
        threading.Thread(target=tag, args=("v1", first)),
        threading.Thread(target=tag, args=("v2", second)),
    ]
    crashpoints.arm("layout.before_rename:1:raise")
    try:
        with disk.folder.lock(Digest.of(b"app").encoded):
            for one in writers:
                one.start()
            wait_until(lambda: len(disk.repositories._pending["app"].changes) == 2, 10, "both")
        for one in writers:
            one.join()
    finally:
        crashpoints.arm("")

    assert len(failed) == 1
    assert tags(disk, "app") in (["base", "other", "v1"], ["base", "other", "v2"])
    assert tags(layout(Path(disk.folder.root)), "app") == tags(disk, "app")


CRASH = """
import sys
from pathlib import Path
from service.crashpoints import arm
from tests.integration.registry.test_layout import layout
from tests.integration.registry.support import push
arm(f"layout.before_rename:{sys.argv[2]}:kill9")
client = layout(Path(sys.argv[1]))
push(client, "app", "v1", b"one", b"two")
push(client, "app", "v2", b"one", b"three")
"""


def test_who_dies_before_any_rename_leaves_whole_tags_or_none(tmp_path: Path) -> None:
    """Of the first image three blobs are renamed, its manifest, the index and the mark; of the second five files."""
    counts = []
    for nth in (4, 5, 6, 10, 11):
        path = tmp_path / f"disk-{nth}"
        done = subprocess.run(
            [sys.executable, "-c", CRASH, str(path), str(nth)],
            cwd=ROOT,
            check=False,
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == -9, done.stderr.decode()
        killed("layout.before_rename")
        try:
            counts.append(len(tags(layout(path), "app")))
        except RegistryError:
            counts.append(0)
        assert incomplete(path) == []
        assert len(left(path)) == 1

        for aside in (path / ".transship/uploads").iterdir():
            old = aside.stat().st_mtime - LEFT_SECONDS - 1
            os.utime(aside, (old, old))
        again = layout(path)
        push(again, "app", "v1", b"one", b"two")
        push(again, "app", "v2", b"one", b"three")
        assert tags(again, "app") == ["v1", "v2"]
        assert incomplete(path) == []
        assert left(path) == []

    assert counts == [0, 0, 0, 1, 1]
