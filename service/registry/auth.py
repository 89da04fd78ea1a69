"""Authentication against one registry: Basic, Bearer, and which hosts may be asked for tokens."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from service.errors import (
    AddressRefused,
    AuthenticationFailed,
    Denied,
    InvalidConfiguration,
    ProtocolError,
    RegistryError,
)
from service.model.endpoint import Credential
from service.model.reference import DOCKER_HUB_ALIASES
from service.protections import without
from service.registry.access import Access
from service.registry.challenge import parse_challenges
from service.registry.origin import Origin, resolve_url, split_url
from service.registry.pool import Pool
from service.registry.wire_errors import credentials_refused

if TYPE_CHECKING:
    from service.registry.tokens import Token, TokenService

# Token services that live on a host of their own, by their registries' documentation.
_KNOWN_REALMS = (
    (re.compile(r"registry\.digitalocean\.com"), re.compile(r"api\.digitalocean\.com")),
    (re.compile(r".+\.aliyuncs\.com"), re.compile(r"dockerauth[a-z0-9.-]*\.aliyuncs\.com")),
)
_DOMAIN = re.compile(r"[a-z0-9.-]+\.[a-z][a-z0-9-]*")  # no single label, no address
_MAX_TOKENS = 4096
_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f]*")


class Authenticator:
    """Answers a registry's challenges; remembers what it asks for and the tokens it got.

    One per client, for its one registry and credential. The credential is read when a token is
    asked for, so a changed one is used without a restart.
    """

    def __init__(
        self,
        pool: Pool,
        registry: str,
        credential: Callable[[], Credential],
        *,
        user_agent: str,
        counted: Callable[[str, int], None],
        refused: Callable[[], bool] = lambda: False,
    ) -> None:
        """`refused` is told of a credential that is refused: whether there may be another one now."""
        self._refused = refused
        self._pool = pool
        self._registry = registry
        self._credential = credential
        self._user_agent = user_agent
        self._counted = counted
        self.anonymous = False  # whether the credential that was last read is none
        self._basic = ""
        self._basic_until: float | None = None
        self._realm = ""
        self._service = ""
        self.realm_failed = False  # its last answer was none: the registry may name another by now
        self._tokens: dict[Access, Token] = {}
        self._flights: dict[Access, threading.Lock] = {}
        self._lock = threading.Lock()
        self._token_service: TokenService | None = None

    @property
    def realm_url(self) -> str | None:
        """Where tokens are had, as scheme://host[:port]: a host that may see the credential; None: unknown."""
        return str(split_url(self._realm)[0]) if self._realm else None

    def line(self, access: Access) -> str:
        """Return the Authorization header line to send at first: empty until a challenge was seen.

        May ask the token service; raises what `renew` does. After a failure of that service
        (`realm_failed`) the registry is to be asked where tokens are had, and `told` of it: it may be
        somewhere else now.
        """
        if self._basic:
            if self._basic_until is not None and time.monotonic() >= self._basic_until:
                self._basic = self._basic_line(self._read_credential())
            return self._basic
        if not self._realm:
            return ""
        token = self._tokens.get(access)
        if token is None or time.monotonic() >= token.renew_at:
            try:
                token, _ = self._obtain(access, stale="")
            except RegistryError:
                self.realm_failed = True
                raise
            self.realm_failed = False
        return _bearer(token)

    def told(self, header: str) -> None:
        """Learn from a challenge where tokens are had. Raises what `renew` does of a realm."""
        for challenge in parse_challenges(header):
            if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                parameters = challenge.parameters
                self._set_realm(parameters["realm"], parameters.get("service", ""))
                return

    def forget(self, access: Access) -> None:
        """Forget the token for an access, so that the credentials are presented anew."""
        self._tokens.pop(access, None)

    def renew(self, access: Access, header: str, sent: str) -> tuple[str, bool]:
        """Answer the challenge of a 401; `sent` is the line it refused.

        Returns the new line, and whether it is fresh: a fresh one that is refused, too, ends in
        AuthenticationFailed. Raises AuthenticationFailed, AddressRefused (the realm's host is not
        one that may be given credentials), or what the token request raises.
        """
        challenges = {item.scheme: item for item in reversed(parse_challenges(header))}
        bearer = challenges.get("bearer")
        if bearer and bearer.parameters.get("realm"):
            self._set_realm(bearer.parameters["realm"], bearer.parameters.get("service", ""))
            token, fresh = self._obtain(access, stale=sent)
            return _bearer(token), fresh
        if "basic" in challenges:
            credential = self._read_credential()
            if credential.anonymous:
                raise credentials_refused(self._registry, anonymous=True)
            line = self._basic_line(credential)
            if line == sent and self._refused():
                line = self._basic_line(self._read_credential())
            if line == sent:
                raise credentials_refused(self._registry)
            self._basic = line
            return line, True
        named = ", ".join(sorted(challenges)) or "nothing"
        raise AuthenticationFailed(
            f"{self._registry} asks for {named[:60]}: only Basic and Bearer are spoken",
            registry=self._registry,
            status=401,
        )

    def _basic_line(self, credential: Credential) -> str:
        from service.registry.tokens import basic_value

        self._basic_until = credential.renew_at
        return f"Authorization: {basic_value(credential)}\r\n"

    def _read_credential(self) -> Credential:
        credential = self._credential()
        for text in (credential.username, credential.password, credential.identity_token):
            if not _PRINTABLE.fullmatch(text):
                raise InvalidConfiguration(
                    f"the credential of {self._registry} holds control characters",
                    field="credentials",
                )
        self.anonymous = credential.anonymous
        return credential

    def _set_realm(self, realm: str, service: str) -> None:
        try:
            origin, target = resolve_url(self._pool.connector.origin, "/v2/", realm)
        except ProtocolError as error:
            raise AuthenticationFailed(
                f"{self._registry} names a token service that is none: {error.message}",
                registry=self._registry,
                status=401,
            ) from None
        self._check_realm(origin)
        url = f"{origin}{target}"
        self.realm_failed = False
        with self._lock:
            if (url, service) != (self._realm, self._service):
                self._tokens.clear()
                self._realm, self._service = url, service

    def _check_realm(self, origin: Origin) -> None:
        """Raise AddressRefused unless the token service may be given this registry's credentials.

        Rule: reference reliability S6: the registry's own host, one it is a subdomain of, its
        documented token service, or a host the administrator listed.
        """
        connector = self._pool.connector
        connector.check_scheme(origin)
        own = connector.origin.host
        is_parent = own.endswith(f".{origin.host}") and _DOMAIN.fullmatch(origin.host)
        if is_parent or connector.is_trusted(origin) or without("realm-check"):
            return
        if own in DOCKER_HUB_ALIASES and origin.host == "auth.docker.io":
            return
        for registry, realm in _KNOWN_REALMS:
            if registry.fullmatch(own) and realm.fullmatch(origin.host):
                return
        raise AddressRefused(
            f"{self._registry} sends for its tokens to {origin}: refused, "
            "it would be given the credentials",
            registry=self._registry,
            hint=f"list {origin.host} in the registry's trusted_hosts if it is meant",
        )

    def _obtain(self, access: Access, stale: str) -> tuple[Token, bool]:
        """Return a token that is not `stale`; one thread asks, the others wait for its answer."""
        shared = access._replace(level="push") if access.level == "pull" else access
        with self._lock:
            if len(self._flights) >= _MAX_TOKENS:
                self._flights.clear()
            flight = self._flights.setdefault(shared, threading.Lock())
        with flight:
            token = self._tokens.get(access)
            if token and time.monotonic() < token.renew_at and _bearer(token) != stale:
                return token, False
            return self._ask(access), True

    def _ask(self, access: Access) -> Token:
        credential = self._read_credential()
        scopes = access.scopes(anonymous=credential.anonymous)
        service = self._service_client()
        covers = {access}
        try:
            token = service.fetch(self._realm, self._service, scopes, credential)
            if access.level in ("pull", "push") and not credential.anonymous:
                covers |= {Access("pull", access.repository), Access("push", access.repository)}
        except (AuthenticationFailed, Denied):
            # Some services refuse what others just leave out: ask again for what is needed only.
            narrow = access.scopes(anonymous=True)
            if narrow == scopes:
                raise
            token = service.fetch(self._realm, self._service, narrow, credential)
        if len(self._tokens) >= _MAX_TOKENS:
            self._tokens.clear()
        for covered in covers:
            self._tokens[covered] = token
        return token

    def _service_client(self) -> TokenService:
        """Make the token client at the first token: registries without tokens never load httpx."""
        with self._lock:
            if self._token_service is None:
                from service.registry.tokens import TokenService

                self._token_service = TokenService(
                    self._pool, self._registry, self._user_agent, self._counted
                )
            return self._token_service


def _bearer(token: Token) -> str:
    return f"Authorization: Bearer {token.value}\r\n"
