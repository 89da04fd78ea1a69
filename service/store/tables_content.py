"""What manifests are, by digest: a table beside those of service.store.tables."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, ForeignKey, Index, String, Table

from service.store.plain_text import PlainText
from service.store.tables import metadata

image_facts = Table(  # read once, since what a digest names never changes
    "image_facts",
    metadata,
    Column("digest", String(140), primary_key=True),
    Column("types", PlainText, nullable=False),
    Column("is_index", Boolean, nullable=False, server_default="0"),
    Column("platforms", PlainText, nullable=False, server_default="[]"),
    Column("created", Double),  # seconds since 1970; NULL: not told
    Column("deep", Boolean, nullable=False, server_default="0"),  # the config was read too
    Column("read_at", Double, nullable=False),
    Index(None, "read_at"),
)

execution_left_out = Table(  # references that no entry took for what they are: type or platforms
    "execution_left_out",
    metadata,
    Column("execution_id", ForeignKey("executions.id", ondelete="CASCADE"), primary_key=True),
    Column("kind", String(255), primary_key=True),
    Column("left_out", BigInteger, nullable=False),
)
