"""/api/v1/projects: what the rules of each team may read and write."""

from __future__ import annotations

from flask import Blueprint, Response, request

from api import changes, render
from api.bodies import query, read_json
from api.context import services
from api.operations import operation
from api.pagination import page
from api.schemas.answers import ProjectAnswerSchema, ProjectPageSchema
from api.schemas.governance import ProjectSchema, load_project
from api.v1.shared import (
    NAME,
    all_rules,
    answer,
    endpoints,
    is_own,
    keep,
    missing,
    named,
    set_parameter,
)
from api.versions import expected_version
from service.errors import Conflict, InvalidFields, NotFoundInStore
from service.model.project import Project, check_access, check_project
from service.store.projects import StoredProject

blueprint = Blueprint("projects", __name__, url_prefix="/api/v1/projects")


@blueprint.get("")
@operation(
    "List projects by name; a project's token sees its own",
    role="viewer",
    results={200: ("one page", ProjectPageSchema)},
    paged=True,
)
def list_projects() -> Response:
    """Answer one page."""
    return page(
        "projects",
        lambda after, limit, _: keep(
            services().projects.list,
            lambda stored: stored.project.name,
            lambda stored: is_own(stored.project.name),
            after,
            limit,
        ),
        lambda stored: stored.project.name,
        render.project,
        grammar=NAME,
    )


@blueprint.get("/<name>")
@operation("Show a project", role="viewer", results={200: ("the project", ProjectAnswerSchema)})
def show_project(name: str) -> Response:
    """Answer one project."""
    query(())
    stored = _find(name)
    return answer(render.project(stored), version=stored.version)


@blueprint.put("/<name>")
@operation(
    "Create or replace a project; open copies that it does not allow any more fail",
    role="admin",
    platform=True,
    body=ProjectSchema,
    results={200: ("replaced", ProjectAnswerSchema), 201: ("created", ProjectAnswerSchema)},
    headers={"If-Match": "the ETag that was read", "If-None-Match": "* to create only"},
    query={"set": "the set that the project belongs to from now on"},
)
def put_project(name: str) -> Response:
    """Save a project whose registries are there, and that does not break its rules."""
    owner = set_parameter()
    document = named(read_json(), name)
    project = load_project(document)
    current = _stored(name)
    expected = expected_version(current.version if current else None)
    if problems := check_project(project, endpoints()):
        raise InvalidFields(problems)
    _check_rules(project)
    changes.note(
        action="replace" if current else "create",
        project=name,
        before=current.document if current else None,
        after=document,
    )
    stored = services().projects.put(
        project, document=document, expected_version=expected, set_name=owner
    )
    body = render.project(stored)
    if current is not None:
        return answer(body, version=stored.version)
    return answer(body, 201, version=stored.version, Location=request.path)


@blueprint.delete("/<name>")
@operation(
    "Forget a project that has no rules, tokens and webhooks",
    role="admin",
    platform=True,
    results={204: ("forgotten", None)},
    headers={"If-Match": "the ETag that was read"},
)
def delete_project(name: str) -> Response:
    """Forget one project; the default one may do everything again."""
    stored = _find(name)
    expected_version(stored.version)
    changes.note(project=name, before=stored.document)
    services().projects.delete(name)
    return Response(status=204)


def _stored(name: str) -> StoredProject | None:
    """Return a project that somebody has written."""
    try:
        stored = services().projects.get(name)
    except NotFoundInStore:
        return None
    return stored if stored.version else None


def _find(name: str) -> StoredProject:
    try:
        stored = services().projects.get(name)
    except NotFoundInStore:
        stored = None
    if stored is None or not is_own(name):
        known = (one.project.name for one in services().projects.list() if is_own(one.project.name))
        raise missing("project", name, known)
    return stored


def _check_rules(project: Project) -> None:
    """Refuse a change that forbids what a rule of the project names."""
    known = endpoints()
    for stored in all_rules():
        if stored.rule.project != project.name:
            continue
        for problem in check_access(stored.rule, project, known):
            raise Conflict(
                f"rule {stored.rule.name} would be broken: {problem.path}: {problem.message}",
                hint="change or delete the rule first",
            )
