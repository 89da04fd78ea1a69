"""One trace an execution, from the API's call to each request to a registry, written by three real processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from api.samples.http_messages import Request, Response
from api.samples.http_server import HttpServer
from tests.faults.lab import Lab
from tests.support.processes import wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


class Collector:
    """Takes traces as OTLP over HTTP has them."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, Span]] = []  # of which process
        self.raw: list[bytes] = []
        self.server = HttpServer(self._take)

    def _take(self, request: Request) -> Response:
        body = request.body.read(64 << 20)
        self.raw.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {one.key: one.value.string_value for one in resource.resource.attributes}
            self.spans += [
                (named["transship.process"], span)
                for scope in resource.scope_spans
                for span in scope.spans
            ]
        return Response(200)


def attributes(span: Span) -> dict[str, str | int]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    made.server.start()
    yield made
    made.server.close()


def test_trace_goes_from_the_call_to_each_request(collector: Collector, tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        lab.variables |= {
            "TRANSSHIP_TRACES_ENDPOINT": f"{collector.server.url}/v1/traces",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        lab.start("api", "scheduler", "worker")
        scene = lab.scene("traced")
        scene.push("app:v1")
        scene.push("app:v2", sizes=(9_000_000, 9_000_000))  # fans out
        before = len(lab.west.log)
        execution = lab.run("traced")
        assert lab.wait(execution)["state"] == "succeeded"
        wait_until(lambda: tell_of(collector) >= {"api", "scheduler"}, 20, "the ends of the trace")
        lab.processes["worker"].stop(60)  # sends what it has

        sent = [one for one in lab.west.log[before:] if "/traced/" in one.path]
        trace = check(collector, execution)
        log = (tmp_path / "worker.err").read_text()
        assert lab.token.encode() not in b"".join(collector.raw)

    by_name = {}
    for process, span in trace:
        by_name.setdefault(span.name, []).append((process, attributes(span)))
    assert {"plan", "replicate", "copy_blob", "commit"} <= set(by_name)
    assert [one for one, _ in by_name["POST /api/v1/rules/<name>/executions"]] == ["api"]
    assert [one for one, _ in by_name["execution"]] == ["scheduler"]
    assert by_name["execution"][0][1]["transship.state"] == "succeeded"
    told = [attributes(span) for _, span in trace if "http.request.method" in attributes(span)]
    to_west = [one for one in told if one["transship.registry"] == "west"]
    assert len(to_west) >= len(sent) > 10, "each request to the destination is a span"
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert all("copy" in one for one in lines if one["logger"] == "transship.replicate")


def tell_of(collector: Collector) -> set[str]:
    """The processes that have told of the execution's trace so far, each in its own time."""
    spans = list(collector.spans)
    roots = {span.trace_id for _, span in spans if span.name == "execution"}
    return {process for process, span in spans if span.trace_id in roots}


def check(collector: Collector, execution: str) -> list[tuple[str, Span]]:
    """Whether all spans hang together in one trace, whose root is the execution; returns its spans."""
    (root,) = [span for _, span in collector.spans if span.name == "execution"]
    assert attributes(root)["transship.execution"] == execution
    assert not root.parent_span_id
    trace = [(process, span) for process, span in collector.spans if span.trace_id == root.trace_id]
    ids = {span.span_id for _, span in trace}
    assert {span.name for _, span in trace if span.parent_span_id not in ids} == {"execution"}
    assert {process for process, _ in trace} == {"api", "scheduler", "worker"}
    return trace


def test_nothing_is_sent_where_nobody_asks(collector: Collector, tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        lab.variables |= {
            "TRANSSHIP_TRACES_ENDPOINT": f"{collector.server.url}/v1/traces",
            "TRANSSHIP_TRACES_RATIO": "0",
        }
        lab.start("api", "scheduler", "worker")
        scene = lab.scene("untraced")
        scene.push("app:v1")
        assert lab.wait(lab.run("untraced"))["state"] == "succeeded"
        for name in ("worker", "scheduler", "api"):
            lab.processes[name].stop(30)

    assert collector.spans == []
