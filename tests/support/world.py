"""Two sample registries, a database and a Redis, and any number of processes' services on them."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from api.samples.manifests import OCI_IMAGE
from api.samples.registry import SampleRegistry
from api.samples.storage import StoredManifest, digest_of
from service.bootstrap import Services
from service.model.endpoint import RegistryEndpoint
from service.model.rule import Destination, NameFilter, Selection, SyncRule
from service.model.states import OPEN_COPIES, CopyState
from service.model.work import CopyRef, Errand, ProcessReport
from service.replication import replicate as use_cases
from service.replication.engine import Engine
from service.settings import TEST_TIMERS, Settings
from service.store.executions import CopyRecord
from service.store.schema import create_or_upgrade
from tests.support.processes import ManagedProcess, wait_until
from tests.support.servers import RedisServer

ROOT = Path(__file__).parents[2]

PATIENT_SECONDS = 20.0
"""Nobody counts as dead because a busy machine stood still for a while: who is to be dead here dies by `Party.die`."""


@dataclass
class RecordingPublisher:
    """Keeps what would go to the queue."""

    plans: list[str] = field(default_factory=list)
    pages: list[list[CopyRef]] = field(default_factory=list)
    fanned_out: list[tuple[CopyRef, int]] = field(default_factory=list)
    parts: list[tuple[CopyRef, int]] = field(default_factory=list)
    commits: list[CopyRef] = field(default_factory=list)
    errands: list[Errand] = field(default_factory=list)
    standing: int = 0
    regions: list[str | None] = field(default_factory=list)
    release_parts: list[tuple[str, str, int]] = field(default_factory=list)
    deletions: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)
    checks: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)

    def plan(self, execution: str, *, urgent: bool = False, region: str | None = None) -> None:
        self.plans.append(execution)
        self.regions.append(region)

    def replicate(self, region: str, pages: Sequence[Sequence[CopyRef]], *, urgent: bool) -> None:
        self.pages.extend(list(page) for page in pages)
        self.regions.append(region)

    def fan_out(
        self,
        region: str,
        ref: CopyRef,
        task_ids: Sequence[str],
        labels: Sequence[str],
        *,
        urgent: bool = False,
    ) -> None:
        self.fanned_out.append((ref, len(task_ids)))

    def waiting(self, region: str) -> int:
        return self.standing

    def ahead(self, region: str, errand: Errand, label: str) -> None:
        self.errands.append(errand)

    def part(self, region: str, ref: CopyRef, part: int, task_id: str) -> None:
        self.parts.append((ref, part))

    def delete(self, region: str, piece: str, registries: Sequence[str]) -> None:
        self.deletions.append((region, piece, tuple(registries)))

    def check(self, region: str, registries: Sequence[str]) -> None:
        self.checks.append((region, tuple(registries)))

    def release_part(self, place: str, release: str, region: str, fence: int) -> None:
        self.release_parts.append((release, region, fence))

    def commit(self, region: str, ref: CopyRef) -> None:
        self.commits.append(ref)


@dataclass(frozen=True)
class Image:
    """An image that a test pushed."""

    repository: str
    digest: str
    layers: tuple[str, ...]


class Party:
    """One process's services, alive in the eyes of the others until it dies."""

    def __init__(self, services: Services, publisher: RecordingPublisher) -> None:
        self.services = services
        self.publisher = publisher
        self.engine: Engine = services.engine(publisher)
        self.live()

    def live(self) -> None:
        """Be heard of by the others, for the first time or again."""
        services = self.services
        services.claims.keep_alive(services.boot, 120)
        services.state.heartbeat(ProcessReport(services.boot, "worker", "local", 4, "host", 1))

    def with_state(self, state: Any) -> Engine:
        """The engine over another StatePort."""
        return replace(self.engine, state=state)

    def replicate(self, *refs: CopyRef) -> dict[str, int]:
        return use_cases.replicate(self.engine, list(refs))

    def copy_part(self, ref: CopyRef, part: int) -> str:
        return use_cases.copy_part(self.engine, ref, part, last=False)

    def commit(self, ref: CopyRef) -> str:
        return use_cases.commit_manifest(self.engine, ref)

    def die(self) -> None:
        """Be gone, as after kill -9 and the time that its keys and row live on."""
        self.services.claims.bury(self.services.boot)


class World:
    """Everything between which bytes and messages go."""

    def __init__(
        self,
        folder: Path,
        east: SampleRegistry,
        west: SampleRegistry,
        redis: RedisServer,
        database_url: str = "",
    ) -> None:
        self.folder = folder
        self.east = east
        self.west = west
        self.redis = redis
        self._opened: list[Services] = []
        self.settings = Settings.from_env(
            TEST_TIMERS,
            database_url=database_url or f"sqlite:///{folder}/transship.db",
            redis_url=redis.url,
            retry_seconds=0.01,
            worker_slots=4,
            dead_after_seconds=PATIENT_SECONDS,
        )
        self.services = self.open(self.settings)
        create_or_upgrade(self.services.database)
        for registry, name in ((east, "east"), (west, "west")):
            self.services.registries.put(RegistryEndpoint(name, registry.url), document={})

    def open(self, settings: Settings) -> Services:
        """Return services that are closed with this world."""
        self._opened.append(Services(settings))
        return self._opened[-1]

    def party(self, **settings: Any) -> Party:
        """Services as another process has them."""
        return Party(self.open(replace(self.settings, **settings)), RecordingPublisher())

    def close(self) -> None:
        for services in self._opened:
            services.close()

    # ---- images ----------------------------------------------------------------------------------

    def push(self, repository: str, tag: str, layers: Sequence[bytes], mark: str = "") -> Image:
        """Put an image into the source, past HTTP."""
        storage = self.east.storage
        config = json.dumps({"of": repository, "mark": mark, "n": len(layers)}).encode()
        blobs = [config, *layers]
        for blob in blobs:
            storage.put_blob(repository, digest_of(blob), blob)
        types = ["application/vnd.oci.image.config.v1+json"] + [
            "application/vnd.oci.image.layer.v1.tar"
        ] * len(layers)
        described = [
            {"mediaType": kind, "digest": digest_of(blob), "size": len(blob)}
            for kind, blob in zip(types, blobs, strict=True)
        ]
        raw = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": OCI_IMAGE,
                "config": described[0],
                "layers": described[1:],
            }
        ).encode()
        manifest = StoredManifest(raw, OCI_IMAGE, digest_of(raw))
        storage.put_manifest(repository, manifest, tag)
        return Image(repository, manifest.digest, tuple(digest_of(layer) for layer in layers))

    def tag_at_west(self, repository: str, tag: str) -> str | None:
        """The digest under a tag of the mirror."""
        found = self.west.storage.manifest(f"mirror/{repository}", tag)
        return None if found is None else found.digest

    def is_whole(self, image: Image) -> bool:
        """Whether every blob of the image can be read at the mirror, byte for byte."""
        for digest in image.layers:
            found = self.west.storage.blob(f"mirror/{image.repository}", digest)
            if found is None or digest_of(found[0]) != digest:
                return False
        return True

    def reads(self, digest: str) -> int:
        """How often the source was asked for a blob's bytes."""
        return sum(
            1
            for line in list(self.east.log)
            if line.method == "GET" and line.path.endswith(f"/blobs/{digest}")
        )

    def tag_puts(self, repository: str, tag: str) -> int:
        """How often the tag was put at the mirror."""
        path = f"/v2/mirror/{repository}/manifests/{tag}"
        return sum(1 for line in list(self.west.log) if (line.method, line.path) == ("PUT", path))

    # ---- executions ------------------------------------------------------------------------------

    def plan(self, *repositories: str, rule: str = "fleet") -> str:
        """Plan an execution that mirrors these repositories; its copies are pending then."""
        saved = a_rule(*repositories, name=rule)
        execution = self.services.executions.create(saved, trigger="test").id
        assert self.services.planner.plan(execution, self.services.boot)
        return execution

    def dispatch(self) -> list[CopyRef]:
        """Mark everything eligible as sent."""
        store = self.services.dispatching
        return store.dispatch(store.eligible("local", 1000))

    def copies(self, execution: str) -> list[CopyRecord]:
        return self.services.executions.copies(execution, limit=1000)

    def states(self, execution: str) -> list[CopyState]:
        return [copy.state for copy in self.copies(execution)]

    def run_to_end(self, execution: str, *parties: Party, timeout: float = 20) -> None:
        """Dispatch and carry out until no copy is open, in turn on these processes."""
        turn = 0

        def step() -> bool:
            nonlocal turn
            for ref in self.dispatch():
                parties[turn % len(parties)].replicate(ref)
                turn += 1
            return not any(state in OPEN_COPIES for state in self.states(execution))

        wait_until(step, timeout, "every copy to end")

    # ---- real processes --------------------------------------------------------------------------

    def environment(self, **variables: str) -> dict[str, str]:
        return {"PATH": "/usr/bin:/bin", **TEST_TIMERS, **self.settings.to_env(), **variables}

    @contextmanager
    def worker(self, name: str = "worker", **variables: str) -> Iterator[ManagedProcess]:
        """A real worker process that reports itself, and does not think itself dead after a second.

        It would hand back what it has, and most tests have nobody to take it up.
        """
        variables = {"TRANSSHIP_DEAD_AFTER_SECONDS": str(PATIENT_SECONDS), **variables}
        with self.process(name, "-m", "workers.main", "worker", **variables) as process:
            process.wait_ready(lambda: self.services.dispatching.slots().get("local", 0) > 0)
            yield process

    def process(self, name: str, *words: str, **variables: str) -> ManagedProcess:
        return ManagedProcess(
            name,
            [sys.executable, *words],
            log_directory=self.folder,
            environment=self.environment(**variables),
            cwd=ROOT,
        )


@contextmanager
def open_world(folder: Path, database_url: str = "") -> Iterator[World]:
    """A world of its own, on SQLite unless a database is named."""
    with SampleRegistry() as east, SampleRegistry() as west, RedisServer() as redis:
        world = World(folder, east, west, redis, database_url)
        try:
            yield world
        finally:
            east.faults.clear()
            west.faults.clear()
            world.close()


def a_rule(*repositories: str, name: str = "fleet") -> SyncRule:
    """A rule that mirrors these repositories from east to west."""
    return SyncRule(
        name,
        "east",
        (Selection(NameFilter(repositories)),),
        (Destination(registry="west", repository="mirror/{repository}"),),
        referrers=False,
    )


def some_bytes(seed: str, size: int) -> bytes:
    """The same incompressible bytes for the same seed."""
    block = hashlib.shake_256(seed.encode())
    return block.digest(size)
