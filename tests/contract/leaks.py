"""No credential reaches any host but its own: read from what every server of a test was asked.

A fake says which of its secrets which hosts may see: by what its `auth` is, and by a method `secrets` where there is
more, as for an API on a host of its own. A secret is looked for as it is, URL-encoded, and in base64, alone and behind a user
name, in path, query, headers and small bodies; the many opaque tokens as they are.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol, runtime_checkable
from urllib.parse import quote, quote_plus, urlsplit

from api.samples.auth import BasicAuth, BearerAuth
from api.samples.http_messages import Request, Response
from api.samples.http_server import HttpServer
from api.samples.registry import SampleRegistry

KEPT_BYTES = 64 << 10  # of a body: layers have no secrets of ours in them
_WORD = re.compile(r"[A-Za-z0-9_-]{32,}")
SHORTEST = 6  # a shorter text is no secret by itself, and is found by chance

Hosts = frozenset[str]


@dataclass(frozen=True)
class Secret:
    """A secret, the user names that it goes with, and the authorities (host:port) that may see it."""

    text: str
    hosts: Hosts = frozenset()
    users: tuple[str, ...] = ()
    opaque: bool = False  # one of many, of letters that nothing encodes

    def forms(self) -> set[str]:
        """The texts that give it away."""
        if self.opaque:
            return {self.text}
        plain = {self.text} if len(self.text) >= SHORTEST else set()
        pairs = {f"{user}:{self.text}" for user in self.users}
        found = {base64.b64encode(one.encode()).decode() for one in {self.text} | pairs}
        found |= plain | {quote(one, safe="") for one in plain | pairs}
        return found | {quote_plus(one) for one in plain | found}


@runtime_checkable
class Secretive(Protocol):
    """A fake that knows of secrets which its `auth` does not tell."""

    def secrets(self) -> list[Secret]:
        """Those that it was given and has handed out so far."""


@dataclass
class Asked:
    """One request as a server saw it."""

    authority: str
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytearray = field(default_factory=bytearray)

    def parts(self) -> Iterator[str]:
        """All of it in which a secret may be."""
        yield self.target
        yield from self.headers.values()
        yield self.body.decode("latin-1")


class Watch:
    """What the servers were asked that were made while it watched."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.fakes: list[SampleRegistry | Secretive] = []

    def server(self, server: HttpServer) -> None:
        """Keep what this server is asked from now on."""
        answer = server.handler
        fake = getattr(answer, "__self__", None)
        if isinstance(fake, SampleRegistry | Secretive) and fake not in self.fakes:
            self.fakes.append(fake)

        def kept(request: Request) -> Response:
            seen = Asked(server.authority, request.method, request.target, dict(request.headers))
            self.asked.append(seen)
            if request.headers.get("content-type") == "application/octet-stream":
                return answer(request)  # a layer's bytes
            read_into = request.body.read_into

            def tee(view: memoryview) -> int:
                got = read_into(view)
                seen.body += view[: min(got, KEPT_BYTES - len(seen.body))]
                return got

            request.body.read_into = tee  # type: ignore[method-assign]
            return answer(request)

        server.handler = kept

    def leaks(self) -> list[str]:
        """Each request that a secret was in which its host may not see, without the secret."""
        opaque: dict[str, Hosts] = {}
        others: dict[str, Hosts] = {}
        for secret in (one for fake in self.fakes for one in secrets_of(fake)):
            found = opaque if secret.opaque else others
            for form in secret.forms():
                found[form] = found.get(form, frozenset()) | secret.hosts

        @cache
        def gives_away(authority: str, part: str) -> bool:
            words = (opaque[word] for word in _WORD.findall(part) if word in opaque)
            return any(authority not in seen for seen in words) or any(
                authority not in seen and form in part for form, seen in others.items()
            )

        return [
            f"{one.authority} was asked {one.method} {one.target.partition('?')[0]} with a secret"
            for one in self.asked
            if any(gives_away(one.authority, part) for part in one.parts())
        ]

    def forget(self) -> None:
        """Forget what was asked so far."""
        self.asked.clear()


def secrets_of(fake: SampleRegistry | Secretive) -> list[Secret]:
    """All secrets of a fake."""
    own = fake.secrets() if isinstance(fake, Secretive) else []
    if isinstance(fake, SampleRegistry):
        own += secrets_of_auth(fake.api.auth, fake.host)
    return own


def secrets_of_auth(auth: Any, host: str) -> list[Secret]:
    """Passwords, which the token service may see (the registry itself for Basic), and tokens, which the registry may."""
    if isinstance(auth, BasicAuth):
        return [Secret(text, frozenset({host}), (user,)) for user, text in auth.users.items()]
    if isinstance(auth, BearerAuth):
        realm = frozenset({urlsplit(auth.realm).netloc or host})
        passwords = [Secret(text, realm, (user,)) for user, text in auth.tokens.users.items()]
        here = frozenset({host})
        return passwords + [Secret(one, here, opaque=True) for one in auth.tokens.issued]
    return []


@contextmanager
def watching() -> Iterator[Watch]:
    """Watch all servers that are made meanwhile."""
    watch = Watch()
    HttpServer.watchers.append(watch.server)
    try:
        yield watch
    finally:
        HttpServer.watchers.remove(watch.server)
