"""The request loop: authentication, redirects by our own rules, retries, accounting."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from service import tracing
from service.errors import (
    AuthenticationFailed,
    NetworkError,
    ProtocolError,
    RegistryError,
    ServerError,
    Throttled,
)
from service.model.endpoint import Credential, RegistryEndpoint
from service.protections import without
from service.registry.access import PING, Access
from service.registry.accounts import Account, Accounts
from service.registry.answer_times import AnswerTimes
from service.registry.auth import Authenticator
from service.registry.breaker import Breaker
from service.registry.connection import Connection, Response
from service.registry.connector import Connector, Resolver, resolve_host
from service.registry.limiter import SLOWED, Limiter
from service.registry.origin import Origin, resolve_url
from service.registry.pool import Pool
from service.registry.quota import back_in_seconds, is_used_up
from service.registry.timeouts import Timeouts
from service.registry.wire_errors import MAX_ERROR_BODY, error_from

USER_AGENT = "transship/0.1"  # Docker Hub refuses requests without a name
MAX_ATTEMPTS = 4  # the first and three more
MAX_REDIRECTS = 3
MAX_RENEWALS = 2
RETRY_IN_PLACE_SECONDS = 10.0  # a longer Retry-After is the caller's to wait
FIRST_DELAY_SECONDS = 0.2
REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RETRYABLE = frozenset({408, 429, 500, 502, 503, 504})
_FAILURES = frozenset({500, 502, 503, 504})

TOO_MANY = "TOOMANYREQUESTS"
_REPOSITORY = re.compile(r"/v2/(.+)/(?:manifests|blobs|tags|referrers)/")

OnRequest = Callable[[str, str, int], None]


class Presented(NamedTuple):
    """One of a registry's credentials, read when it is presented; `prefix`: of its repositories."""

    credential: Callable[[], Credential]
    refused: Callable[[], bool] = lambda: False
    """Told of a credential that is refused: whether there may be another one now."""
    prefix: str = ""


NOBODY = Presented(Credential)


class Answer(NamedTuple):
    """A whole response: small, and in memory."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes


class Http:
    """Requests to one registry. Thread-safe."""

    def __init__(
        self,
        endpoint: RegistryEndpoint,
        presented: Sequence[Presented],
        *,
        timeouts: Timeouts,
        on_request: OnRequest | None = None,
        sleep: Callable[[float], None] = time.sleep,
        resolve: Resolver = resolve_host,
        limiter: Limiter | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        """`presented`: one for each of the endpoint's credentials, in their order."""
        self.name = endpoint.name
        self.limiter = limiter
        self.breaker = breaker or Breaker(endpoint.name)
        self.timeouts = timeouts
        self.times = AnswerTimes()
        self.connector = Connector(endpoint, timeouts, resolve=resolve)
        self.pool = Pool(self.connector, timeouts)
        self.origin = self.connector.origin
        self.sign: Callable[[Mapping[str, str]], bool] | None = None
        """Told of the first answer's headers and of challenges until it has seen enough: True."""
        self._on_request = on_request
        self._sleep = sleep
        self._requests = 0
        self._lock = threading.Lock()
        self._own_tail = _tail(self.origin)
        accounts = [
            Account(number, one.prefix, self._authenticator(one))
            for number, one in enumerate(presented)
        ]
        if all(
            one.prefix for one in presented
        ):  # what none of them is for, is asked as anybody may
            accounts.append(Account(len(accounts), "", self._authenticator(NOBODY)))
        self.accounts = Accounts(endpoint.name, accounts)
        self.auth = accounts[0].auth
        """Where tokens are had is the same for all of them."""

    def _authenticator(self, presented: Presented) -> Authenticator:
        return Authenticator(
            self.pool,
            self.name,
            presented.credential,
            user_agent=USER_AGENT,
            counted=lambda method, status: self.count(method, "token", status),
            refused=presented.refused,
        )

    @property
    def requests(self) -> int:
        """How many requests were sent, those to token services and redirect targets included."""
        return self._requests

    def count(self, method: str, kind: str, status: int, seconds: float = 0.0) -> None:
        """Account for one request; status 0 stands for no answer, `seconds` are those that it was waited for."""
        with self._lock:
            self._requests += 1
        if self._on_request is not None:
            self._on_request(method, kind, status)
        if tracing.is_on():
            told = {"transship.registry": self.name, "http.request.method": method}
            tracing.noted(
                f"{method} {kind}", seconds, **told, **{"http.response.status_code": status}
            )

    def request(
        self,
        method: str,
        kind: str,
        target: str,
        access: Access,
        *,
        headers: str = "",
        body: bytes = b"",
        origin: Origin | None = None,
        limit: int = MAX_ERROR_BODY,
        attempts: int = MAX_ATTEMPTS,
        follow: bool = True,
    ) -> Answer:
        """Send a request that may be sent again, and read its whole answer.

        Network failures, 408, 429 and 5xx are tried again with jittered backoff; a Retry-After of
        up to 10 s is waited for, a longer one raises Throttled with it. Every other status is
        returned. Raises RegistryError.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                response = self.open(
                    method,
                    kind,
                    target,
                    access,
                    headers=headers,
                    body=body,
                    origin=origin,
                    follow=follow,
                )
                answer = read_answer(response, limit)
                if answer.status not in _RETRYABLE:
                    return answer
                failure = self.error(answer, method, target, kind)
            except (NetworkError, ServerError, Throttled) as error:
                failure = self.named(error)
            except RegistryError as error:
                self.named(error)
                raise
            if attempt >= attempts:
                raise failure
            self.back_off(attempt, failure)

    def back_off(self, attempt: int, failure: RegistryError) -> None:
        """Wait before try number `attempt` + 1; raises `failure` when the registry asks for more."""
        delay = FIRST_DELAY_SECONDS * 3 ** (attempt - 1) * random.uniform(0.5, 1.0)  # noqa: S311
        if failure.retry_after_seconds is not None:
            if failure.retry_after_seconds > RETRY_IN_PLACE_SECONDS:
                raise failure
            delay = max(delay, failure.retry_after_seconds)
        self._sleep(delay)

    def open(
        self,
        method: str,
        kind: str,
        target: str,
        access: Access,
        *,
        headers: str = "",
        body: bytes = b"",
        origin: Origin | None = None,
        follow: bool = True,
    ) -> Response:
        """Send one request, answer challenges, follow redirects of GET and HEAD; body unread.

        Credentials go to the registry's own origin only, and to an upload's origin that is a
        trusted host; never along a redirect to another origin. Raises RegistryError.
        """
        try:
            return self._open(method, kind, target, access, headers, body, origin, follow)
        except RegistryError:
            self.breaker.gave_up()  # unless it has told the breaker: then this does nothing
            raise

    def _open(
        self,
        method: str,
        kind: str,
        target: str,
        access: Access,
        headers: str,
        body: bytes,
        origin: Origin | None,
        follow: bool,
    ) -> Response:
        here = origin or self.origin
        trusted = self._may_hold_credentials(here)
        account = self.accounts.of(access.repository, push=_is_push(access))
        refused: list[Account] = []  # those whose quota this request found used up
        line = self._line(account, access) if trusted else ""
        renewals = 0
        hops = 0
        while True:
            shown = account if line else None
            response = self._exchange(here, method, kind, target, f"{line}{headers}", body, shown)
            status = response.status
            if status == 401 and trusted and renewals < MAX_RENEWALS:
                challenge = response.headers.get("www-authenticate")
                if not challenge:
                    return response
                response.read_some(MAX_ERROR_BODY)
                line, fresh = self._renew(account, access, challenge, line)
                renewals = MAX_RENEWALS if fresh else renewals + 1
            elif status == 429 and line and here == self.origin and self.accounts.several:
                refused.append(account)
                account = self._spare(refused, response, access, method, target, kind)
                line = self._line(account, access)
                renewals = 0
            elif status in REDIRECTS and follow and method in ("GET", "HEAD"):
                location = response.headers.get("location")
                response.read_some(MAX_ERROR_BODY)
                hops += 1
                if not location or hops > MAX_REDIRECTS:
                    raise ProtocolError(f"{self.name}: redirects without end", status=status)
                here, target = resolve_url(here, target, location)
                trusted = here == self.origin or without("redirect-strip")
                line = self._line(account, access) if trusted else ""
            else:
                if line and status < 500 and status != 401:
                    self.breaker.accepted(push=_is_push(access))
                return response

    def begin(
        self, method: str, target: str, access: Access, *, headers: str, origin: Origin
    ) -> Connection:
        """Send the head of a request whose body the caller sends on the returned connection."""
        try:
            account = self.accounts.of(access.repository, push=_is_push(access))
            line = self._line(account, access) if self._may_hold_credentials(origin) else ""
            leave = self._enter(origin)
        except RegistryError:
            self.breaker.gave_up()
            raise
        try:
            connection = self.pool.acquire(origin)
        except BaseException as error:
            if leave is not None:
                leave()
            self._raise_for(error, origin)
            self.breaker.gave_up()
            raise
        connection.leave = leave
        connection.authorization = line
        try:
            connection.send(self._head(origin, method, target, f"{line}{headers}"))
        except BaseException:
            connection.close()
            raise
        return connection

    def finish(
        self, connection: Connection, method: str, kind: str, patience_seconds: float = 0.0
    ) -> Response:
        """Read the response's head of what `begin` began, waiting that much longer than usual."""
        try:
            response = connection.receive(method, self.pool.release, patience_seconds)
        except BaseException as error:
            connection.close()
            self.count(method, kind, 0)
            self._raise_for(error, connection.origin)
            self.breaker.gave_up()
            raise
        self.count(method, kind, response.status, response.waited_seconds)
        self._learn(connection.origin, response)
        return response

    def named(self, error: RegistryError) -> RegistryError:
        """Write this registry's name into an error that came from the wire, which knows none."""
        error.registry = error.registry or self.name
        return error

    def error(self, answer: Answer, method: str, target: str, kind: str) -> RegistryError:
        """Return the error that an unexpected answer means; RegistryAway where it is one of many."""
        path = target.partition("?")[0]
        error = error_from(
            answer.status,
            answer.headers,
            answer.body,
            registry=self.name,
            action=f"{method} {path}",
            kind=kind,
            anonymous=self._auth_for(path).anonymous,
        )
        if isinstance(error, ServerError) and self.breaker.is_open:
            return self.breaker.failed(error)
        if isinstance(error, AuthenticationFailed):
            return self._refusal(error, push=method not in ("GET", "HEAD"))
        return error

    def _auth_for(self, path: str) -> Authenticator:
        """Return what answers for a path's repository."""
        if not self.accounts.several:
            return self.auth
        found = _REPOSITORY.match(path)
        return self.accounts.of(found[1] if found else "").auth

    def forget_tokens(self, repository: str) -> None:
        """Forget what was given out for a repository, so that the credentials are presented anew."""
        for push in (True, False):
            auth = self.accounts.of(repository, push=push).auth
            auth.forget(Access("push", repository))
            auth.forget(Access("pull", repository))

    def renew(self, access: Access, challenge: str, sent: str) -> tuple[str, bool]:
        """Answer a challenge as Authenticator.renew does; RegistryAway where credentials are rotated."""
        account = self.accounts.of(access.repository, push=_is_push(access))
        return self._renew(account, access, challenge, sent)

    def _renew(
        self, account: Account, access: Access, challenge: str, sent: str
    ) -> tuple[str, bool]:
        try:
            return account.auth.renew(access, challenge, sent)
        except AuthenticationFailed as error:
            raise self._refusal(error, push=_is_push(access)) from error
        except (NetworkError, ServerError) as error:
            raise self.breaker.failed(self.named(error)) from error

    def close(self) -> None:
        """Close the kept connections."""
        self.pool.close()

    def _may_hold_credentials(self, origin: Origin) -> bool:
        return origin == self.origin or self.connector.is_listed(origin)

    def _spare(
        self,
        refused: Sequence[Account],
        response: Response,
        access: Access,
        method: str,
        target: str,
        kind: str,
    ) -> Account:
        """Return the account to go on with after a 429 to the last of these; raises Throttled where there is none.

        A 429 that speaks of a quota is the account's; any other one is meant for all of them. A request
        is sent by each account once: when all have been refused, the registry is throttling.
        """
        answer = Answer(response.status, response.headers, response.read_some(MAX_ERROR_BODY))
        error = self.error(answer, method, target, kind)
        if error.oci_code.upper() == TOO_MANY or is_used_up(answer.headers):
            back = error.retry_after_seconds or back_in_seconds(answer.headers)
            spare = self.accounts.out_of_quota(refused[-1], back)
            if spare is not None and spare not in refused and not _is_push(access):
                return spare
        if self.limiter is not None:
            self.limiter.saw(answer.status, answer.headers)
        raise error

    def _line(self, account: Account, access: Access) -> str:
        """Return the Authorization line; what its token service fails with, is the registry's failure."""
        if self.breaker.is_open:
            self.breaker.enter()
            if self.breaker.refuses_credentials:
                account.auth.forget(access)
        try:
            if account.auth.realm_failed:
                status, challenge = self._ping("")
                if status == 401:
                    account.auth.told(challenge)
            return account.auth.line(access)
        except AuthenticationFailed as error:
            raise self._refusal(error, push=_is_push(access)) from error
        except (NetworkError, ServerError) as error:
            raise self.breaker.failed(self.named(error)) from error

    def _refusal(self, error: AuthenticationFailed, *, push: bool) -> RegistryError:
        """Return what a refusal means: credentials that hold no more, or too small a scope.

        Those that were taken before are tried alone (GET /v2/): a registry that takes them there
        refuses what was asked for; one that does not has had them changed, and the new ones may come.
        One of several credentials is not waited for: the others have work meanwhile.
        """
        if self.accounts.several:
            self.breaker.gave_up()
            return error
        if self.auth.anonymous or not self.breaker.was_accepted(push=push):
            self.breaker.gave_up()
            return error
        try:
            self.auth.forget(PING)
            line = self.auth.line(PING)
            status, challenge = self._ping(line)
            if status == 401:
                line, _ = self.auth.renew(PING, challenge, line)
                status, _ = self._ping(line)
        except AuthenticationFailed as again:
            return self.breaker.refused(again)
        except RegistryError as other:  # RegistryAway, too: another thread has found it out
            return other
        if status == 401:
            return self.breaker.refused(error)
        if status >= 500:
            return ServerError(f"{self.name}: {status} to GET /v2/", registry=self.name)
        return self.breaker.doubted(error)

    def introduce(self) -> None:
        """Ask GET /v2/ without credentials, so that the registry tells who it is.

        Raises RegistryError, and AddressRefused for a token service that may not be asked.
        """
        status, challenge = self._ping("")
        if status == 401:
            self.auth.told(challenge)

    def _ping(self, line: str) -> tuple[int, str]:
        response = self._exchange(self.origin, "GET", "ping", "/v2/", line, b"")
        response.read_some(MAX_ERROR_BODY)
        return response.status, response.headers.get("www-authenticate", "")

    def _raise_for(self, error: BaseException, origin: Origin) -> None:
        """Name a failure of the wire, and raise RegistryAway in its place where it is one of many."""
        if not isinstance(error, RegistryError):
            return
        self.named(error)
        if isinstance(error, NetworkError) and origin == self.origin:
            instead = self.breaker.failed(error)
            if instead is not error:
                raise instead from error

    def _exchange(
        self,
        origin: Origin,
        method: str,
        kind: str,
        target: str,
        headers: str,
        body: bytes,
        account: Account | None = None,
    ) -> Response:
        data = self._head(origin, method, target, headers)
        leave = self._enter(origin)
        try:
            response = self.pool.exchange(origin, method, data + body if body else data, leave)
        except BaseException as error:
            if leave is not None:
                leave()
            if isinstance(error, NetworkError | ProtocolError):
                self.count(method, kind, 0)
            self._raise_for(error, origin)
            raise
        self.times.note(kind, response.waited_seconds)
        self.count(method, kind, response.status, response.waited_seconds)
        if self.sign is not None and (response.status == 401 or self._requests == 1):
            self._show(origin, response)
        self._learn(origin, response, account)
        return response

    def _show(self, origin: Origin, response: Response) -> None:
        """Let the provider be recognised by an answer of the registry itself."""
        if origin == self.origin and self.sign is not None and self.sign(response.headers):
            self.sign = None

    def _enter(self, origin: Origin) -> Callable[[], None] | None:
        """Wait for the registry's turn; other hosts (blobs elsewhere) have none."""
        if self.breaker.is_open and origin == self.origin:
            self.breaker.enter()
        limiter = self.limiter
        if limiter is None:
            return None
        if limiter.gated and origin == self.origin:
            return limiter.enter()
        limiter.note()
        return None

    def _learn(self, origin: Origin, response: Response, account: Account | None = None) -> None:
        """Let the limiter see what says "too much", or how much is left; the breaker, what failed.

        What is left of the quota of an account that was presented slows nobody down while another one can
        go on; a 503 is the registry's, whoever asked.
        """
        headers = response.headers
        if origin == self.origin:
            if response.status in _FAILURES and "retry-after" not in headers:
                self.breaker.failed(ServerError(f"{self.name}: {response.status}"))
            else:
                self.breaker.came(challenge=response.status == 401)
        else:
            self.breaker.gave_up()
        telling = (
            response.status in SLOWED
            or "ratelimit-remaining" in headers
            or "x-ratelimit-remaining" in headers
        )
        if not telling or origin != self.origin:
            return
        if account is not None and self.accounts.several and response.status not in (401, 503):
            if response.status == 429:
                return  # it is judged by its body
            if is_used_up(headers):
                self.accounts.out_of_quota(account, back_in_seconds(headers))
            if self.accounts.has_spare(account):
                return
        if self.limiter is not None:
            self.limiter.saw(response.status, headers)

    def _head(self, origin: Origin, method: str, target: str, headers: str) -> bytes:
        tail = self._own_tail if origin == self.origin else _tail(origin)
        place = self.connector.target(origin, target)
        return f"{method} {place}{tail}{headers}\r\n".encode("ascii")


def read_answer(response: Response, limit: int) -> Answer:
    """Read a response whole: up to `limit` bytes of a good one, 64 KiB of an error.

    A 416 is not read: distribution 2.8.2 announces a body it does not send.
    """
    if response.status == 416:
        response.close()
        return Answer(416, response.headers, b"")
    if response.status < 300:
        return Answer(response.status, response.headers, response.read(limit))
    return Answer(response.status, response.headers, response.read_some(MAX_ERROR_BODY))


def _is_push(access: Access) -> bool:
    return access.level in ("push", "delete")


def _tail(origin: Origin) -> str:
    return (
        f" HTTP/1.1\r\nHost: {origin.authority}\r\nUser-Agent: {USER_AGENT}\r\n"
        "Accept-Encoding: identity\r\n"
    )
