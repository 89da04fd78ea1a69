"""POST to a webhook's receiver: one judged connection, no redirects, a bounded reply (S7, S9)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from service.errors import TooSlow
from service.model.endpoint import RegistryEndpoint
from service.registry.connection import Connection, Response
from service.registry.connector import Connector, Resolver, resolve_host
from service.registry.origin import Origin, split_url
from service.registry.timeouts import Timeouts

MAX_REPLY = 64 * 1024
SECONDS = 10.0
_TIMEOUTS = Timeouts(connect_seconds=5.0, read_seconds=SECONDS, head_seconds=SECONDS)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a receiver has answered; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _PublicOnly(Connector):
    """A connector for addresses that no administrator of the platform wrote."""

    def is_trusted(self, origin: Origin) -> bool:
        """No host is: each must have a public address."""
        del origin
        return False


def post(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    private: bool,
    resolve: Resolver = resolve_host,
    seconds: float = SECONDS,
) -> int:
    """Send the body once and return the answer's status; what the answer says is thrown away.

    As `ask` in all else.
    """
    return ask(url, headers, body, private=private, resolve=resolve, seconds=seconds).status


def ask(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    private: bool,
    resolve: Resolver = resolve_host,
    seconds: float = SECONDS,
) -> Reply:
    """Send the body once and return the answer, of its body no more than MAX_REPLY; no redirect is followed.

    `private` allows addresses that are not public: an administrator of the platform wrote the URL.
    Raises RegistryError: AddressRefused, TLSError, NetworkError, TooSlow after `seconds` in all.
    """
    deadline = time.monotonic() + seconds
    origin, target = split_url(url)
    endpoint = RegistryEndpoint("webhook", str(origin))
    kind = Connector if private else _PublicOnly
    connection = Connection(
        kind(endpoint, _TIMEOUTS, resolve=resolve).connect(origin), origin, _TIMEOUTS
    )
    try:
        connection.send(_head(origin, target, headers, len(body)) + body)
        response = connection.receive("POST", lambda _: None)
        said = _drain(response, deadline, origin)
        return Reply(response.status, response.headers, said)
    finally:
        connection.close()


def _head(origin: Origin, target: str, headers: Mapping[str, str], length: int) -> bytes:
    lines = [
        f"POST {target} HTTP/1.1",
        f"Host: {origin.authority}",
        "User-Agent: transship/0.1",
        "Connection: close",
        f"Content-Length: {length}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _drain(response: Response, deadline: float, origin: Origin) -> bytes:
    """Read the reply as far as MAX_REPLY, and no longer than the deadline."""
    view, said = memoryview(bytearray(4096)), bytearray()
    while len(said) < MAX_REPLY and (count := response.readinto(view)):
        said += view[:count]
        if time.monotonic() > deadline:
            raise TooSlow(f"{origin} did not finish its answer in time")
    return bytes(said)
