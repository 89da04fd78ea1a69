"""/api/v1/executions/{identity}/copies/{copy}: one copy whole."""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, Response

from api import render
from api.bodies import query
from api.context import services
from api.operations import operation
from api.schemas.copy import CopyDetailSchema
from api.v1.shared import answer, find_execution
from service.errors import NotFoundInStore
from service.model.failure_classes import words
from service.replication.report import spell
from service.store.attempts import AttemptRecord
from service.store.copy_details import BlobRecord, CopyDetail, CopyDetails

blueprint = Blueprint("copies", __name__, url_prefix="/api/v1/executions")
_NUMBER = re.compile(r"[0-9]{1,18}")


@blueprint.get("/<identity>/copies/<copy>")
@operation(
    "Show one copy: its way, its tries, and its blobs where they were copied by several tasks",
    role="viewer",
    results={200: ("the copy", CopyDetailSchema)},
)
def show_copy(identity: str, copy: str) -> Response:
    """Answer one copy."""
    query(())
    find_execution(identity)
    if not _NUMBER.fullmatch(copy):
        raise NotFoundInStore(
            f"execution {identity} has no copy {copy[:40]!r}",
            hint=f"list them: transship executions log {identity}",
        )
    return answer(_shown(CopyDetails(services().database).get(identity, int(copy))))


def _shown(found: CopyDetail) -> dict[str, Any]:
    failure_class = found.copy.failure_class
    told = words(failure_class) if failure_class else None
    return {
        **render.copy(found.copy),
        "region": found.region,
        "read_from": spell(*found.read_from),
        "behind": found.behind or None,
        "route": list(found.route),
        "tries": {
            "failures": found.failures,
            "throttles": found.throttles,
            "replans": found.replans,
            "crashes": found.crashes,
        },
        "next_at": render.instant(found.next_at),
        "bytes_saved": found.bytes_saved,
        "blob_counts": {
            "copied": found.blobs_copied,
            "mounted": found.blobs_mounted,
            "present": found.blobs_present,
        },
        "meaning": told.meaning if told else "",
        "attempts_log": [_attempt(one) for one in found.attempts],
        "blobs": [_blob(one) for one in found.blobs],
        "blobs_total": found.blobs_total,
    }


def _attempt(one: AttemptRecord) -> dict[str, Any]:
    return {
        "number": one.number,
        "times": one.times,
        "outcome": one.outcome,
        "counted": one.counted,
        "class": one.failure_class,
        "reason": one.reason,
        "worker": one.worker,
        "region": one.region,
        "bytes": one.bytes,
        "began_at": render.instant(one.began_at),
        "ended_at": render.instant(one.ended_at),
    }


def _blob(one: BlobRecord) -> dict[str, Any]:
    return {
        "digest": one.digest,
        "media_type": one.media_type,
        "size": one.size,
        "state": one.state.value,
        "class": one.failure_class,
        "reason": one.reason,
        "updated_at": render.instant(one.updated_at),
    }
