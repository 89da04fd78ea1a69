"""Every route for every kind of caller; a new route without a row here is red."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import update

from api.openapi import routes
from service.bootstrap import Services
from service.model.migration import WaveState
from service.model.pipeline import PromotionState
from service.model.release import ACTIONS, ReleaseState
from service.model.states import CopyState
from service.store.examinations import Question
from service.store.tables import executions
from service.store.tables_releases import releases
from service.store.tokens import AGENT_ROLE, ROLES
from tests.support.deletions import waiting_deletion
from tests.support.migrations import standing_migration
from tests.support.pipelines import DIGEST as PROMOTED
from tests.support.pipelines import STAGES, standing_pipeline, standing_promotion
from tests.support.replicas import standing_replica
from tests.unit.api.conftest import EAST, FLEET, WEST, Api
from tests.unit.api.test_executions_api import add_copy


@dataclass(frozen=True)
class Row:
    """What a route asks for: the least role; whose object {name} or {identity} is in the test.

    `whose`: "platform" takes tokens without a project only; "team-a" is an object that others do not
    see; "all" is for every token (a list shows what its caller may see).
    """

    role: str
    whose: str = "all"
    body: Any = None


OPEN, HOOK = "open", "hook"
PUT_HOOK = {"url": "https://receiver.example/y", "events": ["execution.*"]}
TABLE = {
    ("GET", "/api/v1/registries"): Row("viewer"),
    ("GET", "/api/v1/registries/{name}"): Row("viewer", "team-a"),
    ("GET", "/api/v1/registries/{name}/standing"): Row("viewer", "team-a"),
    ("PUT", "/api/v1/registries/{name}"): Row("admin", "platform", EAST),
    ("DELETE", "/api/v1/registries/{name}"): Row("admin", "platform"),
    ("GET", "/api/v1/registries/{name}/hook"): Row("operator", "platform"),
    ("PUT", "/api/v1/registries/{name}/hook"): Row("admin", "platform"),
    ("POST", "/api/v1/registries/{name}/hook/rotation"): Row("admin", "platform"),
    ("POST", "/api/v1/registries/{name}/hook/registration"): Row(
        "admin",
        "platform",
        {"url": "https://transship.example", "repositories": ["team/app"]},
    ),
    ("POST", "/api/v1/registries/{name}/examination"): Row(
        "admin", "platform", body={"write": False}
    ),
    ("GET", "/api/v1/registries/{name}/examinations/{identity}"): Row("admin", "platform"),
    ("GET", "/api/v1/regions"): Row("viewer"),
    ("GET", "/api/v1/regions/{name}"): Row("viewer"),
    ("PUT", "/api/v1/regions/{name}"): Row("admin", "platform", {"jurisdiction": "eu"}),
    ("DELETE", "/api/v1/regions/{name}"): Row("admin", "platform"),
    ("GET", "/api/v1/links"): Row("viewer"),
    ("GET", "/api/v1/links/{name}"): Row("viewer"),
    ("PUT", "/api/v1/links/{name}"): Row("admin", "platform", {"cost_per_gib": 0.02}),
    ("DELETE", "/api/v1/links/{name}"): Row("admin", "platform"),
    ("DELETE", "/api/v1/registries/{name}/hook/previous"): Row("admin", "platform"),
    ("DELETE", "/api/v1/registries/{name}/hook"): Row("admin", "platform"),
    ("POST", "/hooks/{provider}/{registry}"): Row(HOOK, body={}),
    ("POST", "/hooks/{provider}/{registry}/{token}"): Row(HOOK, body={}),
    ("GET", "/api/v1/rules"): Row("viewer"),
    ("GET", "/api/v1/rules/{name}"): Row("viewer", "team-a"),
    ("GET", "/api/v1/rules/{name}/lag"): Row("viewer", "team-a"),
    ("PUT", "/api/v1/rules/{name}"): Row("operator", "team-a", FLEET),
    ("DELETE", "/api/v1/rules/{name}"): Row("operator", "team-a"),
    ("POST", "/api/v1/rules/{name}/executions"): Row("operator", "team-a"),
    ("GET", "/api/v1/executions"): Row("viewer"),
    ("GET", "/api/v1/executions/{identity}"): Row("viewer", "team-a"),
    ("GET", "/api/v1/executions/{identity}/copies"): Row("viewer", "team-a"),
    ("GET", "/api/v1/executions/{identity}/copies/{copy}"): Row("viewer", "team-a"),
    ("GET", "/api/v1/executions/{identity}/events"): Row("viewer", "team-a"),
    ("GET", "/api/v1/flows/{identity}"): Row("viewer", "team-a"),
    ("POST", "/api/v1/executions/{identity}/stop"): Row("operator", "team-a"),
    ("POST", "/api/v1/rules/{name}/pause"): Row("operator", "team-a"),
    ("POST", "/api/v1/rules/{name}/resume"): Row("operator", "team-a"),
    ("POST", "/api/v1/registries/{name}/pause"): Row("admin", "platform"),
    ("POST", "/api/v1/registries/{name}/resume"): Row("admin", "platform"),
    ("GET", "/api/v1/deletions"): Row("viewer"),
    ("GET", "/api/v1/deletions/{identity}"): Row("viewer", "team-a"),
    ("GET", "/api/v1/deletions/{identity}/tags"): Row("viewer", "team-a"),
    ("POST", "/api/v1/deletions/{identity}/approve"): Row("admin", "team-a"),
    ("POST", "/api/v1/deletions/{identity}/cancel"): Row("operator", "team-a"),
    ("GET", "/api/v1/replicas"): Row("viewer"),
    ("GET", "/api/v1/replicas/{name}/{registry}"): Row("viewer", "team-a"),
    ("GET", "/api/v1/replicas/{name}/{registry}/drift"): Row("viewer", "team-a"),
    ("GET", "/api/v1/replicas/{name}/{registry}/promotion"): Row("viewer", "team-a"),
    ("POST", "/api/v1/replicas/{name}/{registry}/promote"): Row(
        "admin", "team-a", {"accept_missing": True}
    ),
    ("POST", "/api/v1/replicas/{name}/{registry}/reverse"): Row("admin", "team-a"),
    ("POST", "/api/v1/replicas/{name}/{registry}/repair"): Row("operator", "team-a"),
    ("GET", "/api/v1/releases"): Row("viewer"),
    ("POST", "/api/v1/releases"): Row("operator", "team-a", {"name": "new", "rule": "fleet"}),
    ("GET", "/api/v1/releases/{name}"): Row("viewer", "team-a"),
    ("GET", "/api/v1/releases/{name}/tags"): Row("viewer", "team-a"),
    ("DELETE", "/api/v1/releases/{name}"): Row("operator", "team-a"),
    ("POST", "/api/v1/releases/{name}/stage"): Row("operator", "team-a"),
    ("POST", "/api/v1/releases/{name}/flip"): Row("operator", "team-a"),
    ("POST", "/api/v1/releases/{name}/rollback"): Row("operator", "team-a"),
    ("GET", "/api/v1/migrations"): Row("viewer"),
    ("GET", "/api/v1/migrations/{name}"): Row("viewer", "team-a"),
    ("GET", "/api/v1/migrations/{name}/repositories"): Row("viewer", "team-a"),
    ("GET", "/api/v1/migrations/{name}/findings"): Row("viewer", "team-a"),
    ("GET", "/api/v1/migrations/{name}/rollback"): Row("viewer", "team-a"),
    ("PUT", "/api/v1/migrations/{name}"): Row(
        "operator", "team-a", {"source": "east", "destination": "west"}
    ),
    ("DELETE", "/api/v1/migrations/{name}"): Row("operator", "team-a"),
    ("POST", "/api/v1/migrations/{name}/inventory"): Row("operator", "team-a"),
    ("POST", "/api/v1/migrations/{name}/freeze"): Row("operator", "team-a"),
    ("POST", "/api/v1/migrations/{name}/prove"): Row("operator", "team-a"),
    ("POST", "/api/v1/migrations/{name}/delta"): Row("operator", "team-a"),
    ("POST", "/api/v1/migrations/{name}/waves/{wave}/start"): Row("operator", "team-a"),
    ("POST", "/api/v1/migrations/{name}/pause"): Row("operator", "team-a"),
    ("POST", "/api/v1/migrations/{name}/resume"): Row("operator", "team-a"),
    ("GET", "/api/v1/pipelines"): Row("viewer"),
    ("GET", "/api/v1/pipelines/{name}"): Row("viewer", "team-a"),
    ("PUT", "/api/v1/pipelines/{name}"): Row("admin", "team-a", {"stages": STAGES}),
    ("DELETE", "/api/v1/pipelines/{name}"): Row("admin", "team-a"),
    ("GET", "/api/v1/promotions"): Row("viewer"),
    ("POST", "/api/v1/promotions"): Row(
        "operator",
        "team-a",
        {"pipeline": "shop", "ref": f"shop/web:v2@{PROMOTED}", "to": "prod"},
    ),
    ("GET", "/api/v1/promotions/{identity}"): Row("viewer", "team-a"),
    ("POST", "/api/v1/promotions/{identity}/approve"): Row(
        "operator", "team-a", {"digest": PROMOTED}
    ),
    ("POST", "/api/v1/promotions/{identity}/reject"): Row(
        "operator", "team-a", {"digest": PROMOTED}
    ),
    ("POST", "/api/v1/promotions/{identity}/cancel"): Row("operator", "team-a"),
    ("POST", "/api/v1/promotions/{identity}/rollback"): Row("operator", "team-a", {}),
    ("POST", "/hooks/gates/{identity}/{gate}"): Row(HOOK, body={}),
    ("GET", "/api/v1/overview"): Row("viewer"),
    ("GET", "/api/v1/overview/history"): Row("viewer"),
    ("GET", "/api/v1/plans"): Row("viewer"),
    ("POST", "/api/v1/plans"): Row("operator", "team-a", {"rule": "fleet"}),
    ("GET", "/api/v1/plans/{identity}"): Row("viewer", "team-a"),
    ("POST", "/api/v1/plans/{identity}/executions"): Row("operator", "team-a"),
    ("GET", "/api/v1/verifications"): Row("viewer"),
    ("POST", "/api/v1/verifications"): Row("operator", "team-a", {"rule": "fleet"}),
    ("GET", "/api/v1/verifications/{identity}"): Row("viewer", "team-a"),
    ("GET", "/api/v1/images/{repository}/{reference}/locations"): Row("viewer"),
    ("POST", "/api/v1/executions/{identity}/retry"): Row("operator", "team-a"),
    ("GET", "/api/v1/executions/{identity}/report"): Row("viewer", "team-a"),
    ("GET", "/api/v1/executions/{identity}/receipt"): Row("viewer", "team-a"),
    ("GET", "/api/v1/receipts"): Row("viewer", "team-a"),
    ("GET", "/api/v1/receipts/key"): Row("viewer"),
    ("GET", "/api/v1/reports"): Row("viewer", "team-a"),
    ("GET", "/api/v1/projects"): Row("viewer"),
    ("GET", "/api/v1/projects/{name}"): Row("viewer", "team-a"),
    ("PUT", "/api/v1/projects/{name}"): Row("admin", "platform", {}),
    ("DELETE", "/api/v1/projects/{name}"): Row("admin", "platform"),
    ("GET", "/api/v1/secrets"): Row("admin", "platform"),
    ("GET", "/api/v1/secrets/{name}"): Row("admin", "platform"),
    ("PUT", "/api/v1/secrets/{name}"): Row("admin", "platform", {"hosts": ["east.example"]}),
    ("DELETE", "/api/v1/secrets/{name}"): Row("admin", "platform"),
    ("GET", "/api/v1/pull-tokens"): Row("admin", "platform"),
    ("POST", "/api/v1/pull-tokens"): Row(
        "admin", "platform", {"name": "new", "repositories": ["team/**"]}
    ),
    ("GET", "/api/v1/pull-tokens/{name}"): Row("admin", "platform"),
    ("DELETE", "/api/v1/pull-tokens/{name}"): Row("admin", "platform"),
    ("GET", "/api/v1/tokens"): Row("admin", "platform"),
    ("POST", "/api/v1/tokens"): Row("admin", "platform", {"name": "new", "role": "viewer"}),
    ("GET", "/api/v1/tokens/{name}"): Row("admin", "platform"),
    ("DELETE", "/api/v1/tokens/{name}"): Row("admin", "platform"),
    ("GET", "/api/v1/audit"): Row("admin"),
    ("GET", "/api/v1/audit/verification"): Row("admin", "platform"),
    ("GET", "/api/v1/webhooks"): Row("operator"),
    ("GET", "/api/v1/webhooks/{name}"): Row("operator", "team-a"),
    ("PUT", "/api/v1/webhooks/{name}"): Row("admin", "team-a", PUT_HOOK),
    ("DELETE", "/api/v1/webhooks/{name}"): Row("admin", "team-a"),
    ("GET", "/api/v1/webhooks/{name}/deliveries"): Row("operator", "team-a"),
    ("POST", "/api/v1/regions/{name}/lease"): Row(AGENT_ROLE),
    ("POST", "/api/v1/regions/{name}/outcomes"): Row(AGENT_ROLE),
    ("GET", "/healthz"): Row(OPEN),
    ("GET", "/readyz"): Row(OPEN),
    ("GET", "/metrics"): Row("viewer"),
    ("GET", "/openapi.json"): Row(OPEN),
}
NAMES = {"tokens": "viewer", "rules": "fleet", "webhooks": "fleet", "links": "hub:rim"}
OWN = {"registries": "east", "projects": "team-a"}
CALLERS = [None, *ROLES, *(f"{team}.{role}" for team in ("team-a", "team-b") for role in ROLES)]


def expected(row: Row, caller: str | None) -> int:
    """The answer that a caller gets; 200 stands for every success."""
    if row.role == OPEN:
        return 200
    if caller is None or row.role == HOOK:
        return 401  # a hook has a secret of its own
    if row.role == AGENT_ROLE:
        return 403  # none of these callers is an agent
    scope, _, role = caller.rpartition(".")
    if ROLES.index(role) < ROLES.index(row.role) or (row.whose == "platform" and scope):
        return 403
    return 404 if row.whose == "team-a" and scope == "team-b" else 200


def concrete(api: Api, method: str, path: str, row: Row) -> str:
    """The route's path with the names of things that are there."""
    api.put("/api/v1/registries/spare/hook", {})
    if path.endswith("/events"):
        api.app.extensions["transship"].closing.set()
    kind = path.split("/")[3] if path.startswith("/api") else ""
    own = OWN.get(kind) if row.whose == "team-a" else None
    name = own or NAMES.get(kind, "spare")
    path = path.replace("{repository}/{reference}", "team/app/v1")
    for looking in ("verifications", "plans"):
        if path.startswith(f"/api/v1/{looking}/"):
            made = api.post(f"/api/v1/{looking}", {"rule": "fleet"}).get_json()["id"]
            path = path.replace("{identity}", made)
            if path.endswith("/executions"):
                finish_plan(api, made)
    if path.startswith("/api/v1/pull-tokens/"):
        api.post("/api/v1/pull-tokens", {"name": "spare", "repositories": ["**"]})
    if path.startswith("/api/v1/deletions/"):
        services = api.app.extensions["transship"].services
        path = path.replace("{identity}", waiting_deletion(services, "fleet", "team/app:v1"))
    if path.startswith("/api/v1/releases/"):
        services = api.app.extensions["transship"].services
        path = path.replace("{name}", standing_release(services, path.rpartition("/")[2]))
    if path.startswith("/api/v1/replicas/"):
        services = api.app.extensions["transship"].services
        both = {name: ["**"] for name in ("east", "west")}
        api.put("/api/v1/projects/team-a", {"read": both, "write": both})
        api.put("/api/v1/registries/west", WEST)
        made = standing_replica(services, project="team-a", fenced=path.endswith("/reverse"))
        path = path.replace("{name}/{registry}", made)
    if path.startswith("/api/v1/migrations/"):
        services = api.app.extensions["transship"].services
        both = {name: ["**"] for name in ("east", "west")}
        api.put("/api/v1/projects/team-a", {"read": both, "write": both})
        api.put("/api/v1/registries/west", WEST)
        begun = WaveState.PENDING if method == "PUT" else WaveState.DONE
        made = standing_migration(services, project="team-a", waves=begun)
        path = path.replace("{name}", made).replace("{wave}", "first")
    if path.startswith(("/api/v1/pipelines", "/api/v1/promotions", "/hooks/gates")):
        services = api.app.extensions["transship"].services
        both = {name: ["**"] for name in ("east", "west")}
        api.put("/api/v1/projects/team-a", {"read": both, "write": both})
        api.put("/api/v1/registries/west", WEST)
        if path.startswith("/api/v1/pipelines"):
            return path.replace("{name}", standing_pipeline(services, project="team-a").name)
        over = PromotionState.PLACED if path.endswith("/rollback") else PromotionState.WAITING
        made = standing_promotion(services, project="team-a", state=over).id
        return path.replace("{identity}", made).replace("{gate}", "0")
    if "/examinations/" in path:
        store = api.app.extensions["transship"].services.examinations
        asked = store.ask(Question(name, "scratch", write=False), "hub", seconds=60)
        path = path.replace("{identity}", asked.id)
    if path.endswith("/receipts"):
        end(api, api.post("/api/v1/rules/fleet/executions").get_json()["id"])
        path += "?rule=fleet"
    if path.endswith("/reports"):
        run = api.post("/api/v1/rules/fleet/executions").get_json()["id"]
        path += f"?execution={run}"
    if "{identity}" in path:
        run = api.post("/api/v1/rules/fleet/executions").get_json()["id"]
        if path.endswith(("/retry", "/receipt")):  # of an ended one, of which something is left
            end(api, run)
        path = path.replace("{identity}", run)
        if path.endswith("/{copy}"):
            path = path.replace("{copy}", standing_copy(api, run))
    return path.replace("{name}", name)


def standing_copy(api: Api, run: str) -> str:
    """Have an execution have a copy; return its number."""
    services = api.app.extensions["transship"].services
    add_copy(services, run, CopyState.FAILED)
    (copy,) = services.executions.copies(run)
    return str(copy.id)


def end(api: Api, run: str) -> None:
    """Have an execution stopped."""
    store = api.app.extensions["transship"].services
    store.executions.request_stop(run)
    store.dispatching.end_executions()


def standing_release(services: Services, action: str) -> str:
    """Make a release that the action may be asked of."""
    allowed, _ = ACTIONS.get(action, ({ReleaseState.STAGED}, None))
    services.releases.create("standing", services.rules.get("fleet").rule, (), region="hub")
    services.database.write(
        lambda connection: connection.execute(update(releases).values(state=min(allowed)))
    )
    return "standing"


def finish_plan(api: Api, identity: str) -> None:
    """Have a plan ended, as its planner would."""
    database = api.app.extensions["transship"].services.database
    database.write(
        lambda connection: connection.execute(
            update(executions).where(executions.c.id == identity).values(state="succeeded")
        )
    )


def test_table_has_every_route(api: Api) -> None:
    assert {(method.upper(), path) for path, method in routes(api.app)} == set(TABLE)


SAFE = [route for route in TABLE if route[0] == "GET"]
UNSAFE = [route for route in TABLE if route[0] != "GET"]


@pytest.mark.parametrize("route", SAFE, ids=" ".join)
def test_question_is_answered_to_each_caller_as_the_table_says(
    teams: Api, route: tuple[str, str]
) -> None:
    where = concrete(teams, *route, TABLE[route])

    answers = {caller: outcome(teams, route, where, caller) for caller in CALLERS}

    assert answers == {caller: expected(TABLE[route], caller) for caller in CALLERS}


@pytest.mark.parametrize(
    ("route", "caller"),
    [(route, c) for route in UNSAFE for c in CALLERS if expected(TABLE[route], c) == 200],
)
def test_change_is_made_for_those_whom_the_table_names(
    teams: Api, route: tuple[str, str], caller: str
) -> None:
    where = concrete(teams, *route, TABLE[route])

    assert outcome(teams, route, where, caller) == 200


@pytest.mark.parametrize("route", UNSAFE, ids=" ".join)
def test_refused_callers_get_what_the_table_says_and_change_nothing(
    teams: Api, services: Services, route: tuple[str, str]
) -> None:
    row = TABLE[route]
    where = concrete(teams, *route, row)
    refused = [caller for caller in CALLERS if expected(row, caller) != 200]
    before, rows = everything(teams), services.audit.verify().rows

    answers = {caller: outcome(teams, route, where, caller) for caller in refused}

    assert answers == {caller: expected(row, caller) for caller in refused}
    assert everything(teams) == before
    assert services.audit.verify().rows == rows


def outcome(api: Api, route: tuple[str, str], where: str, caller: str | None) -> int:
    """The status of an answer; 200 for every success."""
    body = TABLE[route].body
    if caller is None or "." not in caller:
        body = _for_the_platform(body, route[1])
    status = api.ask(route[0], where, body, role=caller).status_code
    return 200 if status in {200, 201, 202, 204} else status


def _for_the_platform(body: Any, path: str) -> Any:
    """A token of the platform says which project an object belongs to."""
    owned = isinstance(body, dict) and path.split("/")[3:4] in (["rules"], ["webhooks"])
    return {**body, "project": "team-a"} if owned else body


def everything(api: Api) -> list[Any]:
    """All that the API keeps, as an administrator sees it."""
    kinds = (
        "regions",
        "links",
        "registries",
        "rules",
        "tokens",
        "projects",
        "secrets",
        "webhooks",
        "deletions",
        "replicas",
        "executions",
    )
    found = [api.get(f"/api/v1/{kind}").get_json() for kind in kinds]
    for item in found[-1]["items"]:
        item.pop("seconds")
    return found


@pytest.mark.parametrize("kind", ["registries", "rules", "executions", "projects", "webhooks"])
def test_lists_show_a_project_its_own(teams: Api, kind: str) -> None:
    assert teams.post("/api/v1/rules/fleet/executions").status_code == 202

    def listed(caller: str) -> set[str]:
        items = teams.get(f"/api/v1/{kind}", role=caller).get_json()["items"]
        return {item.get("name", item.get("rule")) for item in items}

    own = {"registries": {"east", "west"}, "projects": {"team-a"}}.get(kind, {"fleet"})
    other = {"registries": {"north"}, "projects": {"team-b"}}.get(kind, set())
    assert listed("team-a.admin") == own
    assert listed("team-b.admin") == other
    assert listed("admin") >= own | other


def test_hints_tell_no_names_of_another_project(teams: Api) -> None:
    told = teams.get("/api/v1/rules/flet", role="team-b.viewer").text

    assert "fleet" not in told
    assert "fleet" in teams.get("/api/v1/rules/flet", role="team-a.viewer").text


def test_project_sees_no_credentials_of_a_registry(teams: Api) -> None:
    body = {**EAST, "credentials": {"username": "robot", "secret": "spare"}}
    assert teams.put("/api/v1/registries/east", body).status_code == 200

    shown = teams.get("/api/v1/registries/east", role="team-a.admin")

    assert "robot" not in shown.text
    assert "robot" in teams.get("/api/v1/registries/east").text


def test_project_token_cannot_write_into_another_project(teams: Api) -> None:
    moved = teams.put("/api/v1/rules/new", {**FLEET, "project": "team-a"}, role="team-b.operator")
    listed = teams.get("/api/v1/executions?project=team-a", role="team-b.viewer")

    assert "project" in teams.problems(moved)
    assert listed.get_json()["items"] == []


MUTATING = [
    route for route in TABLE if route[0] != "GET" and TABLE[route].role not in (HOOK, AGENT_ROLE)
]


@pytest.mark.parametrize("route", MUTATING, ids=" ".join)
def test_every_change_leaves_one_row_in_the_audit_log(
    teams: Api, services: Services, route: tuple[str, str]
) -> None:
    method, path = route
    row = TABLE[route]
    where = concrete(teams, method, path, row)
    body = _for_the_platform(row.body, path)
    if path == "/api/v1/projects/{name}" and method == "PUT":
        body = {"read": {"east": ["x"]}}
    if path in {"/api/v1/rules/{name}", "/api/v1/registries/{name}"} and method == "PUT":
        body = {**body, **({"priority": "bulk"} if "rules" in path else {"region": "eu"})}
    if path == "/api/v1/registries/{name}/hook" and method == "PUT":
        teams.delete("/api/v1/registries/spare/hook")
    before = services.audit.verify().rows

    response = teams.ask(method, where, body)

    assert response.status_code in {200, 201, 202, 204}, response.text
    found = services.audit.verify()
    assert (found.rows, found.broken) == (before + 1, None)
    newest = services.audit.list(limit=1)[0].change
    assert (newest.actor, newest.kind) == ("admin", path.split("/")[3])
    assert newest.name
    assert newest.action


@pytest.mark.parametrize(
    "path", ["/api/v1/nothing", "/api/v2", "/api", "/api/v1/rules/x/y/z", "/api/v1//rules"]
)
def test_unknown_path_is_told_to_callers_with_a_token_only(api: Api, path: str) -> None:
    assert api.get(path, role=None).status_code == 401
    assert api.get(path, role="viewer").status_code == 404


@pytest.mark.parametrize("method", ["TRACE", "OPTIONS", "PATCH", "POST"])
def test_unknown_method_is_refused(api: Api, method: str) -> None:
    response = api.ask(method, "/api/v1/rules/fleet", role="viewer")

    assert response.status_code == 405
    assert {"GET", "PUT", "DELETE"} <= set(response.headers["Allow"].split(", "))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer nothing",
        "Basic YTpi",
        "Bearer {token} ",
        "Bearer  {token}",
        "Bearer {token},Bearer {token}",
        "Bearer {token}x",
        "Token {token}",
        "{token}",
        "Bearer " + "x" * 8192,
        "Bearer \xe9",
    ],
)
def test_anything_but_one_valid_token_is_401(api: Api, header: str) -> None:
    sent = header.replace("{token}", api.tokens["admin"])

    response = api.get("/api/v1/rules", role=None, headers={"Authorization": sent})

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="transship"'
    assert response.get_json()["code"] == "unauthenticated"


def test_scheme_is_read_without_regard_to_case(api: Api) -> None:
    sent = {"Authorization": f"bearer {api.tokens['viewer']}"}

    assert api.get("/api/v1/rules", role=None, headers=sent).status_code == 200


def test_revoked_token_is_refused_at_once(api: Api) -> None:
    assert api.delete("/api/v1/tokens/viewer").status_code == 204

    assert api.get("/api/v1/rules", role="viewer").status_code == 401


def test_token_in_the_query_is_no_token(api: Api) -> None:
    response = api.get(f"/api/v1/rules?token={api.tokens['admin']}", role=None)

    assert response.status_code == 401


def test_view_that_says_nothing_of_itself_answers_nobody(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(api.app.view_functions, "rules.list_rules", lambda: "secret")

    assert api.get("/api/v1/rules").status_code == 403
