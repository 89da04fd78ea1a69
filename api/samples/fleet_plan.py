"""What a sample fleet consists of: the same spec gives the same bytes, whatever it is pushed to.

Shaped after fleets of real teams: a few base layers that most images share, log-normal sizes,
Docker and OCI images, multi-platform indexes with BuildKit attestations, charts, SBOMs that point
at their subject, cosign signatures, promoted images that stand in two repositories.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
from dataclasses import dataclass, field
from typing import Final

from api.samples.manifests import DOCKER_IMAGE, DOCKER_LIST, OCI_IMAGE, OCI_INDEX

MIB: Final = 1 << 20
_DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
_DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
_OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_EMPTY: Final = "application/vnd.oci.empty.v1+json"
_SBOM: Final = "application/spdx+json"
_NAMES: Final = (
    "api",
    "web",
    "auth",
    "billing",
    "search",
    "mail",
    "cache",
    "ledger",
    "jobs",
    "edge",
)
_PLATFORMS: Final = (("linux", "amd64"), ("linux", "arm64"))


@dataclass(frozen=True, slots=True)
class FleetSpec:
    """How large a fleet is. `tags` counts releases; signature and fallback tags come on top.

    `unique_bytes` is the approximate sum of all distinct blobs, of which `big_images` images of
    `big_image_bytes` each (five layers above 1 MiB) take their part.
    """

    seed: int = 1
    repositories: int = 50
    tags: int = 200
    unique_bytes: int = 190 * MIB
    big_images: int = 4
    big_image_bytes: int = 20 * MIB
    prefix: str = ""  # before every repository's name, with its slash

    def __post_init__(self) -> None:
        if not 1 <= self.repositories <= self.tags:
            raise ValueError("a fleet has at least one repository and one tag for each")


DEMO_FLEET: Final = FleetSpec(
    repositories=8, tags=24, unique_bytes=30 * MIB, big_images=1, big_image_bytes=17 * MIB
)


@dataclass(frozen=True, slots=True)
class FleetBlob:
    """A blob, made anew from its seed each time it is wanted, so a fleet needs no memory."""

    digest: str
    size: int
    media_type: str
    source: str | bytes  # the seed's name, or the bytes themselves

    def data(self) -> bytes:
        """Return the bytes."""
        if isinstance(self.source, bytes):
            return self.source
        return _noise(self.source, self.size)

    def descriptor(self) -> dict[str, object]:
        """Return its descriptor."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True)
class FleetManifest:
    """A manifest with what must be pushed before it."""

    raw: bytes
    media_type: str
    digest: str
    blobs: tuple[FleetBlob, ...] = ()
    children: tuple[FleetManifest, ...] = ()
    subject: str = ""
    artifact_type: str = ""

    def descriptor(self) -> dict[str, object]:
        """Return its descriptor."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.raw)}


@dataclass(slots=True)
class FleetRepository:
    """Tags and untagged referrers of one repository."""

    name: str
    tags: dict[str, FleetManifest] = field(default_factory=dict)
    referrers: list[FleetManifest] = field(default_factory=list)

    def manifests(self) -> list[FleetManifest]:
        """Return every manifest once, children before parents."""
        found: dict[str, FleetManifest] = {}
        for root in [*self.tags.values(), *self.referrers]:
            for child in root.children:
                found.setdefault(child.digest, child)
            found.setdefault(root.digest, root)
        return list(found.values())


def plan_fleet(spec: FleetSpec) -> list[FleetRepository]:
    """Lay a fleet out; touches no network."""
    return _Planner(spec).plan()


def _noise(name: str, size: int) -> bytes:
    # begins as gzip does: a tool that looks would otherwise compress the layer, and change it
    return (b"\x1f\x8b\x08\x00" + hashlib.shake_128(name.encode()).digest(size))[:size]


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json_blob(value: object, media_type: str) -> FleetBlob:
    data = json.dumps(value, separators=(",", ":")).encode()
    return FleetBlob(_sha256(data), len(data), media_type, data)


def _manifest(
    body: dict[str, object],
    blobs: tuple[FleetBlob, ...] = (),
    children: tuple[FleetManifest, ...] = (),
    subject: FleetManifest | None = None,
    artifact_type: str = "",
) -> FleetManifest:
    # Docker writes indented JSON, BuildKit does not: both kinds of bytes occur
    media_type = str(body["mediaType"])
    raw = json.dumps(body, indent=3 if media_type == DOCKER_IMAGE else None).encode()
    subject_digest = subject.digest if subject else ""
    return FleetManifest(
        raw, media_type, _sha256(raw), blobs, children, subject_digest, artifact_type
    )


class _Planner:
    def __init__(self, spec: FleetSpec) -> None:
        self.spec = spec
        self.random = random.Random(spec.seed)  # noqa: S311 - a fleet is no secret
        self.known: dict[str, FleetBlob] = {}
        self.names: list[str] = []
        small = max(MIB, spec.unique_bytes - spec.big_images * spec.big_image_bytes)
        # about half of the other bytes is shared by many images, half is each image's own
        self.bases = self._sizes(max(2, spec.repositories // 6), small * 0.35, 0.7)
        self.runtimes = self._sizes(max(2, spec.repositories // 4), small * 0.15, 0.8)
        self.own = iter(self._sizes(spec.tags * 3, small * 0.5 * 3 / 1.4, 1.1))
        self.empty = FleetBlob(_sha256(b"{}"), 2, _EMPTY, b"{}")

    def _sizes(self, count: int, total: float, sigma: float) -> list[int]:
        drawn = [math.exp(self.random.gauss(0, sigma)) for _ in range(count)]
        scale = total / sum(drawn)
        return [max(200, int(size * scale)) for size in drawn]

    def plan(self) -> list[FleetRepository]:
        spec = self.spec
        names = itertools.cycle(_NAMES)
        self.names = [
            f"{spec.prefix}team{i % 5}/{'platform/' * (i % 7 == 6)}{next(names)}-{i}"
            for i in range(spec.repositories)
        ]
        repositories = [FleetRepository(name) for name in self.names]
        counts = [1] * spec.repositories
        weights = [1 / math.sqrt(i + 1) for i in range(spec.repositories)]
        for i in self.random.choices(
            range(spec.repositories), weights, k=spec.tags - spec.repositories
        ):
            counts[i] += 1
        number = itertools.count()
        for index, repository in enumerate(repositories):
            for version in range(counts[index]):
                self._release(repository, index, version, counts[index], next(number))
        return repositories

    def _release(
        self, repository: FleetRepository, index: int, version: int, of: int, number: int
    ) -> None:
        spec = self.spec
        tag = f"v1.{version}.0"
        if of > 2 and version == of - 1:  # the newest one stands under a second tag
            repository.tags["latest"] = repository.tags[f"v1.{version - 1}.0"]
            return
        step = max(1, spec.tags // max(1, spec.big_images))
        if spec.big_images and number % step == 0 and number // step < spec.big_images:
            image = self._big(repository.name, number)
        elif number % 10 == 4:
            image = self._index(repository.name, index, tag, docker=False)
        elif number % 10 == 7:
            image = self._index(repository.name, index, tag, docker=True)
        elif number % 20 == 11:
            image = self._chart(repository.name, tag)
        else:
            # every fifth repository holds images promoted from its neighbour: the same digests
            home = index - 1 if index % 5 == 3 else index
            docker = (home + version) % 2 == 0
            image = self._image(self.names[home], home, tag, _PLATFORMS[0], docker=docker)
        repository.tags[tag] = image
        if number % 6 == 1:
            sbom = self._referrer(image, _SBOM, f"{repository.name}:{tag}")
            repository.referrers.append(sbom)
            if number % 12 == 1:
                repository.tags[f"{tag}-sbom"] = sbom
        if number % 6 == 4:
            self._sign(repository, image)
            for child in image.children[:1]:
                self._sign(repository, child)

    def _blob(self, name: str, size: int, media_type: str) -> FleetBlob:
        key = f"{self.spec.seed}/{name}"
        found = self.known.get(key)
        if found is None:
            found = FleetBlob(_sha256(_noise(key, size)), size, media_type, key)
            self.known[key] = found
        # the same bytes may stand under Docker's and under OCI's name for a layer
        return FleetBlob(found.digest, found.size, media_type, key)

    def _layers(
        self, owner: str, index: int, tag: str, platform: tuple[str, str], media_type: str
    ) -> list[FleetBlob]:
        arch = platform[1]
        base, runtime = index % len(self.bases), index % len(self.runtimes)
        share = 1.0 if arch == "amd64" else 0.2
        own = next(self.own, 4000)
        return [
            self._blob(f"base{base}/{arch}", max(200, int(self.bases[base] * share)), media_type),
            self._blob(
                f"run{runtime}/{arch}", max(200, int(self.runtimes[runtime] * share)), media_type
            ),
            self._blob(f"{owner}/{tag}/{arch}", max(200, int(own * 0.7)), media_type),
            self._blob(f"{owner}/{tag}/{arch}/x", max(150, int(own * 0.01)), media_type),
        ]

    def _image(
        self, owner: str, index: int, tag: str, platform: tuple[str, str], *, docker: bool
    ) -> FleetManifest:
        media_type = _DOCKER_LAYER if docker else _OCI_LAYER
        layers = self._layers(owner, index, tag, platform, media_type)
        return self._assemble(f"{owner}:{tag}", layers, platform, docker=docker)

    def _assemble(
        self, title: str, layers: list[FleetBlob], platform: tuple[str, str], *, docker: bool
    ) -> FleetManifest:
        config = _json_blob(
            {
                "architecture": platform[1],
                "os": platform[0],
                "created": "2026-11-01T00:00:00Z",
                "config": {"Env": ["PATH=/bin"], "Labels": {"title": title}},
                "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
                "history": [{"created_by": f"COPY {n} /"} for n in range(len(layers))],
            },
            _DOCKER_CONFIG if docker else _OCI_CONFIG,
        )
        body: dict[str, object] = {
            "schemaVersion": 2,
            "mediaType": DOCKER_IMAGE if docker else OCI_IMAGE,
            "config": config.descriptor(),
            "layers": [layer.descriptor() for layer in layers],
        }
        if not docker:
            body["annotations"] = {"org.opencontainers.image.title": title}
        return _manifest(body, (config, *layers))

    def _big(self, owner: str, number: int) -> FleetManifest:
        docker = number % 2 == 1
        media_type = _DOCKER_LAYER if docker else _OCI_LAYER
        shares = (0.4, 0.2, 0.16, 0.14, 0.1)
        layers = [
            self._blob(f"big{number}/{i}", int(self.spec.big_image_bytes * share) + 1, media_type)
            for i, share in enumerate(shares)
        ]
        return self._assemble(f"{owner}:big", layers, _PLATFORMS[0], docker=docker)

    def _index(self, owner: str, index: int, tag: str, *, docker: bool) -> FleetManifest:
        images = [self._image(owner, index, tag, p, docker=docker) for p in _PLATFORMS]
        children = list(images)
        entries = []
        for image, (system, arch) in zip(images, _PLATFORMS, strict=True):
            entries.append({**image.descriptor(), "platform": {"os": system, "architecture": arch}})
        if not docker:
            for image in images:
                attestation = self._attestation(image)
                children.append(attestation)
                entries.append(
                    {
                        **attestation.descriptor(),
                        "platform": {"os": "unknown", "architecture": "unknown"},
                        "annotations": {
                            "vnd.docker.reference.digest": image.digest,
                            "vnd.docker.reference.type": "attestation-manifest",
                        },
                    }
                )
        media_type = DOCKER_LIST if docker else OCI_INDEX
        body = {"schemaVersion": 2, "mediaType": media_type, "manifests": entries}
        return _manifest(body, children=tuple(children))

    def _attestation(self, image: FleetManifest) -> FleetManifest:
        statement = _json_blob(
            {
                "_type": "https://in-toto.io/Statement/v0.1",
                "predicateType": "https://slsa.dev/provenance/v0.2",
                "subject": [{"name": "image", "digest": {"sha256": image.digest[7:]}}],
                "predicate": {"materials": [blob.digest for blob in image.blobs]},
            },
            "application/vnd.in-toto+json",
        )
        return self._assemble(image.digest, [statement], ("unknown", "unknown"), docker=False)

    def _chart(self, owner: str, tag: str) -> FleetManifest:
        config = _json_blob(
            {"name": owner.rpartition("/")[2], "version": tag[1:], "apiVersion": "v2"},
            "application/vnd.cncf.helm.config.v1+json",
        )
        content = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
        layer = self._blob(f"{owner}/{tag}/chart", 9000, content)
        body = {
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE,
            "config": config.descriptor(),
            "layers": [layer.descriptor()],
        }
        return _manifest(body, (config, layer))

    def _referrer(self, subject: FleetManifest, kind: str, title: str) -> FleetManifest:
        layer = _json_blob({"spdxVersion": "SPDX-2.3", "name": title, "of": subject.digest}, kind)
        body = {
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE,
            "artifactType": kind,
            "config": self.empty.descriptor(),
            "layers": [layer.descriptor()],
            "subject": subject.descriptor(),
            "annotations": {"org.opencontainers.image.created": "2026-11-01T00:00:00Z"},
        }
        return _manifest(body, (self.empty, layer), subject=subject, artifact_type=kind)

    def _sign(self, repository: FleetRepository, image: FleetManifest) -> None:
        payload = _json_blob(
            {
                "critical": {
                    "identity": {"docker-reference": repository.name},
                    "image": {"docker-manifest-digest": image.digest},
                    "type": "cosign container image signature",
                }
            },
            "application/vnd.dev.cosign.simplesigning.v1+json",
        )
        config = _json_blob(
            {"rootfs": {"type": "layers", "diff_ids": [payload.digest]}}, _OCI_CONFIG
        )
        signature = hashlib.sha256(f"{self.spec.seed}{image.digest}".encode()).hexdigest()
        layer = {
            **payload.descriptor(),
            "annotations": {"dev.cosignproject.cosign/signature": signature},
        }
        body = {
            "schemaVersion": 2,
            "mediaType": OCI_IMAGE,
            "config": config.descriptor(),
            "layers": [layer],
        }
        tag = image.digest.replace(":", "-", 1) + ".sig"
        repository.tags[tag] = _manifest(body, (config, payload))
