"""A move of all that a registry has, as a job of this machine: the newest tags as the provider tells them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from api.engine.purposes import Purpose
from service.bootstrap import Services
from service.errors import InvalidInput, RegistryError, RepositoryNotFound
from service.model.names import NameMatcher
from service.model.newest import Newest
from service.model.reference import is_digest_tag
from service.model.rule import NameFilter, Selection, SyncRule
from service.model.selection import RuleSelector
from service.registry.client import RegistryClient
from service.replication import findings
from service.replication.full_report import sections_by_rule

AT_ONCE = 8
"""Repositories whose tags are asked for at the same time; the registry's limits hold for all of them."""

Narrow = Callable[[Services, SyncRule], SyncRule]


def moving(count: int | None, *, lasting_key: bool) -> Purpose:
    """Move what the rule takes, of each repository the newest `count` tags (None: all); sums up as reports do.

    `lasting_key`: receipts can be made, since their key will be there afterwards.
    """

    def sum_up(
        services: Services, begun: Sequence[str], _followed: Sequence[str], _took: float
    ) -> dict[str, Any]:
        from api.reports.build import build

        records = [services.executions.get(one) for one in begun]
        rule = services.executions.spec(begun[0])
        places = ", ".join(one.registry or one.group or "" for one in rule.destinations)
        title = f"{rule.source} to {places}"
        return build(services, title, sections_by_rule(records), receipt=lasting_key)

    return Purpose(
        "migrate",
        lambda services, rule: (
            services.executions.create(narrowed(services, rule, count), trigger="command").id
        ),
        sum_up,
        copies=True,
    )


def plan_of_move(count: int | None) -> Purpose:
    """Say what moving would copy, and write nothing."""
    return Purpose(
        "migrate",
        lambda services, rule: services.saved_plans.create(
            narrowed(services, rule, count), trigger="command"
        ),
        lambda services, begun, _followed, took: findings.plans_report(
            services.executions, services.saved_plans, begun, took
        ),
    )


def narrowed(services: Services, rule: SyncRule, count: int | None) -> SyncRule:
    """Return the rule with the tags that its source's provider says were pushed last, `count` a repository.

    Where the provider does not say, the rule stays: its own `newest` goes by what images say of their creation.
    Raises RegistryError when the source cannot be listed, and InvalidInput when there is nothing to move.
    """
    if count is None:
        return rule
    client = services.clients.get(rule.source)
    selector = RuleSelector(rule, host=client.endpoint.host)
    names = [
        name
        for page in client.list_repositories()
        for name in page.repositories
        if selector.wants_repository(name)
    ]
    if not names:
        raise InvalidInput(
            f"{rule.source} lists no repository that is to move",
            hint="look at what the credentials may list, and at --repositories",
        )
    if client.pushed_tags(names[0]) is None:
        return rule
    with ThreadPoolExecutor(AT_ONCE, "newest") as pool:
        found = list(pool.map(lambda name: _newest(client, rule, name, count), names))
    select = tuple(entry for entry in found if entry is not None)
    if not select:
        raise InvalidInput(f"no repository of {rule.source} has a tag: there is nothing to move")
    return replace(rule, select=select)


def _newest(client: RegistryClient, rule: SyncRule, name: str, count: int) -> Selection | None:
    """Return the entry of one repository; None for an empty one.

    One that cannot be asked stays as the rule has it: that it fails is told with the copies, not in their place.
    """
    entry = rule.select[0]
    wanted = NameMatcher(replace(entry.tags, newest=None))
    newest = Newest(count)
    try:
        for page in client.pushed_tags(name) or ():
            for tag, at in page.items():
                if not is_digest_tag(tag) and wanted.matches(tag):
                    newest.add(at, tag)
    except RepositoryNotFound:
        return None
    except RegistryError:
        return replace(entry, repositories=NameFilter(include=(name,)))
    tags = tuple(sorted(newest.tags()))
    if not tags:
        return None
    return replace(entry, repositories=NameFilter(include=(name,)), tags=NameFilter(include=tags))
