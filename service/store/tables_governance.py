"""Projects, secrets, audit, webhooks out: tables beside those of service.store.tables."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)

from service.store.plain_text import PlainText
from service.store.tables import metadata

projects = Table(
    "projects",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("document", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("set_name", String(128)),  # the `apply --set` that it belongs to
    Column("version", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)

secrets = Table(  # write only: nothing but a connection to one of its hosts ever reads `sealed`
    "secrets",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("hosts", Text, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)

audit = Table(  # append only; each row holds the hash of the one before it
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("action", String(64), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("name", String(255), nullable=False),
    Column("project", String(128), nullable=False, server_default=""),
    Column("before", Text, nullable=False, server_default=""),
    Column("after", Text, nullable=False, server_default=""),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index(None, "project", "seq"),
)

audit_head = Table(  # one row: where the chain ends, so that cutting off its end shows
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("document", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("project", String(128)),  # none: the platform's
    Column("copies", Boolean, nullable=False),  # whether it wants to hear of single copies
    Column("secret", LargeBinary),
    Column("version", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
)

webhook_deliveries = Table(  # the outbox: filled by the transaction that the event is about
    "webhook_deliveries",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("webhook", ForeignKey("webhooks.name", ondelete="CASCADE"), nullable=False),
    Column("event", String(64), nullable=False),
    Column("body", PlainText, nullable=False),
    Column("state", String(16), nullable=False),  # pending | delivered | failed
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("not_before", Double, nullable=False, server_default="0"),
    Column("status", Integer),
    Column("reason", PlainText, nullable=False, server_default=""),
    Column("created_at", Double, nullable=False),
    Column("ended_at", Double),
    Index(None, "state", "not_before"),
    Index(None, "webhook", "id"),
)

execution_keys = Table(  # what each Idempotency-Key came to, also when it met an open execution
    "execution_keys",
    metadata,
    Column("key", String(256), primary_key=True),
    Column("rule", String(128), nullable=False),
    Column("execution_id", String(32), nullable=False),
    Column("created_at", Double, nullable=False),
    Index(None, "created_at"),
)
