"""/api/v1/promotions: what is on its way from stage to stage, who has agreed, and what has come of it."""

from __future__ import annotations

from flask import Blueprint, Response

from api import changes
from api.bodies import query, read_json, refuse_body, single
from api.context import services
from api.operations import operation
from api.pagination import page
from api.problems import Problem
from api.promotions_shown import show_detail, show_promotion
from api.schemas.answers import NoBodySchema
from api.schemas.common import load
from api.schemas.promotion import (
    ApprovalInputSchema,
    ImageRollbackSchema,
    NewPromotionSchema,
    PromotionDetailSchema,
    PromotionPageSchema,
    RejectionSchema,
)
from api.v1.pipelines import find_pipeline
from api.v1.shared import actor, answer, is_own
from service.errors import Conflict, FieldProblem, InvalidFields, NotFoundInStore
from service.model.pipeline import APPROVAL, PromotionState
from service.model.rule_check import suggest
from service.store.promotion_values import Promotion
from service.store.tokens import ROLES

blueprint = Blueprint("promotions", __name__, url_prefix="/api/v1/promotions")
NOT_SAID = "somebody has rejected it, and has not said why"


@blueprint.get("")
@operation(
    "List promotions, the newest first",
    role="viewer",
    results={200: ("one page", PromotionPageSchema)},
    query={
        "pipeline": "only those of this pipeline",
        "stage": "only those to this stage",
        "state": f"only those in this state: {', '.join(PromotionState)}",
    },
    paged=True,
)
def list_promotions() -> Response:
    """Answer one page."""

    def fetch(after: str | None, limit: int, given: dict[str, list[str]]) -> list[Promotion]:
        state = single(given, "state")
        known = [one.value for one in PromotionState]
        if state is not None and state not in known:
            problem = FieldProblem("state", f"{state[:40]!r} is no state", suggest(state, known))
            raise InvalidFields((problem,))
        pipeline = single(given, "pipeline")
        found = services().promotions.list(
            pipeline=pipeline,
            stage=single(given, "stage"),
            state=state,
            project=actor().project,
            before=after,
            limit=limit,
        )
        if pipeline is not None and not found:
            _refuse_unknown(pipeline)
        return found

    return page(
        "promotions",
        fetch,
        lambda one: one.id,
        show_promotion,
        grammar=r"[0-9a-f]{24}",
        filters=("pipeline", "stage", "state"),
    )


def _refuse_unknown(pipeline: str) -> None:
    """Refuse a pipeline that is not there and has promoted nothing: most likely its name is mistyped."""
    if services().promotions.list(pipeline=pipeline, project=actor().project, limit=1):
        return  # one that is forgotten; what it has promoted stays
    names = [one.pipeline.name for one in services().pipelines.list(project=actor().project)]
    if pipeline not in names:
        told = f"there is no pipeline {pipeline[:80]!r}"
        hint = suggest(pipeline, names) or "list them: transship pipelines ls"
        raise InvalidFields((FieldProblem("pipeline", told, hint),))


@blueprint.get("/<identity>")
@operation(
    "Show a promotion with its gates, who has approved, and its history",
    role="viewer",
    results={200: ("the promotion", PromotionDetailSchema)},
)
def show(identity: str) -> Response:
    """Answer one promotion."""
    query(())
    return answer(show_detail(_find(identity)))


@blueprint.post("")
@operation(
    "Ask for a promotion: the reference becomes a digest now, and that digest is what is judged and copied",
    role="operator",
    body=NewPromotionSchema,
    results={
        200: ("the same is under way already", PromotionDetailSchema),
        201: ("the promotion", PromotionDetailSchema),
    },
)
def create() -> Response:
    """Save a promotion."""
    query(())
    wanted = load(NewPromotionSchema(), read_json())
    stored = find_pipeline(wanted["pipeline"])
    changes.note(action="ask", name=wanted["pipeline"], after=dict(wanted))
    promotion, made = services().promotion_asker.ask(
        stored.pipeline.name, wanted["ref"], wanted["to"], actor().name
    )
    return _made(promotion, made)


@blueprint.post("/<identity>/approve")
@operation(
    "Approve a digest at the gate that the promotion waits for; each token counts once",
    role="operator",
    body=ApprovalInputSchema,
    results={200: ("the promotion", PromotionDetailSchema)},
)
def approve(identity: str) -> Response:
    """Note one approval."""
    query(())
    digest = load(ApprovalInputSchema(), read_json())["digest"]
    promotion = _find(identity)
    changes.note(after={"digest": digest, "gate": promotion.gate})
    if not promotion.state.ended:
        _check_role(promotion)
    services().promotions.approve(identity, promotion.gate, actor().name, digest)
    return answer(show_detail(services().promotions.get(identity)))


@blueprint.post("/<identity>/reject")
@operation(
    "Reject a promotion that waits for its gates",
    role="operator",
    body=RejectionSchema,
    results={200: ("the promotion", PromotionDetailSchema)},
)
def reject(identity: str) -> Response:
    """End one promotion."""
    query(())
    said = load(RejectionSchema(), read_json())
    _find(identity)
    changes.note(after=dict(said))
    reason = said.get("reason", NOT_SAID)
    services().promotions.reject(identity, actor().name, said["digest"], reason)
    return answer(show_detail(services().promotions.get(identity)))


@blueprint.post("/<identity>/cancel")
@operation(
    "Take a promotion back that has not ended; a copy that is under way is stopped, unless it is through first",
    role="operator",
    body=NoBodySchema,
    results={202: ("the promotion", PromotionDetailSchema)},
)
def cancel(identity: str) -> Response:
    """Cancel one promotion."""
    refuse_body()
    query(())
    _find(identity)
    services().promotions.cancel(identity, actor().name)
    return answer(show_detail(services().promotions.get(identity)), 202)


@blueprint.post("/<identity>/rollback")
@operation(
    "Promote an earlier digest of what a promotion has placed, through the gates of its stage",
    role="operator",
    body=ImageRollbackSchema,
    results={
        200: ("the same is under way already", PromotionDetailSchema),
        201: ("the new promotion", PromotionDetailSchema),
    },
)
def roll_back(identity: str) -> Response:
    """Save the promotion that takes one back."""
    query(())
    said = load(ImageRollbackSchema(), read_json(optional=True) or {})
    _find(identity)
    changes.note(after=dict(said))
    promotion, made = services().promotion_asker.roll_back(
        identity, said.get("digest", ""), actor().name
    )
    return _made(promotion, made)


def _made(promotion: Promotion, made: bool) -> Response:
    return answer(
        show_detail(promotion),
        201 if made else 200,
        Location=f"/api/v1/promotions/{promotion.id}",
    )


def _find(identity: str) -> Promotion:
    """Return a promotion that the caller may see. Raises NotFoundInStore."""
    promotion = services().promotions.get(identity)
    if not is_own(promotion.project):
        raise NotFoundInStore(f"there is no promotion {identity}")
    changes.note(project=promotion.project)
    return promotion


def _check_role(promotion: Promotion) -> None:
    """Refuse who has not the role that the gate names."""
    steps = services().promotions.steps(promotion.id)
    if promotion.gate >= promotion.gates or steps[promotion.gate].gate.kind != APPROVAL:
        raise Conflict(
            f"promotion {promotion.id} waits for no approval now",
            hint=f"look at it: transship promotions show {promotion.id}",
        )
    needed, role = steps[promotion.gate].gate.role, actor().role
    if ROLES.index(role) < ROLES.index(needed):
        raise Problem(
            403,
            "forbidden",
            f"the token {actor().name!r} has the role {role}, gate {promotion.gate} needs {needed}",
        )
