"""From a registry's status and error body to our errors: the one border between the two."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from service import errors
from service.registry.redaction import clean

MAX_ERROR_BODY = 64 * 1024
MAX_RETRY_AFTER_SECONDS = 900.0

# distribution-spec "Error Codes", and what Harbor, Quay and distribution answer besides.
_BY_CODE: dict[str, type[errors.RegistryError]] = {
    "MANIFEST_UNKNOWN": errors.ManifestNotFound,
    "BLOB_UNKNOWN": errors.BlobNotFound,
    "NAME_UNKNOWN": errors.RepositoryNotFound,
    "BLOB_UPLOAD_UNKNOWN": errors.UploadLost,
    "BLOB_UPLOAD_INVALID": errors.UploadLost,
    "RANGE_INVALID": errors.UploadLost,
    "MANIFEST_BLOB_UNKNOWN": errors.ManifestBlobUnknown,
    "TAG_IMMUTABLE": errors.TagImmutable,
    "TOOMANYREQUESTS": errors.Throttled,
    "TOO_MANY_REQUEST": errors.Throttled,
    "UNSUPPORTED": errors.Unsupported,
}
_NOT_FOUND: dict[str, type[errors.RegistryError]] = {
    "manifest": errors.ManifestNotFound,
    "blob": errors.BlobNotFound,
    "upload": errors.UploadLost,
    "tags": errors.RepositoryNotFound,
}
_PERMANENT_SERVER = frozenset({501, 505, 507})  # not implemented; no room left


def error_from(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    registry: str,
    action: str,
    kind: str = "",
    anonymous: bool = False,
) -> errors.RegistryError:
    """Return the error that an unexpected answer means; `anonymous`: no credentials were given.

    `action` says what was asked for, `kind` what of (manifest, blob, upload, tags, ...). The
    message holds the registry's own words, escaped, cut, and without anything secret.
    """
    code, message = _read_body(body)
    error_class = _classify(status, code, message, kind, headers)
    words = " ".join(part for part in (str(status), code, message) if part)
    if error_class is errors.AuthenticationFailed:
        return credentials_refused(registry, f"{action}: {words}", code, anonymous=anonymous)
    return error_class(
        f"{registry}: {action}: {words}",
        registry=registry,
        status=status,
        oci_code=code,
        retry_after_seconds=retry_after(headers),
    )


def credentials_refused(
    registry: str, said: str = "", oci_code: str = "", *, anonymous: bool = False
) -> errors.AuthenticationFailed:
    """Return the one wording of a 401, whoever answered it: the registry or its token service.

    `said` is what was asked and answered, `anonymous` that there was no credential to refuse.
    """
    if anonymous:
        message = f"{registry} asks for credentials and none are configured"
        hint = f"give the credentials of {registry}: a user name and a password or token"
    else:
        message = f"{registry} does not accept the credentials"
        hint = f"check the user name and the password or token of {registry}, and that they have not ended"
    return errors.AuthenticationFailed(
        f"{message}: {said}" if said else message,
        registry=registry,
        status=401,
        oci_code=oci_code,
        hint=hint,
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return Retry-After in seconds (number or date), at most 15 minutes; None for none or garbage."""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER_SECONDS)
    try:
        moment = parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(moment - time.time(), 0.0), MAX_RETRY_AFTER_SECONDS)


def _classify(
    status: int, code: str, message: str, kind: str, headers: Mapping[str, str]
) -> type[errors.RegistryError]:
    if status == 429 or (status == 503 and "retry-after" in headers):
        return errors.Throttled
    if status == 401:
        return errors.AuthenticationFailed
    if status in _PERMANENT_SERVER:
        return errors.Rejected
    if status >= 500 or status == 408:
        return errors.ServerError
    if status < 400:
        return errors.ProtocolError
    if "immutable" in message.lower() and kind == "manifest":
        return errors.TagImmutable
    named = _BY_CODE.get(code)
    if status == 404:
        if named is not None and issubclass(named, errors.NotFound | errors.ManifestBlobUnknown):
            return named
        return _NOT_FOUND.get(kind, errors.NotFound)
    if named is not None and not issubclass(named, errors.NotFound):
        return named
    if status == 403:
        return errors.Denied
    if status == 405:
        return errors.Unsupported
    if kind == "upload" and (status == 416 or named is errors.UploadLost):
        return errors.UploadLost
    return errors.Rejected


def _read_body(body: bytes) -> tuple[str, str]:
    """Return code and message of the first OCI error, or the text that came instead."""
    text = body[:MAX_ERROR_BODY].decode("utf-8", "replace")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return "", clean(" ".join(text.split())[:2000], 160) if "<" not in text[:20] else ""
    first = _first_error(value)
    if first is None:
        return "", ""
    code = first.get("code")
    message = first.get("message")
    code = code if isinstance(code, str) and code.isascii() else ""
    words = clean(message, 240) if isinstance(message, str) else ""
    detail = first.get("detail")
    if detail and code in {"MANIFEST_BLOB_UNKNOWN", "MANIFEST_INVALID", "DENIED"}:
        words = f"{words} {clean(json.dumps(detail)[:2000], 160)}".strip()
    return clean(code, 60), words


def _first_error(value: Any) -> dict[str, Any] | None:
    listed = value.get("errors") if isinstance(value, dict) else None
    if isinstance(listed, list) and listed and isinstance(listed[0], dict):
        return listed[0]
    return None
