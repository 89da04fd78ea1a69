"""What a copy must still meet when its bytes are about to move: its entry's types and platforms.

The planner has judged the digest that it saw. A tag that moved since, or that could not be read then,
is judged here, before the first byte.
"""

from __future__ import annotations

from service.errors import Rejected
from service.model.content import (
    IMAGE,
    PlatformFilter,
    facts_of_config,
    parse_platform,
    platforms_of,
    types_of,
)
from service.model.digest import Digest
from service.model.manifest import Manifest
from service.model.reference import is_digest_tag
from service.model.states import CopyState
from service.model.work import CopyEnded, CopyWork, Counters
from service.replication.engine import Engine

MAX_CONFIG_BYTES = 4 << 20


def unmet(engine: Engine, work: CopyWork, counters: Counters, root: Manifest) -> CopyEnded | None:
    """Return the end of a copy that its entry does not take for what it is; None: go on."""
    if is_digest_tag(work.source_reference) or not (work.types or work.platforms):
        return None
    types = types_of(root)
    if work.types and not set(work.types) & set(types):
        return _left_out(
            work, counters, f"it is of the type {types[-1]}, which the rule leaves out"
        )
    if work.platforms and types[0] == IMAGE and not _has_platform(engine, work, root):
        wanted = ", ".join(work.platforms)
        return _left_out(work, counters, f"it has none of the platforms {wanted}")
    return None


def renamed(work: CopyWork, counters: Counters) -> CopyEnded:
    """Return the end of a copy whose name holds a digest that the source's tag no longer has."""
    return CopyEnded(
        work,
        CopyState.SUPERSEDED,
        counters,
        failure_class="superseded",
        reason="the source's tag moved, and the name at the destination holds its old digest",
        hint="run the rule again: the new digest gets a name of its own",
    )


def must_not_follow(work: CopyWork, digest: Digest) -> bool:
    """Whether a copy may not take the tag's new digest: its name is another one's."""
    return work.named_by_digest and work.digest != str(digest)


def _has_platform(engine: Engine, work: CopyWork, root: Manifest) -> bool:
    wanted = PlatformFilter(work.platforms)
    if root.kind == "index":
        told = platforms_of(root)
        return not told or wanted.takes_any(told)
    if work.digest == str(root.digest) and not work.replans:
        return True  # judged by the planner
    config = root.config
    if config is None:
        return False
    source = engine.clients.get(work.reads_from.registry)
    try:
        raw = source.read_blob(
            work.reads_from.repository, config.digest, config.size, MAX_CONFIG_BYTES
        )
    except Rejected:
        return False
    platform, _ = facts_of_config(raw)
    return platform is not None and wanted.takes(parse_platform(platform))


def _left_out(work: CopyWork, counters: Counters, reason: str) -> CopyEnded:
    return CopyEnded(work, CopyState.SKIPPED, counters, reason=reason)
