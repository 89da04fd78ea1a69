"""Tasks that ask registries whether they are well, from where their copies are made."""

from __future__ import annotations

from celery import Celery

from workers import process, signatures


def register(app: Celery) -> None:
    """Add this module's tasks to the app."""

    @app.task(name=signatures.CHECK)
    def check(registries: list[str]) -> bool:
        own = process.current()
        with own.taking():
            own.services.health_keeper.check(registries)
        return True
