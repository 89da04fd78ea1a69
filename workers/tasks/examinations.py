"""Tasks that find out what a registry can do, seen from this worker's region."""

from __future__ import annotations

from celery import Celery

from service.replication.examine import carry_out
from workers import process, signatures


def register(app: Celery) -> None:
    """Add this module's tasks to the app."""

    @app.task(name=signatures.EXAMINE)
    def examine_registry(examination: str) -> bool:
        services = process.current().services
        return carry_out(services.examinations, services.clients, examination, services.boot)
