"""Calls of a provider's own API: small JSON documents at one origin, by the registry's TLS and proxy.

No redirect is followed, so what is presented to the API's host never goes anywhere else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx

from service.errors import (
    InvalidConfiguration,
    NetworkError,
    ProtocolError,
    RegistryError,
    ServerError,
    Throttled,
)
from service.model.endpoint import Credential, CredentialSpec, RegistryEndpoint
from service.registry.connector import Connector
from service.registry.http import MAX_ATTEMPTS, USER_AGENT, Http
from service.registry.origin import split_url
from service.registry.pool import Pool
from service.registry.tokens import basic_value
from service.registry.transport import Transport
from service.registry.wire_errors import error_from

MAX_ANSWER_BYTES = 10 * 1024 * 1024
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})


class Reply(NamedTuple):
    """An answer; `value` is its JSON, None for a body that is empty or no JSON."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    value: Any


class ControlPlane:
    """The API of one registry's provider. For any number of threads."""

    def __init__(
        self,
        http: Http,
        endpoint: RegistryEndpoint,
        credential: Callable[[], Credential],
        usual_url: str | None = None,
    ) -> None:
        """`endpoint` as this process reaches it.

        Its `api_url` is asked, else `usual_url`, where its provider has the API of registries with
        such a host; else the registry itself.
        """
        self.name = endpoint.name
        self._endpoint = endpoint
        self._others: list[ControlPlane] = []
        self.credential = credential
        self._http = self.http = http
        self.origin = http.origin
        self._own_pool: Pool | None = None
        pool = http.pool
        url = endpoint.api_url or usual_url
        if url is not None:
            there = replace(endpoint, url=url, connect_to=None, trusted_hosts=())
            self.origin, _ = split_url(url)
            pool = self._own_pool = Pool(
                Connector(there, http.timeouts, resolve=http.connector.resolver), http.timeouts
            )
        self._client = httpx.Client(
            transport=Transport(pool),
            trust_env=False,
            follow_redirects=False,
            headers={"User-Agent": USER_AGENT, "Accept": "application/json"},
        )

    def at(self, url: str) -> ControlPlane:
        """Return what calls another host of the provider; this one, where `api_url` stands for all of them."""
        if self._endpoint.api_url is not None:
            return self
        other = ControlPlane(self.http, self._endpoint, self.credential, url)
        self._others.append(other)
        return other

    def at_registry(self) -> ControlPlane:
        """Return what calls the registry itself, wherever its provider's API is."""
        other = ControlPlane(self.http, replace(self._endpoint, api_url=None), self.credential)
        self._others.append(other)
        return other

    @property
    def keyless(self) -> str | None:
        """Whose machine's identity is the credential: aliyun, aws, azure, gcp, volcengine; None: one is configured, or none."""
        return self._endpoint.credentials.keyless

    @property
    def credentials(self) -> CredentialSpec:
        """Where the credential comes from."""
        return self._endpoint.credentials

    @property
    def hosts(self) -> tuple[str, str]:
        """The hosts of the registry and of its API."""
        return self._http.origin.host, self.origin.host

    def presented(self) -> Credential:
        """Return the credential, to be shown to the API's host as it is.

        Raises InvalidConfiguration for a named secret that nobody has bound to that host.
        """
        endpoint, host = self._endpoint, self.origin.authority
        spec = endpoint.credentials
        bound = spec.secret is not None or spec.named
        if bound and self.origin != self.http.origin and host not in endpoint.audience:
            raise InvalidConfiguration(
                f"the secret of {self.name} would be shown to {host}, the API of its provider",
                field="credentials.secret",
                hint=f"bind the secret to {host}, too, and give the registry api_url: {self.origin}",
            )
        return self.credential()

    def basic(self) -> dict[str, str]:
        """Return the Authorization header of the registry's credential; none for an anonymous one."""
        credential = self.presented()
        if credential.anonymous:
            return {}
        return {"Authorization": basic_value(credential)}

    def call(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        signed: Callable[[bytes], Mapping[str, str]] | None = None,
        body: object = None,
        form: Mapping[str, str] | None = None,
        accept: tuple[int, ...] = (200,),
        judge: Callable[[Reply], RegistryError | None] | None = None,
    ) -> Reply:
        """Send a request that may be sent again; `target` is path and query, encoded.

        `form` is sent in place of a JSON body. `signed` returns the headers for a body, anew for each try. Network failures, 408, 429 and 5xx
        are tried again as the registry's own requests are. Raises RegistryError for every status that is
        not in `accept`, or where `judge` has an error for an answer, for APIs with words of their own.
        """
        content = b"" if body is None else json.dumps(body).encode()
        given = dict(headers or {})
        if form is not None:
            content = urlencode(form).encode()
            given["Content-Type"] = "application/x-www-form-urlencoded"
        if body is not None:
            given.setdefault("Content-Type", "application/json")
        attempt = 0
        while True:
            attempt += 1
            try:
                sent = {**given, **(signed(content) if signed is not None else {})}
                status, found, data = self._send(method, target, sent, content)
                reply = Reply(status, found, _parsed(data))
                said = judge(reply) if judge is not None and 200 <= status < 500 else None
                if said is None and status in accept:
                    return reply
                failure = said or self._error(method, target, status, found, data)
                if status not in _AGAIN and not (said is not None and said.retryable):
                    raise failure
            except (NetworkError, ServerError, Throttled) as error:
                failure = self._http.named(error)
            if attempt >= MAX_ATTEMPTS:
                raise failure
            self._http.back_off(attempt, failure)

    def close(self) -> None:
        """Close what is kept for the API alone."""
        for other in self._others:
            other.close()
        if self._own_pool is not None:
            self._own_pool.close()

    def _send(
        self, method: str, target: str, headers: Mapping[str, str], content: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        url = f"{self.origin}{target}"
        try:
            with self._client.stream(
                method, url, headers=headers, content=content or None
            ) as response:
                self._http.count(method, "api", response.status_code)
                data = bytearray()
                if method != "HEAD":
                    for piece in response.iter_raw():
                        data += piece
                        if len(data) > MAX_ANSWER_BYTES:
                            raise ProtocolError(f"{self.name}: its API answers over 10 MiB")
                return response.status_code, response.headers, bytes(data)
        except httpx.HTTPError as error:
            self._http.count(method, "api", 0)
            if isinstance(error.__cause__, RegistryError):
                raise error.__cause__ from None
            raise NetworkError(f"{self.name}: its API: {error}") from None

    def _error(
        self, method: str, target: str, status: int, headers: Mapping[str, str], data: bytes
    ) -> RegistryError:
        return error_from(
            status,
            headers,
            data,
            registry=self.name,
            action=f"{method} {target.partition('?')[0]}",
            kind="api",
            anonymous=self.keyless is None and self.credential().anonymous,
        )


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
