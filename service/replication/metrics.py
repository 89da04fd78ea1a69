"""Counters of one process, and the small server that shows them: /healthz and /metrics."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, Counter, generate_latest

from service.errors import InvalidConfiguration
from service.model.work import CopyEnded, Counters, LedgerDistrusted, Outcome, PartEnded, Wake

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """What a worker did since it started. Labels are bounded: states, ways and registries."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._copies = Counter(
            "transship_copies", "Copies that ended, by state", ["state"], registry=self.registry
        )
        self._blobs = Counter(
            "transship_blobs", "Blobs placed, by way", ["way"], registry=self.registry
        )
        self._bytes = Counter(
            "transship_bytes",
            "Bytes read from sources, and bytes saved",
            ["kind"],
            registry=self.registry,
        )
        self._crossed = Counter(
            "transship_crossed_bytes",
            "Bytes of blobs read at one registry for another",
            ["from", "to"],
            registry=self.registry,
        )
        self._requests = Counter(
            "transship_requests", "HTTP requests sent", ["registry"], registry=self.registry
        )

    def count(self, outcomes: Iterable[Outcome]) -> None:
        """Add what outcomes report."""
        for outcome in outcomes:
            if isinstance(outcome, CopyEnded):
                self._copies.labels(outcome.state.value).inc()
            if not isinstance(outcome, LedgerDistrusted | Wake):
                counters = outcome.counters
                self._add(counters)
                work = outcome.part.copy if isinstance(outcome, PartEnded) else outcome.work
                for sender, moved in counters.crossed.items():
                    self._crossed.labels(sender, work.destination_registry).inc(moved)

    def _add(self, counters: Counters) -> None:
        self._blobs.labels("copied").inc(counters.blobs_copied)
        self._blobs.labels("mounted").inc(counters.blobs_mounted)
        self._blobs.labels("present").inc(counters.blobs_present)
        self._bytes.labels("copied").inc(counters.bytes_copied)
        self._bytes.labels("saved").inc(counters.bytes_saved)
        for registry, requests in counters.requests.items():
            self._requests.labels(registry).inc(requests)

    def serve(self, listen: str) -> Callable[[], None]:
        """Serve on HOST:PORT in the background; returns what ends it.

        Raises InvalidConfiguration when the address cannot be listened on.
        """
        host, _, port = listen.rpartition(":")
        try:
            server = make_server(host, int(port), self._answer, handler_class=_Quiet)
        except (OSError, ValueError) as error:
            raise InvalidConfiguration(
                f"TRANSSHIP_METRICS_LISTEN={listen!r} cannot be listened on: {error}",
                field="TRANSSHIP_METRICS_LISTEN",
            ) from None
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()

        def end() -> None:
            server.shutdown()
            server.server_close()

        return end

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        path = environ.get("PATH_INFO")
        if path == "/metrics":
            start_response("200 OK", [("Content-Type", CONTENT_TYPE)])
            return [generate_latest(self.registry)]
        if path == "/healthz":
            start_response("200 OK", [("Content-Type", "application/json")])
            return [b'{"status": "alive"}']
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"not found: try /healthz or /metrics\n"]


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        """Say nothing: a scrape every few seconds is no event."""
