"""Blobs as they are written: mount, upload sessions, one PUT or PATCHes and a PUT."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from service.errors import (
    AuthenticationFailed,
    Corrupt,
    Denied,
    InvalidDigest,
    NetworkError,
    ProtocolError,
    RegistryAway,
    RegistryError,
    ServerError,
    Throttled,
    UploadLost,
)
from service.model.digest import Digest
from service.model.reference import validate_repository
from service.registry.access import Access
from service.registry.connection import Connection
from service.registry.http import MAX_ATTEMPTS, Answer, Http, read_answer
from service.registry.links import upload_end
from service.registry.origin import Origin, resolve_url, with_query
from service.registry.results import MOUNTED, Mounted, UploadSession

_EMPTY_BODY = "Content-Length: 0\r\n"
_OCTETS = "Content-Type: application/octet-stream\r\n"
SETTLING_BYTES_PER_SECOND = 16 * 1024 * 1024
_STORED = frozenset({200, 201, 204})  # 204 from old servers
_UUID = re.compile(r"[A-Za-z0-9_-]{1,128}")


class Uploads:
    """The blob writing calls of one registry."""

    def __init__(self, http: Http, make_room: Callable[[str], bool] = lambda _: False) -> None:
        """`make_room`: sees to what a repository needs before its first push; whether to ask again."""
        self._http = http
        self._make_room = make_room

    def start(self, repository: str) -> UploadSession:
        """Open an upload session; raises Denied, RepositoryNotFound and other RegistryErrors.

        A refusal has the provider make the repository, or what it stands in, and is followed by one
        more try.
        """
        target = f"/v2/{validate_repository(repository)}/blobs/uploads/"
        access = Access("push", repository)
        answer = self._http.request("POST", "upload", target, access, headers=_EMPTY_BODY)
        if answer.status in (401, 403, 404) and self._make_room(repository):
            self._http.forget_tokens(repository)  # given out when there was nothing to allow
            answer = self._http.request("POST", "upload", target, access, headers=_EMPTY_BODY)
        if answer.status != 202:
            raise self._http.error(answer, "POST", target, "tags")
        return self._session(repository, self._http.origin, target, answer.headers)

    def begin_start(self, repository: str) -> Connection | None:
        """Send the POST that opens a session without awaiting its answer; None if that fails.

        It saves a round trip where the source is asked for the blob meanwhile.
        """
        target = f"/v2/{validate_repository(repository)}/blobs/uploads/"
        try:
            return self._http.begin(
                "POST",
                target,
                Access("push", repository),
                headers=_EMPTY_BODY,
                origin=self._http.origin,
            )
        except RegistryError:
            return None

    def finish_start(self, repository: str, connection: Connection | None) -> UploadSession:
        """Read the answer of `begin_start`; whatever it was but a session is asked for anew."""
        if connection is not None:
            target = f"/v2/{repository}/blobs/uploads/"
            sent = connection.authorization
            try:
                answer = read_answer(self._http.finish(connection, "POST", "upload"), 64 * 1024)
                if answer.status == 202:
                    return self._session(repository, self._http.origin, target, answer.headers)
                challenge = answer.headers.get("www-authenticate")
                if answer.status == 401 and challenge and sent:
                    self._http.renew(Access("push", repository), challenge, sent)
            except (NetworkError, ProtocolError):
                connection.close()
        return self.start(repository)

    def mount(
        self, repository: str, digest: Digest, from_repository: str
    ) -> Mounted | UploadSession | None:
        """Ask the registry to take a blob from another of its repositories.

        201 is MOUNTED; 202 is *not* mounted but an open session, to be used or cancelled; a refusal
        of any kind is None: upload instead (some token services refuse a second repository, and
        what is wrong with the credentials the upload will say). Raises NetworkError, Throttled.
        """
        base = f"/v2/{validate_repository(repository)}/blobs/uploads/"
        target = f"{base}?mount={digest}&from={validate_repository(from_repository)}"
        access = Access("push", repository, from_repository)
        try:
            answer = self._http.request("POST", "mount", target, access, headers=_EMPTY_BODY)
        except (ServerError, AuthenticationFailed, Denied):
            return None
        except RegistryAway:
            if self._http.breaker.is_open:
                raise
            return None  # the second repository is refused, not the credentials
        if answer.status == 201:
            return None if _other_digest(answer.headers, digest) else MOUNTED
        if answer.status == 202:
            return self._session(repository, self._http.origin, target, answer.headers)
        if answer.status < 400:
            raise self._http.error(answer, "POST", base, "upload")
        return None

    def cancel(self, session: UploadSession) -> None:
        """Delete a session so that the registry need not keep its bytes; never raises."""
        try:
            self._http.request(
                "DELETE",
                "upload",
                session.target,
                Access("push", session.repository),
                origin=session.origin,
                attempts=1,
            )
        except RegistryError:
            return  # registries purge old sessions by themselves

    def put_small(
        self, repository: str, digest: Digest, data: bytes, session: UploadSession | None
    ) -> None:
        """Upload a blob that is in memory: POST (unless a session is given) and one PUT."""
        attempt = 0
        headers = f"{_OCTETS}Content-Length: {len(data)}\r\n"
        while True:
            attempt += 1
            current = session or self.start(repository)
            session = None
            target = with_query(current.target, f"digest={digest}")
            try:
                answer = self._http.request(
                    "PUT",
                    "upload",
                    target,
                    Access("push", repository),
                    headers=headers,
                    body=data,
                    origin=current.origin,
                    attempts=1,
                )
                self.check_stored(answer, current, digest)
            except (UploadLost, NetworkError, ServerError, Throttled, RegistryAway) as error:
                if not isinstance(error, UploadLost):
                    self.cancel(current)
                if attempt >= MAX_ATTEMPTS:
                    raise
                self._http.back_off(attempt, error)
            except RegistryError:
                self.cancel(current)
                raise
            else:
                return

    def begin_put(self, session: UploadSession, digest: Digest, size: int) -> Connection:
        """Send the head of the one PUT of a whole blob, or of the empty one that closes PATCHes."""
        return self._http.begin(
            "PUT",
            with_query(session.target, f"digest={digest}"),
            Access("push", session.repository),
            headers=f"{_OCTETS}Content-Length: {size}\r\n",
            origin=session.origin,
        )

    def finish_put(
        self, connection: Connection, session: UploadSession, digest: Digest, size: int
    ) -> None:
        """Read the answer of a PUT; raises UploadLost and other RegistryErrors unless it is stored.

        A registry on object storage moves the blob to its place before it answers: a large one is
        given more time.
        """
        sent = connection.authorization  # before others may have the connection
        response = self._http.finish(connection, "PUT", "upload", size / SETTLING_BYTES_PER_SECOND)
        answer = read_answer(response, 64 * 1024)
        self._renew_after_401(answer, session, sent)
        self.check_stored(answer, session, digest)

    def begin_patch(self, session: UploadSession, start: int, stop: int) -> Connection:
        """Send the head of a PATCH of the bytes from `start` to before `stop`."""
        return self._http.begin(
            "PATCH",
            session.target,
            Access("push", session.repository),
            headers=(
                f"{_OCTETS}Content-Range: {start}-{stop - 1}\r\nContent-Length: {stop - start}\r\n"
            ),
            origin=session.origin,
        )

    def finish_patch(
        self, connection: Connection, session: UploadSession, stop: int
    ) -> UploadSession:
        """Read the answer of a PATCH; returns where to go on, by the registry's own count."""
        sent = connection.authorization
        answer = read_answer(self._http.finish(connection, "PATCH", "upload"), 64 * 1024)
        self._renew_after_401(answer, session, sent)
        if answer.status not in (201, 202, 204):  # ECR answers 201
            raise self._error(answer, "PATCH", session)
        end = upload_end(answer.headers.get("range"))
        offset = stop if end is None else end + 1
        followed = self._follow(session, answer.headers, offset)
        if offset > stop:
            self.cancel(followed)  # only its newest address may end it
            raise ProtocolError(f"{self._http.name}: holds more of an upload than was sent")
        return followed

    def status(self, session: UploadSession) -> UploadSession:
        """Ask how much of an upload the registry holds; raises UploadLost when it has forgotten it.

        Source: distribution-spec, end-13. `0-0` is taken for nothing: sending a byte again is
        refused, one missing would be refused at the end.
        """
        answer = self._http.request(
            "GET",
            "upload",
            session.target,
            Access("push", session.repository),
            origin=session.origin,
            attempts=2,
            follow=False,
        )
        if answer.status not in (200, 202, 204):
            raise self._error(answer, "GET", session)
        end = upload_end(answer.headers.get("range"))
        return self._follow(session, answer.headers, end + 1 if end and end > 0 else 0)

    def check_stored(self, answer: Answer, session: UploadSession, digest: Digest) -> None:
        """Raise unless the answer of a PUT says that this very blob is stored."""
        if answer.status not in _STORED:
            raise self._error(answer, "PUT", session)
        if _other_digest(answer.headers, digest):
            raise Corrupt(
                f"{self._http.name}: stored another blob where {digest} was pushed",
                registry=self._http.name,
            )

    def _renew_after_401(self, answer: Answer, session: UploadSession, sent: str) -> None:
        """Fetch a new token where a streamed body was refused for its old one, `sent`.

        The body is gone, so the caller starts again: raised as UploadLost.
        """
        challenge = answer.headers.get("www-authenticate")
        if answer.status != 401 or not challenge or session.origin != self._http.origin:
            return
        access = Access("push", session.repository)
        self._http.renew(access, challenge, sent)
        raise UploadLost(
            f"{self._http.name}: the token ended during the upload",
            registry=self._http.name,
            status=401,
        )

    def _error(self, answer: Answer, method: str, session: UploadSession) -> RegistryError:
        return self._http.error(answer, method, session.target, "upload")

    def _session(
        self, repository: str, origin: Origin, target: str, headers: Mapping[str, str]
    ) -> UploadSession:
        minimum = headers.get("oci-chunk-min-length", "")
        session = UploadSession(
            repository,
            origin,
            "",
            minimum_chunk=int(minimum) if re.fullmatch(r"\d{1,12}", minimum) else 0,
        )
        location = headers.get("location")
        if location:
            there, path = self._resolve(origin, target, location)
        elif _UUID.fullmatch(headers.get("docker-upload-uuid", "")):
            there = origin
            path = f"/v2/{repository}/blobs/uploads/{headers['docker-upload-uuid']}"
        else:
            raise ProtocolError(f"{self._http.name}: an upload without a Location")
        return UploadSession(repository, there, path, minimum_chunk=session.minimum_chunk)

    def _follow(
        self, session: UploadSession, headers: Mapping[str, str], offset: int
    ) -> UploadSession:
        """Return the session with its new Location; Quay's status names none, the last one holds."""
        location = headers.get("location")
        origin, target = session.origin, session.target
        if location:
            origin, target = self._resolve(origin, target, location)
        return UploadSession(session.repository, origin, target, offset, session.minimum_chunk)

    def _resolve(self, origin: Origin, target: str, location: str) -> tuple[Origin, str]:
        """Resolve a Location; plain http to the registry's own host is its proxy's slip of https."""
        there, path = resolve_url(origin, target, location)
        own = self._http.origin
        if own.secure and not there.secure and there.host == own.host:
            there = own
        return there, path


def _other_digest(headers: Mapping[str, str], digest: Digest) -> bool:
    """Whether Docker-Content-Digest names another blob; another algorithm says nothing."""
    text = headers.get("docker-content-digest", "")
    try:
        named = Digest.parse(text)
    except InvalidDigest:
        return False
    return named.algorithm == digest.algorithm and named != digest
