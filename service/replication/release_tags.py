"""Moving one tag of a release, and setting it back. Each may be done again without harm."""

from __future__ import annotations

import time
from collections.abc import Callable

from service.errors import (
    Corrupt,
    ManifestNotFound,
    RegistryError,
    TagImmutable,
    TransshipError,
    Unsupported,
)
from service.model.manifest import Manifest
from service.model.release import ReleaseTag, TagState
from service.registry.client import RegistryClient
from service.replication.compare import told
from service.store.release_work import TagResult

PUT_PAUSES = (0.0, 0.2, 1.0)
"""Before each try to move a tag: a flip that waits longer is a long window."""

BACK_PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Before each try to set a tag back: here patience costs nothing but time."""

READ_BACK_PAUSES = (0.0, 0.05, 0.2)

Clock = Callable[[], float]
"""Tells seconds since 1970 by the database's clock."""


def put_tag(client: RegistryClient, tag: ReleaseTag, manifest: Manifest) -> None:
    """Put a tag; raises RegistryError when the registry does not take it."""
    for number, pause in enumerate(PUT_PAUSES, 1):
        if pause:
            time.sleep(pause)
        try:
            client.put_manifest(tag.repository, tag.tag, manifest)
        except TagImmutable:
            if _digest_of(client, tag) == str(manifest.digest):
                return  # it is there already
            raise
        except RegistryError as error:
            if not error.retryable or number == len(PUT_PAUSES):
                raise
        else:
            return


def read_back(client: RegistryClient, tag: ReleaseTag) -> None:
    """Make sure that a tag is what was put; raises Corrupt, and RegistryError."""
    found: str | None = None
    for pause in READ_BACK_PAUSES:
        if pause:
            time.sleep(pause)
        found = _digest_of(client, tag)
        if found == tag.digest:
            return
    raise Corrupt(
        f"{tag.repository}:{tag.tag} reads back as {found}, not as {tag.digest}",
        registry=tag.registry,
    )


def set_back(client: Callable[[], RegistryClient], tag: ReleaseTag, clock: Clock) -> TagResult:
    """Bring a tag to what it was before, unless somebody else has moved it; never raises for a registry."""
    if tag.previous is None:
        return TagResult(
            tag.id, TagState.PENDING
        )  # it was never prepared: nothing can have moved it
    failure: TransshipError | None = None
    for pause in BACK_PAUSES:
        if pause:
            time.sleep(pause)
        try:
            return _set_back(client(), tag, clock)
        except TransshipError as error:
            failure = error
            if not error.retryable:
                break
    return TagResult(tag.id, TagState.STUCK, "" if failure is None else told(failure, tag.registry))


def _set_back(client: RegistryClient, tag: ReleaseTag, clock: Clock) -> TagResult:
    found = _digest_of(client, tag) or ""
    if found == tag.previous:
        return TagResult(tag.id, TagState.RESTORED)
    if found not in ("", tag.digest):
        return TagResult(tag.id, TagState.MOVED, f"somebody else has moved it to {found}")
    if not tag.previous:
        return _take_away(client, tag, clock)
    manifest = client.get_manifest(tag.repository, str(tag.previous))
    client.put_manifest(tag.repository, tag.tag, manifest)
    now = _digest_of(client, tag)
    if now != tag.previous:
        raise Corrupt(
            f"{tag.repository}:{tag.tag} reads back as {now}, not as {tag.previous}",
            registry=tag.registry,
        )
    return TagResult(tag.id, TagState.RESTORED, values={"flipped_at": clock()})


def _take_away(client: RegistryClient, tag: ReleaseTag, clock: Clock) -> TagResult:
    """Delete a tag that was not there before; the image stays, whatever the registry makes of that.

    Some registries delete the manifest where they are told to delete a tag of it.
    """
    manifest = client.get_manifest(tag.repository, tag.digest)
    try:
        client.delete_manifest(tag.repository, tag.tag)
    except ManifestNotFound:
        pass
    except Unsupported:
        reason = f"it was not there before, and {tag.registry} cannot delete tags"
        return TagResult(tag.id, TagState.STAYS, reason)
    reason = ""
    if client.head_manifest(tag.repository, tag.digest) is None:
        client.put_manifest(tag.repository, tag.digest, manifest)
        reason = f"{tag.registry} took the image along, and has it again: look at its other tags"
    return TagResult(tag.id, TagState.RESTORED, reason, values={"flipped_at": clock()})


def _digest_of(client: RegistryClient, tag: ReleaseTag) -> str | None:
    head = client.head_manifest(tag.repository, tag.tag)
    return None if head is None else str(head.digest)
