"""Pull tokens: what a gateway lets who bears one read, and until when; signed, so that no store is asked (issue 10)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.model.glob import compile_glob

PREFIX = "tpt_"
LOGIN, ACCESS = "login", "access"
"""What a text is for: to log in with, as `docker login` keeps it; or one pull, as the token endpoint gives out."""

_LABELS = {LOGIN: b"transship pull token v1", ACCESS: b"transship pull access v1"}
_TEXT = re.compile(r"tpt_([A-Za-z0-9_-]{2,6000})\.([A-Za-z0-9_-]{43})")
MOST_PATTERNS = 50


@dataclass(frozen=True, slots=True)
class PullGrant:
    """Which repositories may be read: `repositories` are doublestar patterns of names at the gateway."""

    id: str
    name: str
    repositories: tuple[str, ...]
    expires_at: float | None = None  # seconds since 1970; None: never

    def may_pull(self, repository: str) -> bool:
        """Whether a repository is one of them."""
        return any(compile_glob(pattern)(repository) for pattern in self.repositories)

    def is_over(self, now: float) -> bool:
        """Whether it has expired."""
        return self.expires_at is not None and now >= self.expires_at


class PullKeys:
    """Signs pull tokens by HMAC-SHA256, with keys derived (HKDF, RFC 5869) from an instance's secret keys.

    The first signs, all are believed: a key can be changed without a day on which no token works.
    """

    def __init__(self, secrets: Sequence[bytes]) -> None:
        """`secrets` are of 32 bytes, the newest first; one at least."""
        self._keys = {
            kind: [_derived(secret, label) for secret in secrets] for kind, label in _LABELS.items()
        }

    def sign(self, grant: PullGrant, kind: str = LOGIN) -> str:
        """Return the token's text: it holds what it grants, readable by whoever bears it."""
        said: dict[str, Any] = {"i": grant.id, "n": grant.name, "r": list(grant.repositories)}
        if grant.expires_at is not None:
            said["e"] = int(grant.expires_at)
        body = _packed(json.dumps(said, separators=(",", ":")).encode())
        return f"{PREFIX}{body}.{_packed(_mac(self._keys[kind][0], body))}"

    def read(self, text: str, kind: str = LOGIN) -> PullGrant | None:
        """Return what a token grants, expired or not; None for what no key of ours has signed."""
        found = _TEXT.fullmatch(text)
        if found is None:
            return None
        fits = False
        for key in self._keys[
            kind
        ]:  # texts are compared: what Base64 reads alike is not the same token
            fits |= hmac.compare_digest(_packed(_mac(key, found[1])), found[2])
        return _grant(found[1]) if fits else None


def _grant(body: str) -> PullGrant | None:
    try:
        said: Any = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValueError, binascii.Error):
        return None
    return PullGrant(said["i"], said["n"], tuple(said["r"]), said.get("e"))


def _derived(secret: bytes, label: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869) of 32 bytes, without salt: its first block is all of it."""
    middle = hmac.digest(b"\0" * hashlib.sha256().digest_size, secret, "sha256")
    return hmac.digest(middle, label + b"\1", "sha256")


def _mac(key: bytes, body: str) -> bytes:
    return hmac.digest(key, body.encode("ascii"), "sha256")


def _packed(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
