"""Who may read what at a gateway: no token grants more than what it was made for, whatever a client asks for."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterable
from urllib.parse import quote

import pytest

from api.gateway.login import Login
from api.gateway.messages import parse
from service.model.gateway import GatewayConfig, NameRule
from service.model.pull_token import PullGrant, PullKeys

KEYS = PullKeys([b"k" * 32])


def _login(anonymous: tuple[str, ...] = ()) -> Login:
    return Login(GatewayConfig((NameRule("east"),), anonymous=anonymous), KEYS, lambda: ())


def _given(login: Login, scope: str, repositories: tuple[str, ...] = ()) -> str:
    """Return the access token that the token endpoint gives out for a scope."""
    shown = b""
    if repositories:
        text = KEYS.sign(PullGrant("1", "ci", repositories)).encode()
        shown = b"\r\nAuthorization: Basic " + base64.b64encode(b"any:" + text)
    path = f"/token?scope={quote(scope)}".encode()
    answer = login.token(parse(b"GET " + path + b" HTTP/1.1\r\nHost: a" + shown))
    assert answer.status == 200
    return str(json.loads(answer.body)["token"])


def _may(login: Login, token: str, name: str) -> bool:
    head = f"GET /v2/{name}/tags/list HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}"
    return login.refusal(parse(head.encode()), name) is None


@pytest.mark.parametrize(
    ("granted", "asked", "beyond"),
    [
        ("team/*", "team/**", "team/hidden/app"),
        ("*", "**", "other/app"),
        ("team-?/app", "team-*/app", "team-hidden/app"),
        ("team/[!a]*", "team/**", "team/app/deep"),
    ],
)
def test_a_name_that_is_a_pattern_is_granted_nothing(granted: str, asked: str, beyond: str) -> None:
    by_token, by_nobody = _login(), _login((granted,))

    assert not _may(by_token, _given(by_token, f"repository:{asked}:pull", (granted,)), beyond)
    assert not _may(by_nobody, _given(by_nobody, f"repository:{asked}:pull"), beyond)


def test_a_name_that_is_granted_can_be_read() -> None:
    login = _login()

    token = _given(login, "repository:team/app:pull repository:other/app:pull", ("team/*",))

    assert _may(login, token, "team/app")
    assert not _may(login, token, "team/app2")
    assert not _may(login, token, "other/app")


def test_revocations_are_read_on_after_a_fault() -> None:
    told, again = threading.Event(), threading.Event()
    calls: list[int] = []

    def revoked() -> Iterable[str]:
        calls.append(1)
        if len(calls) == 2:
            told.set()
            raise RuntimeError("the file is damaged")
        if len(calls) > 3:
            again.set()
        return ["1"] if len(calls) > 2 else []

    login = Login(GatewayConfig((NameRule("east"),)), KEYS, revoked, poll_seconds=0.01)
    text = KEYS.sign(PullGrant("1", "ci", ("**",)))
    assert _may(login, text, "team/app")

    login.start()
    try:
        assert told.wait(10)
        assert again.wait(10)
    finally:
        login.close()

    assert not _may(login, text, "team/app")
