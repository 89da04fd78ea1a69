"""A registry of any number of different images that holds none: names, manifests, blobs by a formula.

    python -m bench.formula_registry REPOSITORIES TAGS_OF_EACH full|empty     # prints its port

Every tag is an image of its own: a config and two layers that no other has, three layers of a base
that BASE_TAGS tags in a row of a repository share. `empty` is a destination where nothing is. It
remembers nothing but which tag a digest belongs to, once it has told it, and counts: GET /requests.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import re
import sys
from collections import Counter
from functools import lru_cache

from bench.simulated import ABSENT, KIND, Simulated, answer, sha256

BASE_TAGS = 50
BASE_LAYERS = 3
OWN_LAYERS = 2
_IMAGE = re.compile(r"/v2/(?:mirror/)?r(\d{5})/manifests/(?:t(\d{7})|sha256:([0-9a-f]{64}))")
_BLOB = re.compile(r"/v2/(?:mirror/)?r\d{5}/blobs/sha256:([0-9a-f]{64})")
_REFERRERS = re.compile(r"/v2/(?:mirror/)?r\d{5}/referrers/.*")
_INDEX = b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}'
INDEX = answer(200, _INDEX, "Content-Type: application/vnd.oci.image.index.v1+json\r\n")
JSON = "Content-Type: application/json\r\n"


def size_of(hexadecimal: str) -> int:
    """Bytes of a blob: up to a megabyte, by its digest."""
    return 1000 + int(hexadecimal[:5], 16)


def _blob(kind: str, *names: object) -> dict[str, object]:
    digest = hashlib.sha256("/".join(map(str, names)).encode()).hexdigest()
    return {
        "mediaType": f"application/vnd.oci.image.{kind}",
        "digest": f"sha256:{digest}",
        "size": size_of(digest),
    }


@lru_cache(maxsize=4096)
def manifest(repository: int, tag: int) -> bytes:
    """The manifest of a tag, which is the formula."""
    kind = "layer.v1.tar+gzip"
    base = [_blob(kind, "base", repository, tag // BASE_TAGS, k) for k in range(BASE_LAYERS)]
    own = [_blob(kind, "own", repository, tag, k) for k in range(OWN_LAYERS)]
    document = {
        "schemaVersion": 2,
        "mediaType": KIND,
        "config": _blob("config.v1+json", "config", repository, tag),
        "layers": base + own,
    }
    return json.dumps(document).encode()


class FormulaRegistry(Simulated):
    def __init__(self, repositories: int, tags: int, *, full: bool) -> None:
        super().__init__(repositories, tags)
        self.full = full
        self.told: dict[bytes, tuple[int, int]] = {}
        self.counts: Counter[str] = Counter()

    def serve(self, method: str, target: str) -> bytes:
        """The answer to one request."""
        path = target.partition("?")[0]
        if path == "/requests":
            return answer(200, json.dumps(self.counts).encode(), JSON)
        image, blob = _IMAGE.fullmatch(path), _BLOB.fullmatch(path)
        kind = "manifest" if image else "blob" if blob else "other"
        self.counts[f"{method} {kind}"] += 1
        if image:
            return self.image(method, image)
        if blob:
            return self.blob(method, blob[1])
        if _REFERRERS.fullmatch(path):
            return INDEX if self.full else ABSENT
        return super().serve(method, target)

    def image(self, method: str, match: re.Match[str]) -> bytes:
        repository, digest = int(match[1]), match[3]
        head = method == "HEAD"
        place = self.told.get(bytes.fromhex(digest)[:12]) if digest else (repository, int(match[2]))
        if place is None or not self.full:
            return answer(404, b"", "", head=True) if head else ABSENT
        body = manifest(*place)
        found = sha256(body)
        self.told[bytes.fromhex(found[7:])[:12]] = place
        headers = f"Content-Type: {KIND}\r\nDocker-Content-Digest: {found}\r\n"
        return answer(200, body, headers, head=head)

    def blob(self, method: str, digest: str) -> bytes:
        """The answer to HEAD, or to a probe: the last byte of a blob."""
        if not self.full:
            return answer(404, b"", "", head=True) if method == "HEAD" else ABSENT
        size = size_of(digest)
        if method == "HEAD":
            return f"HTTP/1.1 200 X\r\nContent-Length: {size}\r\n\r\n".encode()
        return answer(206, b"\0", f"Content-Range: bytes {size - 1}-{size - 1}/{size}\r\n")


def main() -> None:
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # ends with its parent
    repositories, tags, state = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    FormulaRegistry(repositories, tags, full=state == "full").run()


if __name__ == "__main__":
    main()
