"""/api/v1/receipts: which copies were committed, signed, to be checked offline (docs/adr/0024)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

from flask import Blueprint, Response

from api import migrations_shown
from api.bodies import query, single
from api.context import context, services
from api.operations import operation
from api.problems import Problem
from api.reports.migration import waves
from api.schemas.receipt import ReceiptKeySchema
from api.v1 import migrations
from api.v1.shared import answer, find_execution, find_rule
from service.errors import FieldProblem, InvalidFields
from service.replication.receipts import MOST_EXECUTIONS

blueprint = Blueprint("receipts", __name__, url_prefix="/api/v1")
MEDIA_TYPE = "application/x-ndjson"
SIGNATURE = "Transship-Signature"
_PIECE = 256 * 1024
_SHAPE = (
    "JSON lines: a header, then a line for each copy; Ed25519 over these bytes, in Base64, is in the header "
    f"{SIGNATURE}"
)


@blueprint.get("/receipts")
@operation(
    "Make the receipt of ended executions, or of all that are kept of a rule or a migration",
    role="viewer",
    results={200: (_SHAPE, None)},
    query={
        "execution": "of this execution; may be repeated",
        "rule": "of all ended executions of this rule that are kept, instead",
        "migration": "of all ended executions of this migration that are kept, instead",
    },
    media_type=MEDIA_TYPE,
)
def make_receipt() -> Response:
    """Answer the receipt of several executions as a stream."""
    given = query(("execution", "rule", "migration"))
    identities, rule = given.get("execution", []), single(given, "rule")
    migration = single(given, "migration")
    if (bool(identities), rule is not None, migration is not None).count(True) != 1:
        problem = FieldProblem("execution", "name executions, or a rule, or a migration")
        raise InvalidFields((problem,))
    if len(identities) > MOST_EXECUTIONS:
        told = f"at most {MOST_EXECUTIONS}, here are {len(identities)}"
        raise InvalidFields((FieldProblem("execution", told),))
    if rule is not None:
        project = find_rule(rule).rule.project
        found = services().committed.of_rule(rule, MOST_EXECUTIONS)
        records = [services().executions.get(one) for one in found]
        return _receipt([one.id for one in records if one.project == project])
    if migration is not None:
        shown = migrations_shown.show(migrations.find(migration))
        return _receipt([one for wave in waves(services(), shown)[0] for one in wave.executions])
    return _receipt([find_execution(one).id for one in identities])


@blueprint.get("/executions/<identity>/receipt")
@operation(
    "Make the receipt of an ended execution",
    role="viewer",
    results={200: (_SHAPE, None)},
    media_type=MEDIA_TYPE,
)
def make_execution_receipt(identity: str) -> Response:
    """Answer the receipt of one execution as a stream."""
    query(())
    return _receipt([find_execution(identity).id])


@blueprint.get("/receipts/key")
@operation(
    "Show the public key that receipts of this instance are checked with",
    role="viewer",
    results={200: ("the key", ReceiptKeySchema)},
)
def show_key() -> Response:
    """Answer the public half of the key."""
    query(())
    key = services().receipt_key
    return answer({"algorithm": "ed25519", "instance": key.instance, "public_key": key.public_pem})


def _receipt(identities: Sequence[str]) -> Response:
    """Make the receipt whole, so that its signature can go ahead, and send it piece by piece."""
    slots = context().receipt_slots
    if not slots.acquire(blocking=False):
        raise Problem(
            503,
            "too_many_receipts",
            "other receipts are being made",
            hint="ask again in a moment",
            headers={"Retry-After": "5"},
        )
    try:
        with services().receipts.made(identities) as made:
            file, size = (
                made.path.open("rb"),
                made.path.stat().st_size,
            )  # its name may go: it is open
    finally:
        slots.release()
    response = Response(_pieces(file), mimetype=MEDIA_TYPE)
    response.headers[SIGNATURE] = made.signature
    response.headers["Content-Length"] = str(size)
    response.call_on_close(file.close)
    return response


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        yield piece
