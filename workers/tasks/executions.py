"""Tasks about whole executions: planning."""

from __future__ import annotations

from celery import Celery

from workers import process, signatures


def register(app: Celery) -> None:
    """Add this module's tasks to the app."""

    @app.task(name=signatures.PLAN)
    def plan_execution(execution: str) -> bool:
        services = process.current().services
        if not process.current().plannings.acquire(blocking=False):
            services.plans.not_begun(execution)  # slots are for copies, too
            return False
        try:
            with process.current().taking():
                return services.planner.plan(execution, services.boot)
        finally:
            process.current().plannings.release()
