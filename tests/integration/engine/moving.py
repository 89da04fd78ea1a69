"""A migration over a world, and what scheduler and worker do about it, step by step."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from service.bootstrap import Services
from service.model.migration import Migration, Namespace, SurveyState, WaveState
from service.replication.migration_keeper import MigrationKeeper
from service.replication.migration_survey import Surveyor
from service.store.migration_values import StoredWave
from service.store.migration_waves import WaveAssignment
from service.store.survey_values import Survey
from tests.support.content import push_image
from tests.support.planning import finish
from tests.support.processes import wait_until
from tests.support.world import World

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)  # a Wednesday


class Move:
    """A migration, and what scheduler and worker do about it, step by step."""

    def __init__(self, world: World, **fields: Any) -> None:
        self.world = world
        self.services = world.services
        self.now = NOON
        fields.setdefault("namespaces", (Namespace("**", "mirror/{repository}"),))
        self.migration = Migration("move", "east", "west", **fields)
        self.store = self.services.migrations
        self.surveys = self.services.migration_surveys
        self.keeper = MigrationKeeper(
            self.store,
            self.surveys,
            self.services.rules,
            self.services.executions,
            now=lambda: self.now,
        )
        self.surveyor = self.services.surveyor
        self.store.put(self.migration, document={"source": "east"})

    def push(self, name: str, mark: str = "", layer: bytes | None = None) -> str:
        """Push an image to the source; returns its digest."""
        repository, _, tag = name.partition(":")
        storage = self.world.east.storage
        return push_image(storage, repository, tag, mark=mark or name, layer=layer)

    def surveyor_of(self, services: Services, **options: Any) -> Surveyor:
        """What brings looks forward in a process of these services."""
        return Surveyor(
            services.settings,
            services.migration_surveys,
            WaveAssignment(services.database, services.migration_surveys),
            services.plans,
            services.projects,
            services.clients,
            services.meter,
            services.guard,
            **options,
        )

    def survey(self, kind: str, state: SurveyState = SurveyState.ENDED) -> Survey:
        """Have a look taken to its end."""
        self.surveys.begin("move", kind)
        return self.look_to_its_end(kind, state)

    def look_to_its_end(self, kind: str, state: SurveyState = SurveyState.ENDED) -> Survey:
        def ended() -> bool:
            self.surveyor.step()
            return self.latest(kind).state not in (SurveyState.PENDING, SurveyState.RUNNING)

        wait_until(ended, 20, "the survey to end")
        found = self.latest(kind)
        assert found.state is state, found
        return found

    def latest(self, kind: str) -> Survey:
        return self.surveys.latest("move")[kind]

    def wave(self, name: str) -> StoredWave:
        return next(wave for wave in self.store.waves("move") if wave.name == name)

    def run(self, *names: str, state: WaveState = WaveState.DONE) -> None:
        """Move waves to their end, one after the other."""
        for name in names:
            self.services.migration_steps.start("move", name)
            self.carry_out(name)
            assert self.wave(name).state is state, self.wave(name)

    def carry_out(self, name: str) -> None:
        self.keeper.step()
        if execution := self.wave(name).execution:
            assert self.services.planner.plan(execution, self.services.boot)
            finish(self.world, execution)
            self.keeper.step()

    def findings(self, kind: str) -> dict[tuple[str, str], str]:
        """What a look has found: what is wrong, by kind and name."""
        found = self.surveys.findings(self.latest(kind).id)
        return {(one.kind, f"{one.repository}:{one.tag}"): one.reason for one in found}

    def delta(self) -> None:
        """Run every wave once more."""
        self.services.migration_steps.delta("move")
        for wave in self.store.waves("move"):
            self.carry_out(wave.name)
            assert self.wave(wave.name).state is WaveState.DONE, self.wave(wave.name)

    def holds(self) -> dict[str, str]:
        """Every tag of the destination and its digest."""
        storage = self.world.west.storage
        return {
            f"{name}:{tag}": digest
            for name in storage.repositories()
            for tag, digest in (storage.tags(name) or {}).items()
        }

    @staticmethod
    def changed(migration: Migration, **fields: Any) -> Migration:
        """The migration, but for some fields."""
        return replace(migration, **fields)
