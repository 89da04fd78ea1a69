"""Where images of a source repository lie, as SQL knows it, for gateways: none where another repository's do, too."""

from __future__ import annotations

import time

from sqlalchemy import Connection, insert

from service.model.rule import Destination, NameFilter, Selection, SyncRule
from service.model.states import CopyState
from service.store.database import Database
from service.store.executions import ExecutionStore
from service.store.pulled import PulledStore
from service.store.tables import copies


def test_a_place_that_another_repository_is_copied_into_is_nobodys(
    database: Database, executions: ExecutionStore
) -> None:
    everything = Selection(NameFilter(include=("**",)))
    rule = SyncRule("move", "old", (everything,), (Destination(registry="new"),))
    execution = executions.create(rule, trigger="api").id
    rows = (
        ("old", "team/a", "new", "team/a", CopyState.COPIED),
        ("old", "team/a", "new", "all/one", CopyState.COPIED),
        ("old", "team/b", "new", "all/one", CopyState.FAILED),  # its blobs may be there
        ("old", "team/c", "new", "team/c", CopyState.UNCHANGED),
        ("older", "team/c", "new", "team/c", CopyState.COPIED),  # of the same name, elsewhere
        ("old", "team/d", "new", "team/d", CopyState.FAILED),
    )

    def work(connection: Connection) -> None:
        for number, (registry, repository, to, there, state) in enumerate(rows):
            row = {
                "execution_id": execution, "rule": "move", "region": "local", "state": state,
                "source_registry": registry, "source_repository": repository,
                "source_reference": f"v{number}", "destination_registry": to,
                "destination_repository": there, "destination_reference": f"v{number}",
                "digest": f"sha256:{number:064}", "updated_at": time.time(),
            }  # fmt: skip
            connection.execute(insert(copies).values(**row))

    database.write(work)
    pulled = PulledStore(database)

    assert pulled.mapped("old", "team/a") == (("new", "team/a"),)
    assert pulled.mapped("old", "team/b") == ()
    assert pulled.mapped("old", "team/c") == ()
    assert pulled.mapped("old", "team/d") == ()
    assert pulled.copied("old", "team/a", f"sha256:{1:064}") == (("new", "all/one"),)
