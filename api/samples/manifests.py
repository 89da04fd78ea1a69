"""Names and manifests: what a registry checks before it takes them (OCI distribution spec 1.1)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MANIFEST_LIMIT: Final = 4 << 20

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_IMAGE: Final = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_IMAGE: Final = "application/vnd.docker.distribution.manifest.v2+json"
INDEXES: Final = frozenset({OCI_INDEX, DOCKER_LIST})
IMAGES: Final = frozenset({OCI_IMAGE, DOCKER_IMAGE})
FOREIGN: Final = frozenset(
    {
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    }
)

_NAME = re.compile(
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


class ApiError(Exception):
    """An error answer with an OCI error code."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str = "",
        detail: object = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {code} {message}")
        self.status = status
        self.headers = headers or {}
        error = {"code": code, "message": message or code.lower().replace("_", " ")}
        self.body = json.dumps({"errors": [{**error, "detail": detail}]}).encode()


def check_name(name: str) -> str:
    """Return the repository name; raises ApiError NAME_INVALID."""
    if len(name) > 255 or _NAME.fullmatch(name) is None:
        raise ApiError(400, "NAME_INVALID", detail=name[:300])
    return name


def is_digest(text: str) -> bool:
    """Whether the text is a digest of an algorithm that is supported."""
    return _DIGEST.fullmatch(text) is not None


def check_digest(text: str) -> str:
    """Return the digest; raises ApiError DIGEST_INVALID."""
    if not is_digest(text):
        raise ApiError(400, "DIGEST_INVALID", detail=text[:200])
    return text


def is_tag(text: str) -> bool:
    """Whether the text is a tag."""
    return _TAG.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a registry wants to know about a manifest. Descriptors are (digest, size) pairs."""

    blobs: tuple[tuple[str, int], ...]
    children: tuple[tuple[str, int], ...]
    subject: str | None
    artifact_type: str | None
    annotations: dict[str, str] | None


def parse(raw: bytes, media_type: str) -> Parsed:
    """Read a manifest pushed as `media_type`; raises ApiError MANIFEST_INVALID."""
    if media_type not in INDEXES | IMAGES:
        raise _invalid(f"unsupported media type {media_type!r}")
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _invalid(f"not JSON: {error}") from None
    if not isinstance(body, dict):
        raise _invalid("not an object")
    if body.get("schemaVersion") != 2:
        raise _invalid(f"schemaVersion {body.get('schemaVersion')!r}")
    stated = body.get("mediaType")
    if stated not in (None, media_type):
        raise _invalid(f"mediaType {stated!r} was sent as {media_type!r}")
    if "docker" in media_type and stated is None:
        raise _invalid("mediaType is missing")
    subject: str | None = None
    if body.get("subject") is not None:
        subject = _descriptor(body["subject"], "subject")[0]
    artifact_type = body.get("artifactType")
    if media_type in INDEXES:
        if "layers" in body or "config" in body:
            raise _invalid("both an index and an image")
        children = tuple(_descriptor(d, "manifests") for d in _list(body, "manifests"))
        blobs: tuple[tuple[str, int], ...] = ()
    else:
        if "manifests" in body:
            raise _invalid("both an index and an image")
        children = ()
        config = _descriptor(body.get("config"), "config")
        layers = (d for d in _list(body, "layers") if not _is_foreign(d))
        blobs = (config, *(_descriptor(d, "layers") for d in layers))
        artifact_type = artifact_type or body["config"].get("mediaType")
    annotations = body.get("annotations")
    return Parsed(blobs, children, subject, artifact_type, annotations)


def _invalid(message: str) -> ApiError:
    return ApiError(400, "MANIFEST_INVALID", f"manifest invalid: {message}")


def _list(body: dict[str, object], field: str) -> Iterator[object]:
    value = body.get(field)
    if not isinstance(value, list):
        raise _invalid(f"{field} is not a list")
    return iter(value)


def _descriptor(value: object, field: str) -> tuple[str, int]:
    if not isinstance(value, dict):
        raise _invalid(f"{field}: not a descriptor")
    digest, size = value.get("digest"), value.get("size")
    if not isinstance(digest, str) or not is_digest(digest):
        raise _invalid(f"{field}: digest {str(digest)[:200]!r}")
    if not isinstance(size, int) or isinstance(size, bool):
        raise _invalid(f"{field}: size {size!r}")
    if not isinstance(value.get("mediaType"), str):
        raise _invalid(f"{field}: mediaType is missing")
    return digest, size


def _is_foreign(value: object) -> bool:
    return isinstance(value, dict) and value.get("mediaType") in FOREIGN and bool(value.get("urls"))
