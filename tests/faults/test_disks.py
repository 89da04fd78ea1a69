"""Disks that are full or read-only: rows F099, F105, F160, F161. Needs root, for a small tmpfs."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.lab import ROOT, Lab, Scene
from tests.faults.test_processes import whole
from tests.oracle.states import ENDED
from tests.support.processes import free_port, wait_until
from tests.support.transship import clean_environment

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a tmpfs"),
]

SIZE = 48 << 20


class Disk:
    """A small tmpfs that can be filled, emptied and made read-only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(folder)], check=True
        )

    def fill(self) -> None:
        """Leave not a byte."""
        with self._filler.open("ab", buffering=0) as file:
            for piece in (1 << 20, 4096, 1):
                try:
                    while True:
                        file.write(b"\0" * piece)
                except OSError:
                    continue

    def empty(self) -> None:
        """Give the room back."""
        self._filler.unlink(missing_ok=True)

    def remount(self, how: str) -> None:
        """Make it `ro` or `rw`."""
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.folder)], check=True)

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    made = Disk(tmp_path_factory.mktemp("disk"))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def lab(disk: Disk) -> Iterator[Lab]:
    """A lab whose database, logs and Redis's dump are on the small disk."""
    lab = Lab(disk.folder)
    lab.redis_arguments = ("--dir", str(disk.folder))
    with lab:
        lab.start("api", "scheduler", "worker")
        yield lab


@pytest.fixture(autouse=True)
def room(lab: Lab, disk: Disk) -> Iterator[None]:
    yield
    disk.empty()
    lab.heal()


def large_bodies(lab: Lab, name: str) -> list[int]:
    """Change a rule again and again with bodies that need room; the statuses."""
    found = []
    for number in range(40):
        names = [f"{name}/{'x' * 150}{number}-{n}" for n in range(100)]
        body = {
            "source": "east",
            "select": [{"repositories": names}],
            "destinations": [{"registry": "west", "repository": "elsewhere/{repository}"}],
        }
        found.append(lab.client.put(f"/rules/{name}-filler", json=body).status_code)
        if found[-1] >= 500:
            break
    return found


def a_fleet(scene: Scene) -> None:
    for number in range(6):
        scene.push(f"app{number}:v1", (30_000, 40_000))


def test_f105_f160_a_full_disk_is_503_and_room_makes_all_go_on(lab: Lab, disk: Disk) -> None:
    scene = lab.scene("f105")
    a_fleet(scene)
    disk.fill()
    answers = large_bodies(lab, "f105")
    assert answers[-1] == 503, f"nothing was refused: {answers}"
    assert not any(status == 500 for status in answers)
    disk.empty()

    assert scene.run(60)["state"] == "succeeded"
    whole(scene, tags=6, blobs=18)
    with sqlite3.connect(disk.folder / "transship.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_f105_a_disk_that_fills_in_mid_run_costs_time_and_nothing_else(
    lab: Lab, disk: Disk
) -> None:
    scene = lab.scene("f105-run")
    a_fleet(scene)
    rule = scene.west.fault(
        scene.at_destination(), method="PUT", nth=4, before=lambda _: disk.fill()
    )
    identity = scene.start()
    wait_until(lambda: rule.fired, 20, "the disk to be full")
    lab.lapse()
    assert lab.execution(identity)["state"] not in ENDED, "it was over before the disk was full"
    disk.empty()

    assert lab.wait(identity, 60)["state"] == "succeeded"
    assert all(process.alive for process in lab.processes.values())
    whole(scene, tags=6, blobs=18)


def test_f161_a_process_whose_database_is_read_only_says_so_and_ends(
    lab: Lab, disk: Disk, tmp_path: Path
) -> None:
    subprocess.run(["mount", "--bind", str(disk.folder), str(tmp_path)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(tmp_path)], check=True)
        environment = {
            **clean_environment(),
            "TRANSSHIP_DATABASE_URL": f"sqlite:///{tmp_path}/transship.db",
            "TRANSSHIP_REDIS_URL": lab.redis.url,
        }
        for module in (["-m", "api.serve"], ["-m", "workers.main", "scheduler"]):
            done = subprocess.run(
                [sys.executable, *module],
                env={**environment, "TRANSSHIP_LISTEN": f"127.0.0.1:{free_port()}"},
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode not in (0, 1), done.stderr
            assert "readonly database" in done.stderr, done.stderr
    finally:
        subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_f099_a_redis_whose_disk_is_full_is_a_redis_that_is_away(lab: Lab, disk: Disk) -> None:
    scene = lab.scene("f099")
    a_fleet(scene)
    with lab.redis.client() as client:
        client.config_set("save", "1 1")
        disk.fill()
        client.set("any", "thing")
        wait_until(
            lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", 20, "MISCONF"
        )
        identity = lab.client.post(f"/rules/{scene.name}/executions")
        assert identity.status_code in (202, 503), identity.text
        disk.empty()
        client.config_set("save", "")
        client.config_set("stop-writes-on-bgsave-error", "no")

    scene.start()
    lab.quiesce(60)
    whole(scene, tags=6, blobs=18)
