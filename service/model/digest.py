"""Digests: algorithm:hex of some content, the identity of blobs and manifests."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.errors import InvalidDigest

if TYPE_CHECKING:
    from hashlib import _Hash

# image-spec, descriptor.md "Registered algorithms": both are lower-case hex of fixed length.
_GRAMMAR = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """One digest; only sha256 and sha512 in lower-case hex can exist as a value.

    Raises InvalidDigest for everything else, so that a Digest may go into a URL or a path as it is.
    """

    algorithm: str
    encoded: str

    def __post_init__(self) -> None:
        if not _GRAMMAR.fullmatch(f"{self.algorithm}:{self.encoded}"):
            raise InvalidDigest(_complaint(f"{self.algorithm}:{self.encoded}"))

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Read `sha256:...` or `sha512:...`; raises InvalidDigest."""
        algorithm, colon, encoded = text.partition(":")
        if not colon:
            raise InvalidDigest(_complaint(text))
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview, algorithm: str = "sha256") -> Digest:
        """Digest of these bytes; raises InvalidDigest when the algorithm is not one we know."""
        if algorithm == "sha256":
            return cls(algorithm, hashlib.sha256(data).hexdigest())
        if algorithm == "sha512":
            return cls(algorithm, hashlib.sha512(data).hexdigest())
        raise InvalidDigest(f"unknown digest algorithm {algorithm[:32]!r}: sha256 or sha512")

    def hasher(self) -> _Hash:
        """Return a fresh hashlib object of this digest's algorithm, to be fed as bytes flow."""
        return hashlib.sha256() if self.algorithm == "sha256" else hashlib.sha512()

    @property
    def short(self) -> str:
        """The first 12 hex digits: for display, never for comparing."""
        return self.encoded[:12]

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.encoded}"


def _complaint(text: str) -> str:
    return (
        f"not a digest: {text[:80]!r}; expected sha256: and 64, or sha512: and 128, "
        "lower-case hex digits"
    )
