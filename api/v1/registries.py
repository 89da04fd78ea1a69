"""/api/v1/registries: where images come from and go to."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import Any

from flask import Blueprint, Response, request

from api import render
from api.bodies import read_json
from api.context import services
from api.operations import operation
from api.pagination import page
from api.schemas.answers import RegistryAnswerSchema, RegistryPageSchema
from api.schemas.registry import RegistryInput, RegistrySchema, load_registry, written_registry
from api.v1.shared import NAME, all_rules, answer, endpoints, named
from api.versions import expected_version
from service.errors import Conflict, FieldProblem, InvalidFields, NotFoundInStore
from service.model.endpoint import RegistryEndpoint
from service.model.rule_check import check_rule
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
        lambda after, limit, _: services().registries.list(after, limit),
        lambda stored: stored.endpoint.name,
        render.registry,
        grammar=NAME,
    )


@blueprint.get("/<name>")
@operation("Show a registry", role="viewer", results={200: ("the registry", RegistryAnswerSchema)})
def show_registry(name: str) -> Response:
    """Answer one registry."""
    stored = services().registries.get(name)
    return answer(render.registry(stored), version=stored.version)


@blueprint.put("/<name>")
@operation(
    "Create or replace a registry",
    role="admin",
    body=RegistrySchema,
    results={
        200: ("replaced", RegistryAnswerSchema),
        201: ("created", RegistryAnswerSchema),
    },
    headers={"If-Match": "the ETag that was read", "If-None-Match": "* to create only"},
)
def put_registry(name: str) -> Response:
    """Save what was written, the password apart."""
    document = named(read_json(), name)
    loaded = load_registry(document)
    current = _find(name)
    expected = expected_version(current.version if current else None)
    _check_files(loaded.endpoint)
    _check_kept_password(loaded, current)
    _check_rules(loaded.endpoint)
    stored = services().registries.put(
        loaded.endpoint,
        document=written_registry(document),
        secret=loaded.password,
        expected_version=expected,
    )
    body = render.registry(stored)
    if current is not None:
        return answer(body, version=stored.version)
    return answer(body, 201, version=stored.version, Location=request.path)


@blueprint.delete("/<name>")
@operation(
    "Forget a registry that no rule names",
    role="admin",
    results={204: ("forgotten", None)},
    headers={"If-Match": "the ETag that was read"},
)
def delete_registry(name: str) -> Response:
    """Forget one registry."""
    current = services().registries.get(name)
    expected_version(current.version)
    remaining = endpoints(services())
    remaining.pop(name, None)
    for stored in all_rules(services()):
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
    """Refuse files outside TRANSSHIP_SECRETS_DIR: the API may not have any file read."""
    folder = services().settings.secrets_dir
    named_files = {
        "credentials.password_file": endpoint.credentials.password_file,
        "tls.ca_file": endpoint.tls.ca_file,
        "tls.client_cert_file": endpoint.tls.client_cert_file,
        "tls.client_key_file": endpoint.tls.client_key_file,
    }
    wrong = [
        FieldProblem(field, "is outside of TRANSSHIP_SECRETS_DIR", _file_hint(folder))
        for field, file in named_files.items()
        if file is not None and not _inside(file, folder)
    ]
    if wrong:
        raise InvalidFields(tuple(wrong))


def _inside(file: str, folder: str) -> bool:
    if not folder:
        return False
    path = PurePosixPath(os.path.normpath(os.path.join(folder, file)))  # noqa: PTH118 - no disk
    return PurePosixPath(os.path.normpath(folder)) in path.parents


def _file_hint(folder: str) -> str:
    return "put the file there" if folder else "the server has none; use password or password_env"


def _check_kept_password(loaded: RegistryInput, current: StoredRegistry | None) -> None:
    """Refuse to keep a password for an address that it was not given for."""
    if not loaded.keep_password:
        return
    why = ""
    if current is None or not current.secret_set:
        why = "there is no stored password"
    elif (current.endpoint.url, current.endpoint.trusted_hosts) != (
        loaded.endpoint.url,
        loaded.endpoint.trusted_hosts,
    ):
        why = "the stored password belongs to the address before this change"
    if why:
        raise InvalidFields((FieldProblem("credentials.password", why, "give the password again"),))


def _check_rules(endpoint: RegistryEndpoint) -> None:
    """Refuse a change that would leave a rule without destinations, or copying onto itself."""
    before = endpoints(services())
    after = {**before, endpoint.name: endpoint}
    for stored in all_rules(services()):
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
