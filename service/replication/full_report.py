"""The report of executions as people mail it: totals, time by section, failures by class with what mends them.

A section is a label and its executions: a rule, or a wave of a migration. All is read from SQL; no registry is asked.
Where several executions came to the same name, only the last of them says whether it failed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.model import failure_classes
from service.model.receipt import instant
from service.model.states import ExecutionState
from service.replication import report
from service.store.executions import ExecutionRecord, ExecutionStore, Totals
from service.store.failure_counts import FailureCounts

SCHEMA = 1
MOST_SAMPLES = 5000
"""Failed copies whose reasons are told; all are counted."""

MOST_WARNINGS = 200
MOST_EXECUTIONS = 1000

Records = Mapping[str, ExecutionRecord]


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report: its label and the executions that belong to it, the oldest first.

    `bare`: its state where it has no executions, since none has begun or none is kept. `fleet`: what an inventory
    has counted of it, repositories, tags, bytes and unique_bytes.
    """

    label: str
    executions: tuple[str, ...]
    bare: str = ExecutionState.PENDING.value
    fleet: Mapping[str, int] | None = None


def sections_by_rule(records: Sequence[ExecutionRecord]) -> list[Section]:
    """Return a section for each rule, in the order of their first executions."""
    found: dict[str, list[str]] = {}
    for record in sorted(records, key=lambda one: one.id):
        found.setdefault(record.rule, []).append(record.id)
    return [Section(label, tuple(ones)) for label, ones in found.items()]


def full_report(
    store: ExecutionStore, counts: FailureCounts, title: str, sections: Sequence[Section]
) -> dict[str, Any]:
    """Return the report. Raises NotFoundInStore for an execution that is not there any more.

    Times are RFC 3339. `bytes`: `copied` were read from registries, `saved` were mounted or found there instead;
    `logical`, their sum, is the least that the copied images hold: a blob that an execution has put into a repository
    for one image is not counted for the next one. Of a migration the fleet's bytes are known: `Section.fleet`.
    """
    names = sorted({one for section in sections for one in section.executions})
    records = {one: store.get(one) for one in names}
    counted = valid(list(records.values()))
    totals = store.totals_by_destination(names)
    overall = totals.pop("", Totals())
    classes = counts.by_class(counted)
    own = [failure for one in counted if (failure := report.own_failure(records[one]))]
    for failure in own:
        classes[failure["class"]] = classes.get(failure["class"], 0) + 1
    places = counts.by_place(counted)
    failed = _summed(places, 0)
    failed_at = _summed(places, 1)
    return {
        "schema": SCHEMA,
        "title": title,
        "made_at": instant(time.time()),
        "state": _overall(sections, _state(names, records, counted, failed), bool(names)),
        **_span(list(records.values())),
        "copies": {**report.copies(overall), "failed": sum(failed.values())},
        "blobs": report.blobs(overall),
        "bytes": _bytes(overall),
        "requests": store.requests(names),
        "links": store.crossed(names),
        "sections": [
            _section(store, one, records, counted, failed, overall if len(sections) == 1 else None)
            for one in sections
        ],
        "destinations": {
            name: {
                "copies": {**report.copies(entry), "failed": failed_at.get(name, 0)},
                "bytes": _bytes(entry),
            }
            for name, entry in sorted(totals.items())
        },
        "warnings": list(
            dict.fromkeys(warning for one in records.values() for warning in one.warnings)
        )[:MOST_WARNINGS],
        "failures_total": sum(classes.values()),
        "failure_classes": [_class(name, count) for name, count in classes.items()],
        "failures": [*own, *map(report.failure, counts.failed(counted, MOST_SAMPLES))],
    }


def valid(records: Sequence[ExecutionRecord]) -> list[str]:
    """Return the executions that say what failed in the end, by age.

    An execution of all of a rule that has looked at everything makes good what earlier ones of the rule left.
    """
    counted: list[ExecutionRecord] = []
    for record in sorted(records, key=lambda one: one.id):
        looked = record.kind == "full" and record.planned
        if looked and record.state in (ExecutionState.SUCCEEDED, ExecutionState.PARTIAL):
            counted = [one for one in counted if one.rule != record.rule]
        counted.append(record)
    return [one.id for one in counted]


def _state(
    names: Sequence[str], records: Records, counted: Sequence[str], failed: Mapping[str, int]
) -> str:
    """Return what executions came to in the end: what a later one has put right counts as succeeded."""
    last = {records[one].rule: one for one in names}
    states = []
    for name in names:
        record = records[name]
        made_good = name not in counted or (
            last[record.rule] != name
            and record.state.ended
            and record.state is not ExecutionState.STOPPED  # who knows what it did not come to
            and not failed.get(name)
            and report.own_failure(record) is None
        )
        states.append(ExecutionState.SUCCEEDED if made_good else record.state)
    return report.overall_state(states)


def _overall(sections: Sequence[Section], state: str, begun: bool) -> str:
    """Return the state of all: what has parts that have not begun goes on."""
    open_parts = [one.bare for one in sections if not one.executions and one.bare == "pending"]
    if not open_parts:
        return state
    return ExecutionState.RUNNING.value if begun else ExecutionState.PENDING.value


def _summed(places: Mapping[tuple[str, str], int], key: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for place, count in places.items():
        found[place[key]] = found.get(place[key], 0) + count
    return found


def _section(
    store: ExecutionStore,
    section: Section,
    records: Records,
    counted: Sequence[str],
    failed: Mapping[str, int],
    known: Totals | None,
) -> dict[str, Any]:
    names = sorted(set(section.executions))
    mine = [records[one] for one in names]
    totals = known or store.totals_by_destination(names).get("", Totals())
    return {
        "label": section.label,
        "state": _state(names, records, counted, failed) if names else section.bare,
        **_span(mine),
        "copies": {
            **report.copies(totals),
            "failed": sum(failed.get(name, 0) for name in names),
        },
        "bytes": _bytes(totals),
        "fleet": dict(section.fleet) if section.fleet else None,
        "executions": [
            {"execution": one.id, "rule": one.rule, "state": one.state.value, **_span([one])}
            for one in mine
        ],
    }


def _class(name: str, count: int) -> dict[str, Any]:
    told = failure_classes.words(name)
    return {
        "class": name,
        "copies": count,
        "meaning": told.meaning,
        "fix": told.fix,
        "retryable": name in report.RETRYABLE,
    }


def _span(records: Sequence[ExecutionRecord]) -> dict[str, Any]:
    """Return when executions began and ended, and the seconds in which at least one was under way."""
    now = time.time()
    spans = sorted((one.created_at, one.finished_at or now) for one in records)
    busy, reached = 0.0, 0.0
    for begin, end in spans:
        busy += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    goes_on = any(one.finished_at is None for one in records)
    return {
        "began_at": instant(spans[0][0]) if spans else None,
        "ended_at": None if goes_on or not spans else instant(reached),
        "seconds": round(busy, 3),
    }


def _bytes(totals: Totals) -> dict[str, int]:
    moved = report.transferred(totals)
    return {**moved, "logical": moved["copied"] + moved["saved"]}
