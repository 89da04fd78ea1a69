"""Tasks that delete where the scheduler may not: in a jurisdiction that it does not stand in."""

from __future__ import annotations

from celery import Celery

from workers import process, signatures


def register(app: Celery) -> None:
    """Add this module's tasks to the app."""

    @app.task(name=signatures.DELETE)
    def delete(piece: str, registries: list[str]) -> bool:
        own = process.current()
        deleter = own.services.deleter
        deleter.share(own.engine.publisher.delete)
        with own.taking():
            return deleter.take(piece, registries)
