"""/api/v1/pipelines: the stages that images pass on their way to production, and the gates before each."""

from __future__ import annotations

import os

from flask import Blueprint, Response, request

from api import changes
from api.bodies import query, read_json
from api.context import services
from api.operations import operation
from api.pagination import page
from api.promotions_shown import show_pipeline
from api.schemas.pipeline import LEAST_SECRET, PipelineSchema, load_pipeline
from api.schemas.promotion import PipelineAnswerSchema, PipelinePageSchema
from api.v1.secret_files import read_key
from api.v1.shared import (
    NAME,
    actor,
    answer,
    borders,
    endpoints,
    in_own_project,
    is_own,
    missing,
    named,
    set_parameter,
)
from api.versions import expected_version
from service.errors import FieldProblem, InvalidConfiguration, InvalidFields, NotFoundInStore
from service.model.pipeline import Pipeline
from service.model.pipeline_check import check_pipeline
from service.model.rule_check import suggest
from service.store.pipelines import StoredPipeline

blueprint = Blueprint("pipelines", __name__, url_prefix="/api/v1/pipelines")


@blueprint.get("")
@operation(
    "List pipelines by name",
    role="viewer",
    results={200: ("one page", PipelinePageSchema)},
    paged=True,
)
def list_pipelines() -> Response:
    """Answer one page."""
    return page(
        "pipelines",
        lambda after, limit, _: services().pipelines.list(
            project=actor().project, after=after, limit=limit
        ),
        lambda stored: stored.pipeline.name,
        show_pipeline,
        grammar=NAME,
    )


@blueprint.get("/<name>")
@operation("Show a pipeline", role="viewer", results={200: ("the pipeline", PipelineAnswerSchema)})
def show(name: str) -> Response:
    """Answer one pipeline."""
    query(())
    stored = find_pipeline(name)
    return answer(show_pipeline(stored), version=stored.version)


@blueprint.put("/<name>")
@operation(
    "Create or replace a pipeline; what is under way goes by the gates that it had when it was asked for",
    role="admin",
    body=PipelineSchema,
    results={200: ("replaced", PipelineAnswerSchema), 201: ("created", PipelineAnswerSchema)},
    headers={"If-Match": "the ETag that was read", "If-None-Match": "* to create only"},
    query={"set": "the set that the pipeline belongs to from now on"},
)
def put_pipeline(name: str) -> Response:
    """Save a pipeline whose registries are there, and whose project may do what it names; the secret apart."""
    owner = set_parameter()
    document = in_own_project(named(read_json(), name), "pipelines")
    pipeline, secret = load_pipeline(document, read_key=read_key)
    current = _current(name)
    expected = expected_version(current.version if current else None)
    _check(pipeline)
    _check_own_secrets(pipeline)
    kept = current is not None and current.secret_set and pipeline.urls <= current.pipeline.urls
    _check_secret(pipeline, current, stored=bool(secret) or kept)
    _check_variable(pipeline, stored=bool(secret) or kept)
    written = {key: value for key, value in document.items() if key != "secret"}
    changes.note(
        action="replace" if current else "create",
        project=pipeline.project,
        before=current.document if current else None,
        after={**written, "secret": "set"} if secret else written,
    )
    stored = services().pipelines.put(
        pipeline,
        document=written,
        private=actor().project is None,
        secret=secret,
        expected_version=expected,
        set_name=owner,
    )
    if current is not None:
        return answer(show_pipeline(stored), version=stored.version)
    return answer(show_pipeline(stored), 201, version=stored.version, Location=request.path)


@blueprint.delete("/<name>")
@operation(
    "Forget a pipeline; what it has promoted stays, and its history",
    role="admin",
    results={204: ("forgotten", None)},
    headers={"If-Match": "the ETag that was read"},
)
def delete_pipeline(name: str) -> Response:
    """Forget one pipeline."""
    expected_version(find_pipeline(name).version)
    services().pipelines.delete(name)
    return Response(status=204)


def find_pipeline(name: str) -> StoredPipeline:
    """Return a pipeline that the caller may see. Raises NotFoundInStore."""
    try:
        stored = services().pipelines.get(name)
    except NotFoundInStore:
        stored = None
    if stored is None or not is_own(stored.pipeline.project):
        known = services().pipelines.list(project=actor().project)
        raise missing("pipeline", name, (one.pipeline.name for one in known))
    changes.note(name=name, project=stored.pipeline.project, before=stored.document)
    return stored


def _current(name: str) -> StoredPipeline | None:
    try:
        stored = services().pipelines.get(name)
    except NotFoundInStore:
        return None
    if not is_own(stored.pipeline.project):
        raise NotFoundInStore(f"there is no pipeline named {name}", hint="choose another name")
    return stored


def _check(pipeline: Pipeline) -> None:
    try:
        project = services().projects.get(pipeline.project).project
    except NotFoundInStore as error:
        known = [one.project.name for one in services().projects.list()]
        problem = FieldProblem("project", error.message, suggest(pipeline.project, known))
        raise InvalidFields((problem,)) from error
    problems = check_pipeline(pipeline, endpoints(), project, borders())
    if problems:
        raise InvalidFields(problems)


def _check_variable(pipeline: Pipeline, *, stored: bool) -> None:
    """Refuse a project's pipeline that signs with a variable of the processes: it may hold another one's secret.

    What is posted would be signed with it, and who has the signatures of another pipeline deploys in its name.
    Refused is also a variable that signs, and is not set in this process, whose environment is the scheduler's: it
    would be told only when the image stands in production.
    """
    variable = pipeline.secret_env
    if not variable:
        return
    if actor().project is not None:
        told = "variables of the server are for admins of the platform"
        hint = "give the secret itself as `secret`: it is kept encrypted"
    elif pipeline.needs_secret and not stored and not os.environ.get(variable):
        told = f"{variable}, which pipeline {pipeline.name} signs with, is not set on the server"
        hint = (
            "set it in the environment of every API and scheduler process (of `up`, where that is the "
            f"server) and start them again; or store a secret: {_stores(pipeline)}"
        )
    else:
        return
    raise InvalidFields((FieldProblem("secret_env", told, hint),))


def _check_own_secrets(pipeline: Pipeline) -> None:
    """Refuse a gate's or an after's secret that is not there, not bound to its host, or not the caller's to name.

    Stored secrets are the platform's: a project's webhook would be sent signatures of what another one holds.
    """
    problems = []
    for path, gate in pipeline.steps():
        if not gate.secret:
            continue
        place = f"{path}.secret"
        if actor().project is not None:
            told = "stored secrets are for admins of the platform"
            hint = "leave it out: the pipeline's own `secret` signs, which is kept encrypted"
            problems.append(FieldProblem(place, told, hint))
            continue
        try:
            (value,) = services().pipelines.secrets(pipeline.name, gate)
        except InvalidConfiguration as error:
            problems.append(FieldProblem(place, error.message, error.hint))
            continue
        if len(value) < LEAST_SECRET:
            told = f"secret {gate.secret} has fewer than {LEAST_SECRET} characters"
            problems.append(FieldProblem(place, told, "make a random one"))
    if problems:
        raise InvalidFields(tuple(problems))


def _stores(pipeline: Pipeline) -> str:
    return f"transship pipelines put {pipeline.name} -f FILE --secret-file FILE"


def _check_secret(pipeline: Pipeline, current: StoredPipeline | None, *, stored: bool) -> None:
    """Refuse a pipeline that is to post to somebody, or be told something, and has nothing to sign with."""
    if not pipeline.needs_secret or stored or pipeline.secret_env:
        return
    changed = current is not None and current.secret_set
    told = "is not kept, since a webhook has another address now" if changed else "is missing"
    problem = FieldProblem(
        "secret",
        f"{told}: pipeline {pipeline.name} has a webhook, scan or after, and nothing to sign with",
        f"store one: {_stores(pipeline)}; or write secret_env: TRANSSHIP_SECRET_NAME",
    )
    raise InvalidFields((problem,))
