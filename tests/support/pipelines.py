"""Pipelines and promotions as they stand in the store, without a registry behind them."""

from __future__ import annotations

from sqlalchemy import update

from service.bootstrap import Services
from service.model.pipeline import APPROVAL, ASKED, Gate, Name, Pipeline, PromotionState, Stage
from service.store.promotion_creation import Asked
from service.store.promotion_values import Promotion
from service.store.tables_pipelines import promotions

DIGEST = f"sha256:{'1' * 64}"
EARLIER = f"sha256:{'0' * 64}"
STAGES = [
    {"name": "dev", "registry": "east", "repository": "shop/*"},
    {"name": "prod", "registry": "west", "gates": [{"approval": {"role": "operator"}}]},
]


def standing_pipeline(services: Services, *gates: Gate, project: str = "default") -> Pipeline:
    """Save the pipeline `shop` from east to west."""
    stages = (
        Stage("dev", "east", "shop/*"),
        Stage("prod", "west", gates=gates or (Gate(APPROVAL),)),
    )
    pipeline = Pipeline("shop", stages, project=project)
    services.pipelines.put(
        pipeline, document={"name": "shop", "project": project, "stages": STAGES}, private=True
    )
    return pipeline


def standing_promotion(
    services: Services,
    *gates: Gate,
    project: str = "default",
    state: PromotionState = PromotionState.WAITING,
    by: str = "somebody",
) -> Promotion:
    """Save a promotion of `shop/web:v1` in the pipeline `shop`, in a state."""
    pipeline = standing_pipeline(services, *gates, project=project)
    name = Name("west", "shop/web", "v1")
    source = Name("east", "shop/web", "v1")
    found, _ = services.promotions.ask(
        Asked("shop", project, "dev", pipeline.stages[1], source, DIGEST, name, by, ASKED)
    )
    if state is not PromotionState.WAITING:
        services.database.write(
            lambda connection: connection.execute(
                update(promotions)
                .where(promotions.c.id == found.id)
                .values(state=state, found=EARLIER)
            )
        )
    return services.promotions.get(found.id)
