"""A tag that a release moved, and a copy that stood still wrote over: it is given back."""

from __future__ import annotations

from service.errors import ManifestNotFound, Unsupported
from service.model.work import CopyWork
from service.registry.client import RegistryClient
from service.telemetry import get_logger

log = get_logger("commit")


def give_back(client: RegistryClient, work: CopyWork, wanted: str, written: str) -> None:
    """Put a release's digest under its tag again; `wanted` "": there is to be no such tag.

    Raises RegistryError. A registry that cannot delete tags keeps what was written, and the log says so.
    """
    if wanted == written:
        return
    repository, tag = work.destination_repository, work.destination_reference
    log.warning("late_write_undone", copy=work.ref.id, tag=tag, release=True)
    if wanted:
        client.put_manifest(repository, tag, client.get_manifest(repository, wanted))
        return
    try:
        client.delete_manifest(repository, tag)
    except ManifestNotFound:
        return
    except Unsupported as error:
        log.warning("late_write_stays", copy=work.ref.id, tag=tag, error=error.message)
