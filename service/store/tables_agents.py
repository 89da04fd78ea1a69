"""What is lent to far regions: tables of both sides of it (docs/adr/0017)."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Integer, String, Table, Text

from service.store.tables import metadata

agent_batches = Table(  # at home: the last batch of each agent whose outcomes were recorded
    "agent_batches",
    metadata,
    Column("agent", String(64), primary_key=True),
    Column("number", BigInteger, nullable=False),
    Column("recorded_at", Double, nullable=False),
)

lent_copies = Table(  # in a far region: the copies that it has from home, and their fences there
    "lent_copies",
    metadata,
    Column("copy_id", BigInteger, primary_key=True, autoincrement=False),
    Column("fence", Integer, nullable=False),
)

lender = Table(  # in a far region: one row: who it is at home, and how far its account has come
    "lender",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("agent", String(64), nullable=False),
    Column("number", BigInteger, nullable=False),  # of the batch that is sent, or was last
    Column("lease_until", Double, nullable=False),  # by the machine's steady clock (clock.py)
    Column("audited", BigInteger, nullable=False),  # the last row of its audit log that home has
    Column("batch", Text, nullable=False),  # that home may have; "": none
)
