"""Reports for the API and for commands of one machine: what executions came to, with a rule file of what failed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from api import render
from api.documents import written
from api.reports.failed_rules import failed_rules
from service.bootstrap import Services
from service.errors import Conflict, InvalidConfiguration, NotFoundInStore
from service.replication.full_report import Section, full_report, valid
from service.replication.report import own_failure
from service.store.failure_counts import FailureCounts

MOST_RULED = 20_000
"""So many failed copies become a rule file; with more, the rule is run again."""

Visible = Callable[[str], bool]
"""Whether who asks may know of a registry."""


def build(
    services: Services,
    title: str,
    sections: Sequence[Section],
    *,
    visible: Visible = lambda _: True,
    receipt: bool = True,
    migration: dict[str, Any] | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the report of sections, as `service.replication.full_report` tells, and a little more.

    `rule_file`: a transship.yaml of what failed, or none, with `rule_file_note` that says why; `receipt`: who signs
    what was committed, and how; none where an execution goes on, or where receipts are not made.
    `migration` is what the report says of one, `warnings` go before those of the executions.
    Raises NotFoundInStore.
    """
    counts = FailureCounts(services.database)
    found = full_report(services.executions, counts, title, sections)
    file, note = _rule_file(services, counts, sections, visible)
    return {
        **found,
        "warnings": [*warnings, *found["warnings"]],
        "migration": migration,
        "rule_file": file,
        "rule_file_note": note,
        "receipt": _receipt(services, sections) if receipt else None,
    }


def _rule_file(
    services: Services, counts: FailureCounts, sections: Sequence[Section], visible: Visible
) -> tuple[dict[str, Any] | None, str]:
    names = sorted({one for section in sections for one in section.executions})
    records = [services.executions.get(one) for one in names]
    counted = valid(records)
    copies = [
        one
        for one in records
        if one.id in counted and one.kind in ("full", "tags", "carry") and one.state.ended
    ]
    failed = counts.failed([one.id for one in copies], MOST_RULED + 1)
    whole = {one.rule: one.id for one in copies if own_failure(one) is not None}
    failed = [one for one in failed if one.rule not in whole]
    if not failed and not whole:
        return None, "nothing failed that a rule could do again"
    if len(failed) > MOST_RULED:
        return None, f"more than {MOST_RULED} copies failed: run the rule again, or the wave"

    def document(kind: str, name: str) -> dict[str, Any]:
        if kind == "registries":
            if not visible(name):
                raise NotFoundInStore(f"there is no registry named {name}")
            return written(kind, render.registry(services.registries.get(name)))
        if kind == "projects":
            return written(kind, render.project(services.projects.get(name)))
        return written(kind, {"name": name, **services.regions.get(name).document})

    @cache
    def members(group: str) -> tuple[str, ...]:
        return tuple(
            one.endpoint.name
            for one in services.registries.list(None, 10_000)
            if group in one.endpoint.groups
        )

    rule_of = cache(services.executions.spec)
    try:
        return failed_rules(failed, whole.values(), rule_of, document, members), ""
    except NotFoundInStore as error:
        return None, f"{error.message} any more: the rule file would lack it"


def _receipt(services: Services, sections: Sequence[Section]) -> dict[str, Any] | None:
    names = sorted({one for section in sections for one in section.executions})
    try:
        with services.receipts.made(names) as made:
            return {
                "instance": made.header.instance,
                "made": made.header.made,
                "entries": made.header.entries,
                "sha256": _sha256(made.path),
                "signature": made.signature,
                "public_key": services.receipt_key.public_pem,
            }
    except (Conflict, InvalidConfiguration):  # one goes on; a copy of no rule; no key
        return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
