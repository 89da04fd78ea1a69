"""What a layout is made without, and says so: --since between a source, a layout and where it is carried (docs/adr/0025)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from service.errors import LeftOut, ManifestNotFound, Rejected
from service.model.digest import Digest
from service.model.manifest import Manifest
from service.registry.client import RegistryClient
from service.registry.layout import left_out
from service.registry.layout.client import LayoutClient
from tests.integration.registry.support import push
from tests.integration.registry.test_layout import layout, tags

RECEIPT = {"sha256": "0" * 64, "instance": "ed25519:x", "made": "2026-11-28T00:00:00Z", "verified": True}  # fmt: skip
BASE = b"base layer"


class Side:
    """A source with an image that the other side has, and a layout that is written without it."""

    def __init__(self, source: RegistryClient, path: Path) -> None:
        self.source = source
        self.path = path
        self.image = push(source, "team/app", "v1", BASE)
        self.asked: list[str] = []

    def begin(self, **tags_: str) -> LayoutClient:
        confirmed = {"app": tags_ or {"v1": str(self.image.digest)}}
        client = layout(self.path)
        left_out.begin(client.folder, confirmed, [RECEIPT])
        return client

    def learn(self, client: LayoutClient) -> None:
        def read(digest: Digest) -> Manifest:
            self.asked.append(str(digest))
            return self.source.get_manifest("team/app", str(digest))

        client.left_out.learn("app", read, lambda items, do: [do(one) for one in items])

    def said(self) -> Any:
        return json.loads((self.path / "left-out.json").read_text())


@pytest.fixture
def side(source: RegistryClient, tmp_path: Path) -> Side:
    return Side(source, tmp_path / "disk")


def test_what_is_confirmed_is_there_for_a_writer_and_is_named_at_the_end(side: Side) -> None:
    client = side.begin(v1=str(side.image.digest), v0=str(side.image.digest))
    side.learn(client)
    head = client.head_manifest("app", "v1")

    assert head is not None
    assert head.digest == side.image.digest
    assert client.probe_blob("app", Digest.of(BASE), len(BASE))
    assert client.head_blob("other", Digest.of(BASE)) is None, "blobs count for their repository"
    assert client.head_manifest("app", "v2") is None
    left_out.end(client.folder)

    said = side.said()
    assert said["receipts"] == [RECEIPT]
    assert said["repositories"] == {
        "app": {
            "tags": {"v1": str(side.image.digest)},
            "blobs": {str(Digest.of(BASE)): len(BASE)},
        }
    }, "nobody has asked for v0 or the config: they were not left out"
    assert not (side.path / ".transship/since.json").exists()
    assert layout(side.path).head_blob("app", Digest.of(BASE)) is None


def test_whoever_reads_it_is_told_what_to_do(side: Side, tmp_path: Path) -> None:
    client = side.begin()
    side.learn(client)
    client.head_manifest("app", "v1")
    client.head_blob("app", Digest.of(BASE))
    left_out.end(client.folder)
    shutil.copytree(
        side.path, tmp_path / "carried", ignore=shutil.ignore_patterns(".transship")
    )  # as cp DIR/* does

    carried = layout(tmp_path / "carried")

    assert tags(carried, "app") == ["v1"], "what is not listed would be deleted elsewhere"
    assert [page.repositories for page in carried.list_repositories()] == [("app",)]
    assert carried.leaves_out("app", Digest.of(BASE))
    for ask in (
        lambda: carried.get_manifest("app", "v1"),
        lambda: carried.get_manifest("app", str(side.image.digest)),
        lambda: carried.blobs.open("app", Digest.of(BASE)),
        lambda: carried.read_blob("app", Digest.of(BASE), len(BASE), 100),
    ):
        with pytest.raises(LeftOut, match="--since") as caught:
            ask()
        assert "without --since" in caught.value.hint
    with pytest.raises(ManifestNotFound):
        carried.get_manifest("app", "v2")


def test_what_is_written_all_the_same_is_not_left_out(side: Side) -> None:
    client = side.begin()
    side.learn(client)
    client.head_manifest("app", "v1")
    left_out.end(client.folder)

    newer = push(client, "app", "v1", b"other")
    carried = layout(side.path)

    assert carried.get_manifest("app", "v1").raw == newer.raw
    carried.delete_manifest("app", "v1")
    assert carried.head_manifest("app", "v1") is None
    assert side.said()["repositories"]["app"]["tags"] == {}


def test_a_command_that_died_is_followed_by_one_that_remembers_what_was_left_out(
    side: Side,
) -> None:
    client = side.begin()
    side.learn(client)
    client.head_manifest("app", "v1")
    with (side.path / ".transship/since-used.jsonl").open("ab") as notes:
        notes.write(b'{"repository": "app", "ta')

    unfinished = layout(side.path)
    with pytest.raises(LeftOut):
        unfinished.blobs.open("app", Digest.of(b"x"))
    again = side.begin(v2=str(side.image.digest))
    again.head_manifest("app", "v2")
    left_out.end(again.folder)

    assert set(side.said()["repositories"]["app"]["tags"]) == {"v1", "v2"}
    assert side.said()["receipts"] == [RECEIPT]


def test_the_source_is_asked_once_for_all_processes_and_what_it_lacks_is_carried(
    side: Side,
) -> None:
    gone = str(Digest.of(b"gone"))
    client = side.begin(v1=str(side.image.digest), v2=gone, v3=str(side.image.digest))
    side.learn(client)
    side.learn(client)
    other = layout(side.path)
    side.learn(other)

    assert sorted(side.asked) == sorted([str(side.image.digest), gone])
    assert other.head_blob("app", Digest.of(BASE)) == len(BASE)


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b"[]",
        b"\xff",
        b'{"transship_left_out": 2}',
        b'{"transship_left_out": 1, "repositories": {"app": 7}}',
        b'{"transship_left_out": 1, "repositories": {"app": {"tags": {"v1": "x"}}}}',
        b'{"transship_left_out": 1, "repositories": {"../app": {}}}',
        b'{"transship_left_out": 1, "repositories": {"app": {"tags": {"../v1": "sha256:'
        + b"0" * 64
        + b'"}}}}',
        b'{"transship_left_out": 1, "repositories": {"app": {"blobs": {"x": 1}}}}',
    ],
)
def test_a_damaged_left_out_json_is_told_of(side: Side, text: bytes) -> None:
    push(layout(side.path), "app", "v1", b"layer")
    (side.path / "left-out.json").write_bytes(text)

    with pytest.raises(Rejected, match=r"left-out\.json") as caught:
        tags(layout(side.path), "app")

    assert "anew" in caught.value.hint
