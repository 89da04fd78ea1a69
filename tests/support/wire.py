"""A bare HTTP client for tests that look at the wire: http.client and nothing of the product."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import urljoin, urlsplit

OCI_IMAGE = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_IMAGE = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
ACCEPT = f"{OCI_IMAGE}, {OCI_INDEX}, {DOCKER_IMAGE}, {DOCKER_LIST}"


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def code(self) -> str:
        """OCI error code of the body; empty without one."""
        try:
            return json.loads(self.body)["errors"][0]["code"]
        except (ValueError, KeyError, IndexError, TypeError):
            return ""

    def json(self) -> dict:
        return json.loads(self.body)

    def __getitem__(self, header: str) -> str | None:
        return self.headers.get(header)


class Wire:
    """One keep-alive connection to a registry; reconnects when the server closed it."""

    def __init__(self, url: str, *, basic: tuple[str, str] | None = None) -> None:
        """`basic`: user name and password, sent with every request."""
        self.url = url
        self._own = {"Authorization": f"Basic {_pair(*basic)}"} if basic else {}
        self.host = urlsplit(url).netloc
        self._connection = http.client.HTTPConnection(self.host, timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}
    ) -> Answer:
        """Send one request; `path` may be absolute (a Location)."""
        target = urljoin(self.url, path)
        target = target[target.index("/", len("http://")) :]
        if body is None and method in ("POST", "PUT", "PATCH"):
            body = b""
        self._connection.request(method, target, body, {**self._own, **headers})
        response = self._connection.getresponse()
        try:
            content = response.read()
        except http.client.IncompleteRead as error:  # distribution's 416 announces too much
            content = error.partial
            self._connection.close()
        return Answer(response.status, response.headers, content)

    def start(self, repository: str, query: str = "") -> str:
        """Open an upload; its Location with a query begun."""
        answer = self.request("POST", f"/v2/{repository}/blobs/uploads/{query}")
        assert answer.status == 202, answer
        return with_query(answer["Location"])

    def push_blob(self, repository: str, data: bytes, digest: str | None = None) -> Answer:
        location = self.start(repository)
        return self.request("PUT", f"{location}digest={digest or sha256(data)}", data)

    def put_manifest(self, repository: str, reference: str, body: dict, **extra: str) -> Answer:
        raw = json.dumps(body).encode()
        kind = extra.get("content_type") or body["mediaType"]
        path = f"/v2/{repository}/manifests/{reference}"
        return self.request("PUT", path, raw, {"Content-Type": kind})

    def get_manifest(self, repository: str, reference: str, accept: str = ACCEPT) -> Answer:
        return self.request(
            "GET", f"/v2/{repository}/manifests/{reference}", None, {"Accept": accept}
        )

    def image(self, repository: str, tag: str, *, layers: int = 1, **extra: object) -> bytes:
        """Push a small OCI image; its manifest's bytes."""
        config = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
        contents = [f"{repository}:{tag}:{n}".encode() * 50 for n in range(layers)]
        for data in (config, *contents):
            assert self.push_blob(repository, data).status == 201
        body = image_body(config, contents, **extra)
        answer = self.put_manifest(repository, tag, body)
        assert answer.status == 201, answer
        return json.dumps(body).encode()

    def cut(self, method: str, path: str, announced: int, sent: bytes) -> None:
        """Begin a request, send less than announced, reset the connection."""
        target = urljoin(self.url, path)
        target = target[target.index("/", len("http://")) :]
        host, port = self.host.rsplit(":", 1)
        with socket.create_connection((host, int(port))) as sock:
            head = f"{method} {target} HTTP/1.1\r\nHost: {self.host}\r\n"
            head += f"Content-Length: {announced}\r\nContent-Type: application/octet-stream\r\n\r\n"
            sock.sendall(head.encode() + sent)
            sock.shutdown(socket.SHUT_WR)  # everything sent arrives, and then the end
            sock.settimeout(5)
            try:
                while sock.recv(4096):
                    pass
            except OSError:
                pass
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _pair(user: str, password: str) -> str:
    return base64.b64encode(f"{user}:{password}".encode()).decode()


def with_query(location: str | None) -> str:
    assert location
    return location + ("&" if "?" in location else "?")


def descriptor(data: bytes, media_type: str, **extra: object) -> dict:
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data), **extra}


def image_body(config: bytes, layers: list[bytes], **extra: object) -> dict:
    kind = extra.pop("mediaType", OCI_IMAGE)
    docker = kind == DOCKER_IMAGE
    config_type = (
        "application/vnd.docker.container.image.v1+json"
        if docker
        else "application/vnd.oci.image.config.v1+json"
    )
    layer_type = (
        "application/vnd.docker.image.rootfs.diff.tar.gzip"
        if docker
        else "application/vnd.oci.image.layer.v1.tar+gzip"
    )
    return {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": descriptor(config, config_type),
        "layers": [descriptor(layer, layer_type) for layer in layers],
        **extra,
    }
