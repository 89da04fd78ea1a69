"""/api/v1/regions/{name}/lease and /outcomes: what the agents of far regions say (docs/adr/0017)."""

from __future__ import annotations

from flask import Blueprint, Response, g

from api.bodies import query, read_json
from api.context import services
from api.operations import operation
from api.problems import Problem
from api.schemas.agent import AccountSchema, LeaseSchema, LeaseWishSchema, RecordedSchema
from api.schemas.common import load
from api.v1.shared import answer
from service.store.tokens import AGENT_ROLE

blueprint = Blueprint("agents", __name__, url_prefix="/api/v1/regions")


@blueprint.post("/<name>/lease")
@operation(
    "Renew an agent's lease, and lend it copies of its region",
    role=AGENT_ROLE,
    body=LeaseWishSchema,
    results={200: ("a page of copies", LeaseSchema)},
)
def lease(name: str) -> Response:
    """Lend a page."""
    query(())
    _check_region(name)
    wish = load(LeaseWishSchema(), read_json())
    return answer(
        services().lending.lease(
            name,
            wish["agent"],
            slots=wish["slots"],
            host=wish["host"],
            room=wish["room"],
            held=[(copy, fence) for copy, fence in wish["held"]],
            known=wish["registries"],
        )
    )


@blueprint.post("/<name>/outcomes")
@operation(
    "Record what became of copies that an agent was lent; one batch counts once",
    role=AGENT_ROLE,
    body=AccountSchema,
    results={200: ("the last one that is recorded", RecordedSchema)},
)
def outcomes(name: str) -> Response:
    """Record a batch."""
    query(())
    _check_region(name)
    batch = load(AccountSchema(), read_json())
    return answer(services().lending.record(name, batch["agent"], batch["number"], batch))


def _check_region(name: str) -> None:
    if g.actor.region != name:
        raise Problem(
            403,
            "forbidden",
            f"the token {g.actor.name!r} is for region {g.actor.region}, not {name}",
        )
