"""What the views work with: the services, and how a new execution is announced."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from flask import current_app

from api.throttle import Guesses, Throttle
from service.bootstrap import Services
from service.model.ports import Publisher
from service.replication.metrics_server import read_token
from service.store.shared import SharedAnswers

KEY = "transship"


@dataclass
class ApiContext:
    """One application's surroundings; `closing` is set when the process is about to end."""

    services: Services
    publisher: Publisher | None = None
    stream_seconds: float = 1.0  # between two looks of a live stream
    stream_slots: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(16)
    )
    receipt_slots: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(2)
    )
    closing: threading.Event = field(default_factory=threading.Event)
    watched: SharedAnswers[Any] = field(init=False)  # what live streams tell of executions
    throttle: Throttle = field(init=False)
    metrics_token: str = field(init=False, repr=False)
    guesses: Guesses = field(default_factory=Guesses)

    def __post_init__(self) -> None:
        settings = self.services.settings
        self.watched = SharedAnswers(self.stream_seconds)
        self.throttle = Throttle(settings.api_requests_per_second, settings.api_concurrency)
        self.metrics_token = read_token(settings.metrics_token_file)


def context() -> ApiContext:
    """Return the surroundings of the application that serves the request."""
    found: ApiContext = current_app.extensions[KEY]
    return found


def services() -> Services:
    """Return the services of the application that serves the request."""
    return context().services
