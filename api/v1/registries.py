"""/api/v1/registries: where images come from and go to."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request

from api import changes, render
from api.bodies import read_json
from api.context import services
from api.operations import operation
from api.pagination import page
from api.schemas.answers import RegistryAnswerSchema, RegistryPageSchema
from api.schemas.registry import RegistryInput, RegistrySchema, load_registry, written_registry
from api.v1.shared import (
    NAME,
    actor,
    all_rules,
    answer,
    endpoints,
    find_registry,
    keep,
    named,
    sees_registry,
    set_parameter,
)
from api.versions import expected_version
from service.errors import Conflict, FieldProblem, InvalidFields, NotFoundInStore
from service.model.endpoint import RegistryEndpoint
from service.model.region_check import check_nearer
from service.model.rule_check import check_rule, suggest
from service.registry.confined import is_inside
from service.store.registries import StoredRegistry

blueprint = Blueprint("registries", __name__, url_prefix="/api/v1/registries")


@blueprint.get("")
@operation(
    "List registries by name",
    role="viewer",
    results={200: ("one page", RegistryPageSchema)},
    paged=True,
)
def list_registries() -> Response:
    """Answer one page."""
    return page(
        "registries",
        lambda after, limit, _: keep(
            services().registries.list,
            lambda stored: stored.endpoint.name,
            lambda stored: sees_registry(stored.endpoint.name),
            after,
            limit,
        ),
        lambda stored: stored.endpoint.name,
        _shown,
        grammar=NAME,
    )


@blueprint.get("/<name>")
@operation("Show a registry", role="viewer", results={200: ("the registry", RegistryAnswerSchema)})
def show_registry(name: str) -> Response:
    """Answer one registry."""
    stored = find_registry(name)
    return answer(_shown(stored), version=stored.version)


def _shown(stored: StoredRegistry) -> dict[str, Any]:
    """Return a registry; to a project without its credentials, which are the platform's."""
    body = render.registry(stored)
    if actor().project is None:
        return body
    body.pop("credentials", None)
    return {**body, "effective": {**body["effective"], "credentials": {}}}


@blueprint.put("/<name>")
@operation(
    "Create or replace a registry",
    role="admin",
    platform=True,
    body=RegistrySchema,
    results={
        200: ("replaced", RegistryAnswerSchema),
        201: ("created", RegistryAnswerSchema),
    },
    headers={"If-Match": "the ETag that was read", "If-None-Match": "* to create only"},
    query={"set": "the set that the registry belongs to from now on"},
)
def put_registry(name: str) -> Response:
    """Save what was written, the password apart."""
    owner = set_parameter()
    document = named(read_json(), name)
    loaded = load_registry(document)
    current = _find(name)
    expected = expected_version(current.version if current else None)
    _check_files(loaded.endpoint)
    _check_kept_password(loaded, current)
    _check_secrets(loaded.endpoint)
    if problems := check_nearer(loaded.endpoint, services().regions.jurisdictions()):
        raise InvalidFields(problems)
    _check_rules(loaded.endpoint)
    written = written_registry(document)
    changes.note(
        action="replace" if current else "create",
        before=current.document if current else None,
        after={**written, "password": "set"} if loaded.password else written,
    )
    stored = services().registries.put(
        loaded.endpoint,
        document=written,
        secret=loaded.password,
        expected_version=expected,
        set_name=owner,
    )
    body = render.registry(stored)
    if current is not None:
        return answer(body, version=stored.version)
    return answer(body, 201, version=stored.version, Location=request.path)


@blueprint.delete("/<name>")
@operation(
    "Forget a registry that no rule names",
    role="admin",
    platform=True,
    results={204: ("forgotten", None)},
    headers={"If-Match": "the ETag that was read"},
)
def delete_registry(name: str) -> Response:
    """Forget one registry."""
    current = find_registry(name)
    expected_version(current.version)
    remaining = endpoints()
    remaining.pop(name, None)
    for stored in all_rules():
        if any(d.group in current.endpoint.groups for d in stored.rule.destinations if d.group):
            _refuse_broken(stored.rule.name, check_rule(stored.rule, remaining))
    services().registries.delete(name)
    return Response(status=204)


def _find(name: str) -> StoredRegistry | None:
    try:
        return services().registries.get(name)
    except NotFoundInStore:
        return None


def _check_files(endpoint: RegistryEndpoint) -> None:
    """Refuse files outside TRANSSHIP_SECRETS_DIR, and layouts outside TRANSSHIP_LAYOUTS_DIR.

    The API may not have any file read.
    """
    layouts = services().settings.layouts_dir
    if endpoint.layout is not None and not is_inside(endpoint.layout, layouts):
        hint = "move it there" if layouts else "the server has none; its operator sets it"
        told = FieldProblem("url", "is outside of TRANSSHIP_LAYOUTS_DIR", hint)
        raise InvalidFields((told,))
    folder = services().settings.secrets_dir
    named_files = {
        **{
            _field(endpoint, place, "password_file"): spec.password_file
            for place, spec in enumerate(endpoint.every_credential)
        },
        "tls.ca_file": endpoint.tls.ca_file,
        "tls.client_cert_file": endpoint.tls.client_cert_file,
        "tls.client_key_file": endpoint.tls.client_key_file,
    }
    wrong = [
        FieldProblem(field, "is outside of TRANSSHIP_SECRETS_DIR", _file_hint(folder))
        for field, file in named_files.items()
        if file is not None and not is_inside(file, folder)
    ]
    if wrong:
        raise InvalidFields(tuple(wrong))


def _file_hint(folder: str) -> str:
    return "put the file there" if folder else "the server has none; use password or password_env"


def _check_kept_password(loaded: RegistryInput, current: StoredRegistry | None) -> None:
    """Refuse to keep a password for an address that it was not given for."""
    if not loaded.keep_password:
        return
    why = ""
    if current is None or not current.secret_set:
        why = "there is no stored password"
    elif current.endpoint.reach != loaded.endpoint.reach:
        why = "the stored password belongs to the address before this change"
    if why:
        raise InvalidFields((FieldProblem("credentials.password", why, "give the password again"),))


def _check_secrets(endpoint: RegistryEndpoint) -> None:
    """Refuse a secret that is not there, or not meant for each host that may come to see it."""
    for place, spec in enumerate(endpoint.every_credential):
        if spec.secret is not None:
            _check_secret(endpoint, spec.secret, _field(endpoint, place, "secret"))


def _check_secret(endpoint: RegistryEndpoint, name: str, field: str) -> None:
    try:
        bound = services().secrets.get(name).hosts
    except NotFoundInStore as error:
        names = [record.name for record in services().secrets.list()]
        raise InvalidFields(
            (FieldProblem(field, error.message, suggest(name, names) or "store it first"),)
        ) from error
    foreign = [host for host in endpoint.audience if host not in bound]
    if foreign:
        hint = f"set the secret again for {foreign[0]}, too, if that host is to receive it"
        problem = FieldProblem(field, f"secret {name} is not bound to {foreign[0]}", hint)
        raise InvalidFields((problem,))


def _field(endpoint: RegistryEndpoint, place: int, key: str) -> str:
    """Return the path of a key of one of the credentials."""
    return f"credentials[{place}].{key}" if endpoint.more_credentials else f"credentials.{key}"


def _check_rules(endpoint: RegistryEndpoint) -> None:
    """Refuse a change that would leave a rule without destinations, or copying onto itself."""
    before = endpoints()
    after = {**before, endpoint.name: endpoint}
    for stored in all_rules():
        had = set(check_rule(stored.rule, before))
        _refuse_broken(
            stored.rule.name,
            [problem for problem in check_rule(stored.rule, after) if problem not in had],
        )


def _refuse_broken(rule: str, problems: Any) -> None:
    for problem in problems:
        raise Conflict(
            f"rule {rule} would be broken: {problem.path}: {problem.message}",
            hint="change the rule first",
        )
