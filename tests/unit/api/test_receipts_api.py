"""/api/v1/receipts: signed, the same bytes each time, and of nothing that has not ended."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

from sqlalchemy import update

from api.app import create_app
from service.bootstrap import Services
from service.model.receipt import Receipt
from service.model.receipt_signature import verify
from service.model.states import CopyState, ExecutionState
from service.store.tables import executions
from tests.unit.api.conftest import Api
from tests.unit.api.test_executions_api import add_copy, run


def an_ended_run(api: Api, services: Services, *tags: str) -> str:
    identity = run(api)
    for tag in tags:
        add_copy(services, identity, CopyState.COPIED, destination_reference=tag, bytes_copied=7)
    services.database.write(
        lambda connection: connection.execute(
            update(executions)
            .where(executions.c.id == identity)
            .values(state=ExecutionState.SUCCEEDED, finished_at=1_800_000_000.25)
        )
    )
    return identity


def fetched(api: Api, path: str, to: Path) -> Path:
    response = api.get(path, role="viewer")
    assert response.status_code == 200, response.text
    to.write_bytes(response.data)
    to.with_name(f"{to.name}.sig").write_text(response.headers["Transship-Signature"])
    return to


def public_key(api: Api) -> str:
    found: str = api.get("/api/v1/receipts/key", role="viewer").get_json()["public_key"]
    return found


def test_receipt_of_an_execution_verifies_offline(
    fleet: Api, services: Services, tmp_path: Path
) -> None:
    identity = an_ended_run(fleet, services, "1.2", "1.10")

    path = fetched(fleet, f"/api/v1/executions/{identity}/receipt", tmp_path / "r")

    header = verify(path, public_key(fleet))
    assert header.executions == (identity,)
    assert header.made == "2027-01-15T08:00:00.250Z"
    assert [(one.destination, one.bytes) for one in Receipt(path)] == [
        ("west/mirror/team/app:1.10", 7),
        ("west/mirror/team/app:1.2", 7),
    ]


def test_same_executions_give_the_same_bytes(
    fleet: Api, services: Services, tmp_path: Path
) -> None:
    first, second = an_ended_run(fleet, services, "1"), an_ended_run(fleet, services, "2")

    one = fetched(fleet, f"/api/v1/receipts?execution={first}&execution={second}", tmp_path / "a")
    other = fetched(fleet, "/api/v1/receipts?rule=fleet", tmp_path / "b")

    assert one.read_bytes() == other.read_bytes()
    assert (tmp_path / "a.sig").read_text() == (tmp_path / "b.sig").read_text()
    assert verify(one, public_key(fleet)).entries == 2


def test_key_of_a_file_signs_and_no_other(fleet: Api, services: Services, tmp_path: Path) -> None:
    derived = public_key(fleet)
    for name in ("a", "b"):
        words = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(tmp_path / name)]
        subprocess.run(words, check=True, capture_output=True)
    public = subprocess.run(
        ["openssl", "pkey", "-in", str(tmp_path / "a"), "-pubout"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    identity = an_ended_run(fleet, services, "1")
    settings = replace(services.settings, receipt_key_file=str(tmp_path / "a"))
    api = Api(create_app(Services(settings)), fleet.tokens)

    path = fetched(api, f"/api/v1/executions/{identity}/receipt", tmp_path / "r")

    assert public_key(api) == public != derived
    assert verify(path, public).entries == 1


def test_receipts_of_what_cannot_be_told_are_refused(fleet: Api, services: Services) -> None:
    open_one = run(fleet)
    assert fleet.get(f"/api/v1/executions/{open_one}/receipt").status_code == 409
    told = fleet.get("/api/v1/receipts?rule=fleet")
    assert told.status_code == 409
    assert "run the rule" in told.get_json()["hint"]
    for wrong in ("", "?rule=fleet&execution=x", "?rule=a&rule=b", "?exec=1"):
        assert fleet.get(f"/api/v1/receipts{wrong}").status_code == 400
    assert fleet.get("/api/v1/receipts?execution=unknown").status_code == 404
    services.database.write(
        lambda connection: connection.execute(update(executions).values(state="succeeded"))
    )
    add_copy(services, open_one, CopyState.COPIED, destination_registry="10.0.0.5:5000")
    told = fleet.get(f"/api/v1/executions/{open_one}/receipt")
    assert told.status_code == 409
    assert "address" in told.get_json()["detail"]


def test_slots_come_back_however_a_receipt_ends(fleet: Api, services: Services) -> None:
    open_one = run(fleet)
    for _ in range(3):
        assert fleet.get(f"/api/v1/executions/{open_one}/receipt").status_code == 409
    services.database.write(
        lambda connection: connection.execute(update(executions).values(state="succeeded"))
    )
    ended = an_ended_run(fleet, services, "1")
    for _ in range(3):
        response = fleet.get(f"/api/v1/executions/{ended}/receipt")
        assert response.status_code == 200
        response.close()
    slots = fleet.app.extensions["transship"].receipt_slots
    assert slots.acquire(blocking=False)
    assert slots.acquire(blocking=False)

    busy = fleet.get(f"/api/v1/executions/{ended}/receipt")

    assert busy.status_code == 503
    assert busy.headers["Retry-After"] == "5"
