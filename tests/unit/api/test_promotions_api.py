"""Pipelines and promotions over the API: what is taken, what is refused in words, who may approve."""

from __future__ import annotations

import json
from typing import Any

import pytest

from service.bootstrap import Services
from service.model.pipeline import APPROVAL, SCAN, WEBHOOK, Gate, PromotionState
from tests.support.pipelines import DIGEST, EARLIER, STAGES, standing_pipeline, standing_promotion
from tests.support.promoting import SECRET, signed
from tests.support.signing import Signer
from tests.unit.api.conftest import WEST, Api

SHOP = "/api/v1/pipelines/shop"
HOOK = "https://deploy.example/hook"


def staged(**last: Any) -> dict[str, Any]:
    return {"stages": [STAGES[0], {**STAGES[1], **last}]}


def asked(api: Api, **more: Any) -> Any:
    body = {"pipeline": "shop", "ref": f"shop/web:v1@{DIGEST}", "to": "prod", **more}
    return api.post("/api/v1/promotions", body)


def test_a_pipeline_is_written_read_and_replaced_and_its_secret_never_comes_out(
    fleet: Api, services: Services
) -> None:
    gates = [
        {"approval": {"role": "admin", "count": 2, "own": True}, "timeout": "2d"},
        {"webhook": "https://gate.example/ask"},
        {"signature": {"key": Signer().public}},
        {"scan": {"worst": "medium"}, "timeout": "10m"},
    ]
    document = staged(gates=gates, after={"webhook": HOOK}, auto=True)

    made = fleet.put(SHOP, {**document, "secret": SECRET})

    assert made.status_code == 201, made.text
    shown = made.get_json()
    assert shown["secret"] == {"set": True}
    last = shown["effective"]["stages"][1]
    assert (last["repository"], last["tag"], last["auto"]) == ("{repository}", "{tag}", True)
    assert last["gates"][0]["approval"] == gates[0]["approval"]
    assert [gate["timeout"] for gate in last["gates"]] == ["172800s", "3600s", "3600s", "600s"]
    everything = fleet.get(SHOP).text + fleet.get("/api/v1/audit").text
    assert SECRET not in everything
    assert services.pipelines.secrets("shop") == (SECRET,)
    again = fleet.put(SHOP, {**document, "secret": {"set": True}})
    assert (again.status_code, again.get_json()["version"]) == (200, 1)
    moved = fleet.put(SHOP, staged(after={"webhook": "https://other.example/hook"}))
    assert "another address" in fleet.problems(moved)["secret"]
    assert fleet.delete(SHOP).status_code == 204
    assert fleet.get("/api/v1/pipelines").get_json()["items"] == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"stages": [STAGES[0]]}, "may not be empty"),
        ({"stages": [STAGES[0], STAGES[0]]}, "two stages have one name"),
        ({"stages": [{**STAGES[0], "auto": True}, STAGES[1]]}, "is the first"),
        ({"stages": [{**STAGES[0], "repository": "{repository}"}, STAGES[1]]}, "is a template"),
        (staged(registry="wst"), "there is no registry 'wst'"),
        (staged(registry="east"), "are the same"),
        (staged(repository="{repo}"), "unknown placeholder {repo}"),
        (staged(gates=[{}]), "needs one of approval, webhook, signature, scan"),
        (staged(gates=[{"approval": {}, "scan": {}}]), "needs one of"),
        (staged(gates=[{"approval": {"count": 0}}]), "between 1 and"),
        (staged(gates=[{"approval": {"role": "viewer"}}]), "is not one of"),
        (staged(gates=[{"webhook": HOOK}]), "is missing"),
        (staged(gates=[{"scan": {}}]), "is missing"),
        (staged(after={"webhook": HOOK}), "is missing"),
        (staged(gates=[{"webhook": "ftp://x"}]), "not an https:// URL"),
        (staged(gates=[{"signature": {"key": "x"}}]), "no public key"),
        (staged(gates=[{"signature": {"key_file": "/etc/passwd"}}]), "TRANSSHIP_SECRETS_DIR"),
        (staged(gates=[{"approval": {}, "timeout": "0s"}]), "between 1s and"),
        (staged(scan={}), "unknown key"),
        ({**staged(after={"webhook": HOOK}), "secret": "short"}, "fewer than 16"),
        ({**staged(), "secret_env": "PATH"}, "secret_env"),
        ({**staged(), "project": "none"}, "no project"),
        (
            {**staged(after={"webhook": HOOK}), "secret_env": "TRANSSHIP_SECRET_UNSET"},
            "TRANSSHIP_SECRET_UNSET, which pipeline shop signs with, is not set",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_saved(
    fleet: Api, services: Services, more: dict[str, Any], words: str
) -> None:
    refused = fleet.put(SHOP, more)

    assert refused.status_code == 400, refused.text
    assert words in refused.text
    assert services.pipelines.list() == []


def test_a_gate_and_an_after_may_name_secrets_of_their_own(fleet: Api, services: Services) -> None:
    """They are the platform's, bound to the host that is posted to, and not taken away while they sign."""
    document = staged(
        gates=[{"webhook": "https://Gate.example/ask", "secret": "gate"}],
        after={"webhook": HOOK, "secret": "after"},
    )
    missing = fleet.problems(fleet.put(SHOP, document))
    assert list(missing) == ["stages[1].gates[0].secret", "stages[1].after.secret"]
    assert "transship secrets set gate --host gate.example" in missing["stages[1].gates[0].secret"]

    services.secrets.put("gate", "g" * 15, ["gate.example"])
    services.secrets.put("after", "a" * 16, ["gate.example"])
    wrong = fleet.problems(fleet.put(SHOP, document))
    assert "fewer than 16" in wrong["stages[1].gates[0].secret"]
    assert "is not bound to deploy.example" in wrong["stages[1].after.secret"]

    services.secrets.put("gate", "g" * 16, ["gate.example"])
    services.secrets.put("after", "a" * 16, ["deploy.example"])
    made = fleet.put(SHOP, document)
    assert made.status_code == 201, made.text  # and it needs no secret for all of them
    last = made.get_json()["effective"]["stages"][1]
    assert last["gates"] == [
        {"webhook": "https://Gate.example/ask", "timeout": "3600s", "secret": "gate"}
    ]
    assert last["after"] == {"webhook": HOOK, "secret": "after"}
    for name in ("gate", "after"):
        used = fleet.delete(f"/api/v1/secrets/{name}")
        assert (used.status_code, "used by pipeline shop" in used.text) == (409, True)

    services.tokens.create("team", "admin", text="tsp_team", project="default")
    teams = {"Authorization": "Bearer tsp_team"}
    refused = fleet.problems(fleet.put(SHOP, document, role=None, headers=teams))
    assert "admins of the platform" in refused["stages[1].gates[0].secret"]
    approval = staged(gates=[{"approval": {}, "secret": "gate"}])
    assert "only a webhook or a scan" in str(fleet.problems(fleet.put(SHOP, approval)))


@pytest.mark.parametrize(("words", "counts"), [("g" * 16, 200), (SECRET, 401), ("a" * 16, 401)])
def test_an_answer_counts_at_a_gate_by_that_gates_own_secret(
    fleet: Api, services: Services, words: str, counts: int
) -> None:
    services.secrets.put("gate", "g" * 16, ["gate.example"])
    services.secrets.put("after", "a" * 16, ["gate.example"])
    gate = Gate(WEBHOOK, url="https://gate.example/ask", secret="gate")
    promotion = standing_promotion(services, gate).id

    def answer() -> int:
        return answered(fleet, promotion, 0, secret=words, decision="approve")[0]

    services.secrets.put("gate", "g" * 16, ["elsewhere.example"])
    assert answer() == 401
    services.secrets.put("gate", "g" * 16, ["gate.example"])
    assert answer() == counts


def test_a_promotion_is_asked_for_and_approved_by_others(fleet: Api, services: Services) -> None:
    standing_pipeline(services, Gate(APPROVAL, role="admin"), Gate(APPROVAL, role="operator"))
    made = asked(fleet)
    assert made.status_code == 201, made.text
    first = made.get_json()
    assert (first["state"], first["gate"], first["digest"]) == ("waiting", 0, DIGEST)
    assert first["image"] == f"west.example/shop/web@{DIGEST}"
    assert asked(fleet).status_code == 200
    path = f"/api/v1/promotions/{first['id']}"
    services.tokens.create("boss", "admin", text="tsp_boss")
    boss = {"Authorization": "Bearer tsp_boss"}

    weak = fleet.post(f"{path}/approve", {"digest": DIGEST}, role="operator")
    own = fleet.post(f"{path}/approve", {"digest": DIGEST})
    other = fleet.post(f"{path}/approve", {"digest": EARLIER}, role=None, headers=boss)
    assert (weak.status_code, own.status_code, other.status_code) == (403, 409, 409)
    assert "needs admin" in weak.text
    assert "may not approve it" in own.text
    fleet.post(f"{path}/approve", {"digest": DIGEST}, role=None, headers=boss)
    now = fleet.post(f"{path}/approve", {"digest": DIGEST}, role="operator").get_json()

    assert [step["state"] for step in now["steps"]] == ["passed", "passed"]
    assert [one["approvals"][0]["actor"] for one in now["steps"]] == ["boss", "operator"]
    told = [(one["actor"], one["event"]) for one in now["history"]]
    assert told == [
        ("admin", "asked"),
        ("boss", "approved"),
        ("boss", "gate.passed"),
        ("operator", "approved"),
        ("operator", "gate.passed"),
    ]
    rows = fleet.get("/api/v1/audit?kind=promotions").get_json()["items"]
    assert [(row["actor"], row["action"]) for row in rows] == [
        ("operator", "approve"),
        ("boss", "approve"),
        ("admin", "ask"),
        ("admin", "ask"),
    ]
    assert fleet.delete(SHOP).status_code == 409
    assert fleet.delete("/api/v1/registries/east").status_code == 409


def test_a_promotion_that_waits_for_no_approval_takes_none(fleet: Api, services: Services) -> None:
    promotion = standing_promotion(services, Gate(WEBHOOK, url=HOOK))

    refused = fleet.post(f"/api/v1/promotions/{promotion.id}/approve", {"digest": DIGEST})

    assert refused.status_code == 409
    assert "waits for no approval" in refused.text


def test_a_placed_promotion_is_said_to_be_placed(fleet: Api, services: Services) -> None:
    placed = standing_promotion(services, Gate(APPROVAL), state=PromotionState.PLACED)

    refused = fleet.post(f"/api/v1/promotions/{placed.id}/approve", {"digest": DIGEST})

    assert refused.status_code == 409
    assert "is placed: it waits for no gate any more" in refused.text


def test_a_promotion_is_rejected_and_rolled_back(fleet: Api, services: Services) -> None:
    first = standing_promotion(services)
    said = {"digest": DIGEST, "reason": "no"}
    ended = fleet.post(f"/api/v1/promotions/{first.id}/reject", said).get_json()
    assert (ended["state"], ended["reason"]) == ("rejected", "no")
    placed = standing_promotion(services, state=PromotionState.PLACED)

    back = fleet.post(f"/api/v1/promotions/{placed.id}/rollback")

    assert back.status_code == 201, back.text
    assert back.get_json()["digest"] == EARLIER
    assert back.get_json()["takes_back"] == placed.id
    found = fleet.get("/api/v1/promotions?pipeline=shop&state=waiting").get_json()["items"]
    assert [one["id"] for one in found] == [back.get_json()["id"]]
    assert fleet.get("/api/v1/promotions?state=wating").status_code == 400
    page = fleet.get("/api/v1/promotions?limit=2").get_json()
    rest = fleet.get(f"/api/v1/promotions?limit=2&cursor={page['next']}").get_json()["items"]
    assert [one["id"] for one in (*page["items"], *rest)][-1] == first.id


def answered(
    api: Api, identity: str, position: int, *, secret: str = SECRET, **more: Any
) -> tuple[int, str]:
    said = {"promotion": identity, "gate": position, "digest": DIGEST, **more}
    body = json.dumps(said).encode()
    response = api.post(
        f"/hooks/gates/{identity}/{position}",
        body,
        role=None,
        headers={"Transship-Signature": signed(body, secret)},
    )
    return response.status_code, response.text


def test_a_gate_is_answered_later_signed(
    fleet: Api, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    gates = (Gate(SCAN), Gate(WEBHOOK, url=HOOK), Gate(APPROVAL))
    promotion = standing_promotion(services, *gates)
    clean = dict.fromkeys(("critical", "high", "medium", "low"), 0)
    one = promotion.id
    assert answered(fleet, one, 0, findings=clean)[0] == 401, "the pipeline has no secret"
    fleet.put(SHOP, staged(gates=[{"scan": {}}, {"webhook": HOOK}]) | {"secret": SECRET})

    refused = {
        answered(fleet, one, 0, secret="another secret of sixteen", findings=clean),
        answered(fleet, one, 0, findings={}),
        answered(fleet, one, 0, findings=clean, digest=EARLIER),
        answered(fleet, one, 0, findings=clean, promotion="0" * 24),
        answered(fleet, "0" * 24, 0, findings=clean),
        answered(fleet, one, 2, decision="approve", gate=1),
        answered(fleet, one, 3, decision="approve"),
        answered(fleet, one, 2, decision="approv"),
    }
    assert {status for status, _ in refused} == {401}
    early = answered(fleet, one, 1, decision="approve")
    assert (early[0], json.loads(early[1])["counted"]) == (200, False), "not asked yet"
    assert services.promotions.get(one).gate == 0

    assert json.loads(answered(fleet, one, 0, findings=clean)[1])["counted"] is True
    assert json.loads(answered(fleet, one, 0, findings=clean)[1])["counted"] is False, "again"
    assert json.loads(answered(fleet, one, 1, decision="approve")[1])["counted"] is True
    assert json.loads(answered(fleet, one, 2, decision="approve")[1])["counted"] is False
    assert services.promotions.get(one).gate == 2, "an approval is no webhook's to give"
    actors = [row.change.actor for row in services.audit.list(kind="promotions")]
    assert actors == ["webhook of gate 1", "scan of gate 0"]


def test_a_variable_that_is_not_set_is_no_matter_where_a_secret_is_stored(fleet: Api) -> None:
    document = {**staged(after={"webhook": HOOK}), "secret_env": "TRANSSHIP_SECRET_UNSET"}

    assert fleet.put(SHOP, {**document, "secret": SECRET}).status_code == 201
    assert fleet.put(SHOP, document).status_code == 200
    moved = {**staged(after={"webhook": HOOK + "2"}), "secret_env": "TRANSSHIP_SECRET_UNSET"}
    assert "is not set" in fleet.problems(fleet.put(SHOP, moved))["secret_env"]


def test_promotions_of_a_pipeline_that_never_was_are_refused(
    fleet: Api, services: Services
) -> None:
    standing_pipeline(services, Gate(APPROVAL))
    listing = "/api/v1/promotions?pipeline="
    assert fleet.get(listing + "shop").get_json()["items"] == []
    assert "did you mean 'shop'?" in fleet.get(listing + "shopp").text
    assert fleet.get(listing + "shopp").status_code == 400
    promotion = asked(fleet).get_json()["id"]
    rejected = fleet.post(f"/api/v1/promotions/{promotion}/reject", {"digest": DIGEST})
    assert rejected.status_code == 200
    assert fleet.delete(SHOP).status_code == 204
    assert [one["id"] for one in fleet.get(listing + "shop").get_json()["items"]] == [promotion]


def test_a_project_signs_with_no_variable_of_the_server(
    teams: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variable may hold another pipeline's secret, or a registry's password."""
    both = {name: ["**"] for name in ("east", "west")}
    teams.put("/api/v1/projects/team-a", {"read": both, "write": both})
    teams.put("/api/v1/registries/west", WEST)
    document = {**staged(after={"webhook": HOOK}), "secret_env": "TRANSSHIP_SECRET_SHOP"}

    refused = teams.put(SHOP, document, role="team-a.admin")

    assert "admins of the platform" in teams.problems(refused)["secret_env"]
    own = {**staged(after={"webhook": HOOK}), "secret": SECRET}
    assert teams.put(SHOP, own, role="team-a.admin").status_code == 201
    monkeypatch.setenv("TRANSSHIP_SECRET_SHOP", SECRET)
    assert teams.put(SHOP, {**document, "project": "team-a"}).status_code == 200
