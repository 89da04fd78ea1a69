"""The product as real processes between real registries, with every way between them breakable.

    source  <- east (FaultProxy) <-                        -> west (FaultProxy) -> destination
                                    api, scheduler, workers
                   redis <- a TcpProxy for each role <-    -> a TcpProxy for each role -> PostgreSQL

A scenario has a `Scene` of its own: it pushes to the source past the proxy, strikes, asserts from the
proxies' logs that the strike hit a copy that was under way (`went_on_after`), heals, waits for quiescence, and
has `verdict` ask the oracle.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
from sqlalchemy import select, update

from api.samples.faults import FaultRule
from api.samples.http_messages import Access
from service.bootstrap import open_services
from service.settings import TEST_TIMERS, Settings
from service.store.clock import now_epoch
from service.store.database import Database
from service.store.keyring import write_new_key
from service.store.schema import create_or_upgrade
from service.store.tables import processes
from service.store.tables_governance import webhook_deliveries
from service.store.tables_pipelines import promotion_steps
from tests.oracle.closure import Report, check
from tests.oracle.cost import open_uploads
from tests.oracle.pushes import DELETED, Place, PushLog
from tests.oracle.states import ENDED, judge_executions
from tests.support.fault_proxy import FaultProxy
from tests.support.processes import ManagedProcess, free_port, wait_until
from tests.support.servers import PostgresServer, RealRegistry, RedisServer
from tests.support.tcp_proxy import TcpProxy
from tests.support.transship import clean_environment
from tests.support.wire import (
    ACCEPT,
    OCI_IMAGE,
    OCI_INDEX,
    Wire,
    descriptor,
    image_body,
    sha256,
)
from workers.envelope import PREFIX as PREFIX_OF_KEYS

ROOT = Path(__file__).parents[2]
ROLES = ("api", "scheduler", "worker")
PREFIX = "mirror/"
QUIET_SECONDS = 60.0

MODULES: dict[str, list[str]] = {
    "api": ["-m", "api.serve"],
    "scheduler": ["-m", "workers.main", "scheduler"],
    "worker": ["-m", "workers.main", "worker"],
}
"""What every control plane has."""

BESIDE = {"gateway": ["-m", "api.gateway.main"]}
"""What may stand beside it."""


@dataclass
class Verdict:
    """What the oracle found after a scenario, and how much it read."""

    report: Report
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n  ".join([str(self.report), *self.faults])


class Lab:
    """One control plane with its workers; registries, Redis and SQL are its own."""

    def __init__(self, folder: Path, *, postgres: PostgresServer | None = None) -> None:
        self.folder = folder
        self._stack = contextlib.ExitStack()
        self.postgres = postgres
        self.processes: dict[str, ManagedProcess] = {}
        self.address = "127.0.0.1"  # where the ways to all servers are
        self.launchers: dict[str, list[str]] = {}  # process -> words before its own
        self.redis_arguments: Sequence[str] = ()
        self._armed: dict[str, dict[str, str]] = {}
        self._keys = itertools.count(1)
        self.variables: dict[str, str] = {}

    # ---- life ------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        enter = self._stack.enter_context
        self.source = enter(RealRegistry())
        self.destination = enter(RealRegistry())
        here = self.address
        self.east = enter(FaultProxy(self.source.url, listen=(here, 0)))
        self.west = enter(FaultProxy(self.destination.url, listen=(here, 0)))
        self.redis = enter(RedisServer(tcp=True, arguments=self.redis_arguments))
        self.redis_ways = {role: enter(TcpProxy(self.redis.port, host=here)) for role in ROLES}
        database = f"sqlite:///{self.folder}/transship.db"
        self.sql_ways: dict[str, TcpProxy] = {}
        if self.postgres is not None:
            database = self.postgres.fresh_database()
            port = self.postgres.port
            self.sql_ways = {role: enter(TcpProxy(port, host=here)) for role in ROLES}
        self._database = database
        write_new_key(self.folder / "keys")
        self._services = open_services(self._settings("", 0), check=False)
        self._stack.callback(self._services.close)
        create_or_upgrade(self._services.database)
        self.token, _ = self._services.tokens.create("admin", "admin")
        self._listen = free_port()
        self.client = enter(
            httpx.Client(
                base_url=f"http://127.0.0.1:{self._listen}/api/v1",
                headers={"Authorization": f"Bearer {self.token}"},
                trust_env=False,
                timeout=60,
            )
        )

    @property
    def database(self) -> Database:
        """What the product keeps in SQL, past its processes and proxies."""
        return self._services.database

    def close(self) -> None:
        """Kill all processes, and end all servers: nobody is there to take an orderly farewell from."""
        for process in reversed(list(self.processes.values())):
            process.kill()
        self._stack.close()

    def _settings(self, role: str, number: int) -> Settings:
        redis_port = self.redis_ways[role].port if role else self.redis.port
        database = self._database
        if role and self.postgres is not None:
            database = database.replace(
                f"127.0.0.1:{self.postgres.port}/", f"{self.address}:{self.sql_ways[role].port}/", 1
            )
        return Settings.from_env(
            {**TEST_TIMERS, **self.variables},
            database_url=database,
            redis_url=f"redis://{self.address if role else '127.0.0.1'}:{redis_port}/0",
            secret_key_file=str(self.folder / "keys"),
            listen=f"127.0.0.1:{self._listen if number else 0}",
            worker_slots=8,
            retry_seconds=0.05,
        )

    # ---- processes -------------------------------------------------------------------------------

    def start(self, *names: str, **variables: str) -> Self:
        """Start processes ("api", "scheduler", "worker", "worker-2", ...) and wait until they are there."""
        for name in names:
            role = name.partition("-")[0]
            known = self.processes.get(name)
            if known is None:
                known = ManagedProcess(
                    name,
                    [*self.launchers.get(name, ()), sys.executable, *{**MODULES, **BESIDE}[role]],
                    log_directory=self.folder,
                    environment={
                        **clean_environment(),
                        **self.variables,  # to_env leaves out what is as shipped; the line above has not
                        **self._settings(role if role in ROLES else "", 1).to_env(),
                        **variables,
                    },
                    cwd=ROOT,
                )
                self.processes[name] = known
            known.start()
        if "api" in names:
            self.processes["api"].wait_ready(self._api_answers)
        for name in names:
            if name.startswith("worker"):
                self.processes[name].wait_ready(lambda name=name: self.reports(name))
        return self

    def rearm(self, name: str, variables: dict[str, str], *, orderly: bool = False) -> None:
        """Have a process run with other variables than it has: end it, and start it with them.

        It is killed: an orderly end of an idle worker takes Celery four seconds. A scheduler is always asked
        to end, which takes none: for its lease to lapse would. `orderly`: nobody is to find it dead.
        """
        known = self.processes[name]
        if known.alive and self._armed.get(name, {}) == variables:
            return
        if orderly or name.startswith("scheduler"):
            known.stop(30)
        else:
            known.kill()
        del self.processes[name]
        self._armed[name] = dict(variables)
        self.start(name, **variables)

    def forget_unacknowledged(self) -> None:
        """Throw away what killed workers held: it would come again in another scenario, 38 s from now."""
        with self.redis.client() as client:
            client.delete(f"{PREFIX_OF_KEYS}unacked", f"{PREFIX_OF_KEYS}unacked_index")

    def let_letters_go(self) -> None:
        """Have the leases on deliveries to webhooks, and on questions of gates, lapse, which last a minute."""
        for table in (webhook_deliveries, promotion_steps):
            statement = update(table).values(not_before=0)
            self._services.database.write(lambda connection, one=statement: connection.execute(one))

    def heal(self) -> None:
        """End all faults of registries and ways."""
        for side in (self.east, self.west):
            side.faults.clear()
        for way in (*self.redis_ways.values(), *self.sql_ways.values()):
            way.heal()

    def lapse(self) -> None:
        """Wait until whoever fell silent now counts as dead for others: twice the test's lease."""
        mark = self._services.database
        silent = float(TEST_TIMERS["TRANSSHIP_DEAD_AFTER_SECONDS"])
        with mark.read() as connection:
            began = float(connection.execute(select(now_epoch())).scalar_one())

            def lapsed() -> bool:
                now = float(connection.execute(select(now_epoch())).scalar_one())
                return now - began > 2 * silent

            wait_until(lapsed, 10 * silent, "the lease to lapse")

    def _api_answers(self) -> bool:
        try:
            return self.client.get("/executions").is_success
        except httpx.HTTPError:
            return False

    def reports(self, name: str) -> bool:
        """Whether a worker has written its heartbeat row."""
        query = select(processes.c.boot).where(processes.c.pid == self.processes[name].pid)
        with self._services.database.read() as connection:
            return connection.execute(query).first() is not None

    def holds_its_lease(self, name: str) -> bool:
        """Whether a worker's claims are believed: one that was frozen has none for a third of a lease."""
        query = select(processes.c.boot).where(processes.c.pid == self.processes[name].pid)
        with self._services.database.read() as connection:
            boots = connection.execute(query).scalars().all()
        with self.redis.client() as client:
            return any(client.exists(f"{PREFIX_OF_KEYS}alive:{boot}") for boot in boots)

    # ---- the API ---------------------------------------------------------------------------------

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Ask the API, as a good client does: again while it is away or says 503; all else fails."""

        def asked() -> httpx.Response | None:
            try:
                response = self.client.request(method, path, json=body, headers=headers)
            except httpx.TransportError:
                return None
            return None if response.status_code == 503 else response

        response = wait_until(asked, QUIET_SECONDS, f"an answer to {method} {path}")
        assert response is not None
        assert response.is_success, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    def rule(self, name: str, **more: Any) -> None:
        """Save both registries (by their proxies) and a rule of east to west."""
        self.ask("PUT", "/registries/east", {"url": self.east.url})
        self.ask("PUT", "/registries/west", {"url": self.west.url})
        body = {
            "source": "east",
            "destinations": [{"registry": "west", "repository": PREFIX + "{repository}"}],
            **more,
        }
        self.ask("PUT", f"/rules/{name}", body)

    def run(self, name: str, **body: Any) -> str:
        """Start an execution of a rule and return its id."""
        key = f"{name}-{next(self._keys)}"
        path = f"/rules/{name}/executions"
        identity: str = self.ask("POST", path, body or None, **{"Idempotency-Key": key})["id"]
        return identity

    def execution(self, identity: str) -> dict[str, Any]:
        """Return an execution as the API has it."""
        found: dict[str, Any] = self.ask("GET", f"/executions/{identity}")
        return found

    def copies(self, identity: str) -> list[dict[str, Any]]:
        """Return all copies of an execution."""
        items: list[dict[str, Any]] = []
        cursor: str | None = ""
        while cursor is not None:
            query = f"?limit=200{'&cursor=' + cursor if cursor else ''}"
            page = self.ask("GET", f"/executions/{identity}/copies{query}")
            items += page["items"]
            cursor = page["next"]
        return items

    def wait(self, identity: str, timeout: float = QUIET_SECONDS) -> dict[str, Any]:
        """Wait for an execution's end and return it; an API that is away or says 503 is asked again.

        Where a protection is to bring it about, no longer than 38 seconds: then Redis gives a message again
        that nobody has acknowledged, and would stand in for the protection.
        """

        def ended() -> dict[str, Any] | None:
            try:
                response = self.client.get(f"/executions/{identity}")
            except httpx.TransportError:  # a child of a killed API may have answered until now
                return None
            if response.status_code == 503:
                return None
            assert response.is_success, response.text
            found: dict[str, Any] = response.json()
            return found if found["state"] in ENDED else None

        found = wait_until(ended, timeout, f"the end of execution {identity}", bound=True)
        assert found is not None
        return found

    def quiesce(self, timeout: float = QUIET_SECONDS) -> None:
        """Wait until no execution is open."""
        wait_until(
            lambda: all(
                one["state"] in ENDED for one in self.ask("GET", "/executions?limit=200")["items"]
            ),
            timeout,
            "quiescence",
        )

    def scene(self, name: str, **rule: Any) -> Scene:
        """Return a corner of its own for one scenario: repositories, a rule, what is expected."""
        return Scene(self, name, **rule)


class Scene:
    """Repositories NAME/** at the source, mirrored by a rule of the same name."""

    def __init__(self, lab: Lab, name: str, **rule: Any) -> None:
        self.lab = lab
        self.name = name
        self.east, self.west = lab.east, lab.west
        self.pushes = PushLog()
        self.expected: dict[Place, Place] = {}
        self.runs: list[str] = []
        self.to = rule["destinations"][0]["registry"] if "destinations" in rule else "west"
        self._numbers = itertools.count(1)
        lab.rule(name, select=[{"repositories": [f"{name}/**"]}], **rule)

    def at_source(self, rest: str = "") -> str:
        """Return the start of a path of the source, as fault rules match it."""
        return f"/v2/{self.name}/{rest}"

    def at_destination(self, rest: str = "") -> str:
        """Return the start of a path of the destination."""
        return f"/v2/{PREFIX}{self.name}/{rest}"

    # ---- content ---------------------------------------------------------------------------------

    def push(
        self, place: str, sizes: Sequence[int] = (20_000, 40_000), seed: str = ""
    ) -> dict[str, Any]:
        """Push an image ("app:v1") to the source, past the proxy, and expect it; its manifest's body.

        `sizes` are those of its layers; the same seed gives the same layers.
        """
        repository, _, tag = place.partition(":")
        repository = f"{self.name}/{repository}"
        number = next(self._numbers)
        layers = [
            hashlib.shake_256(f"{seed or f'{repository}:{tag}:{number}'}:{i}".encode()).digest(size)
            for i, size in enumerate(sizes)
        ]
        config = {"architecture": "amd64", "os": "linux", "of": repository, "n": number}
        raw = json.dumps(config).encode()
        body = image_body(raw, layers)
        self.pushes.add((repository, tag), sha256(json.dumps(body).encode()))
        with Wire(self.lab.source.url) as wire:
            for blob in (raw, *layers):
                assert wire.push_blob(repository, blob).status == 201
            assert wire.put_manifest(repository, tag, body).status == 201
        self.expected[repository, tag] = (PREFIX + repository, tag)
        return body

    def push_index(self, place: str) -> list[str]:
        """Push an index of two images of one layer each, and expect it; the digests of its images."""
        repository, _, tag = place.partition(":")
        repository = f"{self.name}/{repository}"
        parts = []
        with Wire(self.lab.source.url) as wire:
            for architecture in ("amd64", "arm64"):
                layer = hashlib.shake_256(f"{repository}:{tag}:{architecture}".encode()).digest(
                    9_000
                )
                config = json.dumps({"architecture": architecture, "os": "linux"}).encode()
                for blob in (config, layer):
                    assert wire.push_blob(repository, blob).status == 201
                raw = json.dumps(image_body(config, [layer])).encode()
                assert wire.put_manifest(repository, sha256(raw), json.loads(raw)).status == 201
                platform = {"architecture": architecture, "os": "linux"}
                parts.append({**descriptor(raw, OCI_IMAGE), "platform": platform})
            body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": parts}
            assert wire.put_manifest(repository, tag, body).status == 201
        self.pushes.add((repository, tag), sha256(json.dumps(body).encode()))
        self.expected[repository, tag] = (PREFIX + repository, tag)
        return [str(part["digest"]) for part in parts]

    def remove(self, place: str) -> None:
        """Remove a tag's manifest at the source, and expect it no longer."""
        repository, _, tag = place.partition(":")
        repository = f"{self.name}/{repository}"
        with Wire(self.lab.source.url) as wire:
            digest = wire.get_manifest(repository, tag)["Docker-Content-Digest"]
            answer = wire.request("DELETE", f"/v2/{repository}/manifests/{digest}")
            assert answer.status == 202, answer
        self.pushes.add((repository, tag), DELETED)
        del self.expected[repository, tag]

    def manifest(self, place: str) -> dict[str, Any]:
        """Return the manifest's body that a tag names at the source."""
        repository, _, tag = place.partition(":")
        with Wire(self.lab.source.url) as wire:
            return wire.get_manifest(f"{self.name}/{repository}", tag).json()

    def retag(self, place: str, body: dict[str, Any]) -> None:
        """Have a tag of the source name a manifest that is there."""
        repository, _, tag = place.partition(":")
        self.pushes.add((f"{self.name}/{repository}", tag), sha256(json.dumps(body).encode()))
        with Wire(self.lab.source.url) as wire:
            assert wire.put_manifest(f"{self.name}/{repository}", tag, body).status == 201

    # ---- runs ------------------------------------------------------------------------------------

    def start(self) -> str:
        """Start an execution of the scene's rule; its id."""
        self.runs.append(self.lab.run(self.name))
        return self.runs[-1]

    def run(self, timeout: float = QUIET_SECONDS) -> dict[str, Any]:
        """Run the rule to its end and return the execution."""
        return self.lab.wait(self.start(), timeout)

    def retry(self, timeout: float = QUIET_SECONDS) -> dict[str, Any]:
        """Have what failed of the last run tried again, to its end; returns that execution."""
        self.runs.append(self.lab.ask("POST", f"/executions/{self.runs[-1]}/retry")["id"])
        return self.lab.wait(self.runs[-1], timeout)

    def copy(self, place: str, run: int = -1) -> dict[str, Any]:
        """Return the copy to "app:v1" of a run."""
        wanted = f"{self.to}/{PREFIX}{self.name}/{place}"
        return next(one for one in self.lab.copies(self.runs[run]) if one["destination"] == wanted)

    def heal(self) -> None:
        """End all faults."""
        self.east.faults.clear()
        self.west.faults.clear()

    def tags(self, repository: str) -> set[str]:
        """Return the tags of a repository at the destination."""
        with Wire(self.lab.destination.url) as wire:
            path = self.at_destination(f"{repository}/tags/list")
            return set(wire.request("GET", path).json().get("tags") or ())

    def tag_puts(self, place: str) -> list[Access]:
        """Return the PUTs of a destination tag that went through the proxy."""
        repository, _, tag = place.partition(":")
        path = self.at_destination(f"{repository}/manifests/{tag}")
        return [one for one in list(self.west.log) if (one.method, one.path) == ("PUT", path)]

    def went_on_after(self, rule: FaultRule, place: str) -> bool:
        """Whether the destination was asked for "app" after a strike: its copy was not through by then."""
        path = self.at_destination(f"{place}/")
        return any(
            one.path.startswith(path) and one.started >= rule.fired_at
            for one in list(self.west.log)
        )

    def digest(self, place: str) -> str:
        """Return what a tag named last at the source, by the pushes."""
        repository, _, tag = place.partition(":")
        return self.pushes.current()[f"{self.name}/{repository}", tag]

    def tag_names(self, place: str) -> str | None:
        """Return the digest that a tag names at the destination, asked past the proxy."""
        repository, _, tag = place.partition(":")
        with Wire(self.lab.destination.url) as wire:
            path = self.at_destination(f"{repository}/manifests/{tag}")
            return wire.request("HEAD", path, headers={"Accept": ACCEPT})["Docker-Content-Digest"]

    def reads(self, digest: str) -> int:
        """Return how often a blob was read whole, or begun to be, through the source's proxy."""
        return sum(
            1
            for one in list(self.east.log)
            if one.method == "GET" and one.path.endswith(f"/blobs/{digest}")
        )

    # ---- judgement -------------------------------------------------------------------------------

    def verdict(self, *, tags: int, blobs: int, uploads: bool = False) -> Verdict:
        """Ask the oracle: content, books, uploads. It must read at least so many tags and blobs.

        `uploads`: whether upload sessions may be left open.
        """
        lab = self.lab
        report = check(lab.source.url, lab.destination.url, self.expected, extra=False)
        verdict = Verdict(report, list(report.faults))
        if report.tags < tags:
            verdict.faults.append(f"the oracle looked at {report.tags} tags, {tags} at least")
        if report.blobs < blobs:
            verdict.faults.append(f"the oracle read {report.blobs} blobs, {blobs} at least")
        copies = {run: lab.copies(run) for run in self.runs}
        executions = [lab.execution(run) for run in self.runs]
        verdict.faults += judge_executions(executions[-1:], copies, holes=_holes(report, self.to))
        verdict.faults += judge_executions(executions, copies)
        verdict.faults += [
            f"an upload was left open: {path}"
            for path in open_uploads(lab.destination.storage_path)
            if f"/{self.name}/" in path and not uploads
        ]
        return verdict


def _holes(report: Report, registry: str) -> set[str]:
    return {f"{registry}/{fault.split(': ')[0].split(' ')[0]}" for fault in report.faults}


@contextlib.contextmanager
def open_lab(folder: Path, postgres: PostgresServer | None = None) -> Iterator[Lab]:
    """A lab with all its processes up and the rule saved."""
    with Lab(folder, postgres=postgres) as lab:
        lab.start("api", "scheduler", "worker")
        yield lab
