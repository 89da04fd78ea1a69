"""What a gateway counts, for Prometheus: names of registries and closed lists, never of images (S34)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class GatewayFigures:
    """The counters of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "transship_gateway_requests",
            "Requests to the gateway, by what was asked for and the status of the answer",
            ("kind", "status"),
            registry=self.registry,
        )
        self.bytes = Counter(
            "transship_gateway_bytes",
            "Bytes of blobs sent to clients, by the registry that they came from; empty: from the cache",
            ("registry",),
            registry=self.registry,
        )
        self.redirects = Counter(
            "transship_gateway_redirects",
            "Blobs that clients were sent for elsewhere, by the registry whose redirect it was",
            ("registry",),
            registry=self.registry,
        )
        self.passed_over = Counter(
            "transship_gateway_passed_over",
            "Times that a registry did not give what it should have, and the next one was asked",
            ("registry", "class"),
            registry=self.registry,
        )
        self.cut = Counter(
            "transship_gateway_cut",
            "Blobs whose sending was broken off, by reason: the bytes were not the digest's, or no registry went on",
            ("reason",),
            registry=self.registry,
        )
        for reason in ("corrupt", "away"):  # from 0 on: the first one is an increase, too
            self.cut.labels(reason)
        self.asked_for = Counter(
            "transship_gateway_copies_asked_for",
            "Copies that were asked for because an image was missing where a rule wants it, by outcome",
            ("outcome",),
            registry=self.registry,
        )
        self.connections = Gauge(
            "transship_gateway_connections", "Connections of clients", registry=self.registry
        )
        self.store_away = Gauge(
            "transship_gateway_store_away",
            "1 while the database does not answer and what was known before is served",
            registry=self.registry,
        )
        self.names_without_registry = Gauge(
            "transship_gateway_names_without_registry",
            "Entries of the gateway's file whose registry there is not (any more)",
            registry=self.registry,
        )
