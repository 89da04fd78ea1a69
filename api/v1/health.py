"""/healthz, /readyz and /metrics: for supervisors, load balancers and Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from flask import Blueprint, Response
from marshmallow import fields
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from api.context import services
from api.operations import operation
from api.schemas.answers import AnswerSchema
from api.v1.shared import answer
from service.bootstrap import Services
from service.errors import TransshipError
from service.replication.state_metrics import state_gauges
from service.store.figures import FigureStore
from service.store.schema import check_schema
from service.telemetry import get_logger

log = get_logger("api")
blueprint = Blueprint("health", __name__)


class HealthSchema(AnswerSchema):
    """Whether the process lives."""

    status = fields.String(required=True)


class ReadySchema(AnswerSchema):
    """Whether what the process stands on answers."""

    status = fields.String(required=True)
    checks = fields.Dict(keys=fields.String(), values=fields.String(), required=True)


@blueprint.get("/healthz")
@operation("Whether the process lives", role=None, results={200: ("it does", HealthSchema)})
def healthz() -> Response:
    """Answer without looking at anything else."""
    return answer({"status": "alive"})


@blueprint.get("/readyz")
@operation(
    "Whether database and Redis answer",
    role=None,
    results={200: ("they do", ReadySchema), 503: ("one does not", ReadySchema)},
)
def readyz() -> Response:
    """Ask database and Redis; says which one is away, and nothing else of it."""
    found = services()
    checks = {
        "database": _check("database", lambda: check_schema(found.database)),
        "redis": _check("redis", lambda: _ping(found)),
    }
    ready = all(result == "ok" for result in checks.values())
    return answer(
        {"status": "ready" if ready else "not ready", "checks": checks}, 200 if ready else 503
    )


def _ping(found: Services) -> None:
    if found.settings.redis_url:
        found.redis.ping()


def _check(name: str, ask: Callable[[], object]) -> str:
    try:
        ask()
    except Exception as error:  # noqa: BLE001 - whatever it is, the answer is "not ready"
        detail = error.message if isinstance(error, TransshipError) else type(error).__name__
        log.warning("not_ready", check=name, detail=detail)
        return "unavailable"
    return "ok"


@blueprint.get("/metrics")
@operation(
    "Figures for Prometheus; counts by state, no names. Takes the token of TRANSSHIP_METRICS_TOKEN_FILE, too",
    role="viewer",
    results={200: ("the figures", None)},
    media_type="text/plain",
)
def metrics() -> Response:
    """Answer the figures of the whole fleet, as SQL has them."""
    registry = CollectorRegistry()
    registry.register(_Figures(FigureStore(services().database)))
    return Response(
        generate_latest(registry), content_type="text/plain; version=0.0.4; charset=utf-8"
    )


class _Figures(Collector):
    def __init__(self, store: FigureStore) -> None:
        self._store = store

    def describe(self) -> Iterator[Metric]:
        """Register without asking the database."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield each figure."""
        yield from state_gauges(self._store)
