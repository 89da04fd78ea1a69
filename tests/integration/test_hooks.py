"""Notifications to a real API process: taken, ignored, refused (reliability.md section 5, F)."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from service.model.events.signing import sign
from service.store.tables_events import registry_events
from tests.support.api_process import ApiProcess
from tests.support.transship import clean_environment, transship

FIXTURES = Path(__file__).parents[1] / "fixtures/events"
MIB = 1 << 20
PUSHES = [
    "distribution/push",
    "gitlab/push",
    "harbor/push",
    "harbor/push-cloudevents",
    "harbor/push-1.x",
    "tcr/push",
    "dockerhub/push",
    "quay/push",
    "ghcr/push",
    "ecr/push",
    "ecr/push-sns",
    "acr/push",
    "acr/push-eventgrid",
    "gar/push",
    "aliyun-acr/push",
    "jfrog/push",
    "zot/push",
    "artifacthub/push",
]


class Hook:
    """The hook of a registry of a running API; each test has a registry of its own."""

    _count = itertools.count()

    def __init__(self, server: ApiProcess) -> None:
        self.server = server
        self.registry = f"east-{next(self._count)}"
        self.path = f"/hooks/distribution/{self.registry}"
        self.api = f"/api/v1/registries/{self.registry}/hook"
        server.ask("PUT", self.api.removesuffix("/hook"), {"url": "https://east.example"})
        status, made = server.ask("PUT", self.api, {})
        assert status == 201
        self.secret: str = made["secret"]

    def post(
        self,
        body: bytes,
        path: str = "",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        connection = self.server.connect()
        try:
            connection.request("POST", path or self.path, body=body, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def send(self, name: str, **more: str) -> tuple[int, dict[str, Any]]:
        """Post a fixture with the secret in the Authorization header."""
        provider = name.split("/", maxsplit=1)[0]
        status, raw = self.post(
            (FIXTURES / f"{name}.json").read_bytes(),
            f"/hooks/{provider}/{self.registry}",
            {"Authorization": f"Bearer {self.secret}", **more},
        )
        return status, json.loads(raw)

    def signed(self, body: bytes, *, at: float | None = None, secret: str = "") -> dict[str, str]:
        stamp = int(time.time() if at is None else at)
        return {
            "X-Transship-Timestamp": str(stamp),
            "X-Transship-Signature": sign(secret or self.secret, stamp, body),
        }

    def hints(self) -> list[tuple[str, str, str]]:
        with self.server.services.database.read() as connection:
            return [
                (row.repository, row.reference, row.action)
                for row in connection.execute(
                    select(registry_events).where(registry_events.c.registry == self.registry)
                )
            ]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    made = ApiProcess(tmp_path_factory.mktemp("api"))
    with made.process:
        made.process.wait_ready(made.ready)
        pid = made.process.pid
        yield made
        assert made.ready(), "the API is alive after all that it was sent"
        assert made.process.pid == pid
        assert "Traceback" not in made.process.output(100_000)
    made.services.close()


@pytest.fixture
def hook(server: ApiProcess) -> Hook:
    return Hook(server)


@pytest.mark.parametrize("name", PUSHES)
def test_row_80_each_shape_is_accepted_and_durable_before_the_answer(hook: Hook, name: str) -> None:
    status, answer = hook.send(name)

    assert (status, answer) == (202, {"accepted": 1, "ignored": 0})
    assert [action for _, _, action in hook.hints()] == ["pushed"]


@pytest.mark.parametrize(
    ("name", "accepted"),
    [
        ("distribution/delete-tag-2.8", 1),
        ("distribution/delete-digest-3.1", 1),
        ("distribution/push-by-digest", 1),
        ("distribution/mixed", 2),
        ("harbor/scan", 0),
        ("quay/vulnerability", 0),
        ("github/ping", 0),
        ("github/npm", 0),
        ("ecr/scan", 0),
        ("acr/ping", 0),
        ("gar/other-topic", 0),
        ("jfrog/artifact", 0),
    ],
)
def test_row_81_what_is_of_no_use_is_counted(hook: Hook, name: str, accepted: int) -> None:
    header = {"X-GitHub-Event": name.rsplit("/", maxsplit=1)[1]}

    status, answer = hook.send(name, **header)

    assert (status, answer["accepted"]) == (202, accepted)
    assert len(hook.hints()) == accepted


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b"null",
        b'{"events":[]}',
        b'{"events":[{"action":"teleport"}]}',
        b'{"events":[{"id":"1","action":"push"}]}',
        b'{"events":[{"action":"push","target":null}]}',
    ],
)
def test_row_81_odd_shapes_are_no_error(hook: Hook, body: bytes) -> None:
    status, raw = hook.post(body, headers={"Authorization": hook.secret})

    assert status == 202
    assert json.loads(raw)["accepted"] == 0
    assert hook.hints() == []


def test_row_81_ten_thousand_events_at_once(hook: Hook) -> None:
    event = '{"id":"i%d","action":"push","target":{"repository":"a","tag":"t%d"}}'
    events = ",".join(event % (n, n) for n in range(10_000))

    status, raw = hook.post(
        f'{{"events":[{events}]}}'.encode(), headers={"Authorization": hook.secret}
    )

    assert (status, json.loads(raw)) == (202, {"accepted": 10_000, "ignored": 0})
    assert len(hook.hints()) == 10_000


def _forged(hook: Hook, body: bytes) -> dict[str, tuple[str, bytes, dict[str, str]]]:
    path = hook.path
    digest = hmac.new(b"wrong", body, hashlib.sha256).hexdigest()
    return {
        "nothing": (path, body, {}),
        "wrong bearer": (path, body, {"Authorization": "Bearer tsh_wrong"}),
        "an API token": (path, body, {"Authorization": f"Bearer {hook.server.token}"}),
        "wrong signature": (path, body, hook.signed(body, secret="tsh_wrong")),
        "old": (path, body, hook.signed(body, at=time.time() - 310)),
        "of the future": (path, body, hook.signed(body, at=time.time() + 310)),
        "other body": (path, body + b" ", hook.signed(body)),
        "empty body": (path, b"", hook.signed(body)),
        "wrong address": (f"{path}/tsh_wrong", body, {}),
        "secret in the query": (f"{path}?token={hook.secret}", body, {}),
        "github": (
            f"/hooks/ghcr/{hook.registry}",
            body,
            {"X-Hub-Signature-256": f"sha256={digest}"},
        ),
        "github, empty": (f"/hooks/ghcr/{hook.registry}", body, {"X-Hub-Signature-256": ""}),
        "jfrog": (f"/hooks/jfrog/{hook.registry}", body, {"X-JFrog-Event-Auth": digest}),
        "no hook": ("/hooks/distribution/west", body, {"Authorization": hook.secret}),
        "no registry": ("/hooks/distribution/nobody", body, {"Authorization": hook.secret}),
        "odd registry": ("/hooks/distribution/%00%ff", body, {"Authorization": hook.secret}),
        "no provider": (f"/hooks/nobody/{hook.registry}", body, {}),
    }


def test_row_82_forged_is_401_with_one_body(hook: Hook) -> None:
    hook.server.ask("PUT", "/api/v1/registries/west", {"url": "https://west.example"})
    body = (FIXTURES / "distribution/push.json").read_bytes()
    bodies: dict[str, dict[str, Any]] = {}

    for case, (path, sent, headers) in _forged(hook, body).items():
        status, raw = hook.post(sent, path, headers)
        assert status == 401, case
        bodies[case] = {**json.loads(raw), "instance": ""}

    assert len({json.dumps(one, sort_keys=True) for one in bodies.values()}) == 1
    assert hook.hints() == []


def test_row_82_replayed_signature_is_refused(hook: Hook) -> None:
    body = (FIXTURES / "distribution/push.json").read_bytes()
    headers = hook.signed(body)

    assert hook.post(body, headers=headers)[0] == 202
    assert hook.post(body, headers=headers)[0] == 401
    assert hook.post(body, headers=hook.signed(body, at=time.time() - 2))[0] == 202


def test_row_82_replayed_event_is_ignored(hook: Hook) -> None:
    assert hook.send("harbor/push") == (202, {"accepted": 1, "ignored": 0})
    assert hook.send("harbor/push") == (202, {"accepted": 0, "ignored": 1})


def test_row_82_github_delivery_comes_once(hook: Hook) -> None:
    body = (FIXTURES / "ghcr/push.json").read_bytes()
    digest = hmac.new(hook.secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "X-Hub-Signature-256": f"sha256={digest}",
        "X-GitHub-Delivery": "a",
        "X-GitHub-Event": "registry_package",
    }

    assert hook.post(body, f"/hooks/ghcr/{hook.registry}", headers)[0] == 202
    assert hook.post(body, f"/hooks/ghcr/{hook.registry}", headers)[0] == 401
    assert (
        hook.post(body, f"/hooks/ghcr/{hook.registry}", {**headers, "X-GitHub-Delivery": "b"})[0]
        == 401
    )


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b'{"a":1,"a":2}', b'{"a":NaN}', b"[" * 5000, b"\xef\xbb\xbf{}", b"{}{}"],
)
def test_row_83_valid_signature_and_invalid_json_is_400(hook: Hook, body: bytes) -> None:
    status, raw = hook.post(body, headers=hook.signed(body))

    assert status == 400
    assert "strict JSON" in json.loads(raw)["detail"]
    assert hook.hints() == []


def test_row_83_unsigned_invalid_json_is_401(hook: Hook) -> None:
    assert hook.post(b"{")[0] == 401


def test_a_mebibyte_is_read_and_one_byte_more_is_413(hook: Hook) -> None:
    body = b'{"events":[]}'
    full = body + b" " * (MIB - len(body))

    assert hook.post(full, headers={"Authorization": hook.secret})[0] == 202
    assert hook.post(full + b" ", headers={"Authorization": hook.secret})[0] == 413


def test_compressed_body_is_415(hook: Hook) -> None:
    headers = {"Authorization": hook.secret, "Content-Encoding": "gzip"}

    assert hook.post(b"\x1f\x8b", headers=headers)[0] == 415


def test_unknown_provider_is_told_to_who_has_the_secret(hook: Hook) -> None:
    status, raw = hook.post(b"{}", f"/hooks/nobody/{hook.registry}", {"Authorization": hook.secret})

    assert status == 404
    assert "distribution" in json.loads(raw)["hint"]


def test_secret_in_the_address_holds_and_both_secrets_do_while_rotating(hook: Hook) -> None:
    body = (FIXTURES / "dockerhub/push.json").read_bytes()
    status, made = hook.server.ask("POST", f"{hook.api}/rotation", {})
    assert status == 201
    for secret in (hook.secret, made["secret"]):
        assert hook.post(body, f"/hooks/dockerhub/{hook.registry}/{secret}")[0] == 202

    assert hook.server.ask("DELETE", f"{hook.api}/previous")[0] == 200

    assert hook.post(body, f"/hooks/dockerhub/{hook.registry}/{hook.secret}")[0] == 401
    assert hook.post(body, f"/hooks/dockerhub/{hook.registry}/{made['secret']}")[0] == 202


def test_handshake_of_event_grid_is_answered(hook: Hook) -> None:
    assert hook.send("acr/handshake-eventgrid") == (
        200,
        {"validationResponse": "512d38b6-c7b8-40c8-89fe-f46f9e9622b6"},
    )


def test_sns_subscription_is_answered_and_shown_with_what_to_do(hook: Hook) -> None:
    status, answer = hook.send("ecr/subscription-confirmation")

    assert status == 202
    assert "https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription" in answer["notice"]
    shown = hook.server.ask("GET", hook.api)[1]
    assert shown["notice"] == answer["notice"]
    assert shown["received_at"] is not None
    assert "secret" not in shown


def test_secret_is_in_no_log(hook: Hook) -> None:
    body = (FIXTURES / "dockerhub/push.json").read_bytes()
    hook.post(body, f"/hooks/dockerhub/{hook.registry}/{hook.secret}")
    hook.post(body, f"/hooks/dockerhub/{hook.registry}/{hook.secret}x")
    hook.post(b"{", f"/hooks/dockerhub/{hook.registry}/{hook.secret}")

    assert hook.secret not in hook.server.process.output(1_000_000)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_other_methods_are_405(hook: Hook, method: str) -> None:
    assert hook.server.ask(method, f"/hooks/distribution/{hook.registry}")[0] == 405


def test_command_makes_shows_rotates_and_removes_the_hook(server: ApiProcess) -> None:
    server.ask("PUT", "/api/v1/registries/cli", {"url": "https://quay.io"})
    environment = {
        **clean_environment(),
        "TRANSSHIP_URL": f"http://127.0.0.1:{server.port}",
        "TRANSSHIP_TOKEN": server.token,
    }

    def run(*words: str) -> str:
        done = transship("registries", "hook", "cli", *words, environment=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    made = run()
    [secret] = set(re.findall(r"tsh_\S+", made.partition("(")[0].partition("secret ")[2]))
    assert f"/hooks/quay/cli/{secret}" in made
    assert "Push to Repository" in made
    assert "A sender of your own signs instead of sending the secret" in made
    assert "X-Transship-Timestamp and X-Transship-Signature" in made
    assert secret not in run()
    rotated = json.loads(run("--rotate", "--json", "--provider", "harbor"))
    assert (rotated["provider"], rotated["previous"]) == ("harbor", True)
    assert server.services.hooks.secrets("cli") == [rotated["secret"], secret]
    assert "the one before holds" not in run("--retire")
    assert run("--remove") == ""
    assert server.services.hooks.secrets("cli") == []
