"""Whether a notification comes from who holds the hook's secret (reliability.md S8).

Three ways, as the sender can: a signature over time and body, a provider's own signature over the
body, or the secret itself in a header or in the address. Every comparison takes constant time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence

MAX_AGE_SECONDS = 300
TIMESTAMP = "x-transship-timestamp"
SIGNATURE = "x-transship-signature"
_GITHUB = "x-hub-signature-256"
_JFROG = "x-jfrog-event-auth"
_ARTIFACTHUB = "x-artifacthub-secret"
_SIGNED_BY_GITHUB = frozenset({"github", "ghcr"})


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """Return the value of X-Transship-Signature: `v1=` and HMAC-SHA256 of `timestamp.body`."""
    message = b"%d." % timestamp + body
    return f"v1={hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()}"


def prove(
    provider: str,
    headers: Mapping[str, str],
    body: bytes,
    token: str | None,
    secrets: Sequence[str],
    now: float,
) -> tuple[str, ...] | None:
    """Return what must never be seen again (none for a bare secret); None when nothing proves it.

    `headers` have names in lower case, `token` is the last part of the address. A signature that is
    there decides, whatever else there is; GitHub's does not cover X-GitHub-Delivery, so that both
    may come once only.
    """
    if token is not None and not _is_one_of(token, secrets):
        return None
    if SIGNATURE in headers:
        return _own(headers, body, secrets, now)
    if provider in _SIGNED_BY_GITHUB and _GITHUB in headers:
        if not _signs(headers[_GITHUB], "sha256=", body, secrets):
            return None
        delivery = headers.get("x-github-delivery", "")
        return (_nonce(headers[_GITHUB]), *([_nonce(f"delivery {delivery}")] if delivery else []))
    if token is not None:
        return ()
    if provider == "jfrog" and _JFROG in headers:
        given = headers[_JFROG]
        signed = _signs(given, "sha256=", body, secrets) or _signs(given, "", body, secrets)
        return () if signed or _is_one_of(given, secrets) else None
    if provider == "artifacthub" and _ARTIFACTHUB in headers:
        return () if _is_one_of(headers[_ARTIFACTHUB], secrets) else None
    given = _presented(headers.get("authorization", ""))
    return () if given and _is_one_of(given, secrets) else None


def _own(
    headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float
) -> tuple[str, ...] | None:
    stamp = headers.get(TIMESTAMP, "")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        return None
    if abs(now - int(stamp)) > MAX_AGE_SECONDS:
        return None
    given = headers[SIGNATURE]
    if not _is_one_of(given, [sign(secret, int(stamp), body) for secret in secrets]):
        return None
    return (_nonce(given),)


def _signs(given: str, prefix: str, body: bytes, secrets: Sequence[str]) -> bool:
    expected = [
        prefix + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest() for secret in secrets
    ]
    return _is_one_of(given, expected)


def _is_one_of(given: str, expected: Sequence[str]) -> bool:
    matches = [hmac.compare_digest(given.encode(), one.encode()) for one in expected]
    return any(matches)


def _presented(authorization: str) -> str:
    """Return the secret in an Authorization header: of Bearer, the password of Basic, or bare."""
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return rest
    if scheme.lower() == "basic":
        try:
            decoded = base64.b64decode(rest, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return ""
        return decoded.partition(":")[2]
    return "" if rest else scheme


def _nonce(text: str) -> str:
    return f"nonce:{hashlib.sha256(text.encode()).hexdigest()}"
