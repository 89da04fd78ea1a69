"""Bad input to the API as a process (reliability.md section 5 A, C): a 4xx problem, nothing changed.

Rows 1-15 are in tests/unit/api/test_bodies.py, too; here they go over real sockets.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.api_process import ApiProcess

EAST = {"url": "https://east.example"}
RULE = {
    "source": "east",
    "select": [{"repositories": ["**"]}],
    "destinations": [{"registry": "west"}],
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    made = ApiProcess(tmp_path_factory.mktemp("api"))
    with made.process:
        made.process.wait_ready(made.ready)
        made.run()
        yield made
    made.services.close()


def raw(
    server: ApiProcess,
    method: str,
    path: str,
    body: bytes | None = None,
    **headers: str,
) -> tuple[int, dict[str, Any], http.client.HTTPResponse]:
    connection = server.connect()
    try:
        sent = {
            "Authorization": f"Bearer {server.token}",
            "Content-Type": "application/json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        connection.request(method, path, body=body, headers=sent)
        response = connection.getresponse()
        text = response.read()
        try:
            document = json.loads(text) if text else {}
        except ValueError:
            document = {}
        return response.status, document, response
    finally:
        connection.close()


def state(server: ApiProcess) -> list[Any]:
    kinds = ("registries", "rules", "projects", "secrets", "webhooks", "tokens")
    found = [server.ask("GET", f"/api/v1/{kind}")[1] for kind in kinds]
    return [*found, server.services.audit.verify().rows]


def whole(**change: Any) -> bytes:
    return json.dumps({**RULE, **change}).encode()


def entry(repository: str = "a", tag: str = "v1", **more: Any) -> bytes:
    return whole(select=[{"repositories": [repository], "tags": [tag], **more}])


BODIES: dict[str, bytes] = {
    "A1 empty": b"",
    "A2 null": b"null",
    "A2 list": b"[]",
    "A2 text": b'"x"',
    "A2 number": b"1",
    "A3 truncated": b'{"source": "east"',
    "A5 key twice": b'{"source": "east", "source": "west"}',
    "A6 NaN": b'{"source": NaN}',
    "A6 huge float": b'{"source": 1e999}',
    "A7 long integer": b'{"source": ' + b"1" * 5000 + b"}",
    "A8 deep": b"[" * 200_000,
    "A9 lone surrogate": b'{"source": "\\ud800"}',
    "A9 NUL": b'{"source": "a\\u0000"}',
    "A9 direction": b'{"source": "a\\u202e"}',
    "A10 UTF-16": '{"source": "east"}'.encode("utf-16"),
    "A10 BOM": b'\xef\xbb\xbf{"source": "east"}',
    "A10 latin-1": b'{"source": "\xe9"}',
    "A12 unknown": whole(sauce="x"),
    "A13 read only id": whole(id="x"),
    "A13 read only version": whole(version=1),
    "A13 read only set": whole(set="x"),
    "A14 text for bool": whole(enabled="true"),
    "A14 number for text": whole(source=1),
    "A14 null": whole(source=None),
    "C35 upper case": entry("UP/app"),
    "C35 empty part": entry("a//b"),
    "C35 dots": entry("a/../b"),
    "C35 underscores": entry("a___b"),
    "C35 dash first": entry("-a"),
    "C35 slash last": entry("a/"),
    "C35 slash first": entry("/a"),
    "C35 long": entry("a" * 256),
    "C36 long": entry(tag="a" * 129),
    "C36 dash": entry(tag="-x"),
    "C36 dot": entry(tag=".x"),
    "C36 empty": entry(tag=""),
    "C36 space": entry(tag=" "),
    "C36 slash": entry(tag="a/b"),
    "C36 not ASCII": entry(tag="é"),
    "C38 md5": entry(tag="md5:" + "a" * 32),
    "C38 upper": entry(tag="sha256:" + "A" * 64),
    "C38 short": entry(tag="sha256:" + "a" * 63),
    "C38 not hex": entry(tag="sha256:" + "g" * 64),
    "C38 path": entry(tag="sha256:../.."),
    "destination upper": whole(destinations=[{"registry": "west", "repository": "UP/{name}"}]),
    "destination dots": whole(destinations=[{"registry": "west", "repository": "../{name}"}]),
}


@pytest.mark.parametrize("name", BODIES)
def test_bad_body_is_a_problem_and_changes_nothing(server: ApiProcess, name: str) -> None:
    before = state(server)

    status, problem, response = raw(server, "PUT", "/api/v1/rules/new", BODIES[name])

    assert status in {400, 413}, problem
    assert response.getheader("Content-Type") == "application/problem+json"
    assert problem["detail"]
    if name[0] in "Cd" or name.startswith(("A12", "A13", "A14")):
        assert problem["errors"][0]["field"]
    assert state(server) == before


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/rules/..%2f1"),
        ("GET", "/api/v1/rules/1;drop"),
        ("GET", "/api/v1/executions/0x1"),
        ("GET", f"/api/v1/executions/{10**30}"),
        ("GET", "/api/v1/executions/019EC5B2-A4F0-1C2D-3E4F-5A6B00000000"),
        ("POST", "/api/v1/executions/nothing/stop"),
        ("POST", "/api/v1/executions/nothing/retry"),
        ("GET", "/api/v1//rules"),
        ("GET", "/api/v1/rules/%2e%2e/tokens"),
        ("GET", "/api/v1/rules/fleet;x"),
        ("GET", "/api/v1/rules/%00"),
        ("DELETE", "/api/v1/rules"),
        ("TRACE", "/api/v1/rules"),
        ("OPTIONS", "/api/v1/rules"),
        ("PATCH", "/api/v1/rules/fleet"),
        ("GET", "/api/v1/rules/" + "a" * 4000),
    ],
)
def test_strange_paths_and_methods_find_nothing(server: ApiProcess, method: str, path: str) -> None:
    before = state(server)

    status, _, _ = raw(server, method, path)

    assert status in {400, 404, 405}
    assert state(server) == before


def test_method_override_is_not_listened_to(server: ApiProcess) -> None:
    status, _, _ = raw(server, "GET", "/api/v1/rules/fleet", X_HTTP_Method_Override="DELETE")

    assert status == 200
    assert raw(server, "GET", "/api/v1/rules/fleet")[0] == 200


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=-1", f"limit={2**63}", "cursor=forged", "cursor=", "state=x", "since=x"],
)
def test_bad_query_is_400(server: ApiProcess, query: str) -> None:
    assert raw(server, "GET", f"/api/v1/executions?{query}")[0] == 400


def test_cursor_of_another_list_is_400(server: ApiProcess) -> None:
    status, page, _ = raw(server, "GET", "/api/v1/registries?limit=1")
    assert status == 200
    assert page["next"]

    assert raw(server, "GET", f"/api/v1/rules?cursor={page['next']}")[0] == 400


def test_key_of_another_rule_is_409_and_a_long_one_400(server: ApiProcess) -> None:
    assert server.ask(
        "PUT",
        "/api/v1/rules/second",
        RULE | {"destinations": [{"registry": "west", "repository": "second/{repository}"}]},
    )[0] in {200, 201}
    run = "/api/v1/rules/fleet/executions"

    first = raw(server, "POST", run, Idempotency_Key="one")
    again = raw(server, "POST", run, Idempotency_Key="one")

    assert first[0] == again[0] == 202
    assert first[1]["id"] == again[1]["id"]
    other = "/api/v1/rules/second/executions"
    assert raw(server, "POST", other, Idempotency_Key="one")[0] == 409
    assert raw(server, "POST", run, Idempotency_Key="k" * 7000)[0] == 400
    assert raw(server, "POST", run, Idempotency_Key="é")[0] == 400


def test_stale_version_is_412_and_one_of_two_editors_wins(server: ApiProcess) -> None:
    path = "/api/v1/registries/edited"
    assert raw(server, "PUT", path, json.dumps(EAST).encode())[0] == 201
    gate = threading.Barrier(8)

    def edit(number: int) -> int:
        gate.wait(10)
        body = json.dumps({**EAST, "region": f"r{number}"}).encode()
        return raw(server, "PUT", path, body, If_Match='"1"')[0]

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(edit, range(8)))

    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 409, 412}
    assert raw(server, "PUT", path, json.dumps(EAST).encode(), If_Match='"1"')[0] == 412


def test_two_authorizations_and_a_long_token_are_401(server: ApiProcess) -> None:
    connection = server.connect()
    connection.putrequest("GET", "/api/v1/rules")
    connection.putheader("Authorization", f"Bearer {server.token}")
    connection.putheader("Authorization", "Bearer other")
    connection.endheaders()
    double = connection.getresponse().status
    connection.close()

    assert double in {400, 401}
    assert raw(server, "GET", "/api/v1/rules", Authorization="Bearer " + "x" * 8000)[0] in {
        400,
        401,
    }


def test_a_thousand_identical_triggers_come_to_one_execution(server: ApiProcess) -> None:
    identity = raw(server, "POST", "/api/v1/rules/fleet/executions")[1]["id"]
    before = len(server.services.executions.list(limit=1000))

    def trigger(_number: int) -> list[tuple[int, str]]:
        connection = server.connect()
        headers = {"Authorization": f"Bearer {server.token}"}
        found = []
        for _ in range(50):
            connection.request("POST", "/api/v1/rules/fleet/executions", headers=headers)
            response = connection.getresponse()
            found.append((response.status, json.loads(response.read()).get("id", "")))
        connection.close()
        return found

    with ThreadPoolExecutor(20) as pool:
        answers = [answer for found in pool.map(trigger, range(20)) for answer in found]

    accepted = {found for status, found in answers if status == 202}
    assert accepted == {identity}
    assert {status for status, _ in answers} <= {202, 429}
    assert len(server.services.executions.list(limit=1000)) == before
    assert server.ready()


def test_anything_at_all_is_never_a_500(server: ApiProcess) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    paths = ["rules/x", "registries/x", "projects/x", "webhooks/x", "secrets/x"]
    for _ in range(150):
        good = json.dumps(RULE).encode()
        cut = bytearray(good[: dice.randrange(len(good) + 1)])
        for _ in range(dice.randrange(4)):
            if cut:
                cut[dice.randrange(len(cut))] = dice.randrange(256)
        status, _, _ = raw(server, "PUT", f"/api/v1/{dice.choice(paths)}", bytes(cut))
        assert status < 500
