"""Have a provider send its events to us: one webhook a place, made, kept right, or removed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from service.errors import RegistryError, Unsupported
from service.model.provider import Offer
from service.model.rule import SyncRule
from service.model.selection import RuleSelector
from service.registry.client import RegistryClient
from service.registry.providers.strategies import Receiver, Webhooks

MOST_PLACES = 200

_WHY: dict[Offer, str] = {
    "no": "has no documented API for its webhooks",
    "not offered": "has no webhooks that are made by an API",
    "not built yet": "has its webhooks made by an API that this version does not speak",
}


class Outcome(NamedTuple):
    """What came of one place; `result` is changed, unchanged, removed, absent or failed."""

    place: str
    result: str
    reason: str = ""


def webhooks_of(client: RegistryClient) -> Webhooks:
    """Return what makes webhooks at a registry's provider; raises Unsupported with the reason."""
    if not client.provided.recognised:
        with contextlib.suppress(RegistryError):  # then it is any OCI registry
            client.ping()
    strategies = client.provided.strategies()
    if strategies.webhooks is not None:
        return strategies.webhooks
    row = client.provided.provider
    usual = strategies.no_webhooks or "makes webhooks by an API that its credentials do not open"
    why = _WHY.get(row.offers.webhooks, usual)
    raise Unsupported(
        f"{client.name}: {row.title} {why}",
        registry=client.name,
        hint=f"`transship registries hook {client.name}` prints what to configure by hand",
    )


def listened_to(client: RegistryClient, rules: Iterable[SyncRule]) -> list[str]:
    """Return the repositories that rules take from a registry, which is asked for its list where they have patterns."""
    selectors = [RuleSelector(rule, host=client.endpoint.host) for rule in rules]
    found: dict[str, None] = {}
    listed: list[str] | None = None
    for selector in selectors:
        exact = selector.exact_repositories()
        if exact is None:
            if listed is None:
                pages = client.list_repositories()
                listed = [name for page in pages for name in page.repositories]
            wanted = [name for name in listed if selector.wants_repository(name)]
            exact = (*wanted, *sorted(selector.named_repositories()))
        found.update(dict.fromkeys(exact))
    return list(found)


def places_of(webhooks: Webhooks, repositories: Iterable[str]) -> list[str]:
    """Return where webhooks for these repositories are kept, each place once."""
    return list(dict.fromkeys(webhooks.place(name) for name in repositories))


def register(webhooks: Webhooks, places: Sequence[str], receiver: Receiver) -> list[Outcome]:
    """Make the receiver's webhook at each place, or set it right; one that fails does not stop the others."""
    return [_tried(webhooks.register, one, receiver, "changed", "unchanged") for one in places]


def remove(webhooks: Webhooks, places: Sequence[str], receiver: Receiver) -> list[Outcome]:
    """Remove the receiver's webhook at each place."""
    return [_tried(webhooks.remove, one, receiver, "removed", "absent") for one in places]


def _tried(
    act: Callable[[str, Receiver], bool], place: str, receiver: Receiver, done: str, nothing: str
) -> Outcome:
    try:
        return Outcome(place, done if act(place, receiver) else nothing)
    except RegistryError as error:
        return Outcome(place, "failed", error.message)
