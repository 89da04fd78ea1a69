"""Tasks that copy: a page of tags, the blobs of one part, one commit."""

from __future__ import annotations

from typing import Any

from celery import Celery

from service.model.work import CopyRef
from service.replication import ahead
from service.replication import replicate as use_cases
from workers import process, signatures


def register(app: Celery) -> None:
    """Add this module's tasks to the app."""

    @app.task(name=signatures.REPLICATE)
    def replicate(refs: list[list[int]]) -> dict[str, int]:
        with process.current().taking():
            return use_cases.replicate(
                process.current().engine, [CopyRef(copy, fence) for copy, fence in refs]
            )

    @app.task(name=signatures.COPY_BLOB)
    def copy_blob(copy: int, fence: int, part: int, last: bool) -> dict[str, int | str]:
        with process.current().taking():
            outcome = use_cases.copy_part(
                process.current().engine, CopyRef(copy, fence), part, last=last
            )
        return {"copy": copy, "part": part, "outcome": outcome}

    @app.task(name=signatures.AHEAD)
    def place_ahead(errand: dict[str, Any]) -> str:
        with process.current().taking():
            return ahead.place_ahead(process.current().engine, ahead.parse(errand))

    @app.task(name=signatures.COMMIT)
    def commit_manifest(copy: int, fence: int) -> str:
        with process.current().taking():
            return use_cases.commit_manifest(process.current().engine, CopyRef(copy, fence))
