"""Push a sample fleet to a registry over plain HTTP, as its teams' builds would have.

summary = push_fleet("http://127.0.0.1:5000", FleetSpec(seed=7))
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from api.samples.fleet_plan import (
    DEMO_FLEET,
    FleetBlob,
    FleetManifest,
    FleetRepository,
    FleetSpec,
    plan_fleet,
)
from api.samples.manifests import OCI_INDEX

__all__ = ["DEMO_FLEET", "FleetError", "FleetSpec", "FleetSummary", "plan_fleet", "push_fleet"]


class FleetError(Exception):
    """The registry did not take a part of the fleet."""


@dataclass(frozen=True, slots=True)
class FleetSummary:
    """What stands in the registry afterwards.

    `tags` counts all tags: releases, cosign tags, and fallback tags where the registry has no
    referrers API. `manifests` counts distinct ones per repository.
    """

    tags: int
    repositories: int
    unique_blobs: int
    unique_bytes: int
    manifests: int
    tag_digests: Mapping[tuple[str, str], str]  # (repository, tag) -> digest


def push_fleet(
    base_url: str,
    spec: FleetSpec,
    *,
    threads: int = 8,
    headers: Mapping[str, str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> FleetSummary:
    """Push a fleet; what is there already is not sent again.

    `headers` are sent along (Authorization), `progress` is called with the bytes of each blob once
    it is there. Raises FleetError, or OSError when the registry is not there.
    """
    fleet = plan_fleet(spec)
    pusher = _Pusher(base_url, headers or {}, progress)
    tag_digests: dict[tuple[str, str], str] = {}
    manifests = 0
    with ThreadPoolExecutor(threads, thread_name_prefix="fleet") as pool:
        # largest first, so that no thread is left alone with a large one
        order = sorted(fleet, key=lambda repository: -len(repository.tags))
        try:
            for name, tags, count in pool.map(pusher.push_repository, order):
                tag_digests.update({(name, tag): digest for tag, digest in tags.items()})
                manifests += count
        finally:
            pusher.close()
    unique = {blob.digest: blob.size for r in fleet for m in r.manifests() for blob in m.blobs}
    return FleetSummary(
        len(tag_digests), len(fleet), len(unique), sum(unique.values()), manifests, tag_digests
    )


class _Pusher:
    def __init__(
        self, base_url: str, headers: Mapping[str, str], progress: Callable[[int], None] | None
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme != "http" or not parts.netloc:
            raise ValueError(f"a fleet is pushed to http://host:port, not {base_url!r}")
        self._netloc = parts.netloc
        self._headers = headers
        self._progress = progress
        self._local = threading.local()
        self._lock = threading.Lock()
        self._connections: list[http.client.HTTPConnection] = []
        self._homes: dict[str, str] = {}  # digest -> a repository that has it

    def close(self) -> None:
        for connection in self._connections:
            connection.close()

    def _request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        expect: tuple[int, ...],
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(self._netloc, timeout=60)
            self._local.connection = connection
            with self._lock:
                self._connections.append(connection)
        sent = {**self._headers, **(headers or {})}
        connection.request(method, path, body if method in ("POST", "PUT") else None, sent)
        response = connection.getresponse()
        content = response.read()
        if response.status not in expect:
            text = content[:300].decode(errors="replace")
            raise FleetError(f"{method} {path}: {response.status} {text}")
        return response.status, response.headers, content

    def push_repository(self, repository: FleetRepository) -> tuple[str, dict[str, str], int]:
        """Push all of one repository; its name, tags and number of manifests."""
        name = repository.name
        manifests = repository.manifests()
        for blob in {blob.digest: blob for m in manifests for blob in m.blobs}.values():
            self._push_blob(name, blob)
        fallbacks: dict[str, list[FleetManifest]] = {}
        for manifest in manifests:
            if not self._push_manifest(name, manifest, manifest.digest) and manifest.subject:
                fallbacks.setdefault(manifest.subject, []).append(manifest)
        tags: dict[str, str] = {}
        count = len(manifests)
        for subject, referrers in fallbacks.items():
            tag = subject.replace(":", "-", 1)
            tags[tag] = self._push_fallback(name, tag, referrers)
            count += 1
        for tag, manifest in repository.tags.items():
            self._push_manifest(name, manifest, tag)
            tags[tag] = manifest.digest
        return name, tags, count

    def _push_blob(self, name: str, blob: FleetBlob) -> None:
        uploads = f"/v2/{name}/blobs/uploads/"
        home = self._homes.get(blob.digest)
        if home is None:
            known = f"/v2/{name}/blobs/{blob.digest}"
            if self._request("HEAD", known, expect=(200, 404))[0] == 200:
                self._homes[blob.digest] = name
                return
        else:
            uploads += f"?mount={blob.digest}&from={home}"
        status, headers, _ = self._request("POST", uploads, expect=(201, 202))
        if status == 202:
            location = headers["Location"]
            path = location[location.index("/v2/") :]
            path += ("&" if "?" in path else "?") + f"digest={blob.digest}"
            kind = {"Content-Type": "application/octet-stream"}
            self._request("PUT", path, blob.data(), kind, expect=(201,))
        self._homes.setdefault(blob.digest, name)
        if self._progress is not None:
            self._progress(blob.size)

    def _push_manifest(self, name: str, manifest: FleetManifest, reference: str) -> bool:
        """Push one; whether the registry noted its subject by itself."""
        kind = {"Content-Type": manifest.media_type}
        path = f"/v2/{name}/manifests/{reference}"
        _, headers, _ = self._request("PUT", path, manifest.raw, kind, expect=(201,))
        return headers.get("OCI-Subject") is not None

    def _push_fallback(self, name: str, tag: str, referrers: list[FleetManifest]) -> str:
        """Add descriptors to the referrers tag (distribution spec, referrers tag schema)."""
        path = f"/v2/{name}/manifests/{tag}"
        status, _, content = self._request(
            "GET", path, headers={"Accept": OCI_INDEX}, expect=(200, 404)
        )
        entries = json.loads(content)["manifests"] if status == 200 else []
        known = {entry["digest"] for entry in entries}
        for referrer in referrers:
            if referrer.digest not in known:
                entries.append({**referrer.descriptor(), "artifactType": referrer.artifact_type})
        body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
        kind = {"Content-Type": OCI_INDEX}
        raw = json.dumps(body).encode()
        _, headers, _ = self._request("PUT", path, raw, kind, expect=(201,))
        return headers["Docker-Content-Digest"]
