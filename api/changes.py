"""What a request changes, for the audit log: written by the transaction that makes the change.

Every request that is not a mere question begins one; views add what the object was and became. A
view that writes without saying more still leaves a row. A new secret's text never comes in here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from flask import g, request
from sqlalchemy import Connection

from service.store import audit
from service.store.audit import Change
from service.store.database import write_beside
from service.store.tokens import TokenRecord

_ACTIONS = {"PUT": "replace", "DELETE": "delete", "POST": "create", "PATCH": "change"}
_VERBS = {"executions": "run"}


@dataclass
class _Draft:
    change: Change
    written: bool = False


def begin(actor: TokenRecord) -> None:
    """Have the request's first write leave a row in the audit log."""
    words = request.path.removeprefix("/api/v1/").split("/")
    arguments = request.view_args or {}
    name = str(arguments.get("name") or arguments.get("identity") or "")
    action = _ACTIONS.get(request.method, request.method.lower())
    if request.method == "POST" and len(words) > 2:
        action = _VERBS.get(words[-1], words[-1])
    draft = _Draft(Change(actor.name, action, words[0], name, actor.project or ""))
    g.draft = draft

    def write(connection: Connection, _result: Any) -> None:
        draft.written = True
        audit.append(connection, draft.change)

    write_beside(write)


def note(
    *,
    name: str | None = None,
    action: str | None = None,
    project: str | None = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    """Add to what is written of the request; before and after are without secrets."""
    draft: _Draft | None = g.get("draft")
    if draft is None:
        return
    old = draft.change
    draft.change = replace(
        old,
        name=old.name if name is None else name,
        action=old.action if action is None else action,
        project=old.project if project is None else project,
        before=old.before if before is None else before,
        after=old.after if after is None else after,
    )


def forget() -> None:
    """Take the order back when the request is over."""
    if g.pop("draft", None) is not None:
        write_beside(None)
