"""HTTP/1.1 as a gateway speaks it: requests without bodies, read strictly; answers with a known length.

What is ambiguous is refused and the connection closed (RFC 9112, 11.2: request smuggling).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

MAX_HEAD_BYTES = 16 * 1024
MAX_HEADERS = 64
_LINE = re.compile(rb"([A-Z]{1,16}) (/[\x21-\x7e]{0,8191}) HTTP/1\.([01])")
_NAME = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_HOST = re.compile(r"(?:[a-zA-Z0-9._-]{1,255}|\[[0-9a-fA-F:.]{2,45}\])(?::[0-9]{1,5})?")
_ONCE = frozenset({"host", "content-length", "authorization", "range", "transfer-encoding"})


class BadRequest(Exception):
    """It is answered by this status, and the connection is closed."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Request:
    """A request; `path` is as it was sent, `headers` have names in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    keep: bool  # whether the client goes on with the connection
    host: str = ""


@dataclass(slots=True)
class Answer:
    """An answer whose body is in memory; a blob's is sent by its own means."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_json(cls, status: int, value: object, **headers: str) -> Answer:
        """Return an answer in JSON."""
        body = json.dumps(value, separators=(",", ":")).encode()
        return cls(status, body, {"Content-Type": "application/json", **headers})

    @classmethod
    def refusal(cls, status: int, code: str, message: str, **headers: str) -> Answer:
        """Return an error as the distribution spec writes it ("Error Codes")."""
        one = {"code": code, "message": message, "detail": None}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return cls.of_json(status, {"errors": [one]}, **named)


def parse(head: bytes) -> Request:
    """Read a request's head, without its empty line. Raises BadRequest."""
    first, *lines = head.split(b"\r\n")
    line = _LINE.fullmatch(first)
    if line is None:
        raise BadRequest(400, "no request line of HTTP/1.1")
    if len(lines) > MAX_HEADERS:
        raise BadRequest(431, f"over {MAX_HEADERS} headers")
    headers: dict[str, str] = {}
    for one in lines:
        name, colon, value = one.partition(b":")
        if not colon or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise BadRequest(400, "a malformed header")
        key, text = name.decode("ascii").lower(), value.decode("latin-1").strip(" \t")
        if key in headers:
            if key in _ONCE:
                raise BadRequest(400, f"{key} is there twice")
            text = f"{headers[key]}, {text}"
        headers[key] = text
    if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
        raise BadRequest(405, "nothing is pushed here: a request has no body")
    host = headers.get("host", "")
    if (line[3] == b"1" and not host) or (host and not _HOST.fullmatch(host)):
        raise BadRequest(400, "Host is missing, or is no host")
    wanted = headers.get("connection", "").lower()
    keep = "close" not in wanted if line[3] == b"1" else "keep-alive" in wanted
    path, _, query = line[2].decode("ascii").partition("?")
    return Request(line[1].decode("ascii"), path, _query(query), headers, keep, host)


def head_of(answer: Answer, length: int, *, keep: bool) -> bytes:
    """Return an answer's head. `length` is its body's, sent or not (HEAD)."""
    reason = HTTPStatus(answer.status).phrase
    lines = [f"HTTP/1.1 {answer.status} {reason}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    lines += [
        f"Content-Length: {length}",
        "Docker-Distribution-Api-Version: registry/2.0",
        "X-Content-Type-Options: nosniff",
    ]
    if not keep:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


_SPAN = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def span_of(header: str | None, size: int) -> tuple[int, int] | None:
    """Return first byte and length of a Range; None for none, or one that is to be ignored (RFC 9110, 14.2).

    Raises BadRequest (416) for one that lies beyond the end.
    """
    match = _SPAN.fullmatch(header.strip()) if header else None
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        if not length:
            raise BadRequest(416, "an empty range")
        return size - length, length
    first = int(match[1])
    last = min(int(match[2]), size - 1) if match[2] else size - 1
    if match[2] and int(match[2]) < first:
        return None
    if first >= size:
        raise BadRequest(416, "the range is beyond the end")
    return first, last - first + 1


def _query(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in text.split("&") if text else ():
        name, _, value = pair.partition("=")
        plain = unquote_to_bytes(value.replace("+", " ")).decode("utf-8", "replace")
        name = unquote_to_bytes(name).decode("utf-8", "replace")
        found[name] = f"{found[name]} {plain}" if name == "scope" and name in found else plain
    return found
