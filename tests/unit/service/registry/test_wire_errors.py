from __future__ import annotations

import json
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import errors
from service.registry.redaction import clean
from service.registry.wire_errors import error_from, retry_after


def body(code: str, message: str = "words", **more: object) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message, **more}]}).encode()


@pytest.mark.parametrize(
    ("status", "content", "kind", "expected"),
    [
        (400, body("MANIFEST_BLOB_UNKNOWN"), "manifest", errors.ManifestBlobUnknown),
        (404, body("MANIFEST_BLOB_UNKNOWN"), "manifest", errors.ManifestBlobUnknown),
        (400, body("MANIFEST_INVALID"), "manifest", errors.Rejected),
        (400, body("DIGEST_INVALID"), "upload", errors.Rejected),
        (400, body("UNSUPPORTED"), "manifest", errors.Unsupported),
        (400, body("BLOB_UPLOAD_INVALID"), "upload", errors.UploadLost),
        (400, b"", "manifest", errors.Rejected),
        (401, body("UNAUTHORIZED"), "manifest", errors.AuthenticationFailed),
        (403, body("DENIED"), "upload", errors.Denied),
        (403, body("DENIED", "tag v1 is immutable"), "manifest", errors.TagImmutable),
        (403, b"<html>", "manifest", errors.Denied),
        (404, body("MANIFEST_UNKNOWN"), "manifest", errors.ManifestNotFound),
        (404, body("BLOB_UNKNOWN"), "blob", errors.BlobNotFound),
        (404, body("NAME_UNKNOWN"), "manifest", errors.RepositoryNotFound),
        (404, body("BLOB_UPLOAD_UNKNOWN"), "upload", errors.UploadLost),
        (404, body("NOT_FOUND"), "blob", errors.BlobNotFound),
        (404, b"404 page not found", "manifest", errors.ManifestNotFound),
        (404, b"", "upload", errors.UploadLost),
        (404, b"", "tags", errors.RepositoryNotFound),
        (404, b"", "", errors.NotFound),
        (405, b"", "manifest", errors.Unsupported),
        (408, b"", "blob", errors.ServerError),
        (409, body("TAG_IMMUTABLE"), "manifest", errors.TagImmutable),
        (409, body("CONFLICT"), "manifest", errors.Rejected),
        (412, body("PRECONDITION", "configured as immutable"), "manifest", errors.TagImmutable),
        (413, b"", "upload", errors.Rejected),
        (416, b"", "upload", errors.UploadLost),
        (429, b"", "manifest", errors.Throttled),
        (403, body("TOOMANYREQUESTS"), "manifest", errors.Throttled),
        (500, body("UNKNOWN"), "manifest", errors.ServerError),
        (503, b"", "manifest", errors.ServerError),
        (507, b"", "upload", errors.Rejected),
        (302, b"", "manifest", errors.ProtocolError),
        (200, b"", "manifest", errors.ProtocolError),
    ],
)
def test_answers_have_their_error(
    status: int, content: bytes, kind: str, expected: type[errors.RegistryError]
) -> None:
    error = error_from(status, {}, content, registry="east", action="GET /x", kind=kind)
    assert type(error) is expected
    assert (error.registry, error.status) == ("east", status)


def test_a_503_with_retry_after_is_throttled() -> None:
    error = error_from(503, {"retry-after": "30"}, b"", registry="east", action="GET /x")
    assert isinstance(error, errors.Throttled)
    assert error.retry_after_seconds == 30


@given(st.binary(max_size=200), st.integers(200, 599))
def test_any_body_has_an_error(content: bytes, status: int) -> None:
    error = error_from(status, {}, content, registry="east", action="GET /x")
    assert "east" in error.message
    assert "GET /x" in error.message
    assert error.message.isprintable()


@pytest.mark.parametrize(
    "content",
    [
        b"null",
        b"[]",
        b'{"errors":null}',
        b'{"errors":[]}',
        b'{"errors":[5]}',
        b'{"errors":[{"code":5,"message":[]}]}',
        b"[" * 100_000,
        b'{"errors":[{"code":"X","message":"' + b"y" * 100_000 + b'"}]}',
    ],
)
def test_odd_bodies_are_survived_and_cut(content: bytes) -> None:
    error = error_from(400, {}, content, registry="east", action="GET /x")
    assert len(error.message) < 500


def test_retry_after_is_seconds_or_a_date_and_capped() -> None:
    assert retry_after({}) is None
    assert retry_after({"retry-after": "5"}) == 5
    assert retry_after({"retry-after": "99999999999"}) == 900
    for garbage in ("abc", "-1", "1.5", "", "\u0665"):
        assert retry_after({"retry-after": garbage}) is None
    soon = formatdate(time.time() + 100, usegmt=True)
    assert 95 <= (retry_after({"retry-after": soon}) or 0) <= 101
    assert retry_after({"retry-after": formatdate(time.time() - 100, usegmt=True)}) == 0
    assert retry_after({"retry-after": formatdate(time.time() + 9e8, usegmt=True)}) == 900


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("see https://s3.example/b?X-Amz-Signature=abc&x=y for", "abc"),
        ("https://user:pass@r.example/x", "pass"),
        ("Authorization: Bearer abcdefghijklmnop", "abcdefghijklmnop"),
        ("Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("bearer abcdefghijklmnop", "abcdefghijklmnop"),
        ('{"access_token":"abcdefgh"}', "abcdefgh"),
        ("password=hunter2 x", "hunter2"),
        ("sig=ab%2Bc", "ab%2Bc"),
        ("\x1b[31mred", "\x1b"),
        ("a\r\nb", "\n"),
        ("a\u202eb", "\u202e"),
    ],
)
def test_secrets_and_control_characters_do_not_get_through(text: str, gone: str) -> None:
    assert gone not in clean(text)


@given(st.text(max_size=2000))
def test_cleaned_text_is_short_and_one_line(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned) <= 303
    assert not any(ord(character) < 32 for character in cleaned)
