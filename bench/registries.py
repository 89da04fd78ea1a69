"""The registries that the bench starts: distribution 2.8.2 (Debian's) and v3, crane's, olareg.

Each keeps its data in memory (/dev/shm). The distributions write an access log with the bytes of
every answer; before the others stands a counting relay (bench/shaping.py) where bytes are asked for.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from pathlib import Path

from bench.peers_install import find
from tests.support.servers import RealRegistry

KINDS = {"distribution-2.8.2": "docker-registry", "distribution-v3": "registry3"}


def registry(
    kind: str = "distribution-2.8.2",
    *,
    configuration: Mapping[str, Mapping[str, object]] | None = None,
) -> RealRegistry:
    """A registry of a kind, not yet started. Raises LookupError where its program is missing."""
    program = find(KINDS[kind])
    if program is None:
        raise LookupError(f"{KINDS[kind]} is missing (python -m bench.peers_install)")
    return RealRegistry(program=program, configuration=configuration)


class TlsFiles:
    """A certificate authority of one run and a certificate for 127.0.0.1, as files."""

    def __init__(self, folder: Path) -> None:
        import trustme

        authority = trustme.CA()
        leaf = authority.issue_cert("127.0.0.1", "localhost")
        self.ca = folder / "ca.pem"
        self.certificate = folder / "server.pem"
        self.key = folder / "server.key"
        authority.cert_pem.write_to_path(str(self.ca))
        leaf.private_key_pem.write_to_path(str(self.key))
        self.certificate.write_bytes(b"".join(part.bytes() for part in leaf.cert_chain_pems))


def tls_files(folder: Path) -> TlsFiles:
    """Make the files of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    return TlsFiles(folder)


class TlsRegistry(RealRegistry):
    """The same with TLS on; `plain()` opens its storage a second time without, for the checker."""

    def __init__(self, files: TlsFiles, program: str) -> None:
        tls = {"certificate": str(files.certificate), "key": str(files.key)}
        super().__init__(program=program, configuration={"http": {"tls": tls}})
        self.url = f"https://{self.host}"
        self._files = files
        self._program = program

    def _get(self, path: str) -> int:
        context = ssl.create_default_context(cafile=str(self._files.ca))
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=10, context=context
        )
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()

    def plain(self) -> RealRegistry:
        """A second server over the same files."""
        storage = {"filesystem": {"rootdirectory": str(self.storage_path), "maxthreads": 100}}
        return RealRegistry(program=self._program, configuration={"storage": storage})
