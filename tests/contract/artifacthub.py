"""A contract fake of Artifact Hub: its API, and a classic repository of charts beside it, on two ports.

Sources: [api] artifacthub.io/docs/api (openapi.yaml: searchPackages with limit of 60 at most and Pagination-Total-Count,
getHelmPackageDetails, getHelmPackageVersionDetails), members as in artifacthub/hub internal/hub/pkg.go; [oci] its
docs/helm_charts_repositories.md; [key] openapi.yaml, securitySchemes: X-API-KEY-ID and X-API-KEY-SECRET; [hooks] ibid., /webhooks/user, members as in internal/hub/webhook.go; [classic]
helm.sh/docs/topics/chart_repository: archives behind plain GETs, their sha256 in the index. Strict: what is not in them is 404.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
from dataclasses import dataclass, field
from typing import Any, Self

from api.samples.faults import FaultPlan
from api.samples.http_messages import Request, Response
from api.samples.http_server import HttpServer
from tests.contract.leaks import Secret

JSON = {"Content-Type": "application/json"}


def archive(files: dict[str, str], folder: str = "demo") -> bytes:
    """A chart's archive, the same bytes for the same files."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return gzip.compress(plain.getvalue(), mtime=0)


@dataclass
class Listed:
    """A chart of the index: in a registry (`place`), or in the classic repository."""

    repository: str
    name: str
    place: str = ""
    versions: list[str] = field(default_factory=list)  # the newest first
    digests: dict[str, str] = field(default_factory=dict)  # as the index tells them


class FakeArtifactHub:
    """Artifact Hub; `faults` strike at its API and at the classic repository."""

    def __init__(self, *, page: int = 60, key: tuple[str, str] | None = None) -> None:
        self.api = HttpServer(self._handle)
        self.classic = HttpServer(self._deliver)
        self.url = self.api.url
        self.listed: list[Listed] = []
        self.archives: dict[str, bytes] = {}
        self.faults = FaultPlan()
        self.hooks: dict[str, dict[str, Any]] = {}
        self._page = page
        self._key = key

    def secrets(self) -> list[Secret]:
        """The key is for the index alone."""
        return [] if self._key is None else [Secret(self._key[1], frozenset({self.api.authority}))]

    def __enter__(self) -> Self:
        self.api.start()
        self.classic.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.faults.clear()
        self.api.close()
        self.classic.close()

    def add(self, name: str, version: str, data: bytes) -> None:
        """List a version of a chart of the classic repository, as the newest."""
        chart = next((one for one in self.listed if one.name == name), None)
        if chart is None:
            chart = Listed("classic", name)
            self.listed.append(chart)
        chart.versions.insert(0, version)
        chart.digests[version] = hashlib.sha256(data).hexdigest()
        self.archives[f"/charts/{name}-{version}.tgz"] = data

    def add_located(self, name: str, place: str, versions: list[str]) -> None:
        """List a chart in a registry, oci://`place`."""
        self.listed.append(Listed("registry", name, place, versions))

    # ---- the API -------------------------------------------------------------------------------------

    def _handle(self, request: Request) -> Response:
        rule = self.faults.strike(request)
        if rule is not None and rule.status is not None:
            return Response(rule.status, {k: v for k, v in rule.headers.items() if v is not None})
        if self._key is not None:
            headers = request.headers
            if (headers.get("x-api-key-id"), headers.get("x-api-key-secret")) != self._key:
                return _json(401, {"message": "Unauthorized"})
        if request.path.startswith("/api/v1/webhooks/user"):
            return self._webhooks(request, request.path.removeprefix("/api/v1/webhooks/user"))
        if request.path == "/api/v1/packages/search":
            return self._search(request.query())
        found = re.fullmatch(r"/api/v1/packages/helm/([^/]+)/([^/]+)(?:/([^/]+))?", request.path)
        chart = next(
            (
                one
                for one in self.listed
                if found and (one.repository, one.name) == found.groups()[:2]
            ),
            None,
        )
        if found is None or chart is None:
            return _json(404, {"message": "not found"})
        version = found[3] or chart.versions[0]
        if version not in chart.versions:
            return _json(404, {"message": "not found"})
        return _json(200, self._details(chart, version))

    def _webhooks(self, request: Request, rest: str) -> Response:
        """[hooks] A webhook has at least one package, and is told with its secret."""
        identity = rest.lstrip("/")
        if request.method == "GET":
            return _json(200, [{**body, "webhook_id": one} for one, body in self.hooks.items()])
        if identity and identity not in self.hooks:
            return _json(404, {"message": "not found"})
        if request.method == "DELETE":
            del self.hooks[identity]
            return Response(204)
        body = json.loads(request.body.read(1 << 16))
        known = {f"id-{one.name}" for one in self.listed}
        if not {one["package_id"] for one in body["packages"]} & known or body["event_kinds"] != [
            0
        ]:
            return _json(400, {"message": "invalid webhook"})
        self.hooks[identity or f"hook-{len(self.hooks)}"] = body
        return Response(204) if identity else _json(201, {})

    def _search(self, query: dict[str, str]) -> Response:
        """[api]"""
        size, start = int(query.get("limit", "20")), int(query.get("offset", "0"))
        if query.get("kind") != "0" or size > 60:
            return _json(400, {"message": "invalid query"})
        rows = [self._summary(one) for one in self.listed]
        size = min(size, self._page)
        answer = _json(200, {"packages": rows[start : start + size]})
        answer.headers["Pagination-Total-Count"] = str(len(rows))
        return answer

    def _summary(self, chart: Listed) -> dict[str, Any]:
        url = f"oci://{chart.place}" if chart.place else f"{self.classic.url}/charts"  # [oci]
        return {
            "package_id": f"id-{chart.name}",
            "name": chart.name,
            "normalized_name": chart.name,
            "version": chart.versions[0],
            "repository": {"name": chart.repository, "kind": 0, "url": url},
        }

    def _details(self, chart: Listed, version: str) -> dict[str, Any]:
        return {
            **self._summary(chart),
            "version": version,
            "available_versions": [{"version": one, "ts": 1700000000} for one in chart.versions],
            "digest": chart.digests.get(version, ""),
            "content_url": f"{self.classic.url}/charts/{chart.name}-{version}.tgz"
            if not chart.place
            else "",
        }

    def _deliver(self, request: Request) -> Response:
        """[classic]"""
        rule = self.faults.strike(request)
        data = self.archives.get(request.path)
        if data is None:
            answer = Response(404, {"Content-Type": "text/html"}, b"<html>")
        else:
            answer = Response(200, {"Content-Type": "application/gzip"}, data)
            asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
            if asked is not None:
                start = int(asked[1])
                span = f"bytes {start}-{len(data) - 1}/{len(data)}"
                answer = Response(206, {"Content-Range": span}, data[start:])
        if rule is not None:
            answer.status = rule.status or answer.status
            rule.apply(answer)
        return answer


def _json(status: int, value: object) -> Response:
    return Response(status, dict(JSON), json.dumps(value).encode())
