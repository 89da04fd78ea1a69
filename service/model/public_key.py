"""Public keys that signatures are held to, in PEM: judged when a rule is saved, and when they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.errors import InvalidConfiguration

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

BEGIN = "-----BEGIN "
MOST_BYTES = 16 * 1024
LEAST_RSA_BITS = 2048
_HINT = "give the public key that `cosign generate-key-pair` wrote: cosign.pub"


def is_pem(text: str) -> bool:
    """Whether a text looks like PEM, and not like the path of a file that holds it."""
    return text.lstrip().startswith(BEGIN)


def check_public_key(text: str) -> str:
    """Return a public key in PEM, tidied.

    Raises InvalidConfiguration, which never repeats the text, for a private key, a certificate, a
    weak or unknown kind of key, and what is no key.
    """
    load_public_key(text)
    return text.strip() + "\n"


def load_public_key(text: str) -> PublicKeyTypes:
    """Return the key; raises as check_public_key does."""
    if len(text) > MOST_BYTES or not text.isascii():
        raise InvalidConfiguration("this is no public key in PEM", hint=_HINT)
    if "PRIVATE KEY" in text or "SIGSTORE" in text.upper().partition("\n")[0]:
        raise InvalidConfiguration(
            "this is a private key: it does not belong here, and whoever saw it can sign",
            hint=f"{_HINT}, and make a new key pair if this one was sent anywhere",
        )
    if "CERTIFICATE" in text:
        raise InvalidConfiguration("this is a certificate, not a public key", hint=_HINT)
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(text.strip().encode())
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidConfiguration("this is no public key in PEM", hint=_HINT) from None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < LEAST_RSA_BITS:
        raise InvalidConfiguration(
            f"an RSA key of {key.key_size} bits is too weak; at least {LEAST_RSA_BITS} are needed",
            hint=_HINT,
        )
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey):
        raise InvalidConfiguration(
            "this kind of key signs no images: ECDSA, RSA and Ed25519 do", hint=_HINT
        )
    return key


def signed(key: Any, signature: bytes, payload: bytes) -> bool:
    """Whether the key made the signature over the payload, as cosign signs: with SHA-256."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, payload, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, payload, ec.ECDSA(hashes.SHA256()))
        else:
            key.verify(signature, payload)
    except InvalidSignature:
        return False
    return True
