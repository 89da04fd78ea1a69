"""The clients of bench/gateway.py, in a process that loads little: `python pull_client.py PORT REPOSITORY...`.

Each repository's v1 is pulled by a thread with a connection and one buffer of its own, every byte held to its digest.
Prints one JSON object: when it began and ended (seconds since 1970), bytes, seconds of CPU, and what failed.
"""

from __future__ import annotations

import hashlib
import json
import socket
import sys
import threading
import time

MIB = 1 << 20


class Puller:
    """One client: a connection, one buffer, every byte hashed."""

    def __init__(self, port: int) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port))
        self._view = memoryview(bytearray(MIB))

    def pull(self, repository: str) -> int:
        """Pull v1 of a repository; returns the bytes of its blobs."""
        document = json.loads(self._read(f"/v2/{repository}/manifests/v1", None, keep=True))
        total = 0
        for one in (document["config"], *document["layers"]):
            self._read(f"/v2/{repository}/blobs/{one['digest']}", one["digest"])
            total += one["size"]
        self._sock.close()
        return total

    def _read(self, path: str, digest: str | None, *, keep: bool = False) -> bytes:
        accept = "application/vnd.oci.image.manifest.v1+json"
        self._sock.sendall(
            f"GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: {accept}\r\n\r\n".encode()
        )
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            piece = self._sock.recv(65536)
            if not piece:
                raise RuntimeError(f"{path}: closed")
            data += piece
        head, rest = data[:end].decode("latin-1"), data[end + 4 :]
        if " 200 " not in head[:14]:
            raise RuntimeError(f"{path}: {head[:200]}")
        length = next(
            int(line.partition(":")[2])
            for line in head.split("\r\n")
            if line.lower().startswith("content-length:")
        )
        hasher = hashlib.sha256(rest)
        kept = [rest]
        left = length - len(rest)
        while left:
            count = self._sock.recv_into(self._view[: min(left, MIB)])
            if not count:
                raise RuntimeError(f"{path}: {left} bytes short")
            hasher.update(self._view[:count])
            if keep:
                kept.append(bytes(self._view[:count]))
            left -= count
        if digest is not None and digest != f"sha256:{hasher.hexdigest()}":
            raise RuntimeError(f"{path}: other bytes")
        return b"".join(kept) if keep else b""


def client(port: int, repositories: list[str]) -> int:
    """Pull each repository by a thread of its own, all at once; prints the bytes and the failures."""
    totals, failed = [], []

    def one(name: str) -> None:
        try:
            totals.append(Puller(port).pull(name))
        except (OSError, RuntimeError) as error:
            failed.append(str(error))

    began, cpu = time.time(), time.process_time()
    threads = [threading.Thread(target=one, args=(name,)) for name in repositories]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = {"began": began, "ended": time.time(), "cpu": time.process_time() - cpu}
    print(json.dumps({**said, "bytes": sum(totals), "failed": failed}))
    return 0


if __name__ == "__main__":
    sys.exit(client(int(sys.argv[1]), sys.argv[2:]))
