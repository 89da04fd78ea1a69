"""Traces: off unless asked for, and one an execution; lines of logs that bear what they are about."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest

from service import tracing
from service.errors import InvalidConfiguration
from service.settings import Settings
from service.telemetry import Threads, about, configure_logging, get_logger


def test_nothing_is_sent_unless_settings_say_where_to() -> None:
    end = tracing.start(Settings(), "worker")

    assert not tracing.is_on()
    with tracing.span("replicate", "e1") as tell:
        tell(outcome="copied")
    end()


def test_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    with pytest.raises(InvalidConfiguration, match="OpenTelemetry is not installed") as caught:
        tracing.start(Settings(traces_endpoint="http://127.0.0.1:1/v1/traces"), "worker")

    assert "transship[traces]" in caught.value.hint


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    monkeypatch.setattr(root, "level", root.level)
    text = io.StringIO()
    configure_logging("INFO", text)
    return text


def test_lines_bear_what_they_are_about_and_what_they_say_goes_before(lines: io.StringIO) -> None:
    log = get_logger("test")
    with about(execution="e1", copy=7):
        log.info("inside", copy=8)
        with about(digest="sha256:1"):
            log.info("deeper")
    log.info("outside")

    inside, deeper, outside = map(json.loads, lines.getvalue().splitlines())
    assert (inside["execution"], inside["copy"]) == ("e1", 8)
    assert (deeper["copy"], deeper["digest"]) == (7, "sha256:1")
    assert "execution" not in outside


def test_threads_are_about_what_their_caller_is_about(lines: io.StringIO) -> None:
    log = get_logger("test")
    with Threads(1) as pool:
        with about(copy=1):
            pool.submit(log.info, "one").result()
        list(pool.map(log.info, ["two"]))

    one, two = map(json.loads, lines.getvalue().splitlines())
    assert one["copy"] == 1
    assert "copy" not in two
