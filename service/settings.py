"""The only reader of the environment: every TRANSSHIP_ variable, its meaning and its default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from service.errors import InvalidConfiguration

MIB = 1 << 20


def _setting(default: Any, doc: str) -> Any:
    return field(default=default, metadata={"doc": doc})


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a process; each field is the variable TRANSSHIP_<FIELD IN CAPITALS>."""

    database_url: str = _setting(
        "", "SQLAlchemy URL: sqlite:////path/file.db or postgresql+psycopg://..."
    )
    durable: bool = _setting(
        True,
        "whether a commit to SQLite waits for the disk; false only for state that nobody reads after a "
        "crash of the machine, such as a one-shot command's without --data",
    )
    redis_url: str = _setting("", "Redis of this region: redis://, rediss:// or unix:///path?db=0")
    secret_key_file: str = _setting(
        "", "file of Fernet keys, one a line; the first encrypts, all decrypt"
    )
    receipt_key_file: str = _setting(
        "",
        "Ed25519 private key in PEM that signs receipts; empty: one is derived from the first secret key, and "
        "changes with it",
    )
    secrets_dir: str = _setting("", "the only folder that password_file and the like may name")
    layouts_dir: str = _setting(
        "",
        "the only folder whose directories may be registries (url: oci:/path), of the API as of each worker; empty: none, "
        "but any for commands of one job",
    )
    credential_helpers: str = _setting(
        "",
        "docker credential helpers that may be run, by commas and without `docker-credential-`: a "
        "registry with docker_config has those run that the worker's files name for it",
    )
    keyless_hosts: str = _setting(
        "",
        "hosts, by commas and without ports, that may be shown the machine's identity (credentials: keyless) beside "
        "those that are its vendor's by their names: private endpoints with names of their own",
    )
    region: str = _setting(
        "local",
        "the region that this process works for, and by whose addresses it reaches registries; of a "
        "one-machine engine, where the machine stands",
    )
    one_machine: bool = _setting(
        False, "one machine serves every region: all work goes to this process's"
    )
    url: str = _setting(
        "",
        "https:// address of the API that commands ask, and workers of a far region (TRANSSHIP_AGENT_DIR)",
    )
    token: str = _setting("", "token for that API; a far region's is of role agent")
    agent_dir: str = _setting(
        "",
        "folder of a region far from the database at home: its workers take their work from TRANSSHIP_URL "
        "and keep here what they do; instead of TRANSSHIP_DATABASE_URL",
    )
    log_level: str = _setting("INFO", "DEBUG, INFO, WARNING or ERROR")
    listen: str = _setting("127.0.0.1:8470", "HOST:PORT of the API and console")
    api_requests_per_second: float = _setting(
        500.0, "requests a second that one token may send to one API process, twice that at once"
    )
    api_concurrency: int = _setting(
        24, "requests of one token that one API process serves at the same time"
    )
    metrics_listen: str = _setting(
        "", "HOST:PORT of health and metrics of worker, scheduler and gateway; empty: none"
    )
    metrics_token_file: str = _setting(
        "",
        "file with the token that a scrape of metrics shows as Authorization: Bearer; without one the API's are "
        "for its own tokens, and TRANSSHIP_METRICS_LISTEN has to be on loopback",
    )
    traces_endpoint: str = _setting(
        "",
        "address that takes traces of OpenTelemetry by HTTP (http://collector:4318/v1/traces); empty: none; needs "
        "the extra `traces`",
    )
    traces_ratio: float = _setting(1.0, "the part of executions that have a trace, 0 to 1")
    worker_slots: int = _setting(16, "tasks that one worker process runs at once (threads)")
    far_slots: int = _setting(
        64, "tasks that it runs at once while registries let it wait long for their answers"
    )
    helper_threads: int = _setting(48, "threads that help the tasks of a process meanwhile")
    tags_per_task: int = _setting(8, "changed tags that one replicate task takes at most")
    urgent_slots: int = _setting(4, "tasks that a worker for urgent work alone runs at once")
    executions_kept: int = _setting(
        50, "ended executions kept of each rule, and as many of single tags"
    )
    small_image_bytes: int = _setting(
        16 * MIB, "an image that misses less is copied by one task, without a chord"
    )
    small_blob_bytes: int = _setting(MIB, "blobs below this share one task of a chord")
    compare_threads: int = _setting(16, "HEAD requests under way at once while comparing")
    heartbeat_seconds: float = _setting(5.0, "how often a process writes its heartbeat row")
    dead_after_seconds: float = _setting(20.0, "silence after which a process counts as dead")
    agent_dead_after_seconds: float = _setting(
        90.0,
        "silence after which the agent of a far region counts as dead; it moves tags for five sixths of that "
        "without a word from home",
    )
    alive_seconds: float = _setting(
        15.0, "time to live of a worker's alive key, its only lease on claims"
    )
    reconcile_seconds: float = _setting(
        1.0, "how often the reconciler looks for work that nobody holds"
    )
    waiting_grace_seconds: float = _setting(10.0, "a copy that waited longer is looked at again")
    visibility_timeout: int = _setting(90, "seconds until Redis redelivers an unacknowledged task")
    unacked_restore_seconds: int = _setting(10, "how often workers look for tasks to redeliver")
    chord_join_seconds: float = _setting(
        30.0, "Celery's result_chord_join_timeout; its claim lives twice as long"
    )
    max_attempts: int = _setting(5, "transient failures of one copy before it is failed")
    retry_seconds: float = _setting(
        0.5, "first pause after a transient failure; doubles, with jitter, to 60"
    )
    outage_patience_seconds: float = _setting(
        300.0, "how long a registry that fails altogether is waited for before its copies fail"
    )
    health_check_seconds: float = _setting(
        180.0,
        "how often each registry of an active rule is asked whether it is well, and six times as "
        "often while it is not: its copies then wait; together less than TRANSSHIP_OUTAGE_PATIENCE_SECONDS, "
        "or copies fail first; 0: never",
    )
    rule_look_seconds: float = _setting(
        20.0, "how often rules that did not run, or match nothing any more, are looked for"
    )
    rotation_patience_seconds: float = _setting(
        600.0,
        "how long copies wait for new credentials once a registry takes no more those that it took; "
        "0: they fail at once",
    )
    max_replans: int = _setting(
        3, "re-plans of a tag that moves during its copy before it is superseded"
    )
    max_crashes: int = _setting(3, "crashes in quarantine before a copy is failed as poison")
    proof_seconds: float = _setting(
        3600.0, "age at which a proof of this execution is no longer believed"
    )
    drain_seconds: float = _setting(20.0, "grace that running tasks get after SIGTERM")
    absence_seconds: float = _setting(
        10.0, "time between two looks at a tag that is gone before it may be deleted elsewhere"
    )
    event_debounce_seconds: float = _setting(
        0.3, "how long the first event of a registry waits for others, to be looked at together"
    )
    webhook_attempts: int = _setting(
        12, "times that an event is posted to a webhook before its delivery is failed"
    )
    webhook_retry_seconds: float = _setting(
        1.0, "first pause after a receiver did not take an event; doubles, with jitter, to 600"
    )
    task_events: bool = _setting(True, "whether tasks send the events that Flower shows")
    flower_listen: str = _setting("127.0.0.1:5555", "HOST:PORT of Flower")
    flower_password_file: str = _setting(
        "", "file with the password of Flower's user admin; FLOWER_BASIC_AUTH goes before it"
    )
    flower_tasks: int = _setting(10_000, "tasks that Flower keeps in memory, the last ones")

    gateway_listen: str = _setting("127.0.0.1:8480", "HOST:PORT of a gateway")
    gateway_file: str = _setting("", "transship.yaml whose `gateway:` says what a gateway serves")
    gateway_dir: str = _setting(
        "",
        "folder of one gateway's own: what it knows, so that it serves that also when it is started while SQL is "
        "away, and blobs that it keeps; empty: it forgets when it ends, and keeps no blobs",
    )
    gateway_cache_bytes: int = _setting(
        1 << 32,
        "bytes of blobs that a gateway keeps in its folder, none over a quarter of it; 0: none",
    )
    gateway_connections: int = _setting(
        1024, "connections of clients that one gateway has at once; each is a thread"
    )

    testing: bool = _setting(
        False,
        "this is a test of Transship itself: crash and without may be set; never in production",
    )
    crash: str = _setting(
        "", "where a process dies, POINT:NTH:WAY, see service/crashpoints.py; only with testing"
    )
    without: str = _setting(
        "",
        "protections that are off, by commas, see service/protections.py; only with testing",
    )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Read TRANSSHIP_* variables.

        Raises InvalidConfiguration naming the variable that cannot be read.
        """
        source = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for item in fields(cls):
            name = f"TRANSSHIP_{item.name.upper()}"
            text = source.get(name)
            if text is None or text == "":
                continue
            values[item.name] = _convert(name, text, type(item.default))
        values.update(overrides)
        settings = cls(**values)
        settings.check()
        return settings

    def check(self) -> None:
        """Refuse combinations that would lose work (reference/celery.md 1.3 #7, engine.md 0.2)."""
        for item in fields(self):
            value = getattr(self, item.name)
            numeric = isinstance(value, int | float) and not isinstance(value, bool)
            if numeric and (value < 0 or (value == 0 and item.name not in MAY_BE_ZERO)):
                name = f"TRANSSHIP_{item.name.upper()}"
                raise InvalidConfiguration(f"{name}={value} must be greater than 0", field=name)
        if self.crash and not self.testing:
            raise InvalidConfiguration(
                "TRANSSHIP_CRASH makes processes die: it is for tests of Transship itself",
                field="TRANSSHIP_CRASH",
                hint="unset it; tests set TRANSSHIP_TESTING=true as well",
            )
        if self.without and not self.testing:
            raise InvalidConfiguration(
                "TRANSSHIP_WITHOUT turns protections off: it is for tests of Transship itself",
                field="TRANSSHIP_WITHOUT",
                hint="unset it; tests set TRANSSHIP_TESTING=true as well",
            )
        claim = max(2 * self.chord_join_seconds, PUBLISH_RETRY_BUDGET_SECONDS)
        if self.visibility_timeout <= claim:
            raise InvalidConfiguration(
                f"TRANSSHIP_VISIBILITY_TIMEOUT is {self.visibility_timeout} s but must exceed the "
                f"chord claim of {claim:g} s, or a killed worker can lose a chord's callback",
                field="TRANSSHIP_VISIBILITY_TIMEOUT",
                hint="raise it, or lower TRANSSHIP_CHORD_JOIN_SECONDS",
            )
        if self.dead_after_seconds < 2 * self.heartbeat_seconds:
            raise InvalidConfiguration(
                "TRANSSHIP_DEAD_AFTER_SECONDS must be at least twice TRANSSHIP_HEARTBEAT_SECONDS",
                field="TRANSSHIP_DEAD_AFTER_SECONDS",
            )

    @property
    def allowed_helpers(self) -> tuple[str, ...]:
        """The docker credential helpers that may be run."""
        return tuple(name for word in self.credential_helpers.split(",") if (name := word.strip()))

    @property
    def identity_hosts(self) -> tuple[str, ...]:
        """The hosts of `keyless_hosts`."""
        return tuple(n for word in self.keyless_hosts.split(",") if (n := word.strip().lower()))

    def to_env(self) -> dict[str, str]:
        """Return the variables that make another process read these same settings."""
        result = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if value != item.default:
                text = str(value).lower() if isinstance(value, bool) else str(value)
                result[f"TRANSSHIP_{item.name.upper()}"] = text
        return result


MAY_BE_ZERO = (
    "drain_seconds",
    "gateway_cache_bytes",
    "health_check_seconds",
    "rotation_patience_seconds",
    "traces_ratio",
)
PUBLISH_RETRY_BUDGET_SECONDS = 37.0
"""What Celery extends a chord's claim by at least before it publishes the body (measured, 5.7)."""

TEST_TIMERS: dict[str, str] = {
    "TRANSSHIP_HEARTBEAT_SECONDS": "0.5",
    "TRANSSHIP_DEAD_AFTER_SECONDS": "2",
    "TRANSSHIP_ALIVE_SECONDS": "1.5",
    "TRANSSHIP_RECONCILE_SECONDS": "0.3",
    "TRANSSHIP_WAITING_GRACE_SECONDS": "2",
    "TRANSSHIP_CHORD_JOIN_SECONDS": "2",
    "TRANSSHIP_VISIBILITY_TIMEOUT": "38",
    "TRANSSHIP_UNACKED_RESTORE_SECONDS": "1",
    "TRANSSHIP_OUTAGE_PATIENCE_SECONDS": "3",
    "TRANSSHIP_ROTATION_PATIENCE_SECONDS": "6",
}
"""Short timers for tests: recovery in about 5 s. All of them together, never one alone."""


def _convert(name: str, text: str, kind: type) -> Any:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    try:
        return words[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError):
        raise InvalidConfiguration(
            f"{name}={text!r} is not a valid {kind.__name__}", field=name
        ) from None
