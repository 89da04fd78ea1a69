"""/api/v1/executions: lists, copies, stop, live totals."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, insert, select, update

from service.bootstrap import Services
from service.model.failure_classes import CLASSES
from service.model.states import CopyState, ExecutionState
from service.store.shared import SharedAnswers
from service.store.tables import HELD, copies, copy_blobs, executions
from service.store.tables_attempts import copy_attempts
from tests.unit.api.conftest import FLEET, Api

DIGEST = "sha256:" + "ab" * 32

ENDED = ExecutionState.SUCCEEDED


def run(api: Api) -> str:
    identity: str = api.post("/api/v1/rules/fleet/executions").get_json()["id"]
    return identity


def set_state(services: Services, identity: str, state: ExecutionState) -> None:
    def work(connection: Connection) -> None:
        connection.execute(
            update(executions).where(executions.c.id == identity).values(state=state)
        )

    services.database.write(work)


def add_copy(services: Services, identity: str, state: CopyState, **values: Any) -> None:
    row = {
        "execution_id": identity,
        "rule": "fleet",
        "region": "local",
        "source_registry": "east",
        "source_repository": "team/app",
        "source_reference": "1.2",
        "destination_registry": "west",
        "destination_repository": "mirror/team/app",
        "destination_reference": "1.2",
        "digest": DIGEST,
        "state": state,
        "updated_at": 1.5,
        **values,
    }
    services.database.write(lambda connection: connection.execute(insert(copies).values(**row)))


def events(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def test_list_has_the_newest_first_and_filters(fleet: Api, services: Services) -> None:
    first = run(fleet)
    set_state(services, first, ExecutionState.SUCCEEDED)
    second = run(fleet)

    everything = fleet.get("/api/v1/executions").get_json()["items"]
    ended = fleet.get("/api/v1/executions?state=succeeded&rule=fleet").get_json()["items"]
    page = fleet.get("/api/v1/executions?limit=1&rule=fleet")

    assert [item["id"] for item in everything] == [second, first]
    assert [item["id"] for item in ended] == [first]
    assert "rule=fleet" in page.headers["Link"]
    rest = fleet.get(f"/api/v1/executions?cursor={page.get_json()['next']}").get_json()
    assert [item["id"] for item in rest["items"]] == [first]


def test_unknown_state_is_refused(fleet: Api) -> None:
    told = fleet.problems(fleet.get("/api/v1/executions?state=done"))

    assert "is no state" in told["state"]


@pytest.mark.parametrize("identity", ["0" * 24, "..%2f1", "1;drop", "0x1", "1" * 30, "A" * 24])
def test_unknown_execution_is_404(fleet: Api, identity: str) -> None:
    for path in ("", "/copies", "/events"):
        assert fleet.get(f"/api/v1/executions/{identity}{path}").status_code == 404
    assert fleet.post(f"/api/v1/executions/{identity}/stop").status_code == 404


def test_totals_are_those_of_the_copies(fleet: Api, services: Services) -> None:
    identity = run(fleet)
    add_copy(services, identity, CopyState.COPIED, blobs_copied=3, bytes_copied=10, bytes_saved=4)
    add_copy(
        services,
        identity,
        CopyState.FAILED,
        failure_class="denied",
        bytes_saved=900,  # what failed has saved nothing
        source_reference="1.3",
        destination_reference="1.3",
    )

    body = fleet.get(f"/api/v1/executions/{identity}").get_json()

    assert body["copies"] == {
        "copied": 1,
        "unchanged": 0,
        "skipped": 0,
        "failed": 1,
        "pending": 0,
    }
    assert body["blobs"] == {"copied": 3, "mounted": 0, "present": 0}
    assert body["bytes"] == {"copied": 10, "saved": 4}
    assert body["destinations"]["west"]["copies"]["failed"] == 1


def test_copies_are_listed_by_state(fleet: Api, services: Services) -> None:
    identity = run(fleet)
    add_copy(services, identity, CopyState.COPIED)
    add_copy(
        services,
        identity,
        CopyState.FAILED,
        failure_class="denied",
        reason="no",
        source_reference=DIGEST,
        destination_reference=DIGEST,
    )

    path = f"/api/v1/executions/{identity}/copies"
    everything = fleet.get(f"{path}?limit=1").get_json()
    rest = fleet.get(f"{path}?cursor={everything['next']}").get_json()
    failed = fleet.get(f"{path}?state=failed&state=superseded").get_json()["items"]

    assert [item["state"] for item in everything["items"] + rest["items"]] == ["copied", "failed"]
    assert failed[0]["source"] == f"east/team/app@{DIGEST}"
    assert failed[0]["destination"] == f"west/mirror/team/app@{DIGEST}"
    assert (failed[0]["class"], failed[0]["reason"]) == ("denied", "no")
    assert everything["items"][0]["source"] == "east/team/app:1.2"
    other = run(fleet)
    assert other == identity


def test_cursor_of_another_execution_is_refused(fleet: Api, services: Services) -> None:
    first = run(fleet)
    add_copy(services, first, CopyState.COPIED)
    add_copy(services, first, CopyState.COPIED, source_reference="2", destination_reference="2")
    cursor = fleet.get(f"/api/v1/executions/{first}/copies?limit=1").get_json()["next"]
    set_state(services, first, ExecutionState.SUCCEEDED)
    second = run(fleet)

    assert "cursor" in fleet.problems(
        fleet.get(f"/api/v1/executions/{second}/copies?cursor={cursor}")
    )


def test_stop_begins_to_stop_and_an_ended_run_stays(fleet: Api, services: Services) -> None:
    identity = run(fleet)

    stopping = fleet.post(f"/api/v1/executions/{identity}/stop")
    set_state(services, identity, ExecutionState.STOPPED)
    again = fleet.post(f"/api/v1/executions/{identity}/stop")

    assert (stopping.status_code, stopping.get_json()["state"]) == (202, "stopping")
    assert again.get_json()["state"] == "stopped"


def test_stream_tells_totals_until_the_end(fleet: Api, services: Services) -> None:
    identity = run(fleet)
    response = fleet.get(f"/api/v1/executions/{identity}/events")
    stream = response.iter_encoded()

    first = next(stream).decode()
    add_copy(services, identity, CopyState.COPIED)
    second = next(stream).decode()
    set_state(services, identity, ExecutionState.SUCCEEDED)
    last = next(stream).decode()
    rest = list(stream)
    response.close()

    assert response.mimetype == "text/event-stream"
    told = events(first + second + last)
    assert [name for name, _ in told] == ["totals", "totals", "end"]
    assert [data["copies"]["copied"] for _, data in told] == [0, 1, 1]
    assert told[2][1]["state"] == "succeeded"
    assert rest == []


def test_stream_of_an_ended_run_is_its_end(fleet: Api, services: Services) -> None:
    identity = run(fleet)
    set_state(services, identity, ExecutionState.FAILED)

    response = fleet.get(f"/api/v1/executions/{identity}/events")

    assert [name for name, _ in events(response.text)] == ["end"]


def test_whoever_watches_the_same_run_has_it_counted_once(fleet: Api, services: Services) -> None:
    identity = run(fleet)
    add_copy(services, identity, CopyState.RUNNING)
    fleet.app.extensions["transship"].watched = SharedAnswers(60.0)
    counted: list[str] = []

    def note(_c: Any, _u: Any, statement: str, *_more: Any) -> None:
        if "FROM copies" in statement:
            counted.append(statement)

    def watch() -> dict[str, Any]:
        response = fleet.get(f"/api/v1/executions/{identity}/events")
        ((name, data),) = events(next(response.iter_encoded()).decode())
        response.close()
        assert name == "totals"
        told: dict[str, Any] = data
        return told

    event.listen(Engine, "before_cursor_execute", note)
    try:
        first = watch()
        once = len(counted)
        assert watch() == first
        assert len(counted) == once > 0
        set_state(services, identity, ExecutionState.SUCCEEDED)
        ended = fleet.get(f"/api/v1/executions/{identity}/events")
        assert [name for name, _ in events(ended.text)] == ["end"]
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_streams_are_few_and_give_their_place_back(fleet: Api) -> None:
    identity = run(fleet)
    context = fleet.app.extensions["transship"]
    context.stream_slots = threading.BoundedSemaphore(1)
    path = f"/api/v1/executions/{identity}/events"

    first = fleet.get(path)
    refused = fleet.get(path)
    first.close()
    context.closing.set()
    third = fleet.get(path)

    assert refused.status_code == 503
    assert refused.headers["Retry-After"] == "5"
    assert third.status_code == 200
    assert len(events(third.text)) == 1


def test_a_run_behind_pauses_says_which_in_every_answer(fleet: Api, services: Services) -> None:
    services.pauses.pause_rule("fleet")
    services.pauses.pause_registry("west")

    made = fleet.post("/api/v1/rules/fleet/executions").get_json()
    shown = fleet.get(f"/api/v1/executions/{made['id']}").get_json()
    [listed] = fleet.get("/api/v1/executions").get_json()["items"]
    services.pauses.resume_rule("fleet")
    services.pauses.resume_registry("west")
    resumed = fleet.get(f"/api/v1/executions/{made['id']}").get_json()

    for one in (made, shown, listed):
        assert [(hold["kind"], hold["name"]) for hold in one["held_by"]] == [
            ("rule", "fleet"),
            ("registry", "west"),
        ]
        assert one["held_by"][0]["paused_at"].endswith("Z")
    assert resumed["held_by"] == []


def test_pauses_that_do_not_concern_a_run_are_not_named(fleet: Api, services: Services) -> None:
    assert fleet.put("/api/v1/registries/other", {"url": "https://o.example"}).status_code == 201
    services.pauses.pause_registry("other")
    open_one = run(fleet)
    services.pauses.pause_rule("fleet")
    set_state(services, open_one, ExecutionState.SUCCEEDED)

    ended = fleet.get(f"/api/v1/executions/{open_one}").get_json()
    services.pauses.resume_rule("fleet")
    another = fleet.get(f"/api/v1/executions/{run(fleet)}").get_json()

    assert (ended["held_by"], another["held_by"]) == ([], [])


def test_a_group_s_paused_member_holds_a_rule_of_the_group(fleet: Api, services: Services) -> None:
    document = {**FLEET, "destinations": [{"group": "prod"}]}
    assert fleet.put("/api/v1/rules/fleet", document).status_code == 200
    services.pauses.pause_registry("west")

    held = fleet.post("/api/v1/rules/fleet/executions").get_json()["held_by"]

    assert [hold["name"] for hold in held] == ["west"]


def test_an_accepted_run_costs_one_look_for_pauses(fleet: Api, services: Services) -> None:
    """Accepting is a promise in executions a second (bench/accept.py): counted, not timed."""

    def looks(path: str) -> list[str]:
        statements: list[str] = []

        def note(_c: Any, _u: Any, statement: str, *_more: Any) -> None:
            statements.append(statement)

        event.listen(Engine, "before_cursor_execute", note)
        try:
            assert fleet.post(path).status_code == 202
        finally:
            event.remove(Engine, "before_cursor_execute", note)
        words = [one.split(maxsplit=1)[0] for one in statements]
        saved = max(at for at, word in enumerate(words) if word in ("INSERT", "UPDATE"))
        return [one for one in statements[saved + 1 :] if one.lstrip().startswith("SELECT")]

    path = "/api/v1/rules/fleet/executions"
    [only] = looks(path)
    set_state(services, fleet.get("/api/v1/executions").get_json()["items"][0]["id"], ENDED)
    services.pauses.pause_registry("west")
    while_paused = looks(path)

    assert "paused_at" in only
    assert len(while_paused) == 3


def test_why_copies_are_tried_again_is_told_by_destination(fleet: Api, services: Services) -> None:
    identity = run(fleet)
    trouble = {"failure_class": "network", "reason": "destination west: cannot connect"}
    for tag, attempts in (("1", 1), ("2", 3)):
        more = {"source_reference": tag, "destination_reference": tag, "attempts": attempts}
        add_copy(services, identity, CopyState.PENDING, not_before=2e9, **more, **trouble)
    add_copy(services, identity, CopyState.PENDING)

    [told] = fleet.get(f"/api/v1/executions/{identity}").get_json()["retrying"]

    assert told == {
        "destination": "west",
        "class": "network",
        "reason": "destination west: cannot connect",
        "copies": 2,
        "tries": 3,
        "next_at": "2033-05-18T03:33:20.000Z",
    }


def test_a_copy_is_told_with_its_way_its_tries_and_its_blobs(
    fleet: Api, services: Services
) -> None:
    identity = run(fleet)
    add_copy(services, identity, CopyState.COPIED)
    via = {"registry": "west", "repository": "mirror/team/app", "reference": "1.2"}
    add_copy(
        services,
        identity,
        CopyState.FAILED,
        destination_registry="south",
        failure_class="denied",
        reason="no",
        hint="ask",
        failures=2,
        throttles=3,
        replans=1,
        crashes=4,
        bytes_saved=7,
        blobs_mounted=5,
        **{f"via_{name}": value for name, value in via.items()},
    )
    first, second = services.executions.copies(identity)
    blob = {"copy_id": second.id, "size": 9, "media_type": "layer", "part": 0, "fence": 0}
    blob |= {"digest": DIGEST, "state": "failed", "reason": "<b>", "updated_at": 2.5}
    services.database.write(lambda c: c.execute(insert(copy_blobs).values(**blob)))
    tried = {"copy_id": second.id, "number": 3, "times": 2, "outcome": "again", "counted": False}
    tried |= {"failure_class": "throttled", "reason": "<i>", "worker": "w", "region": "eu"}
    tried |= {"bytes": 8, "began_at": 1.5, "ended_at": 2.5}
    services.database.write(lambda c: c.execute(insert(copy_attempts).values(**tried)))

    found = fleet.get(f"/api/v1/executions/{identity}/copies/{second.id}").get_json()
    plain = fleet.get(f"/api/v1/executions/{identity}/copies/{first.id}").get_json()

    assert found["route"] == ["east", "west", "south"]
    assert (found["read_from"], found["behind"]) == ("west/mirror/team/app:1.2", first.id)
    assert found["tries"] == {"failures": 2, "throttles": 3, "replans": 1, "crashes": 4}
    assert (found["class"], found["reason"], found["hint"]) == ("denied", "no", "ask")
    assert found["meaning"] == "the credentials are known, but may not do this"
    assert found["bytes_saved"] == 7
    assert found["blob_counts"] == {"copied": 0, "mounted": 5, "present": 0}
    assert found["blobs_total"] == 1
    assert found["blobs"] == [
        {
            "digest": DIGEST,
            "media_type": "layer",
            "size": 9,
            "state": "failed",
            "class": "",
            "reason": "<b>",
            "updated_at": "1970-01-01T00:00:02.500Z",
        }
    ]
    assert found["attempts_log"] == [
        {
            "number": 3,
            "times": 2,
            "outcome": "again",
            "counted": False,
            "class": "throttled",
            "reason": "<i>",
            "worker": "w",
            "region": "eu",
            "bytes": 8,
            "began_at": "1970-01-01T00:00:01.500Z",
            "ended_at": "1970-01-01T00:00:02.500Z",
        }
    ]
    assert plain["attempts_log"] == []
    assert plain["route"] == ["east", "west"]
    assert (plain["read_from"], plain["behind"]) == ("east/team/app:1.2", None)
    assert (plain["meaning"], plain["fix"], plain["blobs"]) == ("", "", [])


def test_next_try_of_a_copy_is_told_while_it_waits_for_it(fleet: Api, services: Services) -> None:
    identity = run(fleet)
    for number, until in enumerate((0.0, 90.0, HELD)):
        name = str(number)
        add_copy(
            services, identity, CopyState.PENDING, not_before=until, destination_reference=name
        )
    told = [
        fleet.get(f"/api/v1/executions/{identity}/copies/{one.id}").get_json()["next_at"]
        for one in services.executions.copies(identity)
    ]

    assert told == [None, "1970-01-01T00:01:30.000Z", None]


@pytest.mark.parametrize("number", ["0", "999", "x", "-1", "1" * 30, "1.5"])
def test_copy_that_is_not_there_is_404(fleet: Api, services: Services, number: str) -> None:
    first = run(fleet)
    add_copy(services, first, CopyState.COPIED)

    assert fleet.get(f"/api/v1/executions/{first}/copies/{number}").status_code == 404


def test_copy_of_another_execution_is_404(fleet: Api, services: Services) -> None:
    first = run(fleet)
    add_copy(services, first, CopyState.COPIED)
    (copy,) = services.executions.copies(first)
    set_state(services, first, ExecutionState.SUCCEEDED)
    second = run(fleet)

    assert fleet.get(f"/api/v1/executions/{first}/copies/{copy.id}").status_code == 200
    assert fleet.get(f"/api/v1/executions/{second}/copies/{copy.id}").status_code == 404


def failed_as(services: Services, identity: str, *classes: str) -> None:
    for name in classes:
        about = {"source_repository": f"team/{name}", "destination_repository": f"mirror/{name}"}
        add_copy(services, identity, CopyState.FAILED, failure_class=name, **about)
    set_state(services, identity, ExecutionState.PARTIAL)


def retried(services: Services, identity: str) -> set[str]:
    with services.database.read() as connection:
        only = connection.execute(select(executions.c.only).where(executions.c.id == identity))
        return {repository for repository, _ in json.loads(only.scalar_one())}


@pytest.mark.parametrize(
    ("body", "taken"),
    [
        (None, {"team/denied", "team/gone", "team/server"}),
        ({}, {"team/denied", "team/gone", "team/server"}),
        ({"class": "denied"}, {"team/denied"}),
        ({"class": ["gone", "denied", "auth"]}, {"team/denied", "team/gone"}),
    ],
)
def test_retry_takes_the_failures_of_the_classes_that_are_named(
    fleet: Api, services: Services, body: Any, taken: set[str]
) -> None:
    identity = run(fleet)
    failed_as(services, identity, "denied", "gone", "server")

    answer = fleet.post(f"/api/v1/executions/{identity}/retry", body)

    assert answer.status_code == 202
    assert retried(services, answer.get_json()["id"]) == taken


def test_retry_of_one_class_is_made_once_for_a_key(fleet: Api, services: Services) -> None:
    identity = run(fleet)
    failed_as(services, identity, "denied", "gone")
    path = f"/api/v1/executions/{identity}/retry"

    made = [
        fleet.post(path, {"class": "denied"}, headers={"Idempotency-Key": "once"}).get_json()["id"]
        for _ in range(2)
    ]

    assert made[0] == made[1] != identity


@pytest.mark.parametrize(
    ("body", "field", "hint"),
    [
        ({"class": "denid"}, "class[0]", "did you mean 'denied'?"),
        ({"class": []}, "class", ""),
        ({"class": 1}, "class", ""),
        ({"classes": ["denied"]}, "classes", ""),
        ([], "", ""),
    ],
)
def test_a_class_that_is_none_is_refused(
    fleet: Api, services: Services, body: Any, field: str, hint: str
) -> None:
    identity = run(fleet)
    failed_as(services, identity, "denied")

    problems = fleet.problems(fleet.post(f"/api/v1/executions/{identity}/retry", body))

    assert list(problems) == [field]
    assert hint in problems[field]
    assert len(fleet.get("/api/v1/executions").get_json()["items"]) == 1


def test_a_class_that_nothing_failed_with_is_told_with_those_that_are_there(
    fleet: Api, services: Services
) -> None:
    identity = run(fleet)
    failed_as(services, identity, "gone", "denied")

    answer = fleet.post(f"/api/v1/executions/{identity}/retry", {"class": ["auth"]})

    assert answer.status_code == 409
    assert answer.get_json()["detail"] == f"nothing in execution {identity} failed as auth"
    assert "denied, gone" in answer.get_json()["hint"]


def test_a_run_that_failed_as_a_whole_runs_again_for_its_own_class_alone(
    fleet: Api, services: Services
) -> None:
    identity = run(fleet)
    failed_as(services, identity, "denied")
    services.database.write(
        lambda connection: connection.execute(update(executions).values(failure_class="throttled"))
    )
    path = f"/api/v1/executions/{identity}/retry"

    whole = fleet.post(path, {"class": "throttled"}).get_json()
    part = fleet.post(path, {"class": "denied"}).get_json()

    assert (whole["kind"], part["kind"]) == ("full", "tags")
    assert retried(services, part["id"]) == {"team/denied"}


def test_each_failed_copy_of_a_list_says_what_mends_it(fleet: Api, services: Services) -> None:
    identity = run(fleet)
    failed_as(services, identity, "denied", "gone")

    items = fleet.get(f"/api/v1/executions/{identity}/copies").get_json()["items"]

    assert [one["fix"] for one in items] == [CLASSES[name].fix for name in ("denied", "gone")]
