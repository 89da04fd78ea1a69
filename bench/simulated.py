"""A registry of any number of tags that holds none: it computes names, pages and answers to HEAD.

    python bench/simulated.py REPOSITORIES TAGS_OF_EACH     # prints its port

Every tag names the same small image, so it serves as a source and, for a rule that keeps names, as a
destination where nothing is missing. One process, one thread, standard library.
"""

from __future__ import annotations

import hashlib
import json
import re
import selectors
import socket
import sys
from urllib.parse import parse_qs

PAGE = 1000
KIND = "application/vnd.oci.image.manifest.v1+json"
CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'


def sha256(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": KIND,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": sha256(CONFIG),
            "size": len(CONFIG),
        },
        "layers": [],
    }
).encode()
DIGEST = sha256(MANIFEST)
_PLACE = re.compile(r"/v2/(r\d{5})/(?:manifests/(t\d{7}|sha256:[0-9a-f]{64})|(tags/list))")


def answer(status, body=b"", headers="", *, head=False):
    text = f"HTTP/1.1 {status} X\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode()
    return text if head else text + body


FOUND = f"Content-Type: {KIND}\r\nDocker-Content-Digest: {DIGEST}\r\n"
HEAD = answer(200, MANIFEST, FOUND, head=True)
GET = answer(200, MANIFEST, FOUND)
ABSENT = answer(404, b'{"errors":[{"code":"NOT_FOUND"}]}', "Content-Type: application/json\r\n")


class Simulated:
    def __init__(self, repositories, tags):
        self.repositories, self.tags = repositories, tags

    def serve(self, method, target):
        path, _, query = target.partition("?")
        if path == "/v2/":
            return answer(200, b"{}")
        if path == "/v2/_catalog":
            return self.page(path, query, "repositories", "r", 5, self.repositories)
        place = _PLACE.fullmatch(path)
        if place is None or int(place[1][1:]) >= self.repositories:
            return answer(404, b"", "", head=True) if method == "HEAD" else ABSENT
        if place[3]:
            return self.page(path, query, "tags", "t", 7, self.tags)
        return HEAD if method == "HEAD" else GET

    def page(self, path, query, key, letter, width, count):
        asked = parse_qs(query)
        size = min(PAGE, int(asked.get("n", [PAGE])[0]))
        last = asked.get("last", [""])[0]
        first = int(last[1:]) + 1 if last else 0
        names = [f"{letter}{i:0{width}d}" for i in range(first, min(count, first + size))]
        link = ""
        if first + size < count:
            link = f'Link: <{path}?n={size}&last={names[-1]}>; rel="next"\r\n'
        body = json.dumps({"name": path.split("/")[2], key: names}).encode()
        return answer(200, body, f"Content-Type: application/json\r\n{link}")

    def run(self):
        listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        print(listener.getsockname()[1], flush=True)
        selector = selectors.DefaultSelector()
        selector.register(listener, selectors.EVENT_READ, None)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    client, _ = listener.accept()
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    selector.register(client, selectors.EVENT_READ, bytearray())
                    continue
                if not self.read(key.fileobj, key.data):
                    selector.unregister(key.fileobj)
                    key.fileobj.close()

    def read(self, client, buffer):
        try:
            piece = client.recv(65536)
            buffer += piece
            answers = []
            while (end := buffer.find(b"\r\n\r\n")) >= 0:
                method, target = buffer[: buffer.index(b"\r\n")].decode().split(" ")[:2]
                del buffer[: end + 4]
                answers.append(self.serve(method, target))
            if answers:
                client.sendall(b"".join(answers))
        except OSError:
            return False
        return bool(piece)


if __name__ == "__main__":
    import ctypes

    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # ends with its parent
    Simulated(int(sys.argv[1]), int(sys.argv[2])).run()
