"""Signatures: nothing that the rule's key has not signed is copied (reliability.md P25).

Cosign's simple signing: a payload that names the digest of the image, signed by the key, in a layer of
the manifest at `sha256-<hex>.sig` or of a referrer. What is verified is a digest; the commit puts that
digest and no other, so a tag that moves is verified anew.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any

from service.errors import (
    BlobNotFound,
    Corrupt,
    InvalidConfiguration,
    InvalidInput,
    InvalidManifest,
    ManifestNotFound,
    Rejected,
    Unsigned,
)
from service.model import strict_json
from service.model.descriptor import Descriptor
from service.model.digest import Digest
from service.model.manifest import Manifest
from service.model.public_key import load_public_key, signed
from service.model.reference import digest_tag, is_digest_tag
from service.model.work import CopyWork
from service.registry.client import RegistryClient
from service.replication.compare import subject_of
from service.replication.engine import Engine

SIMPLE_SIGNING = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
PAYLOAD_TYPE = "cosign container image signature"
MAX_PAYLOAD_BYTES = 64 * 1024
MAX_MANIFESTS = 50
MAX_SIGNATURES = 200


def require_signature(engine: Engine, work: CopyWork, digest: Digest) -> None:
    """Return when the rule's key has signed the digest, or the rule has no key.

    A referrer's or cosign tag is held to the image that it belongs to. Raises Unsigned, and
    RegistryError while that cannot be seen.
    """
    if work.signature_key is None:
        return
    place = work.reads_from
    source = engine.clients.get(place.registry)
    check_signed(
        source,
        place.repository,
        _subject(work, digest),
        work.signature_key,
        name=work.source_repository,
    )


def check_signed(
    source: RegistryClient, repository: str, subject: Digest, pem: str, *, name: str = ""
) -> None:
    """Return when the public key in PEM has signed a digest of a repository.

    `name`: what errors call the repository. Raises Unsigned, and RegistryError while that cannot be seen.
    """
    try:
        key = load_public_key(pem)
    except InvalidConfiguration as error:
        raise Unsigned(f"the rule's signature key cannot be used: {error.message}") from error
    seen = 0
    for layer in _signature_layers(source, repository, subject):
        seen += 1
        if seen > MAX_SIGNATURES:
            break
        if _holds(key, source, repository, layer, subject):
            return
    what = f"none of its {seen} signatures is the key's" if seen else "it has no signature"
    raise Unsigned(f"{name or repository}@{subject} is not signed by the rule's key: {what}")


def _subject(work: CopyWork, digest: Digest) -> Digest:
    if not is_digest_tag(work.source_reference):
        return digest
    try:
        return Digest.parse(subject_of(work.source_reference))
    except InvalidInput as error:
        raise Unsigned(f"{work.source_reference} belongs to no digest that can be told") from error


def _signature_layers(
    source: RegistryClient, repository: str, subject: Digest
) -> Iterator[Descriptor]:
    """Yield the layers that hold signatures of a digest: at its .sig tag, then of its referrers."""
    yield from _layers(_manifest(source, repository, digest_tag(subject, ".sig")))
    listed = source.referrers(repository, subject)
    if listed is None:
        fallback = _manifest(source, repository, digest_tag(subject))
        listed = fallback.children() if fallback is not None else ()
    for descriptor in listed[:MAX_MANIFESTS]:
        manifest = _manifest(source, repository, str(descriptor.digest))
        if manifest is not None and manifest.kind == "image":
            yield from _layers(manifest)


def _manifest(source: RegistryClient, repository: str, reference: str) -> Manifest | None:
    try:
        return source.get_manifest(repository, reference)
    except (ManifestNotFound, InvalidManifest, Corrupt):
        return None  # no signature in it


def _layers(manifest: Manifest | None) -> Iterator[Descriptor]:
    for layer in manifest.layers if manifest is not None else ():
        if layer.media_type == SIMPLE_SIGNING and SIGNATURE in layer.annotations:
            yield layer


def _holds(
    key: Any, source: RegistryClient, repository: str, layer: Descriptor, subject: Digest
) -> bool:
    """Whether a layer's payload names the digest and bears the key's signature."""
    try:
        signature = base64.b64decode(layer.annotations[SIGNATURE], validate=True)
        payload = source.read_blob(repository, layer.digest, layer.size, MAX_PAYLOAD_BYTES)
    except (binascii.Error, ValueError, BlobNotFound, Corrupt, Rejected):
        return False
    return signed(key, signature, payload) and _named_digest(payload) == str(subject)


def _named_digest(payload: bytes) -> str | None:
    """Return the digest that a payload signs; None for a payload of another kind."""
    try:
        value = strict_json.loads(payload)
    except InvalidManifest:
        return None
    critical = value.get("critical") if isinstance(value, dict) else None
    if not isinstance(critical, dict) or critical.get("type") != PAYLOAD_TYPE:
        return None
    image = critical.get("image")
    named = image.get("docker-manifest-digest") if isinstance(image, dict) else None
    return named if isinstance(named, str) else None
