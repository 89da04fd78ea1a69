"""The report of a migration over real registries: its waves with their delta, and a push after the freeze by name."""

from __future__ import annotations

from api.app import create_app
from api.reports.page import page
from service.model.migration import FREEZE, INVENTORY, PROOF, Wave
from service.model.receipt import Receipt
from service.store.keyring import write_new_key
from tests.integration.engine.moving import Move
from tests.support.world import World, some_bytes


def test_report_has_every_wave_with_its_delta_and_names_what_was_pushed_late(world: World) -> None:
    keys = world.folder / "keys"
    write_new_key(keys)
    move = Move(world, waves=(Wave("first", ("team/*",)), Wave("rest")))
    shared = some_bytes("shared", 5000)
    for name in ("team/app:v1", "team/app:v2", "lib:v1"):
        move.push(name, layer=shared)
    move.survey(INVENTORY)
    move.run("first")
    move.run("rest")
    move.push("team/app:v3", layer=shared)
    move.survey(FREEZE)
    move.delta()
    move.push("lib:v1", mark="pushed late")
    move.survey(PROOF)

    services = world.open(
        world.settings.__class__(
            database_url=world.settings.database_url, secret_key_file=str(keys)
        )
    )
    token, _ = services.tokens.create("viewer", "viewer")
    client = create_app(services).test_client()
    asked = {"headers": {"Authorization": f"Bearer {token}"}}
    found = client.get("/api/v1/reports?migration=move", **asked).get_json()

    assert [(one["label"], len(one["executions"])) for one in found["sections"]] == [
        ("first", 2),
        ("rest", 2),
    ]
    assert [one["copies"]["copied"] for one in found["sections"]] == [3, 1]
    assert (found["state"], found["failures_total"], found["rule_file"]) == ("succeeded", 0, None)
    assert found["sections"][0]["fleet"]["bytes"] > 2 * len(shared)
    assert found["sections"][0]["fleet"]["unique_bytes"] < 2 * len(shared)
    assert len(shared) < found["bytes"]["copied"] < 2 * len(shared)  # the shared layer came once
    assert found["migration"]["proved"] is False
    assert [
        (one["kind"], one["repository"], one["tag"]) for one in found["migration"]["findings"]
    ] == [("pushed", "lib", "v1")]
    shown = page(found)
    assert "refused" in shown
    assert "lib:v1" in shown
    receipt = client.get("/api/v1/receipts?migration=move", **asked)
    path = world.folder / "receipt"
    path.write_bytes(receipt.data)
    assert {one.destination for one in Receipt(path)} == {f"west/{name}" for name in move.holds()}
    assert found["receipt"]["entries"] == 4
