"""Look at a fleet that is to move: what there is, what is to be there, whether it is (issue 8 point 3).

A look is done in slices of some seconds by whoever holds its lease, from cursors in SQL: a process that dies
loses a page. What one slice holds does not grow with the fleet.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from service.errors import (
    Cancelled,
    RegistryAway,
    RegistryPaused,
    StoreUnavailable,
    TransshipError,
    WrongRegion,
)
from service.model.migration import FREEZE, INVENTORY, PROOF, Migration
from service.model.project import Project
from service.replication.borders import BorderGuard
from service.replication.clients import Clients, Meter
from service.replication.compare import told
from service.replication.migration_proof import DestinationProof
from service.replication.migration_walk import SurveyWalk
from service.replication.patience import is_waited_for
from service.replication.still_open import StillOpen
from service.settings import Settings
from service.store.migration_surveys import SurveyStore
from service.store.migration_waves import WaveAssignment
from service.store.planning import PlanStore
from service.store.projects import ProjectStore
from service.store.survey_values import (
    CLOSING,
    DESTINATION,
    REPOSITORIES,
    TAGS,
    Survey,
)
from service.telemetry import get_logger

SLICE_SECONDS = 5.0
"""How long one look keeps the others waiting."""
MAX_ATTEMPTS = 8
PAUSED_SECONDS = 1.0

log = get_logger("migration")


class Surveyor:
    """Brings looks forward; any process may, each look is in the hands of one at a time."""

    def __init__(
        self,
        settings: Settings,
        store: SurveyStore,
        waves: WaveAssignment,
        plans: PlanStore,
        projects: ProjectStore,
        clients: Clients,
        meter: Meter,
        guard: BorderGuard,
        *,
        turn: Callable[[str], bool] = lambda _name: True,
        resign: Callable[[str], None] = lambda _name: None,
        slice_seconds: float = SLICE_SECONDS,
        max_attempts: int = MAX_ATTEMPTS,
    ) -> None:
        """`turn` takes the lease of a look by its name, False while another process has it; `resign` lets it go."""
        self._settings = settings
        self._store = store
        self._waves = waves
        self._plans = plans
        self._projects = projects
        self._clients = clients
        self._meter = meter
        self._guard = guard
        self._turn = turn
        self._resign = resign
        self._slice = slice_seconds
        self._max_attempts = max_attempts
        self._proof = DestinationProof(store, clients, proof_seconds=settings.proof_seconds)
        self._stop = threading.Event()

    def step(self) -> None:
        """Give every look that is due a slice of time."""
        self._store.forget_old()
        for survey, migration in self._store.due():
            try:
                self._guard.check_place(
                    [migration.source, *([migration.at] if survey.kind == PROOF else ())]
                )
            except WrongRegion as error:  # a process of another jurisdiction takes the note away
                self._store.note(survey.id, error.message)
                continue
            lease = f"migration survey {survey.id}"
            if self._turn(lease):
                try:
                    self._attempt(survey, migration)
                finally:
                    self._resign(lease)

    def _attempt(self, survey: Survey, migration: Migration) -> None:
        """Do one slice of a look; whatever a registry answers is written to it. Raises StoreUnavailable."""
        try:
            self._do(survey, migration)
        except StoreUnavailable:
            raise
        except Cancelled:
            return
        except RegistryPaused as error:
            self._store.postpone(survey.id, PAUSED_SECONDS, error.message, counted=False)
        except TransshipError as error:
            self._failed(survey, migration, error)
        except Exception as error:
            log.exception("survey_broke", migration=survey.migration, kind=survey.kind)
            self._store.fail(survey.id, f"{type(error).__name__}: {error}")

    def _failed(self, survey: Survey, migration: Migration, error: TransshipError) -> None:
        reason = told(error, migration.source)
        if isinstance(error, RegistryAway) and is_waited_for(error, self._settings):
            self._store.postpone(survey.id, error.pause_seconds, reason, counted=False)
        elif error.retryable and survey.attempts + 1 < self._max_attempts:
            jitter = random.uniform(0.5, 1)  # noqa: S311 - no secret
            pause = jitter * self._settings.retry_seconds * 2.0**survey.attempts
            self._store.postpone(survey.id, pause, reason, counted=True)
        else:
            hint = f" ({error.hint})" if error.hint else ""
            self._store.fail(survey.id, f"{reason}{hint}")
            log.warning("survey_failed", migration=survey.migration, kind=survey.kind)

    def _do(self, survey: Survey, migration: Migration) -> None:
        until = time.monotonic() + self._slice
        still_open = StillOpen(partial(self._store.is_open, survey.id), self._stop)
        phase = survey.phase
        with ThreadPoolExecutor(self._settings.compare_threads, "survey") as pool:
            if phase == DESTINATION:
                if not self._proof.go_on(survey, migration, pool, still_open, until):
                    return
                self._store.advance(survey.id, REPOSITORIES)
                phase, survey = REPOSITORIES, self._again(survey)
            project = self._projects.access(migration.project)
            if phase == REPOSITORIES:
                if not self._list(survey, migration, project, still_open, until):
                    return
                phase = TAGS
            if phase == TAGS:
                walk = SurveyWalk(
                    survey,
                    migration,
                    project,
                    pool,
                    still_open,
                    until,
                    store=self._store,
                    plans=self._plans,
                    meter=self._meter,
                    source=self._clients.get(migration.source),
                    attached=self._proof.attached(survey, migration)
                    if survey.kind == PROOF and migration.referrers
                    else None,
                    max_attempts=self._max_attempts,
                )
                if not walk.go_on():
                    return
                self._store.advance(survey.id, CLOSING)
        self._close(survey, migration)

    def _again(self, survey: Survey) -> Survey:
        return self._store.latest(survey.migration)[survey.kind]

    def _list(
        self,
        survey: Survey,
        migration: Migration,
        project: Project,
        still_open: StillOpen,
        until: float,
    ) -> bool:
        """Go on with the list of repositories; whether it is at its end."""
        named = migration.named_repositories()

        def readable(names: Sequence[str]) -> list[str]:
            return [name for name in names if project.may_read(migration.source, name)]

        if named is not None:
            self._store.add_repositories(survey.id, readable(named), cursor="", done=True)
            return True
        source = self._clients.get(migration.source)
        for page in source.list_repositories(cursor=survey.cursor or None):
            still_open.check()
            wanted = readable([name for name in page.repositories if migration.wants(name)])
            self._store.add_repositories(
                survey.id, wanted, cursor=page.next or "", done=page.next is None
            )
            if page.next is not None and time.monotonic() > until:
                return False
        return True

    # ---- the end ---------------------------------------------------------------------------------

    def _close(self, survey: Survey, migration: Migration) -> None:
        store, latest = self._store, self._store.latest(survey.migration)
        if survey.kind == PROOF:
            frozen = int(survey.figures[FREEZE])
            store.add_findings(survey.id, store.changes(frozen, survey.id), cursor="")
            tags = latest[FREEZE].figures.get("tags", 0)
            store.end(
                survey.id, {"tags": tags, FREEZE: frozen, "findings": store.counts(survey.id)}
            )
            self._proof.forget(survey.id)
            return
        store.add_findings(survey.id, store.collisions(survey.id), cursor="")
        if survey.kind == INVENTORY:
            wrong = self._waves.by_size(migration, survey.id)
        else:
            wrong = self._waves.as_before(migration, survey.id, int(survey.figures[INVENTORY]))
        store.add_findings(survey.id, wrong, cursor="")
        counts = store.counts(survey.id)
        if survey.kind == FREEZE and (counts.get("unlisted") or counts.get("unread")):
            store.fail(
                survey.id,
                "part of the source could not be read, and nothing could be proved of it: "
                f"transship migrations findings {survey.migration} --of freeze",
            )
            return
        store.end(survey.id, {**store.totals(survey.id), "findings": counts})
        log.info("survey_ended", migration=survey.migration, kind=survey.kind)
