"""Planted corruptions of what is not content: states, costs, secrets, deletions, other people's tags."""

from __future__ import annotations

import base64
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from api.samples.registry import SampleRegistry
from tests.oracle.cost import Bounds, Footprint, judge_growth, judge_source, open_uploads
from tests.oracle.deletions import Seen, judge_deletions
from tests.oracle.secrets import Canary, SecretSearch
from tests.oracle.states import judge_executions
from tests.oracle.surroundings import Snapshot
from tests.support.servers import Access, RedisServer
from tests.support.wire import Wire

# ---- states --------------------------------------------------------------------------------------


def a_copy(**changes: Any) -> dict[str, Any]:
    return {"destination": "west/a:v1", "state": "copied", "class": "", "reason": "", **changes}


def an_execution(*copies: dict[str, Any], **changes: Any) -> list[str]:
    count = {
        name: sum(copy["state"] in states for copy in copies)
        for name, states in (("copied", ("copied",)), ("failed", ("failed", "superseded")))
    }
    document = {"id": "e1", "state": "succeeded", "copies": count, **changes}
    holes = ["west/hole:v1"]
    return judge_executions([document], {"e1": copies}, holes=holes)


FAILED = a_copy(state="failed", **{"class": "gone"}, reason="the source has no such tag")


def test_a_true_account_has_no_faults() -> None:
    assert an_execution(a_copy(), a_copy(destination="west/a:v2", state="skipped")) == []
    assert an_execution(a_copy(), FAILED, state="partial") == []


@pytest.mark.parametrize(
    ("copies", "changes", "fault"),
    [
        ([a_copy()], {"state": "running"}, "it has not ended"),
        ([a_copy(state="waiting")], {"state": "partial"}, "the copy to west/a:v1 is waiting"),
        ([a_copy(destination="west/hole:v1")], {}, "FALSE SUCCESS: execution e1 says copied"),
        ([FAILED], {}, "FALSE SUCCESS: execution e1 succeeded, and west/a:v1 failed"),
        ([a_copy(state="stopped")], {}, "succeeded, and west/a:v1 was stopped"),
        ([{**FAILED, "class": ""}], {"state": "failed"}, "failed without a class"),
        ([{**FAILED, "reason": ""}], {"state": "failed"}, "failed without a reason"),
        ([a_copy()], {"copies": {"copied": 2, "failed": 0}}, "tells of 2 copies copied, it has 1"),
    ],
)
def test_a_wrong_account_is_found(
    copies: list[dict[str, Any]], changes: dict[str, Any], fault: str
) -> None:
    assert any(fault in found for found in an_execution(*copies, **changes))


def test_no_executions_prove_nothing() -> None:
    assert judge_executions([], {}) == ["0 executions, at least 1 were made"]


# ---- cost ----------------------------------------------------------------------------------------

DIGEST = "sha256:" + "a" * 64


def reads(*sizes: int, status: int = 200) -> list[Access]:
    return [Access("GET", f"/v2/team/app/blobs/{DIGEST}", status, size) for size in sizes]


def test_one_read_and_a_proof_cost_what_they_may() -> None:
    assert judge_source([*reads(5000), *reads(1, status=206)], 5000, Bounds(requests=2)) == []


def test_what_costs_too_much_is_found() -> None:
    (twice, bytes_) = judge_source(reads(9000, 9000), 9000, Bounds(requests=9))[::-1]
    assert "was read 2 times" in twice
    assert "18000 bytes of blobs left the source" in bytes_
    assert judge_source(reads(1, 1, 1), 1, Bounds(requests=2, reads_of_a_blob=9)) == [
        "3 requests at the source, 2 allowed"
    ]
    assert judge_source([], 0, Bounds(requests=1)) == [
        "the source's log is empty: nothing was judged"
    ]


def test_an_open_upload_is_found(tmp_path: Path) -> None:
    root = tmp_path / "docker/registry/v2/repositories/team/app"
    (root / "_manifests").mkdir(parents=True)
    assert open_uploads(tmp_path) == []
    (root / "_uploads" / "deleted" / "hashstates").mkdir(parents=True)
    (root / "_uploads" / "0b1c").mkdir(parents=True)
    (root / "_uploads" / "0b1c" / "startedat").write_text("2026-11-24T00:00:00Z")

    (found,) = open_uploads(tmp_path)
    assert found.endswith("_uploads/0b1c")


def test_growth_is_found() -> None:
    now = Footprint.of(os.getpid())
    assert now.files > 2
    assert now.threads >= 1
    assert judge_growth({"w": now}, {"w": now}) == []
    grown = Footprint(now.files + 40, now.threads, now.resident * 2)
    assert len(judge_growth({"w": now}, {"w": grown})) == 2


# ---- secrets -------------------------------------------------------------------------------------

CANARY = Canary(
    "east", "robot", "c4n@ry/pass word-\N{LATIN SMALL LETTER E WITH ACUTE}1", "east:5000"
)
BASIC = base64.b64encode(f"{CANARY.username}:{CANARY.secret}".encode()).decode()


@pytest.mark.parametrize(
    "text",
    [
        CANARY.secret,
        f"Authorization: Basic {BASIC}",
        base64.b64encode(b"x" + CANARY.secret.encode() + b"tail").decode(),
        base64.b64encode(b"xy" + CANARY.secret.encode()).decode(),
        base64.b64encode(b"xyz" + CANARY.secret.encode() + b"!").decode(),
        "https://robot:c4n%40ry%2Fpass%20word-%C3%A91@east/",
        json.dumps({"password": CANARY.secret}),
        CANARY.secret.encode().hex(),
    ],
)
def test_a_secret_is_found_however_it_is_spelt(text: str) -> None:
    search = SecretSearch([CANARY])
    search.look("a log", f"before {text} behind")
    assert search.faults
    assert search.places == 1


def test_what_only_looks_like_it_is_none() -> None:
    search = SecretSearch([CANARY])
    search.look("a log", f"robot c4n ********* {base64.b64encode(b'robot:other').decode()}")
    assert search.faults == []
    assert search.bytes > 10


def test_secrets_are_found_in_files_and_databases(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "worker.log").write_text(f"got {CANARY.secret}")
    database = tmp_path / "state.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE t (v)")
        connection.execute("INSERT INTO t VALUES (?)", (CANARY.secret,))
    connection.close()
    search = SecretSearch([CANARY])

    search.files(tmp_path / "logs")
    assert search.faults
    search.sqlite(database)
    assert len(search.faults) >= 2


def test_secrets_are_found_in_redis() -> None:
    with RedisServer() as server, server.client() as client:
        client.rpush("queue", "nothing", "x" * 5000 + CANARY.secret + "x" * 5000)
        client.hset("task", "args", BASIC)
        client.set("calm", "nothing")
        search = SecretSearch([CANARY])
        search.redis(client)

    assert {fault.split(" holds")[0] for fault in search.faults} >= {
        "redis b'queue'",
        "redis b'task'",
    }
    assert not any("calm" in fault for fault in search.faults)


def test_a_credential_may_be_sent_to_its_own_registry_alone() -> None:
    sent = [("/v2/", {"authorization": f"Basic {BASIC}"})]
    search = SecretSearch([CANARY])

    search.requests("east:5000", sent)
    assert search.faults == []
    search.requests("elsewhere:5000", sent)
    assert search.faults


def test_a_command_line_is_searched() -> None:
    search = SecretSearch([Canary("self", "u", "pytest")])
    search.process(os.getpid(), "this test")
    assert search.places == 1
    assert search.bytes > 0


# ---- deletions -----------------------------------------------------------------------------------

ORIGIN, PLACE = ("team/app", "v1"), ("mirror/team/app", "v1")


def look(status: int, at: float) -> Seen:
    return Seen("HEAD", "/v2/team/app/manifests/v1", status, at)


DELETE = Seen("DELETE", "/v2/mirror/team/app/manifests/v1", 202, 30.0)


def test_a_deletion_after_two_absences_is_fine() -> None:
    looks = [look(200, 1), look(404, 10), look(404, 21)]
    assert judge_deletions(looks, [DELETE], {PLACE: ORIGIN}, apart_seconds=10) == []


@pytest.mark.parametrize(
    "looks",
    [
        [],
        [look(404, 10)],
        [look(404, 10), look(404, 11)],
        [look(404, 10), look(503, 15), look(404, 21)],
        [look(404, 10), look(404, 31)],
    ],
    ids=["no look", "one", "too close", "doubt between", "one after it"],
)
def test_a_deletion_without_two_clear_absences_is_found(looks: list[Seen]) -> None:
    (fault,) = judge_deletions(looks, [DELETE], {PLACE: ORIGIN}, apart_seconds=10)
    assert "two are wanted" in fault


def test_a_deletion_that_nobody_asked_for_is_found() -> None:
    looks = [look(404, 1), look(404, 20)]
    assert judge_deletions(looks, [DELETE], {}, apart_seconds=10) == [
        "mirror/team/app:v1 was deleted, and nobody asked for that"
    ]


# ---- surroundings --------------------------------------------------------------------------------


def test_what_no_rule_names_is_watched() -> None:
    with SampleRegistry() as registry:
        with Wire(registry.url) as wire:
            for tag in ("v1", "v2", "v3"):
                wire.image("others/app", tag)
            wire.image("mirror/app", "v1")
        before = Snapshot.of(registry.url, lambda name: name.startswith("others/"))
        assert len(before.tags) == 3
        assert before.changed_to(before) == []

        storage = registry.storage
        storage.move_tag("others/app", "v1", storage.manifest("others/app", "v2").digest)
        storage.delete_tag("others/app", "v3")
        storage.move_tag("others/app", "v9", storage.manifest("others/app", "v2").digest)
        after = Snapshot.of(registry.url, lambda name: name.startswith("others/"))

    assert before.changed_to(after) == [
        "others/app:v1 names other bytes, and no rule names it",
        "others/app:v3 is gone, and no rule names it",
        "others/app:v9 has come, and no rule names it",
    ]
