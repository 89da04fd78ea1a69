"""Replicas of an instance and what differs there; which execution another one goes on from."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Double, ForeignKey, Index, Integer, String, Table

from service.store.plain_text import PlainText
from service.store.tables import metadata

replicas = Table(  # one destination of a rule of mode replicate
    "replicas",
    metadata,
    Column("rule", String(128), primary_key=True),
    Column("registry", String(128), primary_key=True),
    Column("joined_at", Double, nullable=False),  # it follows its primary since then
    Column("caught_up_at", Double),  # a whole comparison since then left nothing open there
    Column("fenced", Boolean, nullable=False, server_default="0"),  # a former primary: left alone
    Column("held", Boolean, nullable=False, server_default="0"),  # one that follows: see DriftWatch
    Column("repair_asked_at", Double),  # somebody wants its drift put right once
    Column("compared_in", String(32), nullable=False, server_default=""),  # the last execution
    Column("compared_at", Double),
    Column("told", Integer, nullable=False, server_default="0"),  # the drift that webhooks know of
    Column("note", PlainText, nullable=False, server_default=""),  # what could not be looked at
)

replica_drift = Table(  # what somebody else changed at a replica
    "replica_drift",
    metadata,
    Column("rule", String(128), primary_key=True),
    Column("registry", String(128), primary_key=True),
    Column("repository", String(255), primary_key=True),
    Column("tag", String(160), primary_key=True),  # "": the whole repository
    Column("kind", String(16), nullable=False),  # moved | deleted | added
    Column("wanted", String(140), nullable=False, server_default=""),  # the primary's digest
    Column("found", String(140), nullable=False, server_default=""),  # the replica's
    Column("state", String(16), nullable=False),  # open | repaired
    Column("seen_in", String(32), nullable=False),  # the execution that saw it last
    Column("first_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("repaired_at", Double),
    Index(None, "state"),
)

replica_baseline = (
    Table(  # what a replica had when it was equal, though Transship had not written it
        "replica_baseline",
        metadata,
        Column("registry", String(128), primary_key=True),
        Column("repository", String(255), primary_key=True),
        Column("tag", String(160), primary_key=True),
        Column("digest", String(140), nullable=False),
    )
)

execution_causes = Table(  # the executions whose commits an execution goes on from
    "execution_causes",
    metadata,
    Column("execution_id", ForeignKey("executions.id", ondelete="CASCADE"), primary_key=True),
    Column("cause", String(32), primary_key=True),  # outlives its execution
    Column("flow", String(32), nullable=False),  # the first execution of all
    Index(None, "flow"),
)
