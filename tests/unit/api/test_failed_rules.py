"""A rule file of what failed: whatever the rule was, the file loads, and takes nothing that did not fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from api.config_file import Config, load_text
from api.documents import dump
from api.reports.failed_rules import failed_rules
from service.model.rule import Destination, NameFilter, Selection, SyncRule, Trigger
from service.model.states import CopyState
from service.replication.select import ALL_TAGS
from service.store.executions import CopyRecord

RULE = SyncRule(
    "fleet",
    "east",
    (
        Selection(
            NameFilter(("team/**",)), NameFilter(("v*",), ("*-rc",)), platforms=("linux/amd64",)
        ),
        Selection(NameFilter(("other",)), NameFilter(("**",)), to_repository="elsewhere/{name}"),
    ),
    (Destination("west", repository="mirror/{repository}"), Destination(group="prod")),
    trigger=Trigger(every_seconds=30),
    referrers=False,
    on_conflict="keep",
)
COPY = CopyRecord(
    1,
    "fleet",
    "e1",
    "east",
    "team/app",
    "v1",
    "west",
    "mirror/team/app",
    "v1",
    "sha256:" + "ab" * 32,
    CopyState.FAILED,
    "gone",
    "",
    "",
    1,
    0,
    1.0,
)
DIGEST = "sha256:" + "cd" * 32


def loaded(*failed: CopyRecord, whole: tuple[str, ...] = (), **rules: SyncRule) -> Config:
    def written(kind: str, name: str) -> dict[str, Any]:
        assert kind == "registries"
        groups = {"groups": ["prod"]} if name.startswith("prod") else {}
        return {"name": name, "url": f"https://{name}.example", **groups}

    document = failed_rules(
        failed,
        whole,
        lambda execution: {"e1": RULE, **rules}[execution],
        written,
        lambda group: ["prod-a", "prod-b", "east"] if group == "prod" else [],
    )
    return load_text(dump(document))


def test_exact_copies_keep_what_their_entry_says_of_content() -> None:
    renamed = replace(
        COPY,
        source_repository="other",
        source_reference=DIGEST,
        destination_registry="prod-a",
        destination_repository="elsewhere/other",
        destination_reference="x-v1",
        entry=1,
    )
    config = loaded(COPY, replace(COPY, source_reference="v2", destination_reference="v2"), renamed)

    west, prod = sorted(config.rules, key=lambda rule: rule.name, reverse=True)
    assert [rule.name for rule in (west, prod)] == ["fleet-failures-west", "fleet-failures-prod-a"]
    [entry] = west.select
    assert (entry.repositories.include, entry.tags.include) == (("team/app",), ("v1", "v2"))
    assert (entry.platforms, entry.to_repository) == (("linux/amd64",), "mirror/team/app")
    assert (west.referrers, west.on_conflict) == (False, "keep")
    assert west.trigger == Trigger()
    [entry] = prod.select
    assert (entry.tags.include, entry.to_tag, entry.platforms) == ((DIGEST,), "x-v1", ())


def test_destination_that_took_nothing_gets_all_of_the_rule_and_no_other_does() -> None:
    refused = replace(
        COPY,
        source_repository=ALL_TAGS,
        source_reference=ALL_TAGS,
        destination_registry="prod-b",
        destination_repository=ALL_TAGS,
        destination_reference=ALL_TAGS,
    )

    [rule] = loaded(refused).rules

    assert rule.select == RULE.select
    assert rule.destinations == (Destination("prod-b"),)


def test_rule_that_failed_as_a_whole_has_its_groups_as_members() -> None:
    [rule] = loaded(whole=("e1",)).rules

    assert rule.select == RULE.select
    assert [one.registry for one in rule.destinations] == ["west", "prod-a", "prod-b"]
    assert rule.destinations[0].repository == "mirror/{repository}"


def test_replica_becomes_an_ordinary_rule_that_deletes_nothing() -> None:
    replica = replace(
        RULE,
        mode="replicate",
        drift="repair",
        select=(Selection(),),
        destinations=(Destination("west"),),
    )

    [rule] = loaded(replace(COPY, execution="e2"), e2=replica).rules

    assert (rule.mode, rule.delete.enabled) == ("sync", False)
    assert rule.select[0].tags.include == ("v1",)


def test_names_that_are_cut_alike_stay_apart() -> None:
    long = "a" * 60
    first, second = replace(RULE, name=f"{long}-1"), replace(RULE, name=f"{long}-2")
    copies = [
        replace(COPY, rule=rule.name, execution=execution)
        for rule, execution in ((first, "e2"), (second, "e3"))
    ]

    names = [rule.name for rule in loaded(*copies, e2=first, e3=second).rules]

    assert len(set(names)) == 2
    assert all(len(name) <= 63 for name in names)
