"""What each *yes* of docs/reference/providers.md rests on: a test, and whether the provider's strategy does it.

tests/contract/test_proofs.py runs each claim twice: as the provider, where it has to hold, and as `generic`, where
it has to fail, unless it is said here that the distribution API does it for all alike: that is run at a server
which only says yes, where it has to fail, too. Events are sent to a running service, as what they are and as what any
registry would send (`HOOKS`).
"""

from __future__ import annotations

from service.model.provider import Offers, Provider
from service.registry.providers.table import GENERIC, PROVIDERS

PROOFS = "tests/contract/test_proofs.py::test_yes_is_proven"
HOOKS = "tests/e2e/test_events.py::test_notification_of_a_provider_makes_the_tag_appear"
INDEX = "tests/contract/test_artifacthub.py"
REAL = "tests/contract/test_real_servers.py"

AT_REAL_SERVERS = {
    "auth": "tests/integration/test_registry_client_real.py::test_basic_credentials",
    "listing": f"{REAL}::test_repositories_are_listed",
    "push": f"{REAL}::test_rule_goes_from_2_8_to_it_and_back",
    "pull": f"{REAL}::test_rule_goes_from_2_8_to_it_and_back",
    "delete": f"{REAL}::test_tag_is_deleted_and_its_sibling_stays_or_it_is_refused",
    "mount": f"{REAL}::test_blob_is_mounted_from_a_sibling_or_its_session_is_used",
    "events": "tests/e2e/test_events.py::test_real_registry_tells_and_the_tag_is_committed_soon",
}
"""By column, for the rows that were run against real servers."""

ELSEWHERE = {
    ("artifacthub", "events"): f"{INDEX}::test_event_names_what_the_index_has",
    (
        "artifacthub",
        "webhooks",
    ): f"{INDEX}::test_charts_are_put_on_one_webhook_and_taken_off_it",
    ("artifacthub", "auth"): f"{INDEX}::test_api_key_is_shown_to_the_index_alone",
    (
        "artifacthub",
        "listing",
    ): f"{INDEX}::test_charts_are_listed_by_the_page_and_their_versions_are_tags",
    ("artifacthub", "pull"): f"{INDEX}::test_chart_in_a_registry_is_read_as_it_lies_there",
    ("artifacthub", "referrers"): f"{INDEX}::test_signature_of_a_chart_in_a_registry_is_listed",
    ("artifacthub", "limits"): f"{INDEX}::test_index_that_is_asked_too_much_is_asked_again",
    (
        "aliyun-acr",
        "keyless",
    ): "tests/contract/test_keyless.py::test_ram_roles_session_signs_at_alibaba",
    (
        "volcengine",
        "keyless",
    ): "tests/contract/test_keyless.py::test_iam_roles_session_signs_at_volcengine",
    (
        "acr",
        "keyless",
    ): "tests/contract/test_keyless.py::test_managed_identity_is_exchanged_for_the_registrys_token",
    (
        "acr",
        "webhooks",
    ): "tests/contract/test_acr_webhooks.py::test_webhook_is_made_set_right_and_removed",
    (
        "gar",
        "keyless",
    ): "tests/contract/test_keyless.py::test_metadata_servers_token_is_password_and_key_to_the_api",
    ("ecr", "keyless"): "tests/contract/test_ecr.py::test_effect_registries_credentials_keyless",
    (
        "ecr-public",
        "keyless",
    ): "tests/contract/test_ecr_public.py::test_keyless_takes_the_machines_identity",
}
"""Claims whose test has to be of another shape than the rest; each is one that fails as `generic`."""

OWN = {
    "acr": {"keyless", "listing", "delete", "events", "webhooks"},
    "aliyun-acr": {"auth", "keyless", "listing", "create", "delete", "events", "webhooks"},
    "artifacthub": {"webhooks", "auth", "events", "listing", "pull", "referrers", "limits"},
    "ccr": {"auth", "listing", "create", "delete", "limits"},
    "dockerhub": {"listing", "delete", "events"},
    "ecr": {"auth", "keyless", "listing", "create", "delete", "events", "limits", "webhooks"},
    "ecr-public": {"auth", "keyless", "listing", "create", "delete", "limits"},
    "gar": {"keyless", "listing", "create", "push", "events", "webhooks"},
    "ghcr": {"listing", "events", "webhooks"},
    "gitlab": {"listing", "create", "mount"},
    "harbor": {"listing", "create", "delete", "events", "webhooks"},
    "jfrog": {"listing", "create", "events", "webhooks"},
    "quay": {"listing", "create", "events", "webhooks"},
    "swr": {"auth", "listing", "create", "delete"},
    "tcr": {"auth", "listing", "create", "delete", "events", "limits", "webhooks"},
    "volcengine": {"auth", "keyless", "listing", "create", "delete"},
    "zot": {"events"},
}
"""By provider, the columns that fail without what its module, its row or its parser of events has."""


def claims() -> list[tuple[str, str]]:
    """Provider and column of every yes of a row that was run against a fake or the sample, in the table's order."""
    return [
        (row.name, column)
        for row in PROVIDERS.values()
        if row.proof in ("contract", GENERIC.proof)
        for column in yes_of(row)
    ]


def yes_of(row: Provider) -> list[str]:
    """The columns of a row that say yes."""
    return [column for column in Offers.__slots__ if getattr(row.offers, column) == "yes"]


def is_own(provider: str, column: str) -> bool:
    """Whether the provider's own strategy does it, not what all registries have alike."""
    return column in OWN.get(provider, ())


def test_of(provider: str, column: str) -> str:
    """The node id of the test that a yes names."""
    if (provider, column) in ELSEWHERE:
        return ELSEWHERE[provider, column]
    if column == "events":
        return f"{HOOKS}[{provider}]"
    return f"{PROOFS}[{provider}-{column}]"


def cell(row: Provider, column: str) -> str:
    """What the table of the documentation says in a cell."""
    offer: str = getattr(row.offers, column)
    if offer == "yes" and row is not GENERIC and not is_own(row.name, column):
        return "yes (generic)"
    return offer
