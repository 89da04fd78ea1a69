"""Cosign's simple signing, made by hand: keys, signature tags and signature referrers."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from api.samples.manifests import OCI_IMAGE
from api.samples.storage import Storage
from tests.support.content import IMAGE_CONFIG, describe, put

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"


class Signer:
    """A key pair that signs as cosign does."""

    def __init__(self, kind: str = "ecdsa") -> None:
        self._key: Any = {
            "ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
            "rsa": lambda: rsa.generate_private_key(65537, 2048),
            "weak": lambda: rsa.generate_private_key(65537, 1024),
            "ed25519": ed25519.Ed25519PrivateKey.generate,
        }[kind]()
        self.kind = kind

    @property
    def public(self) -> str:
        """The public key in PEM."""
        key = self._key.public_key()
        return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def private(self) -> str:
        """The private key in PEM."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    def sign(self, data: bytes) -> bytes:
        if self.kind == "ecdsa":
            return bytes(self._key.sign(data, ec.ECDSA(hashes.SHA256())))
        if self.kind == "ed25519":
            return bytes(self._key.sign(data))
        return bytes(self._key.sign(data, padding.PKCS1v15(), hashes.SHA256()))

    def attach(
        self,
        storage: Storage,
        repository: str,
        digest: str,
        *,
        named: str | None = None,
        referrer: bool = False,
        payload_type: str = "cosign container image signature",
    ) -> str:
        """Sign a digest (in truth `named`) and attach that; return the signature's digest."""
        payload = json.dumps(
            {
                "critical": {
                    "identity": {"docker-reference": f"east/{repository}"},
                    "image": {"docker-manifest-digest": named or digest},
                    "type": payload_type,
                },
                "optional": None,
            }
        ).encode()
        layer = describe(storage, repository, SIMPLE_SIGNING, payload)
        layer["annotations"] = {
            "dev.cosignproject.cosign/signature": base64.b64encode(self.sign(payload)).decode()
        }
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE,
            "config": describe(storage, repository, IMAGE_CONFIG, b'{"sig":1}'),
            "layers": [layer],
        }
        if not referrer:
            return put(storage, repository, f"{digest.replace(':', '-')}.sig", document)
        found = storage.manifest(repository, digest)
        assert found is not None
        document["artifactType"] = "application/vnd.dev.cosign.artifact.sig.v1+json"
        document["subject"] = {
            "mediaType": found.media_type,
            "digest": digest,
            "size": len(found.raw),
        }
        return put(storage, repository, None, document)
