"""Tasks that bring releases forward, in the region where their tags are."""

from __future__ import annotations

from celery import Celery

from service.store.release_work import Part
from workers import process, signatures


def register(app: Celery) -> None:
    """Add this module's tasks to the app."""

    @app.task(name=signatures.RELEASE)
    def carry_out_release(release: str, region: str, fence: int) -> bool:
        own = process.current()
        with own.taking():
            done = own.services.releaser(own.engine).carry_out(Part(release, region, fence))
        if done:
            own.services.release_keeper(own.engine.publisher).send()
        return done
