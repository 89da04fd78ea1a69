"""The signature of receipts: Ed25519 (RFC 8032) over a file's bytes, in Base64 beside it (docs/adr/0024)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from service.errors import InvalidConfiguration, InvalidReceipt
from service.model.public_key import MOST_BYTES, load_public_key
from service.model.receipt import SUFFIX, Header, Receipt

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

_PURPOSE = b"transship receipt v1"
_NEW_KEY = "make one: openssl genpkey -algorithm ed25519 -out FILE"
_KEY = "`transship receipts key` of the instance that made the receipt prints it"


class ReceiptKey:
    """What signs receipts. Its bytes are never shown."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def from_file(cls, path: str | Path) -> ReceiptKey:
        """Read an Ed25519 private key in PEM, without a password. Raises InvalidConfiguration."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        try:
            with Path(path).open("rb") as file:
                text = file.read(MOST_BYTES)
        except OSError as error:
            raise InvalidConfiguration(
                f"the key of receipts cannot be read: {error.strerror}",
                field="TRANSSHIP_RECEIPT_KEY_FILE",
                hint=_NEW_KEY,
            ) from None
        try:
            key = load_pem_private_key(text, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise InvalidConfiguration(
                "the file holds no Ed25519 private key in PEM without a password",
                field="TRANSSHIP_RECEIPT_KEY_FILE",
                hint=_NEW_KEY,
            )
        return cls(key)

    @classmethod
    def from_secret(cls, secret: bytes) -> ReceiptKey:
        """Derive the key from a secret (HKDF, RFC 5869): the same one from the same secret."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        derived = HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(secret)
        return cls(Ed25519PrivateKey.from_private_bytes(derived))

    @property
    def public_pem(self) -> str:
        """The public half, in PEM: what the receivers of receipts need."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        public = self._private.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def instance(self) -> str:
        """The fingerprint under which receipts name this key."""
        return _fingerprint(self._private.public_key())

    def sign(self, path: Path) -> str:
        """Return the signature over a file's bytes, in Base64. The file is mapped, not read into memory."""
        with _mapped(path) as data:
            return base64.b64encode(self._private.sign(data)).decode()


def fingerprint(public_pem: str) -> str:
    """Return under which name receipts tell of a public key. Raises InvalidConfiguration for another kind."""
    return _fingerprint(_load(public_pem))


def verify(path: Path, public_pem: str, signature: Path | None = None) -> Header:
    """Hold a receipt to a public key in PEM and to its own grammar, offline; returns its header.

    `signature`: its file, by default the receipt's name with .sig. Raises InvalidReceipt, which says what to do,
    for a file that was changed or cut off, another key's, and one without a signature; InvalidConfiguration for
    what is no Ed25519 public key. Memory does not grow with the file.
    """
    from cryptography.exceptions import InvalidSignature

    key = _load(public_pem)
    beside = signature or path.with_name(path.name + SUFFIX)
    made = _read_signature(beside, path)
    receipt = Receipt(path)
    if receipt.header.instance != _fingerprint(key):
        raise InvalidReceipt(
            f"{path} is not of this key: it names {receipt.header.instance}, and the key is {_fingerprint(key)}",
            hint=_KEY,
        )
    try:
        with _mapped(path) as data:
            key.verify(made, data)
    except InvalidSignature:
        for _ in receipt:  # where the grammar is hurt, its error names the line
            pass
        raise InvalidReceipt(
            f"{path} is not what was signed: it, or {beside}, was changed, or they are not of one receipt",
            hint="believe nothing in it; fetch both files again from who made them",
        ) from None
    for _ in receipt:
        pass
    return receipt.header


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        memoryview(data) as view,
    ):
        yield view


def _read_signature(beside: Path, path: Path) -> bytes:
    hint = (
        f"fetch it: `transship receipts make` writes it beside the receipt, as {path.name}{SUFFIX}"
    )
    try:
        with beside.open("rb") as file:
            text = file.read(256).strip()
    except OSError as error:
        raise InvalidReceipt(
            f"the signature {beside} cannot be read: {error.strerror}", hint=hint
        ) from None
    try:
        made = base64.b64decode(text, validate=True)
    except binascii.Error:
        made = b""
    if len(made) != 64:
        raise InvalidReceipt(f"{beside} is no Ed25519 signature in Base64", hint=hint)
    return made


def _load(public_pem: str) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = load_public_key(public_pem)
    except InvalidConfiguration as error:
        raise InvalidConfiguration(error.message, field="--key", hint=_KEY) from None
    if not isinstance(key, Ed25519PublicKey):
        raise InvalidConfiguration(
            "receipts are signed with Ed25519, and this is another kind of key",
            field="--key",
            hint=_KEY,
        )
    return key


def _fingerprint(key: Ed25519PublicKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return f"ed25519:{hashlib.sha256(raw).hexdigest()[:32]}"
