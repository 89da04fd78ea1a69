"""/api/v1/registries/{name}/hook: the secret with which a registry sends its events."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request
from marshmallow import fields

from api.bodies import query, read_json, refuse_body
from api.changes import note
from api.context import services
from api.operations import operation
from api.render import instant
from api.schemas.answers import AnswerSchema
from api.schemas.common import load
from api.schemas.registration import NewRegistrationSchema, RegistrationSchema
from api.v1.shared import answer
from service.errors import Conflict, Unsupported
from service.model.rule import SyncRule
from service.registry.client import RegistryClient
from service.registry.providers.strategies import Receiver
from service.replication import registration
from service.store.hooks import HookRecord

blueprint = Blueprint("registry_hooks", __name__, url_prefix="/api/v1/registries/<name>/hook")


class HookSchema(AnswerSchema):
    """What is known of a registry's hook; its secret is shown once, when it is made."""

    registry = fields.String(required=True)
    path = fields.String(
        required=True, metadata={"description": "of this server; PROVIDER is the sender's kind"}
    )
    version = fields.Integer(required=True, metadata={"description": "counts secrets"})
    previous = fields.Boolean(
        required=True, metadata={"description": "whether the secret before this one still holds"}
    )
    created_at = fields.DateTime(required=True)
    rotated_at = fields.DateTime(allow_none=True, required=True)
    received_at = fields.DateTime(
        allow_none=True,
        required=True,
        metadata={"description": "when the last authentic notification came"},
    )
    notice = fields.String(
        required=True, metadata={"description": "what the sender wants an administrator to do"}
    )
    secret = fields.String()


@blueprint.get("")
@operation(
    "Show a registry's hook, without its secret",
    role="operator",
    platform=True,
    results={200: ("the hook", HookSchema)},
)
def show_hook(name: str) -> Response:
    """Answer one hook."""
    query(())
    return answer(_shown(services().hooks.get(name)))


@blueprint.put("")
@operation(
    "Take events of a registry; the secret is in the answer that makes the hook, and nowhere else",
    role="admin",
    platform=True,
    results={200: ("it was there", HookSchema), 201: ("made, with its secret", HookSchema)},
)
def put_hook(name: str) -> Response:
    """Make a registry's hook, unless it is there."""
    query(())
    refuse_body()
    secret, record = services().hooks.create(name)
    if secret is None:
        return answer(_shown(record))
    return answer({**_shown(record), "secret": secret}, 201, Location=request.path)


@blueprint.post("/rotation")
@operation(
    "Make a new secret; the one before holds until the next rotation or until it is ended",
    role="admin",
    platform=True,
    results={201: ("the new secret", HookSchema)},
)
def rotate_hook(name: str) -> Response:
    """Make a new secret beside the current one."""
    query(())
    refuse_body()
    secret, record = services().hooks.rotate(name)
    return answer({**_shown(record), "secret": secret}, 201)


@blueprint.delete("/previous")
@operation(
    "End the secret before the current one, at once",
    role="admin",
    platform=True,
    results={200: ("the hook", HookSchema)},
)
def retire_secret(name: str) -> Response:
    """End the older one of two secrets."""
    query(())
    return answer(_shown(services().hooks.retire(name)))


@blueprint.delete("")
@operation(
    "Take no more events of a registry",
    role="admin",
    platform=True,
    results={204: ("it takes none", None)},
)
def delete_hook(name: str) -> Response:
    """Forget a hook and its secrets."""
    query(())
    services().hooks.delete(name)
    return Response(status=204)


@blueprint.post("/registration")
@operation(
    "Have the registry's provider send its events here; makes the hook, unless it is there. With `remove`, have it send none",
    role="admin",
    platform=True,
    body=NewRegistrationSchema,
    results={200: ("what came of each place", RegistrationSchema)},
)
def register_hook(name: str) -> Response:
    """Make webhooks at a provider, or remove them."""
    query(())
    wanted = load(NewRegistrationSchema(), read_json())
    services().registries.get(name)
    note(after={"remove": False, **wanted})
    services().database.write(lambda _: True)  # who asked for it is known before it is done
    client = services().clients.get(name)
    repositories = wanted.get("repositories")
    try:
        webhooks = registration.webhooks_of(client)
    except Unsupported as error:
        refused = registration.Outcome("*", "failed", f"{error.message}: {error.hint}")
        told = [refused._replace(place=one) for one in repositories or ("*",)]
        return _registered(client, wanted["url"], told)
    if repositories is None or "rules" in wanted:
        heard = registration.listened_to(client, _listening(name, wanted.get("rules")))
        repositories = [*(repositories or ()), *heard]
    places = registration.places_of(webhooks, repositories)
    if not places or len(places) > registration.MOST_PLACES:
        raise Conflict(
            f"these are {len(places)} places, and 1 to {registration.MOST_PLACES} are taken at once",
            hint="name `repositories`, or `rules` that take fewer",
        )
    services().hooks.create(name)
    (secret, *_) = services().hooks.secrets(name)
    address = _address(client, wanted["url"])
    receiver = Receiver(f"transship-{name}", address, secret, wanted.get("role"))
    act = registration.remove if wanted.get("remove") else registration.register
    return _registered(client, wanted["url"], act(webhooks, places, receiver))


def _address(client: RegistryClient, url: str) -> str:
    return f"{url}/hooks/{client.provided.provider.name}/{client.name}"


def _registered(client: RegistryClient, url: str, outcomes: list[registration.Outcome]) -> Response:
    shown = {"schema": 1, "registry": client.name, "provider": client.provided.provider.name}
    places = [one._asdict() for one in outcomes]
    return answer({**shown, "address": _address(client, url), "places": places})


def _listening(name: str, rules: list[str] | None) -> list[SyncRule]:
    """Return the rules that are named, else all that go by a registry's events. Raises Conflict, NotFoundInStore."""
    if rules is not None:
        found = [services().rules.get(one).rule for one in rules]
        others = [one.name for one in found if one.source != name]
        if others:
            raise Conflict(f"{', '.join(others)} take nothing from {name}")
        return found
    found = [one.rule for one in services().rules.list() if one.rule.source == name]
    listening = [one for one in found if one.trigger.event]
    if not listening:
        raise Conflict(
            f"no rule goes by the events of {name}",
            hint="give one `trigger: {event: true}`, or name `repositories` or `rules`",
        )
    return listening


def _shown(record: HookRecord) -> dict[str, Any]:
    return {
        "registry": record.registry,
        "path": f"/hooks/PROVIDER/{record.registry}",
        "version": record.version,
        "previous": record.previous,
        "created_at": instant(record.created_at),
        "rotated_at": instant(record.rotated_at),
        "received_at": instant(record.received_at),
        "notice": record.notice,
    }
