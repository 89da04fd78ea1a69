"""Migrations as they stand in the store, without a registry behind them."""

from __future__ import annotations

from sqlalchemy import update

from service.bootstrap import Services
from service.model.migration import FREEZE, INVENTORY, PROOF, Migration, Wave, WaveState
from service.store.survey_values import Finding, SeenTag
from service.store.tables_migrations import migration_waves

FIGURES = {"repositories": 1, "tags": 1, "bytes": 10, "unique_bytes": 10, "findings": {}}
DIGEST = f"sha256:{'0' * 64}"


def standing_migration(
    services: Services,
    *,
    project: str = "default",
    surveys: tuple[str, ...] = (INVENTORY, FREEZE),
    waves: WaveState = WaveState.DONE,
    findings: tuple[Finding, ...] = (),
) -> str:
    """Save the migration `move` from east to west with these looks ended, and its waves in a state.

    `findings` are of the last of the looks; a proof without any holds.
    """
    migration = Migration(
        "move", "east", "west", project=project, waves=(Wave("first", ("team/*",)), Wave("rest"))
    )
    services.migrations.put(migration, document={"source": "east", "destination": "west"})
    services.database.write(
        lambda connection: connection.execute(update(migration_waves).values(state=waves))
    )
    store = services.migration_surveys
    for kind in surveys:
        store.begin("move", kind)
        survey = store.latest("move")[kind].id
        store.add_repositories(survey, ["team/app"], cursor="", done=True)
        tag = SeenTag("team/app", "v1", DIGEST, 10, "team/app", "v1")
        store.add_page(
            survey,
            "team/app",
            tags=[tag],
            findings=findings if kind == surveys[-1] else (),
            cursor="",
            done=True,
        )
        figures = {**FIGURES, "findings": store.counts(survey)}
        if kind == PROOF:
            figures = {"tags": 1, "freeze": store.latest("move")[FREEZE].id} | {
                "findings": figures["findings"]
            }
        store.end(survey, figures)
    return "move"
