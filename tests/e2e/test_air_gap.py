"""Images carried in a directory: to it, away with it, from it, whole and no more than is wanted (docs/adr/0025)."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from api.samples.fleet import FleetSpec, push_fleet
from api.samples.registry import SampleRegistry
from api.samples.storage import digest_of
from tests.integration.registry.test_layout import incomplete
from tests.oracle.closure import check
from tests.support.images import digest_at, push_image
from tests.support.processes import wait_until
from tests.support.source_log import RequestCost
from tests.support.transship import Running, transship, write_rules

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SAME = [{"registry": "destination", "repository": "{repository}"}]


def sync(folder: Path, source: str, destination: str, *words: str, **variables: str) -> Any:
    """Sync everything from one registry to another, under the same names; the process, its report in `report`."""
    rules = write_rules(folder / "rules.yaml", source, destination, destinations=SAME)
    done: Any = transship("sync", "-f", str(rules), "--json", *words, **variables)
    done.report = json.loads(done.stdout) if done.stdout else None
    return done


def blobs(disk: Path) -> dict[str, Path]:
    return {f"sha256:{one.name}": one for one in (disk / "blobs/sha256").iterdir()}


def own_layer(disk: Path) -> tuple[str, str, str]:
    """A layer that one image alone has: its digest, and the image's repository and tag."""
    named: dict[str, list[tuple[str, str]]] = {}
    files = blobs(disk)
    for file in disk.rglob("index.json"):
        for entry in json.loads(file.read_text())["manifests"]:
            tag = entry.get("annotations", {}).get("org.opencontainers.image.ref.name", "")
            body = json.loads(files[entry["digest"]].read_bytes())
            for layer in body.get("layers", []):
                where = (str(file.parent.relative_to(disk)), tag)
                named.setdefault(layer["digest"], []).append(where)
    for digest, places in sorted(named.items()):
        tags = [place for place in places if place[1]]
        if len(places) == 1 and tags and not tags[0][1].startswith("sha256-"):
            return digest, *tags[0]
    raise AssertionError("no image has a layer of its own")


def test_a_fleet_is_carried_byte_for_byte_and_what_was_damaged_on_the_way_stays_out(
    tmp_path: Path,
) -> None:
    spec = FleetSpec(seed=8, repositories=2, tags=8, unique_bytes=2 << 20, big_images=0)
    with SampleRegistry() as east, SampleRegistry() as west:
        expected = {place: place for place in push_fleet(east.url, spec, threads=2).tag_digests}
        written = sync(tmp_path, east.url, f"oci:{tmp_path}/disk")
        disk = (tmp_path / "disk").rename(tmp_path / "carried")
        digest, repository, tag = own_layer(disk)
        file = blobs(disk)[digest]
        good = file.read_bytes()
        file.write_bytes(bytes([good[0] ^ 1]) + good[1:])

        damaged = sync(tmp_path, f"oci:{disk}", west.url)
        absent = digest_at(west, repository, tag)
        file.write_bytes(good)
        mended = sync(tmp_path, f"oci:{disk}", west.url)

        assert written.returncode == 0, written.stderr
        assert RequestCost.of(east.log).blobs_served_more_than_once() == {}
        assert incomplete(disk) == []
        assert damaged.returncode == 1
        assert [one["class"] for one in damaged.report["failures"]] == ["corrupt"]
        assert str(file) in damaged.report["failures"][0]["reason"]
        assert absent is None
        assert mended.returncode == 0, mended.stdout
        assert mended.report["copies"]["copied"] == 1
        report = check(east.url, west.url, expected)
        assert report.faults == []
        assert report.tags >= 8


def test_a_run_that_was_killed_leaves_a_whole_layout_and_is_gone_on_with(tmp_path: Path) -> None:
    layers = [bytes([n]) * 1_000_000 for n in range(8)]
    with SampleRegistry() as east:
        for number in range(4):
            push_image(east, "app", f"v{number}", layers=layers[2 * number : 2 * number + 2])
        rules = write_rules(
            tmp_path / "rules.yaml",
            east.url,
            f"oci:{tmp_path}/disk",
            destinations=SAME,
            bandwidth="1MB/s",
        )
        disk = tmp_path / "disk"
        with Running(["sync", "-f", str(rules)], tmp_path / "data", tmp_path) as running:
            wait_until(
                lambda: (disk / "blobs/sha256").is_dir() and len(blobs(disk)) >= 3, 30, "blobs"
            )
            os.kill(running.process.pid, signal.SIGKILL)
            running.process.wait(60)
            wait_until(lambda: not running.pids("workers.main"), 20, "the end of the workers")
        there = set(blobs(disk))
        assert incomplete(disk) == []
        assert len(there) < 16
        east.log.clear()

        again = sync(tmp_path, east.url, f"oci:{disk}")

        assert again.returncode == 0, again.stderr
        read = Counter(line.path.rpartition("/")[2] for line in east.log if "/blobs/" in line.path and line.method == "GET")  # fmt: skip
        assert there.isdisjoint(read)
        assert set(read.values()) == {1}
        assert len(json.loads((disk / "app/index.json").read_text())["manifests"]) == 4
        assert incomplete(disk) == []


def test_since_a_receipt_only_what_is_new_is_carried(tmp_path: Path) -> None:
    base, first, second = (mark.encode() * 5000 for mark in ("base", "first", "second"))
    key, receipt = tmp_path / "west.pem", tmp_path / "receipt"
    with SampleRegistry() as east, SampleRegistry() as west, SampleRegistry() as south:
        push_image(east, "app", "v1", layers=[base, first])
        push_image(east, "app", "latest", layers=[base, first])
        assert sync(tmp_path, east.url, f"oci:{tmp_path}/one").returncode == 0
        data = str(tmp_path / "data")
        arrived = sync(tmp_path, f"oci:{tmp_path}/one", west.url, "--data", data, "--receipt", str(receipt))  # fmt: skip
        assert arrived.returncode == 0, arrived.stderr
        shown = transship("receipts", "key", "--data", data)
        assert shown.returncode == 0, shown.stderr
        key.write_text(shown.stdout)
        moved = push_image(east, "app", "latest", layers=[base, first, second])
        disk = f"oci:{tmp_path}/two"

        unsigned = sync(tmp_path, east.url, disk, "--since", str(receipt))
        bad = tmp_path / "bad"
        bad.write_bytes(receipt.read_bytes().replace(b":v1", b":v2"))
        shutil.copy(f"{receipt}.sig", tmp_path / "bad.sig")
        forged = sync(tmp_path, east.url, disk, "--since", str(bad), "--since-key", str(key))
        nothing = (tmp_path / "two").exists()
        since = ("--since", str(receipt), "--since-key", str(key))
        less = sync(tmp_path, east.url, disk, *since)
        more = sync(tmp_path, east.url, disk)
        after = sync(tmp_path, f"oci:{tmp_path}/two", west.url)
        broken = sync(tmp_path, f"oci:{tmp_path}/two", south.url)

        assert (unsigned.returncode, forged.returncode, nothing) == (2, 2, False)
        assert "--since-unverified" in unsigned.stderr
        assert less.returncode == 0, less.stderr
        assert less.report["copies"]["unchanged"] == 1
        there = blobs(tmp_path / "two")
        assert digest_of(second) in there
        assert digest_of(base) not in there
        said = json.loads((tmp_path / "two/left-out.json").read_text())
        assert said["receipts"][0]["verified"] is True
        assert said["repositories"]["app"]["tags"]["v1"] == digest_at(east, "app", "v1")
        assert said["repositories"]["app"]["blobs"][digest_of(base)] == len(base)
        assert more.returncode == 2
        assert "--since again" in more.stderr
        assert after.returncode == 0, after.stdout
        assert after.report["copies"]["unchanged"] == 1
        assert digest_at(west, "app", "latest") == moved
        assert broken.returncode == 1
        assert {one["class"] for one in broken.report["failures"]} == {"gone"}
        assert all("--since" in one["reason"] for one in broken.report["failures"])
        assert all("without --since" in one["hint"] for one in broken.report["failures"])
        assert south.storage.tags("app") in (None, [])
