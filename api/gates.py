"""/hooks/gates: where the receiver of a gate, or a scanner, says what it has decided. Outside of /api: a signature signs in.

Whatever is wrong with who sends it, the answer is the same 401, and nothing is promoted.
"""

from __future__ import annotations

import time

from flask import Blueprint, Response, request

from api.context import services
from api.hooks import raw_body
from api.operations import operation
from api.problems import Problem
from api.schemas.promotion import CountedSchema, GateAnswerSchema
from api.v1.shared import answer
from service.errors import InvalidConfiguration, NotFoundInStore
from service.model.gate_answers import HEADER, MAX_AGE_SECONDS, NoAnswer, read_answer
from service.telemetry import get_logger

log = get_logger("gates")
blueprint = Blueprint("gates", __name__, url_prefix="/hooks/gates")


@blueprint.post("/<identity>/<int:gate>")
@operation(
    "Take what a gate's receiver, or a scanner, has decided, signed with the gate's secret, else the pipeline's",
    role=None,
    body=GateAnswerSchema,
    results={
        200: ("whether it counted: once, in time, at the gate that is waited for", CountedSchema)
    },
    headers={
        "Transship-Signature": f"t=SECONDS,v1=HMAC-SHA256 of SECONDS.BODY in hex, at most {MAX_AGE_SECONDS} s old"
    },
)
def take(identity: str, gate: int) -> Response:
    """Write one decision down."""
    body = raw_body()
    try:
        promotion = services().promotions.get(identity)
    except NotFoundInStore:
        raise _refused() from None
    if gate >= promotion.gates:
        raise _refused()
    asked = services().promotions.steps(identity)[gate].gate
    try:
        secrets = services().pipelines.secrets(promotion.pipeline, asked)
    except InvalidConfiguration as error:
        log.warning("gate_secret_unusable", promotion=identity, gate=gate, reason=error.message)
        secrets = ()
    if not secrets:
        raise _refused()
    try:
        decision = read_answer(
            request.headers.get(HEADER, ""),
            body,
            secrets,
            time.time(),
            promotion=identity,
            position=gate,
            digest=promotion.digest,
            gate=asked,
        )
    except NoAnswer as error:
        log.warning("gate_answer_refused", promotion=identity, gate=gate, reason=error.message)
        raise _refused() from None
    counted = services().promotions.answer(identity, gate, decision)
    now = services().promotions.get(identity)
    return answer({"counted": counted, "state": now.state.value})


def _refused() -> Problem:
    return Problem(
        401,
        "unauthenticated",
        "this is no signed answer to a question of this gate",
        hint="sign the body with the gate's secret (if it has none, the pipeline's), and repeat promotion, gate and digest of the question",
    )
