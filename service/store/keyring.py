"""Secrets at rest: Fernet with a ring of keys; the first encrypts, all decrypt (SECURITY S3)."""

from __future__ import annotations

import base64
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import InvalidConfiguration, StoreUnavailable

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

KEY_BYTES = 32


class KeyRing:
    """Encrypts secrets bound to the object that they belong to, so that rows cannot be swapped."""

    def __init__(self, keys: list[bytes]) -> None:
        """Take the keys. Raises InvalidConfiguration for what is none, and for no key at all."""
        if not keys:
            raise InvalidConfiguration(
                "there is no secret key",
                field="TRANSSHIP_SECRET_KEY_FILE",
                hint="point TRANSSHIP_SECRET_KEY_FILE at a file with one Fernet key a line",
            )
        try:
            for key in keys:
                _check(key)
        except ValueError as error:
            raise InvalidConfiguration(
                f"the secret key file holds a line that is no key: {error}",
                field="TRANSSHIP_SECRET_KEY_FILE",
            ) from None
        self._keys = keys

    @cached_property
    def _fernet(self) -> MultiFernet:
        # 20 ms that a process without stored secrets saves
        from cryptography.fernet import Fernet, MultiFernet

        return MultiFernet([Fernet(key) for key in self._keys])

    @classmethod
    def from_file(cls, path: str | Path) -> KeyRing:
        """Read one key a line; empty lines and lines that start with # are left out."""
        try:
            lines = Path(path).read_text(encoding="ascii").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise InvalidConfiguration(
                f"the secret key file cannot be read: {reason}",
                field="TRANSSHIP_SECRET_KEY_FILE",
            ) from None
        return cls([line.strip().encode() for line in lines if line.strip() and line[0] != "#"])

    @property
    def first(self) -> bytes:
        """The key that encrypts, to derive others from: never to be shown or kept."""
        return base64.urlsafe_b64decode(self._keys[0])

    def is_by_first(self, sealed: bytes) -> bool:
        """Whether the first key has sealed this; False for what no key opens, too."""
        from cryptography.fernet import Fernet, InvalidToken

        try:
            Fernet(self._keys[0]).decrypt(sealed)
        except InvalidToken:
            return False
        return True

    @property
    def every(self) -> list[bytes]:
        """All keys, the first first, to derive others from: never to be shown or kept."""
        return [base64.urlsafe_b64decode(key) for key in self._keys]

    def seal(self, owner: str, secret: str) -> bytes:
        """Encrypt `secret` for the object named `owner`."""
        return self._fernet.encrypt(f"{owner}\0{secret}".encode())

    def open(self, owner: str, sealed: bytes) -> str:
        """Decrypt what `seal` made for the same owner.

        Raises StoreUnavailable when no key of the ring opens it, or it belongs to another object.
        """
        from cryptography.fernet import InvalidToken

        try:
            name, _, secret = self._fernet.decrypt(sealed).decode().partition("\0")
        except InvalidToken:
            name, secret = "", ""
        if name != owner:
            raise StoreUnavailable(
                f"the stored secret of {owner} does not open with the keys of this process",
                hint="add the key that it was written with to TRANSSHIP_SECRET_KEY_FILE",
            )
        return secret


def _check(key: bytes) -> None:
    """Raise ValueError, as Fernet does, for what is not 32 bytes in URL-safe Base64."""
    if len(base64.urlsafe_b64decode(key)) != KEY_BYTES:
        raise ValueError("Fernet key must be 32 url-safe base64-encoded bytes.")


def write_new_key(path: Path) -> None:
    """Create a key file (0600) with one fresh key; leave an existing one alone."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(handle, "wb") as file:
        file.write(base64.urlsafe_b64encode(os.urandom(32)) + b"\n")
