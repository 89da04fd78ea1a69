"""Health, metrics, the API's page and the console."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from api.app import create_app
from api.context import KEY
from service.bootstrap import Services
from service.settings import Settings
from tests.support.pipelines import standing_promotion
from tests.unit.api.conftest import Api, Seed

CONSOLE = Path(__file__).parents[3] / "api/console"
SCRIPTS = {
    file.relative_to(CONSOLE / "static").as_posix(): file.read_text("utf-8")
    for file in sorted((CONSOLE / "static").rglob("*.js"))
}
SCRIPT = "".join(SCRIPTS.values())


def test_health_asks_nothing_else(api: Api, services: Services) -> None:
    services.database.close()

    assert api.get("/healthz", role=None).get_json() == {"status": "alive"}


def test_readiness_asks_the_database(api: Api, services: Services) -> None:
    assert api.get("/readyz", role=None).get_json() == {
        "status": "ready",
        "checks": {"database": "ok", "redis": "ok"},
    }


def test_readiness_says_which_one_is_away_and_no_more(api: Api, services: Services) -> None:
    services.database.exclusive(
        lambda connection: connection.exec_driver_sql("DROP TABLE alembic_version")
    )

    response = api.get("/readyz", role=None)

    assert response.status_code == 503
    assert response.get_json()["checks"]["database"] == "unavailable"
    assert "sqlite" not in response.text


def test_metrics_count_states_and_tell_no_names(fleet: Api, services: Services) -> None:
    fleet.post("/api/v1/rules/fleet/executions")
    standing_promotion(services)

    response = fleet.get("/metrics", role="viewer")

    assert response.mimetype == "text/plain"
    assert 'transship_executions{state="pending"} 1.0' in response.text
    assert 'transship_executions{state="failed"} 0.0' in response.text
    assert 'transship_open_promotions{state="waiting"} 1.0' in response.text
    assert 'transship_open_promotions{state="copying"} 0.0' in response.text
    assert "fleet" not in response.text
    assert "east" not in response.text


def test_metrics_are_for_who_bears_a_token(fleet: Api) -> None:
    context = fleet.app.extensions[KEY]
    scraping = {"Authorization": "Bearer a-token-of-scrapes"}
    assert fleet.get("/metrics", role=None).status_code == 401
    assert fleet.get("/metrics", role=None, headers=scraping).status_code == 401

    context.metrics_token = "a-token-of-scrapes"

    assert fleet.get("/metrics", role=None, headers=scraping).status_code == 200
    assert fleet.get("/metrics", role=None).status_code == 401
    assert fleet.get("/api/v1/rules", role=None, headers=scraping).status_code == 401


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/console/main.js", "/api/v1/x"])
def test_every_answer_is_hardened(api: Api, path: str) -> None:
    headers = api.get(path, role=None).headers

    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Set-Cookie" not in headers


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_keep_to_their_policy(api: Api, path: str) -> None:
    text = api.get(path, role=None).text

    assert not re.search(r"<script(?![^>]*\bsrc=)[^>]*>", text)
    assert not re.search(r"\son\w+=|style=|<style|javascript:", text)
    assert re.findall(r'(?:src|href)="(?!/|#)[^"]*"', text) == []
    for file in re.findall(r'(?:src|href)="(/console/[^"]*)"', text):
        assert api.get(file, role=None).status_code == 200


def test_docs_name_every_operation(api: Api) -> None:
    text = api.get("/docs", role=None).text

    for path, item in api.get("/openapi.json", role=None).get_json()["paths"].items():
        for method in item:
            assert f"{method.upper()} {path}" in text


def test_console_writes_text_only_and_keeps_the_token_in_the_tab() -> None:
    for dangerous in (
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval(",
        "Function(",
        "localStorage",
        "cookie =",
        "style=",
    ):
        assert dangerous not in SCRIPT, dangerous
    assert [name for name, text in SCRIPTS.items() if "setAttribute" in text] == ["dom.js"]
    assert [name for name, text in SCRIPTS.items() if "sessionStorage" in text] == ["api.js"]


def test_console_asks_the_api_of_its_own_host_only() -> None:
    assert SCRIPT.count("fetch(") == 1
    assert "fetch(BASE + path" in SCRIPTS["api.js"]
    assert 'const BASE = "/api/v1/"' in SCRIPTS["api.js"]
    assert 'credentials: "omit"' in SCRIPTS["api.js"]
    assert not re.search(r"XMLHttpRequest|WebSocket|EventSource|sendBeacon", SCRIPT)


def test_console_finds_every_place_that_it_names() -> None:
    page = (CONSOLE / "templates/console.html").read_text("utf-8")

    named = set(re.findall(r'byId\("([a-z-]+)"\)', SCRIPT))
    assert named
    assert {name for name in named if f'id="{name}"' not in page} == set()


def test_every_file_that_is_imported_is_answered(api: Api) -> None:
    for name, text in SCRIPTS.items():
        for other in re.findall(r'^import .* from "([^"]+)";$', text, re.MULTILINE):
            path = (Path("/console") / name).parent / other
            answer = api.get(os.path.normpath(path), role=None)
            assert answer.status_code == 200, f"{name}: {other}"
            assert answer.mimetype == "text/javascript"


def test_console_answers_its_own_files_only(api: Api) -> None:
    for name in ("../app.py", "%2e%2e/app.py", "nothing.js", "__init__.py"):
        assert api.get(f"/console/{name}", role=None).status_code == 404


def test_document_is_made_once_for_whoever_asks_first(seed: Seed) -> None:
    api = Api(create_app(Services(Settings())), seed.tokens)
    made = api.app.extensions
    assert "transship-openapi" not in made, "each start pays for it"

    assert api.get("/docs", role=None).status_code == 200
    document = made["transship-openapi"]
    assert api.get("/openapi.json", role=None).get_json() == document
    assert made["transship-openapi"] is document
