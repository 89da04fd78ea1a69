"""The floor: a copier without queue, database or promises, to measure the engine's distance to.

    python bench/floor.py SOURCE DESTINATION [--prefix mirror/] [--threads 16]

Threads, raw sockets, one upload of each blob at a time, mounts for the rest, tags last. It shares no
line with the product. It keeps none of its promises: nothing is proved, retried, limited, resumed,
authenticated or written down. One JSON object on stdout.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import queue
import re
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from urllib.parse import urlsplit

ACCEPT = ", ".join(
    "application/vnd." + kind
    for kind in (
        "oci.image.index.v1+json",
        "oci.image.manifest.v1+json",
        "docker.distribution.manifest.list.v2+json",
        "docker.distribution.manifest.v2+json",
    )
)
BUFFER = 1 << 20


class Answer:
    """Head of an answer; `rest` is what came of the body with it."""

    def __init__(self, head: bytes, rest: bytes) -> None:
        lines = head.split(b"\r\n")
        self.status = int(lines[0].split(b" ", 2)[1])
        self.headers = {}
        for line in lines[1:]:
            key, _, value = line.partition(b":")
            self.headers[key.strip().lower()] = value.strip().decode()
        self.rest = rest

    @property
    def length(self) -> int:
        return int(self.headers.get(b"content-length", "0"))


class Connection:
    """One keep-alive connection."""

    def __init__(self, host: str, port: int) -> None:
        self.host = f"{host}:{port}"
        self.sock = socket.create_connection((host, port), 60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, method: str, path: str, headers: str = "") -> None:
        self.sock.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\n{headers}\r\n".encode()
        )

    def head(self) -> Answer:
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            piece = self.sock.recv(65536)
            if not piece:
                raise OSError("the registry closed the connection")
            data += piece
        return Answer(data[:end], data[end + 4 :])

    def body(self, answer: Answer) -> bytes:
        data = answer.rest
        if answer.headers.get(b"transfer-encoding") == "chunked":
            while not data.endswith(b"0\r\n\r\n"):
                data += self._more()
            found, at = b"", 0
            while True:
                end = data.index(b"\r\n", at)
                size = int(data[at:end], 16)
                if size == 0:
                    return found
                found += data[end + 2 : end + 2 + size]
                at = end + 2 + size + 2
        while len(data) < answer.length:
            data += self._more()
        return data

    def _more(self) -> bytes:
        piece = self.sock.recv(BUFFER)
        if not piece:
            raise OSError("the registry closed the connection")
        return piece


class Registry:
    """Connections of one registry, one a thread."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = str(parts.hostname), parts.port or 80
        self.local = threading.local()

    def connection(self) -> Connection:
        found = getattr(self.local, "connection", None)
        if found is None:
            found = self.local.connection = Connection(self.host, self.port)
        return found

    def ask(
        self, method: str, path: str, headers: str = "", body: bytes | None = None
    ) -> tuple[Answer, bytes]:
        connection = self.connection()
        if body is None and method == "POST":
            body = b""
        if body is not None:
            headers += f"Content-Length: {len(body)}\r\n"
        head = f"{method} {path} HTTP/1.1\r\nHost: {connection.host}\r\n{headers}\r\n".encode()
        connection.sock.sendall(head + (body or b""))
        answer = connection.head()
        return answer, b"" if method == "HEAD" else connection.body(answer)

    def pages(self, path: str, key: str) -> list[str]:
        found: list[str] = []
        while True:
            answer, body = self.ask("GET", path)
            if answer.status == 404:
                return found
            found += json.loads(body).get(key) or []
            link = re.search(r"<([^>]+)>", answer.headers.get(b"link", ""))
            if link is None:
                return found
            path = link[1][link[1].index("/v2/") :]


class Copier:
    """All tags of all repositories."""

    def __init__(self, source: Registry, destination: Registry, prefix: str, threads: int) -> None:
        self.source, self.destination, self.prefix = source, destination, prefix
        self.pool = ThreadPoolExecutor(threads)
        self.lock = threading.Lock()
        self.homes: dict[str, Future[str]] = {}  # digest -> the repository that has it
        self.there: dict[tuple[str, str], Future[None]] = {}  # repository, digest
        self.counts = {"copied": 0, "unchanged": 0, "blobs": 0, "mounted": 0, "bytes": 0}

    def run(self, only: list[str]) -> None:
        names = only or self.source.pages("/v2/_catalog?n=1000", "repositories")
        errors: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

        def tags(name: str) -> list[tuple[str, str]]:
            return [(name, t) for t in self.source.pages(f"/v2/{name}/tags/list?n=1000", "tags")]

        def guarded(place: tuple[str, str]) -> None:
            try:
                self.tag(*place)
            except BaseException as error:
                errors.put(error)

        places = [place for found in self.pool.map(tags, names) for place in found]
        list(self.pool.map(guarded, places))
        if not errors.empty():
            raise errors.get()

    def tag(self, name: str, tag: str) -> None:
        accept = f"Accept: {ACCEPT}\r\n"
        home = self.prefix + name
        there, _ = self.destination.ask("HEAD", f"/v2/{home}/manifests/{tag}", accept)
        if there.status == 200:
            digest = b"docker-content-digest"
            here, _ = self.source.ask("HEAD", f"/v2/{name}/manifests/{tag}", accept)
            if here.headers[digest] == there.headers[digest]:
                with self.lock:
                    self.counts["unchanged"] += 1
                return
        self.manifest(name, tag)
        with self.lock:
            self.counts["copied"] += 1

    def manifest(self, name: str, reference: str) -> None:
        home = self.prefix + name
        answer, raw = self.source.ask(
            "GET", f"/v2/{name}/manifests/{reference}", f"Accept: {ACCEPT}\r\n"
        )
        if answer.status != 200:
            raise OSError(f"{name}:{reference}: {answer.status}")
        body = json.loads(raw)
        for child in body.get("manifests", ()):
            digest = child["digest"]
            self.once(home, digest, lambda digest=digest: self.manifest(name, digest))
        blobs = {blob["digest"]: blob["size"] for blob in body.get("layers", ())}
        if "config" in body:
            blobs[body["config"]["digest"]] = body["config"]["size"]
        later = [digest for digest, size in blobs.items() if not self.blob(name, digest, size)]
        for digest in later:  # others upload these now
            self.mount(home, digest, self.homes[digest].result())
        kind = answer.headers[b"content-type"]
        put, text = self.destination.ask(
            "PUT", f"/v2/{home}/manifests/{reference}", f"Content-Type: {kind}\r\n", raw
        )
        if put.status != 201:
            raise OSError(f"PUT {home}:{reference}: {put.status} {text[:200]!r}")

    def once(self, home: str, digest: str, action: Callable[[], None]) -> None:
        """Carry an action out for a repository and digest, or wait for the thread that does."""
        with self.lock:
            known = self.there.get((home, digest))
            if known is None:
                mine: Future[None] = Future()
                self.there[home, digest] = mine
        if known is not None:
            known.result()
            return
        try:
            action()
        except BaseException as error:
            mine.set_exception(error)
            raise
        mine.set_result(None)

    def blob(self, name: str, digest: str, size: int) -> bool:
        """Have a blob there, unless another thread is at it."""
        home = self.prefix + name
        with self.lock:
            known = self.homes.get(digest)
            if known is None:
                mine: Future[str] = Future()
                self.homes[digest] = mine
        if known is None:
            try:
                self.upload(name, digest, size)
            except BaseException as error:
                mine.set_exception(error)
                raise
            mine.set_result(home)
            return True
        if not known.done():
            return False
        self.mount(home, digest, known.result())
        return True

    def mount(self, home: str, digest: str, origin: str) -> None:
        if origin != home:
            self.once(home, digest, lambda: self._mount(home, digest, origin))

    def _mount(self, home: str, digest: str, origin: str) -> None:
        answer, _ = self.destination.ask(
            "POST", f"/v2/{home}/blobs/uploads/?mount={digest}&from={origin}"
        )
        if answer.status != 201:
            raise OSError(f"mount of {digest} into {home}: {answer.status}")
        with self.lock:
            self.counts["mounted"] += 1

    def upload(self, name: str, digest: str, size: int) -> None:
        begun, _ = self.destination.ask("POST", f"/v2/{self.prefix}{name}/blobs/uploads/")
        location = begun.headers[b"location"]
        path = location[location.index("/v2/") :]
        path += ("&" if "?" in path else "?") + f"digest={digest}"
        source, destination = self.source.connection(), self.destination.connection()
        source.send("GET", f"/v2/{name}/blobs/{digest}", "Accept-Encoding: identity\r\n")
        answer = source.head()
        if answer.status != 200 or answer.length != size:
            raise OSError(f"{name}@{digest}: {answer.status}")
        destination.send(
            "PUT", path, f"Content-Type: application/octet-stream\r\nContent-Length: {size}\r\n"
        )
        view = memoryview(bytearray(min(BUFFER, max(1, size))))
        hasher = hashlib.sha256(answer.rest)
        if answer.rest:
            destination.sock.sendall(answer.rest)
        left = size - len(answer.rest)
        while left:
            count = source.sock.recv_into(view[: min(left, len(view))])
            if not count:
                raise OSError(f"{name}@{digest} was cut")
            hasher.update(view[:count])
            left -= count
            destination.sock.sendall(view[:count])
        if f"sha256:{hasher.hexdigest()}" != digest:
            raise OSError(f"{name}@{digest} has other bytes")
        done = destination.head()
        destination.body(done)
        if done.status != 201:
            raise OSError(f"PUT of {digest}: {done.status}")
        with self.lock:
            self.counts["blobs"] += 1
            self.counts["bytes"] += size


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("source")
    parser.add_argument("destination")
    parser.add_argument("--prefix", default="mirror/")
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--repository", action="append", default=[])
    options = parser.parse_args()
    began = time.monotonic()
    copier = Copier(
        Registry(options.source), Registry(options.destination), options.prefix, options.threads
    )
    copier.run(options.repository)
    print(json.dumps({**copier.counts, "seconds": round(time.monotonic() - began, 3)}))


if __name__ == "__main__":
    main()
