"""The tables. Times are seconds since 1970 by the database's clock; documents are JSON text."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Double,
    ForeignKey,
    FromClause,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    literal_column,
    text,
)

from service.model.states import ENDED_EXECUTIONS, CopyState, ExecutionState
from service.store.plain_text import PlainText

FAR = 1e15
"""A time that never comes: what only a plan names is never sent."""

HELD = 2e15
"""Likewise, until the copy that this one goes on from has ended (docs/adr/0015)."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

BigId = BigInteger().with_variant(Integer(), "sqlite")  # SQLite counts only INTEGER keys up


def _one_of(column: str, values: type[ExecutionState | CopyState]) -> str:
    return f"{column} IN ({', '.join(repr(str(v.value)) for v in values)})"


WAITING = f"state = '{CopyState.PENDING.value}' AND not_before < {FAR:g}"
"""What ix_copies_waiting holds. Spelt out, since neither database takes a partial index for parameters."""


def is_waiting(one: FromClause) -> ColumnElement[bool]:
    """Return the condition that `one`, a row of copies, is in ix_copies_waiting."""
    return and_(
        one.c.state == literal_column(f"'{CopyState.PENDING.value}'"),
        one.c.not_before < literal_column(f"{FAR:g}"),
    )


_OPEN_FULL = text(
    f"state NOT IN ({', '.join(repr(str(state.value)) for state in sorted(ENDED_EXECUTIONS))})"
    " AND kind = 'full'"
)

registries = Table(
    "registries",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("document", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("secret", LargeBinary),
    Column("paused_at", Double),  # paused: no request is sent to it
    Column("set_name", String(128)),  # the `apply --set` that it belongs to
    Column("version", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)

rules = Table(
    "rules",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("document", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("every_seconds", Double),
    Column("next_run_at", Double),
    Column("paused_at", Double),  # paused: nothing new begins, nothing is lost
    Column("freshness_seconds", Double),
    Column("late_since", Double),
    Column("set_name", String(128)),  # the `apply --set` that it belongs to
    Column("version", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)

executions = Table(
    "executions",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("rule", String(128), nullable=False),
    Column("project", String(128), nullable=False, server_default="default"),
    Column("trigger", String(32), nullable=False),
    Column(
        "kind", String(16), nullable=False, server_default="full"
    ),  # full|tags|verify|plan|carry
    Column("only", Text, nullable=False, server_default="[]"),  # of kind tags: [repository, tag]s
    Column("deadline_at", Double),
    Column(
        "repair", String(32), nullable=False, server_default=""
    ),  # of kind verify: wanted, or by
    Column("figures", Text, nullable=False, server_default="{}"),  # of kind plan
    Column("route", Text, nullable=False, server_default="{}"),  # destination -> its parent
    Column("spec", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("priority", Integer, nullable=False, server_default="1"),
    Column("reason", PlainText, nullable=False, server_default=""),
    Column("failure_class", String(16), nullable=False, server_default=""),
    Column("warnings", Text, nullable=False, server_default="[]"),
    Column("idempotency_key", String(256), unique=True),
    Column("catalog_cursor", Text, nullable=False, server_default=""),
    Column("catalog_done", Boolean, nullable=False, server_default="0"),
    Column("planned", Boolean, nullable=False, server_default="0"),
    Column("planner", String(64), nullable=False, server_default=""),
    Column("plan_sent_at", Double, nullable=False, server_default="0"),
    Column("plan_attempts", Integer, nullable=False, server_default="0"),
    Column("not_before", Double, nullable=False, server_default="0"),
    Column("changed_at", Double),  # the oldest change that it was told of
    Column("created_at", Double, nullable=False),
    Column("started_at", Double),
    Column("finished_at", Double),
    CheckConstraint(_one_of("state", ExecutionState), name="state"),
    Index(None, "rule", "created_at"),
    Index(None, "project", "id"),
    Index(None, "state"),
    Index(  # at most one open full execution a rule, whichever process creates it
        "uq_executions_open_rule",
        "rule",
        unique=True,
        sqlite_where=_OPEN_FULL,
    ),
)

selections = Table(  # one source repository of an execution: the cursor that a crash resumes from
    "selections",
    metadata,
    Column("execution_id", ForeignKey("executions.id", ondelete="CASCADE"), primary_key=True),
    Column("repository", String(255), primary_key=True),
    Column("cursor", Text, nullable=False, server_default=""),
    Column("done", Boolean, nullable=False, server_default="0"),
    Column("listed", Boolean, nullable=False, server_default="0"),  # all its digest_tags are there
    Column("matched", Integer, nullable=False, server_default="0"),
)

digest_tags = (
    Table(  # referrer and cosign tags met while listing, so that nobody has to probe for them
        "digest_tags",
        metadata,
        Column("execution_id", ForeignKey("executions.id", ondelete="CASCADE"), primary_key=True),
        Column("repository", String(255), primary_key=True),
        Column("tag", String(160), primary_key=True),
    )
)

copies = Table(
    "copies",
    metadata,
    Column("id", BigId, primary_key=True, autoincrement=True),
    Column("execution_id", ForeignKey("executions.id", ondelete="CASCADE"), nullable=False),
    Column("rule", String(128), nullable=False),
    Column("priority", Integer, nullable=False, server_default="1"),
    Column("region", String(64), nullable=False),
    Column("source_registry", String(128), nullable=False),
    Column("source_repository", String(255), nullable=False),
    Column("source_reference", String(160), nullable=False),
    Column("via_registry", String(128), nullable=False, server_default=""),  # "": the source
    Column("via_repository", String(255), nullable=False, server_default=""),
    Column("via_reference", String(160), nullable=False, server_default=""),
    Column("destination_registry", String(128), nullable=False),
    Column("destination_repository", String(255), nullable=False),
    Column("destination_reference", String(160), nullable=False),
    Column("digest", String(140), nullable=False),
    Column("entry", Integer, nullable=False, server_default="0"),  # of the rule's select
    Column("found", String(140), nullable=False, server_default=""),  # at the destination, before
    Column("state", String(16), nullable=False),
    Column("fence", Integer, nullable=False, server_default="0"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("replans", Integer, nullable=False, server_default="0"),
    Column("throttles", Integer, nullable=False, server_default="0"),
    Column("crashes", Integer, nullable=False, server_default="0"),
    Column("suspect", Boolean, nullable=False, server_default="0"),
    Column("started", Boolean, nullable=False, server_default="0"),
    Column("fresh", Boolean, nullable=False, server_default="0"),
    Column("listed", Boolean, nullable=False, server_default="0"),
    Column("referrers", Boolean, nullable=False, server_default="1"),
    Column("owner", String(64), nullable=False, server_default=""),
    Column("waiting_on", String(140), nullable=False, server_default=""),
    Column("behind", BigInteger, nullable=False, server_default="0"),  # the copy to let go first
    Column("not_before", Double, nullable=False, server_default="0"),
    Column("updated_at", Double, nullable=False),
    Column("failure_class", String(16), nullable=False, server_default=""),
    Column("reason", PlainText, nullable=False, server_default=""),
    Column("hint", PlainText, nullable=False, server_default=""),
    Column("blobs_copied", Integer, nullable=False, server_default="0"),
    Column("blobs_mounted", Integer, nullable=False, server_default="0"),
    Column("blobs_present", Integer, nullable=False, server_default="0"),
    Column("bytes_copied", BigInteger, nullable=False, server_default="0"),
    Column("bytes_saved", BigInteger, nullable=False, server_default="0"),
    UniqueConstraint(
        "execution_id",
        "destination_registry",
        "destination_repository",
        "destination_reference",
        name="uq_copies_destination",  # what the convention makes is too long for PostgreSQL
    ),
    CheckConstraint(_one_of("state", CopyState), name="state"),
    Index(None, "state"),
    Index(None, "execution_id", "state"),
    Index(None, "owner"),
    Index("ix_copies_source", "source_repository", "source_reference"),
    Index(
        "ix_copies_destination",
        "destination_registry",
        "destination_repository",
        "destination_reference",
    ),
)

Index(  # who waits for a copy, to go on from where it ends
    "ix_copies_via",
    copies.c.execution_id,
    copies.c.via_registry,
    copies.c.via_repository,
    copies.c.via_reference,
    sqlite_where=text("via_registry != ''"),
)

Index(  # the backlog in the order in which it is sent
    "ix_copies_waiting",
    copies.c.region,
    copies.c.suspect,
    copies.c.priority,
    copies.c.execution_id,
    copies.c.started.desc(),
    copies.c.id,
    sqlite_where=text(WAITING),
)

copy_blobs = Table(  # only for copies that fan out
    "copy_blobs",
    metadata,
    Column("copy_id", ForeignKey("copies.id", ondelete="CASCADE"), primary_key=True),
    Column("digest", String(140), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("media_type", PlainText, nullable=False, server_default=""),
    Column("part", Integer, nullable=False),
    Column("task_id", String(36), nullable=False, server_default=""),
    Column("state", String(16), nullable=False),
    Column("owner", String(64), nullable=False, server_default=""),
    Column("fence", Integer, nullable=False),
    Column("failure_class", String(16), nullable=False, server_default=""),
    Column("reason", PlainText, nullable=False, server_default=""),
    Column("pause_seconds", Double, nullable=False, server_default="0"),
    Column("updated_at", Double, nullable=False),
)

presence = Table(  # the ledger: where a byte of a blob was read, and by which execution
    "presence",
    metadata,
    Column("registry", String(128), primary_key=True),
    Column("scope", String(128), primary_key=True),
    Column("digest", String(140), primary_key=True),
    Column("repository", String(255), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("execution_id", String(32), nullable=False),
    Column("proved_at", Double, nullable=False),
)

ledgers = Table(  # evidence against a registry raises its epoch; older rows of presence are void
    "ledgers",
    metadata,
    Column("registry", String(128), primary_key=True),
    Column("scope", String(128), primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("reason", PlainText, nullable=False, server_default=""),
    Column("raised_at", Double, nullable=False),
)

written_tags = (
    Table(  # what Transship put where: evidence when it is gone, and all that may be deleted
        "written_tags",
        metadata,
        Column("registry", String(128), primary_key=True),
        Column("repository", String(255), primary_key=True),
        Column("tag", String(160), primary_key=True),
        Column("digest", String(140), nullable=False),
        Column("rule", String(128), nullable=False),
        Column("platforms", Text, nullable=False, server_default=""),  # "": all that the index has
        Column("source_registry", String(128), nullable=False, server_default=""),
        Column("source_repository", String(255), nullable=False, server_default=""),
        Column("source_reference", String(160), nullable=False, server_default=""),
        Column("seen_in", String(32), nullable=False, server_default=""),  # the last execution
        Column("written_at", Double, nullable=False),
        Index(None, "rule", "registry"),
        Index(None, "rule", "digest"),
        Index(
            "ix_written_tags_sparse",
            "registry",
            "repository",
            sqlite_where=text("platforms != ''"),
        ),
    )
)

execution_requests = Table(
    "execution_requests",
    metadata,
    Column("execution_id", ForeignKey("executions.id", ondelete="CASCADE"), primary_key=True),
    Column("registry", String(128), primary_key=True),
    Column("requests", BigInteger, nullable=False),
)

execution_unchanged = Table(  # tags that were in place, by destination: they have no rows in copies
    "execution_unchanged",
    metadata,
    Column("execution_id", ForeignKey("executions.id", ondelete="CASCADE"), primary_key=True),
    Column("registry", String(128), primary_key=True),
    Column("unchanged", BigInteger, nullable=False),
)

processes = Table(
    "processes",
    metadata,
    Column("boot", String(64), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("region", String(64), nullable=False),
    Column("slots", Integer, nullable=False),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("until", Double, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("prefix", String(16), nullable=False, server_default=""),
    Column("role", String(16), nullable=False),
    Column("project", String(128)),  # none: the platform's
    Column("region", String(64)),  # of role agent: whose copies it may take
    Column("expires_at", Double),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
)


def tell_postgresql() -> None:
    """Give the partial indexes their conditions on PostgreSQL, too; once, before a schema is made.

    Naming PostgreSQL in an index loads SQLAlchemy's dialects for it: 25 ms of CPU, which a process
    over SQLite saves.
    """
    for table in metadata.tables.values():
        for index in table.indexes:
            condition = index.dialect_options["sqlite"]["where"]
            if condition is not None:
                index.dialect_options["postgresql"]["where"] = condition
