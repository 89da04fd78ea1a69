"""/api/v1/registries/{name}/examination: what a registry can do, found out by trying."""

from __future__ import annotations

from flask import Blueprint, Response
from marshmallow import fields

from api.bodies import query, read_json
from api.changes import note
from api.context import services
from api.operations import operation
from api.schemas.answers import AnswerSchema
from api.schemas.common import StrictSchema, load
from api.schemas.fields import Flag, Judged
from api.v1.shared import answer
from service.model.reference import validate_repository
from service.registry.doctor import SCRATCH, SECOND, examine

blueprint = Blueprint("examinations", __name__, url_prefix="/api/v1/registries")


class NewExaminationSchema(StrictSchema):
    """Where may be written, and whether at all."""

    repository = Judged(validate_repository, longest=240)
    write = Flag()


class FindingSchema(AnswerSchema):
    """One ability."""

    name = fields.String(required=True)
    result = fields.String(required=True, metadata={"enum": ["yes", "no", "unknown"]})
    detail = fields.String(required=True)
    means = fields.String(required=True, metadata={"description": "what Transship does about it"})


class ExaminationSchema(AnswerSchema):
    """What was found, and which repositories were written to."""

    schema = fields.Integer(required=True)
    registry = fields.String(required=True)
    written = fields.List(fields.String(), required=True)
    findings = fields.List(fields.Nested(FindingSchema), required=True)


@blueprint.post("/<name>/examination")
@operation(
    "Find out what a registry can do; writes into a scratch repository, and takes it back",
    role="admin",
    platform=True,
    body=NewExaminationSchema,
    results={200: ("what was found", ExaminationSchema)},
)
def examine_registry(name: str) -> Response:
    """Try everything at one registry."""
    query(())
    wanted = load(NewExaminationSchema(), read_json(optional=True))
    services().registries.get(name)
    repository, write = wanted.get("repository", SCRATCH), wanted.get("write", True)
    note(after={"repository": repository, "write": write})
    services().database.write(lambda _: True)  # who had it written to is known before it is
    found = examine(services().clients.get(name), repository, write=write)
    return answer(
        {
            "schema": 1,
            "registry": name,
            "written": [repository, repository + SECOND] if write else [],
            "findings": [
                {"name": f.name, "result": f.result, "detail": f.detail, "means": f.means}
                for f in found
            ],
        }
    )
