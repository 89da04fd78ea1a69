"""/api/v1/registries/{name}/examination: what a registry can do, found out by trying."""

from __future__ import annotations

from flask import Blueprint, Response

from api.bodies import query, read_json
from api.changes import note
from api.context import services
from api.operations import operation
from api.schemas.common import load
from api.schemas.examination import ExaminationSchema, NewExaminationSchema
from api.v1.shared import answer
from service.registry.doctor import SCRATCH, SECOND, examine

blueprint = Blueprint("examinations", __name__, url_prefix="/api/v1/registries")


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
