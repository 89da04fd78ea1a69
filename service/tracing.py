"""Traces of OpenTelemetry: from what asked for an execution, through its tasks, to each request to a registry.

One trace an execution. Its id is made from the execution's id, so nothing has to be carried through SQL, Redis or a
far region for all processes to write into the same one, and losing Redis cuts no trace. Off, and without any cost but a
look at one variable, unless TRANSSHIP_TRACES_ENDPOINT is set; the package is the extra `traces`. No span has a
credential, a query or a body in it.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from service.errors import InvalidConfiguration
from service.settings import Settings

Attribute = str | int | float | bool

_tracer: Any = None


def start(settings: Settings, process: str) -> Callable[[], None]:
    """Send spans from now on, if settings say where to; returns what sends the last ones and ends it.

    `process` is its kind: api, scheduler, worker. Raises InvalidConfiguration where the package is missing.
    """
    global _tracer  # noqa: PLW0603 - one tracer a process, as OpenTelemetry has it
    if not settings.traces_endpoint:
        return _nothing
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
    except ImportError as error:
        raise InvalidConfiguration(
            f"TRANSSHIP_TRACES_ENDPOINT is set, and OpenTelemetry is not installed: {error.name}",
            field="TRANSSHIP_TRACES_ENDPOINT",
            hint="pip install 'transship[traces]', or leave the variable out",
        ) from None
    named = {
        "service.name": "transship",
        "transship.process": process,
        "transship.region": settings.region,
    }
    provider = TracerProvider(
        resource=Resource.create(named),
        sampler=TraceIdRatioBased(settings.traces_ratio),  # by the id: all processes decide alike
        id_generator=_ids(),
        shutdown_on_exit=False,
    )
    exporter = OTLPSpanExporter(endpoint=settings.traces_endpoint)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = provider.get_tracer("transship")

    def end() -> None:
        global _tracer  # noqa: PLW0603
        _tracer = None
        provider.shutdown()

    return end


def is_on() -> bool:
    """Whether spans are sent at all."""
    return _tracer is not None


@contextmanager
def span(name: str, execution: str = "", **attributes: Attribute) -> Iterator[Callable[..., None]]:
    """Have a span for as long as the context lasts; yields what adds attributes to it.

    With an execution it is a part of that one's trace, else of the span that this thread is in; where it is in
    none, there is none. An exception that leaves the context is noted on it.
    """
    if _tracer is None or not (execution or _is_inside()):
        yield _nothing
        return
    context = None if not execution else _inside(execution)
    with _tracer.start_as_current_span(name, context=context, attributes=attributes) as made:
        yield lambda **more: made.set_attributes(more)


def noted(name: str, seconds: float, **attributes: Attribute) -> None:
    """Write a span that ends now and began so many seconds ago, in the span that this thread is in, if in any."""
    if _tracer is None or not _is_inside():
        return
    now = time.time_ns()
    made = _tracer.start_span(name, start_time=now - int(seconds * 1e9), attributes=attributes)
    made.end(end_time=now)


def told(
    name: str,
    execution: str,
    began: float,
    ended: float,
    **attributes: Attribute,
) -> None:
    """Write a span of an execution that is over; times are seconds since 1970."""
    if _tracer is not None:
        _tell(name, execution, _inside(execution), (began, ended), attributes)


def execution_told(execution: str, began: float, ended: float, **attributes: Attribute) -> None:
    """Write the span of an execution that has ended: the root of its trace."""
    if _tracer is None:
        return
    from opentelemetry.context import Context

    forced.ids = _ids_of(execution)
    try:
        _tell("execution", execution, Context(), (began, ended), attributes)
    finally:
        forced.ids = None


def _tell(
    name: str,
    execution: str,
    context: Any,
    times: tuple[float, float],
    attributes: Mapping[str, Attribute],
) -> None:
    began, ended = (int(one * 1e9) for one in times)
    more = {"transship.execution": execution, **attributes}
    _tracer.start_span(name, context=context, start_time=began, attributes=more).end(end_time=ended)


class _Forced(threading.local):
    """The ids that the next span of this thread has to have."""

    ids: tuple[int, int] | None = None


forced = _Forced()


def _ids_of(execution: str) -> tuple[int, int]:
    """Return the ids of an execution's trace and of its root span; neither is 0."""
    digest = hashlib.sha256(f"transship execution {execution}".encode()).digest()
    return int.from_bytes(digest[:16]) or 1, int.from_bytes(digest[16:24]) or 1


def _inside(execution: str) -> Any:
    """Return the context of an execution's root span, as if another process had it."""
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    trace, root = _ids_of(execution)
    parent = SpanContext(trace, root, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _is_inside() -> bool:
    from opentelemetry.trace import get_current_span

    return bool(get_current_span().get_span_context().is_valid)


def _ids() -> Any:
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        """Random ids, but for a root span that has to have its execution's."""

        def generate_trace_id(self) -> int:
            return forced.ids[0] if forced.ids else super().generate_trace_id()

        def generate_span_id(self) -> int:
            return forced.ids[1] if forced.ids else super().generate_span_id()

    return Ids()


def _nothing(**_more: Any) -> None:
    """Do nothing."""
