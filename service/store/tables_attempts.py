"""What attempts of copies came to that did not simply succeed: a copy that does has no row here."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, ForeignKey, Integer, String, Table

from service.store.plain_text import PlainText
from service.store.tables import metadata

copy_attempts = Table(
    "copy_attempts",
    metadata,
    Column("copy_id", ForeignKey("copies.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),  # of the copy's attempts; of several, the last one
    Column("times", Integer, nullable=False),  # how many in a row came to the same
    Column("outcome", String(16), nullable=False),  # again | died | the state that it ended in
    Column("counted", Boolean, nullable=False),  # against the copy's attempts
    Column("failure_class", String(16), nullable=False),
    Column("reason", PlainText, nullable=False),
    Column("worker", String(64), nullable=False),  # the process's boot id
    Column("region", String(64), nullable=False),
    Column("bytes", BigInteger, nullable=False),  # read by its last step
    Column("began_at", Double, nullable=False),
    Column("ended_at", Double, nullable=False),
)
