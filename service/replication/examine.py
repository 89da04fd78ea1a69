"""Examine a registry from a worker: the row says what is asked, and gets the answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from service.errors import StoreUnavailable, TransshipError
from service.registry.doctor import SECOND, Finding, examine
from service.replication.clients import Clients
from service.store.examinations import ExaminationStore


def carry_out(store: ExaminationStore, clients: Clients, identity: str, worker: str) -> bool:
    """Answer one examination; False when somebody has it, or nobody waits for it any more.

    Whatever goes wrong is the answer. Raises StoreUnavailable.
    """
    question = store.begin(identity, worker)
    if question is None:
        return False
    try:
        found = examine(clients.get(question.registry), question.repository, write=question.write)
    except StoreUnavailable:
        raise
    except TransshipError as error:
        store.fail(identity, error)
    except Exception as error:
        store.fail(identity, TransshipError(f"{type(error).__name__}: {error}"))
        raise
    else:
        store.end(identity, told(found))
    return True


def told(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Return findings as `--json` and the API have them."""
    return [asdict(finding) for finding in findings]


def written_to(repository: str, *, write: bool) -> list[str]:
    """Return the scratch repositories that an examination writes to."""
    return [repository, repository + SECOND] if write else []
