"""Whether a source has a blob in the repository that is copied: what is mounted from elsewhere has to be its own.

A registry need not check what a manifest names. If it were enough that the destination has the blob somewhere,
whoever may push a manifest to one repository of the source could have any blob of which he knows the digest copied
into the mirror of that repository (docs/explanation/security.md, S16).
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from service.errors import ProtocolError, RegistryError, ServerError
from service.model.descriptor import Descriptor
from service.registry.client import RegistryClient
from service.telemetry import get_logger

KNOWN = 20_000
"""Blobs that a process remembers: of a repository with several destinations each is asked for once."""

log = get_logger("source_blobs")


class SourceBlobs:
    """What this process has seen sources to have, by registry, repository and digest. For any number of threads.

    It counts for good: who once had the bytes there can be told them, also after they were deleted.
    """

    def __init__(self, limit: int = KNOWN) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, str, str], None] = OrderedDict()

    def has(self, source: RegistryClient, repository: str, blob: Descriptor) -> bool:
        """Whether the source has the blob in the repository, by one HEAD where that is not known.

        False also where it says neither yes nor no: then its bytes are read from it, which proves it. Raises
        RegistryError for a source that does not answer now.
        """
        key = (source.name, repository, str(blob.digest))
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return True
        there = source.leaves_out(repository, blob.digest) or _is_there(source, repository, blob)
        if there:
            self.add(source.name, repository, blob)
        return there

    def add(self, registry: str, repository: str, blob: Descriptor) -> None:
        """Note that the source has delivered the blob, or said that it has it."""
        with self._lock:
            self._known[registry, repository, str(blob.digest)] = None
            while len(self._known) > self._limit:
                self._known.popitem(last=False)


def _is_there(source: RegistryClient, repository: str, blob: Descriptor) -> bool:
    try:
        return source.head_blob(repository, blob.digest) == blob.size
    except RegistryError as error:
        if error.retryable and not isinstance(error, ServerError | ProtocolError):
            raise
        log.info("no_head", registry=source.name, repository=repository, error=str(error))
    try:  # it knows no HEAD of blobs, or leads to a host that does not
        return source.probe_blob(repository, blob.digest, blob.size)
    except RegistryError as error:
        if error.retryable:
            raise
        return False
