"""/api/v1/flows: what a push has set off, rule by rule, as one thing with the time of each hop."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from api.bodies import query
from api.context import services
from api.operations import operation
from api.render import instant
from api.schemas.flow import FlowPageSchema
from api.v1.shared import answer, find_execution, is_own
from service.store.flows import Hop

blueprint = Blueprint("flows", __name__, url_prefix="/api/v1/flows")


@blueprint.get("/<identity>")
@operation(
    "Show the flows that an execution is part of, from the first execution to the last",
    role="viewer",
    results={200: ("the flows; hops of other projects are left out", FlowPageSchema)},
)
def show_flows(identity: str) -> Response:
    """Answer the flow that an execution begins, or those that it goes on with."""
    query(())
    find_execution(identity)
    store = services().executions.flows()
    found = [(flow, store.hops(flow)) for flow in store.of(identity) or [identity]]
    return answer({"items": [_flow(flow, hops) for flow, hops in found], "next": None})


def _flow(identity: str, hops: list[Hop]) -> dict[str, Any]:
    began = min(hop.changed_at or hop.created_at for hop in hops)
    ends = [hop.finished_at for hop in hops]
    return {
        "id": identity,
        "began_at": instant(began),
        "seconds": None if None in ends else round(max(one or 0.0 for one in ends) - began, 3),
        "hops": [_hop(hop, began) for hop in hops if is_own(hop.project)],
    }


def _hop(hop: Hop, began: float) -> dict[str, Any]:
    return {
        "execution": hop.execution,
        "rule": hop.rule,
        "source": hop.source,
        "destinations": list(hop.destinations),
        "trigger": hop.trigger,
        "state": hop.state,
        "causes": list(hop.causes),
        "changed_at": instant(hop.changed_at),
        "created_at": instant(hop.created_at),
        "finished_at": instant(hop.finished_at),
        "seconds": None if hop.finished_at is None else round(hop.finished_at - began, 3),
    }
