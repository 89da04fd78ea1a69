"""The Celery app and its settings; each one stands here for a measured reason (reference/celery.md)."""

from __future__ import annotations

from celery import Celery, __version__
from kombu import Queue

from service.errors import EngineError
from service.settings import Settings
from workers import broker, envelope, queues

SUPPORTED = "5.7."


def check_version(version: str = __version__) -> None:
    """Refuse a Celery whose messages and chords are not the ones that envelope.py writes."""
    if not version.startswith(SUPPORTED):
        raise EngineError(
            f"Celery {version} is installed, Transship needs {SUPPORTED}x",
            hint="install with `-c requirements/constraints.txt`",
        )


def make_app(settings: Settings, regions: list[str] | None = None) -> Celery:
    """Return a configured app; nothing connects yet."""
    check_version()
    broker.use()
    names = [name for region in regions or [settings.region] for name in queues.served_by(region)]
    app = Celery("transship", broker=_kombu_url(settings.redis_url), backend=_result_url(settings))
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        result_serializer="json",
        result_accept_content=["json"],
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        result_expires=3600,
        result_chord_expires=envelope.CHORD_EXPIRES_SECONDS,
        result_chord_join_timeout=settings.chord_join_seconds,
        result_backend_transport_options={
            "global_keyprefix": envelope.PREFIX,
            "result_chord_ordered": True,
            "retry_policy": {"timeout": 10.0},
        },
        redis_socket_timeout=15,
        redis_socket_connect_timeout=5,
        redis_socket_keepalive=not settings.redis_url.startswith("unix"),
        redis_retry_on_timeout=True,
        redis_backend_health_check_interval=25,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure=True,
        worker_prefetch_multiplier=1,
        worker_eta_task_limit=200,
        task_track_started=False,
        task_default_queue=queues.CONTROL,
        task_create_missing_queues=False,
        task_queues=[Queue(name, routing_key=name) for name in dict.fromkeys(names)],
        task_default_exchange_type="direct",
        worker_disable_rate_limits=True,
        worker_send_task_events=settings.task_events,
        task_send_sent_event=False,
        worker_enable_remote_control=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,
        broker_pool_limit=None,
        broker_connection_timeout=5,
        task_publish_retry=True,
        task_publish_retry_policy={
            "max_retries": 5,
            "interval_start": 0,
            "interval_step": 0.2,
            "interval_max": 2,
        },
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_transport_options={
            "visibility_timeout": settings.visibility_timeout,
            "unacked_restore_interval": settings.unacked_restore_seconds,
            "unacked_restore_throttle": 1,
            "unacked_restore_limit": 500,
            "global_keyprefix": envelope.PREFIX,
            "priority_steps": [0],
            "queue_order_strategy": "priority",
            "max_connections": 100,
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "socket_keepalive": not settings.redis_url.startswith("unix"),
            "health_check_interval": 25,
            "client_name": "transship-worker",
        },
    )
    return app


def _kombu_url(url: str) -> str:
    """Turn redis-py's unix:// into kombu's redis+socket://, whose database is `virtual_host`."""
    if not url.startswith("unix://"):
        return url
    path, _, query = url.removeprefix("unix://").partition("?")
    database = dict(part.split("=", 1) for part in query.split("&") if "=" in part).get("db", "0")
    return f"redis+socket://{path}?virtual_host={database}"


def _result_url(settings: Settings) -> str:
    return _kombu_url(settings.redis_url)
