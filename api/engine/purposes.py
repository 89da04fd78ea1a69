"""What a job on this machine is for: to copy, to plan, to verify, to carry a plan out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from service.bootstrap import Services
from service.model.rule import SyncRule
from service.replication import findings
from service.replication.report import report


def _nothing(_services: Services, _identities: Sequence[str]) -> Sequence[str]:
    return ()


@dataclass(frozen=True, slots=True)
class Purpose:
    """How a job begins for each rule, what follows when that has ended, and how it is summed up.

    `sum_up` takes the services, what was begun, what followed, and the seconds that it took.
    """

    command: str
    begin: Callable[[Services, SyncRule], str]
    sum_up: Callable[[Services, Sequence[str], Sequence[str], float], dict[str, Any]]
    follow: Callable[[Services, Sequence[str]], Sequence[str]] = _nothing
    copies: bool = False  # whether it mostly has something to copy


def syncing(command: str) -> Purpose:
    """Copy what differs."""
    return Purpose(
        command,
        lambda services, rule: services.executions.create(rule, trigger="command").id,
        lambda services, begun, _followed, took: report(services.executions, begun, took),
        copies=True,
    )


def receipted(purpose: Purpose, path: Path) -> Purpose:
    """Do the same, and write the signed receipt of it in the end."""

    def sum_up(
        services: Services, begun: Sequence[str], followed: Sequence[str], took: float
    ) -> dict[str, Any]:
        from service.replication.receipts import save

        found = purpose.sum_up(services, begun, followed, took)
        with services.receipts.made([*begun, *followed]) as made:
            save(made.path, made.signature, path)
        return found

    return replace(purpose, sum_up=sum_up)


def reported(purpose: Purpose, path: Path, *, lasting_key: bool) -> Purpose:
    """Do the same, and write the report of it as a page in the end; `lasting_key`: with its receipt."""

    def sum_up(
        services: Services, begun: Sequence[str], followed: Sequence[str], took: float
    ) -> dict[str, Any]:
        from api.cli.options import write
        from api.reports.build import build
        from api.reports.page import page
        from service.replication.full_report import sections_by_rule

        found = purpose.sum_up(services, begun, followed, took)
        records = [services.executions.get(one) for one in [*begun, *followed]]
        title = ", ".join(dict.fromkeys(one.rule for one in records))
        sections = sections_by_rule(records)
        write(path, page(build(services, title, sections, receipt=lasting_key)), "--report")
        return found

    return replace(purpose, sum_up=sum_up)


def planning() -> Purpose:
    """Say what copying would move, and write nothing."""
    return Purpose(
        "plan",
        lambda services, rule: services.saved_plans.create(rule, trigger="command"),
        lambda services, begun, _followed, took: findings.plans_report(
            services.executions, services.saved_plans, begun, took
        ),
    )


def carrying_out(plan: str) -> Purpose:
    """Do what a kept plan says."""
    return Purpose(
        "sync",
        lambda services, _rule: services.saved_plans.carry_out(plan, trigger="command"),
        lambda services, begun, _followed, took: report(services.executions, begun, took),
        copies=True,
    )


def verifying(*, repair: bool) -> Purpose:
    """Look behind what destinations serve; `repair`: copy again what is not whole."""

    def follow(services: Services, begun: Sequence[str]) -> Sequence[str]:
        services.verifications.start_repairs()
        return [
            repairing
            for identity in begun
            if (repairing := services.verifications.repair_of(identity))
        ]

    return Purpose(
        "verify",
        lambda services, rule: services.verifications.create(
            rule, trigger="command", repair=repair
        ),
        lambda services, begun, _followed, took: findings.verifications_report(
            services.executions, services.verifications, begun, took
        ),
        follow if repair else _nothing,
    )
