"""The routes of the distribution API that a gateway serves, in the words of the distribution spec."""

from __future__ import annotations

import os
import re
from typing import Any
from urllib.parse import quote

from api.gateway.login import REALM_PATH, Login
from api.gateway.messages import Answer, BadRequest, span_of
from api.gateway.server import Cut, Exchange
from service.errors import (
    Corrupt,
    InvalidDigest,
    InvalidReference,
    RegistryError,
    StoreUnavailable,
    TransshipError,
)
from service.model.descriptor import Descriptor
from service.model.digest import Digest
from service.model.gateway import GatewayConfig, ImagePlace
from service.model.media_types import OCI_INDEX
from service.model.reference import validate_repository, validate_tag
from service.registry.pulls import Redirect
from service.replication.gateway.blobs import Blobs
from service.replication.gateway.figures import GatewayFigures
from service.replication.gateway.images import Images
from service.replication.gateway.memory import Member
from service.replication.gateway.names import HINT, Names
from service.replication.gateway.reading import Away
from service.telemetry import get_logger

log = get_logger("gateway")

_PATH = re.compile(r"/v2/(.+)/(manifests|blobs|referrers|tags)/([^/]+)")
MOST_TAGS = 10_000
_CODES = {"manifests": "MANIFEST_UNKNOWN", "blobs": "BLOB_UNKNOWN", "referrers": "NAME_UNKNOWN"}


class Routes:
    """What the server calls for each request."""

    def __init__(
        self,
        config: GatewayConfig,
        login: Login,
        images: Images,
        blobs: Blobs,
        figures: GatewayFigures,
        names: Names,
    ) -> None:
        self._config = config
        self._login = login
        self._images = images
        self._blobs = blobs
        self._figures = figures
        self._names = names
        self.ready = True

    def __call__(self, exchange: Exchange) -> None:
        """Answer one request. Raises OSError, and Cut."""
        try:
            self._route(exchange)
        except BadRequest as error:
            exchange.answer(Answer.refusal(error.status, "UNSUPPORTED", error.message))
        except (InvalidReference, InvalidDigest) as error:
            code = "DIGEST_INVALID" if isinstance(error, InvalidDigest) else "NAME_INVALID"
            self._unless_begun(exchange, Answer.refusal(400, code, error.message), error)
        except Away as error:
            refusal = Answer.refusal(
                503, "UNAVAILABLE", error.message, Retry_After=str(error.retry_seconds)
            )
            self._unless_begun(exchange, refusal, error)
        except (RegistryError, StoreUnavailable, TransshipError) as error:
            refusal = Answer.refusal(502, "UNKNOWN", "the registry behind it failed")
            self._unless_begun(exchange, refusal, error)
        finally:
            self._figures.requests.labels(exchange.kind, str(exchange.status)).inc()

    def _unless_begun(self, exchange: Exchange, answer: Answer, error: TransshipError) -> None:
        """Answer; where an answer has begun, it is cut: half of it must not be taken for whole."""
        if not exchange.status:
            exchange.answer(answer)
            return
        reason = "corrupt" if isinstance(error, Corrupt) else "away"
        self._figures.cut.labels(reason).inc()
        log.error("blob_cut", reason=str(error))
        raise Cut(str(error))

    def _route(self, exchange: Exchange) -> None:
        request = exchange.request
        path = request.path
        if path in ("/healthz", "/readyz"):
            exchange.kind = "health"
            exchange.answer(self._health(ready=path == "/readyz"))
            return
        if request.method not in ("GET", "HEAD"):
            exchange.kind = "write"
            exchange.keep = False
            exchange.answer(
                Answer.refusal(405, "UNSUPPORTED", "this is for pulling only", Allow="GET, HEAD")
            )
            return
        if path in ("/v2/", "/v2"):
            exchange.kind = "ping"
            exchange.answer(self._login.ping(request))
            return
        if path == REALM_PATH:
            exchange.kind = "token"
            exchange.answer(self._login.token(request))
            return
        if path == "/v2/_catalog":
            exchange.kind = "catalog"
            exchange.answer(
                Answer.refusal(405, "UNSUPPORTED", "what there is, is not told: ask by name")
            )
            return
        match = _PATH.fullmatch(path)
        if match is None or (match[2] == "tags" and match[3] != "list"):
            exchange.answer(Answer.refusal(404, "UNSUPPORTED", "there is no such route"))
            return
        kind = exchange.kind = match[2]
        name, reference = (
            validate_repository(match[1]),
            match[3].replace("%3A", ":").replace("%3a", ":"),
        )
        refusal = self._login.refusal(request, name)
        if refusal is not None:
            exchange.answer(refusal)
            return
        source = self._config.place_of(name)
        if source is None:
            exchange.answer(Answer.refusal(404, "NAME_UNKNOWN", "there is no such repository"))
        else:
            try:
                self._serve(exchange, kind, source, name, reference)
            except Away:
                if self._images.reading.is_gone(source[0]):
                    raise Away(
                        f"there is no registry named {source[0]} (any more), which the gateway's names say for this"
                        f" one: {HINT}"
                    ) from None
                raise

    def _health(self, *, ready: bool) -> Answer:
        """Say that it lives, or (`ready`) that it takes pulls, and which entries of its file have no registry.

        By their place in the file: whoever may ask here need not know what registries are called.
        """
        if ready and not self.ready:
            return Answer.of_json(503, {"status": "draining"})
        said: dict[str, Any] = {"status": "alive"}
        missing = self._names.missing if ready else ()
        if missing:
            said |= {"without_registry": sorted(missing), "hint": HINT}
        return Answer.of_json(200, said)

    def _serve(
        self, exchange: Exchange, kind: str, source: ImagePlace, name: str, reference: str
    ) -> None:
        if kind == "manifests":
            self._manifest(exchange, source, reference)
        elif kind == "blobs":
            self._blob(exchange, source, Digest.parse(reference))
        elif kind == "tags":
            self._tags(exchange, source, name)
        else:
            self._referrers(exchange, source, Digest.parse(reference))

    def _manifest(self, exchange: Exchange, source: ImagePlace, reference: str) -> None:
        if ":" in reference:
            Digest.parse(reference)
        else:
            validate_tag(reference)
        manifest = self._images.manifest(source, reference)
        if manifest is None:
            self._unknown(exchange, "manifests")
            return
        digest = str(manifest.digest)
        headers = {
            "Content-Type": manifest.media_type,
            "Docker-Content-Digest": digest,
            "ETag": f'"{digest}"',
        }
        if f'"{digest}"' in exchange.request.headers.get("if-none-match", ""):
            exchange.answer(Answer(304, b"", headers))
            return
        exchange.answer(Answer(200, manifest.raw, headers))

    def _blob(self, exchange: Exchange, source: ImagePlace, digest: Digest) -> None:
        member = self._images.member(source, digest)
        if member is None:
            self._unknown(exchange, "blobs")
            return
        headers = {
            "Content-Type": "application/octet-stream",
            "Docker-Content-Digest": str(digest),
            "Accept-Ranges": "bytes",
            "ETag": f'"{digest}"',
            "Cache-Control": "private, max-age=31536000",
        }
        if exchange.request.method == "HEAD":
            self._head_of_blob(exchange, member, headers)
            return
        try:
            span = span_of(exchange.request.headers.get("range"), member.size)
        except BadRequest as error:
            refused = Answer.refusal(416, "UNSUPPORTED", error.message)
            refused.headers["Content-Range"] = f"bytes */{member.size}"
            exchange.answer(refused)
            return
        first, length = span or (0, member.size)
        answer = Answer(200 if span is None else 206, headers=headers)
        if span is not None:
            headers["Content-Range"] = f"bytes {first}-{first + length - 1}/{member.size}"
        if member.size == 0:
            exchange.answer(Answer(200, b"", headers))
            return
        if self._sent_from_disk(exchange, source, digest, member.size, answer, first, length):
            return
        with self._blobs.turn(digest, member.size) as waited:
            if waited and self._sent_from_disk(
                exchange, source, digest, member.size, answer, first, length
            ):
                return
            self._stream(exchange, source, digest, member, answer, first, length)

    def _stream(
        self,
        exchange: Exchange,
        source: ImagePlace,
        digest: Digest,
        member: Member,
        answer: Answer,
        first: int,
        length: int,
    ) -> None:
        opened = self._blobs.open(source, digest, member, first, length)
        if opened is None:
            self._unknown(exchange, "blobs")
        elif isinstance(opened, Redirect):
            exchange.answer(
                Answer(307, b"", {"Location": opened.location, "Cache-Control": "no-store"})
            )
        else:
            exchange.begin(answer, length)
            opened.send(exchange.send, exchange.send_file)

    def _head_of_blob(self, exchange: Exchange, member: Member, headers: dict[str, str]) -> None:
        """Say what the manifest said: that it can be read, a pull shows."""
        exchange.begin(Answer(200, headers=headers), member.size)

    def _sent_from_disk(
        self,
        exchange: Exchange,
        source: ImagePlace,
        digest: Digest,
        size: int,
        answer: Answer,
        first: int,
        length: int,
    ) -> bool:
        descriptor = self._blobs.cached(source, digest, size)
        if descriptor is None:
            return False
        try:
            exchange.begin(answer, length)
            exchange.send_file(descriptor, first, length)
            self._blobs.count("", length)
        finally:
            os.close(descriptor)
        return True

    def _tags(self, exchange: Exchange, source: ImagePlace, name: str) -> None:
        query = exchange.request.query
        count = _number(query.get("n"), MOST_TAGS)
        last = query.get("last", "")
        if last:
            validate_tag(last)
        found = self._images.tags.page(source, last, count)
        if found is None:
            exchange.answer(Answer.refusal(404, "NAME_UNKNOWN", "there is no such repository"))
            return
        tags, more = found
        answer = Answer.of_json(200, {"name": name, "tags": tags})
        if more and tags:
            following = f"/v2/{name}/tags/list?n={count}&last={quote(tags[-1], safe='')}"
            answer.headers["Link"] = f'<{following}>; rel="next"'
        exchange.answer(answer)

    def _referrers(self, exchange: Exchange, source: ImagePlace, digest: Digest) -> None:
        found = self._images.referrers(source, digest)
        wanted = exchange.request.query.get("artifactType")
        answer = Answer.of_json(
            200,
            {
                "schemaVersion": 2,
                "mediaType": OCI_INDEX,
                "manifests": [
                    _described(one) for one in found if not wanted or one.artifact_type == wanted
                ],
            },
        )
        answer.headers["Content-Type"] = OCI_INDEX
        if wanted:
            answer.headers["OCI-Filters-Applied"] = "artifactType"
        exchange.answer(answer)

    @staticmethod
    def _unknown(exchange: Exchange, kind: str) -> None:
        exchange.answer(Answer.refusal(404, _CODES[kind], "it is not there"))


def _described(one: Descriptor) -> dict[str, Any]:
    said: dict[str, Any] = {
        "mediaType": one.media_type,
        "digest": str(one.digest),
        "size": one.size,
    }
    if one.artifact_type:
        said["artifactType"] = one.artifact_type
    if one.annotations:
        said["annotations"] = dict(one.annotations)
    return said


def _number(text: str | None, most: int) -> int:
    if text is None:
        return most
    if not text.isascii() or not text.isdigit():
        raise BadRequest(400, "n is no number")
    return min(int(text[:9]), most)
