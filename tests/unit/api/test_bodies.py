"""Request bodies: strict JSON, at most 1 MB, and never a 500."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.bootstrap import Services
from tests.unit.api.conftest import EAST, Api

PATH = "/api/v1/registries/east"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"url": "https://a.example"', "JSON"),
        (b'{"url": "https://a.example", "url": "https://b.example"}', "'url'"),
        (b'{"url": "https://a.example", "URL": "x"}', "'url'"),
        (b'{"url": NaN}', "NaN"),
        (b'{"url": Infinity}', "Infinity"),
        (b'{"url": 1e999}', "range"),
        (b'{"url": ' + b"1" * 5000 + b"}", "digits"),
        (b'{"url": ' + b"[" * 200_000, "nested"),
        (b'{"url": "\\ud800"}', "surrogate"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ('{"url": "x"}'.encode("utf-16"), "UTF-8"),
        (b'{"url": "\xe9"}', "UTF-8"),
        (b"{} {}", "JSON"),
        (b"   ", "JSON"),
    ],
)
def test_what_is_not_strict_json_is_400_with_its_reason(api: Api, body: bytes, words: str) -> None:
    told = api.problems(api.put(PATH, body))

    assert words in told[""]


@pytest.mark.parametrize(
    "url", ["https://a\u0000.example", "https://a\u202e.example", "https://a\nb"]
)
def test_characters_that_hide_are_refused(api: Api, url: str) -> None:
    assert "url" in api.problems(api.put(PATH, {"url": url}))


def test_empty_body_is_refused(api: Api) -> None:
    assert api.put(PATH, b"").status_code == 400


@pytest.mark.parametrize(
    "kind",
    ["text/plain", "", "application/x-www-form-urlencoded", "application/json; charset=latin-1"],
)
def test_other_media_types_are_415(api: Api, kind: str) -> None:
    assert api.put(PATH, EAST, content_type=kind).status_code == 415


def test_charset_utf_8_is_fine(api: Api) -> None:
    assert api.put(PATH, EAST, content_type="application/json; charset=UTF-8").status_code == 201


def test_compressed_body_is_not_unpacked(api: Api) -> None:
    bomb = gzip.compress(b" " * 10_000_000)

    response = api.put(PATH, bomb, headers={"Content-Encoding": "gzip"})

    assert response.status_code == 415


def test_body_above_a_megabyte_is_413(api: Api) -> None:
    response = api.put(PATH, b'{"url": "' + b"x" * 1_000_000 + b'"}')

    assert response.status_code == 413
    assert response.mimetype == "application/problem+json"


def test_error_of_ours_says_nothing_of_itself(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setitem(api.app.view_functions, "health.healthz", broken)

    response = api.get("/healthz")

    assert response.status_code == 500
    assert response.get_json()["code"] == "internal"
    assert "secret" not in response.text


def test_database_that_is_away_is_503(api: Api, services: Services) -> None:
    database = Path(services.database.url.database or "")
    services.database.close()
    database.unlink()
    database.mkdir()

    response = api.get("/api/v1/rules")

    assert response.status_code == 503
    assert response.headers["Retry-After"] == "2"
    assert str(database) not in response.text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=10,
)
KEYS = st.sampled_from(
    [
        "url",
        "name",
        "provider",
        "region",
        "groups",
        "credentials",
        "tls",
        "trusted_hosts",
        "limits",
        "source",
        "select",
        "destinations",
        "trigger",
        "referrers",
        "priority",
        "project",
    ]
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.dictionaries(KEYS, JSON, max_size=6), st.sampled_from(["registries", "rules"]))
def test_no_document_makes_a_500(api: Api, document: Any, kind: str) -> None:
    response = api.put(f"/api/v1/{kind}/x", document)

    assert response.status_code in {200, 201, 400}
