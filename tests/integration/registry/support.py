"""What the registry client's tests build again and again."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

from service.model.descriptor import Descriptor
from service.model.digest import Digest
from service.model.endpoint import Credential, RegistryEndpoint
from service.model.manifest import Manifest, parse_manifest
from service.model.media_types import OCI_MANIFEST
from service.registry.client import RegistryClient
from service.registry.timeouts import Timeouts

QUICK = Timeouts(connect_seconds=5, read_seconds=5, head_seconds=5)


@dataclass
class Pauses:
    """Stands in for sleep: remembers how long would have been waited."""

    seconds: list[float] = field(default_factory=list)

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def client(
    url: str,
    *,
    name: str = "east",
    credential: Credential | None = None,
    endpoint: dict[str, Any] | None = None,
    timeouts: Timeouts = QUICK,
    **options: Any,
) -> RegistryClient:
    """A client that does not really wait between tries."""
    options.setdefault("sleep", Pauses())
    return RegistryClient(
        RegistryEndpoint(name, url, **(endpoint or {})),
        lambda: credential or Credential(),
        timeouts=timeouts,
        **options,
    )


def blob(size: int, seed: int = 1) -> tuple[bytes, Descriptor]:
    data = random.Random(seed).randbytes(size)
    return data, Descriptor("application/vnd.oci.image.layer.v1.tar", Digest.of(data), size)


def image(
    *layers: Descriptor, config: bytes = b"{}", **fields: Any
) -> tuple[Manifest, tuple[bytes, Descriptor]]:
    described = Descriptor(
        "application/vnd.oci.image.config.v1+json", Digest.of(config), len(config)
    )
    body = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": entry(described),
        "layers": [entry(item) for item in layers],
        **fields,
    }
    raw = json.dumps(body, indent=3).encode()
    return parse_manifest(raw, OCI_MANIFEST), (config, described)


def entry(descriptor: Descriptor) -> dict[str, Any]:
    return {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }


def push(
    registry: RegistryClient, repository: str, tag: str, *layers: bytes, **fields: Any
) -> Manifest:
    """Push an image with these layers."""
    described = [
        Descriptor("application/vnd.oci.image.layer.v1.tar", Digest.of(data), len(data))
        for data in layers
    ]
    manifest, (config, descriptor) = image(*described, **fields)
    for data, item in [*zip(layers, described, strict=True), (config, descriptor)]:
        registry.put_blob(repository, item.digest, data)
    registry.put_manifest(repository, tag, manifest)
    return manifest
